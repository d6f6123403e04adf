"""Threads for calls that may be left behind.

A running plain function cannot be stopped, only no longer waited for. So it has to run on a thread other than its
caller's: one that can be abandoned with it. These are daemon threads, because an interpreter that ends must not wait
for a call that hangs; they are named, so that a stack dump tells whose they are; and they are bounded, because calls
that hang would otherwise collect threads until something worse happens. A thread that has had nothing to do for a while
ends. Each call runs in a copy of its caller's context.

A call on a worker may itself want a worker: a hedge around a timeout does. If both drew on the same threads, enough
outer calls would take all of them and wait for inner ones for ever, so a worker's own calls go to the pool below its.

Only `Timeout(thread=True)` and a sync `Hedge` ask for a worker; nothing here runs before that.
"""

from __future__ import annotations

import collections
import contextvars
import os
import threading
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[], object]

__all__ = ["WORKERS", "Workers", "pool_here"]

_here = threading.local()


class Workers:
    """A bounded pool of daemon threads. Safe from any thread.

    Args:
        most: threads at most; further jobs wait their turn, first come, first served.
        idle: seconds without a job after which a thread ends.
        name: what its threads are called, before their number.
    """

    def __init__(self, most: int = 64, idle: float = 10.0, name: str = "resilience-worker") -> None:
        self.most = most
        self._idle_for = idle
        self._name = name
        self._below: Workers | None = None
        self._forks = -1
        self.after_fork()

    def submit(self, job: Job) -> Callable[[], bool]:
        """Run `job` on a worker, in a copy of the caller's context. It must not raise.

        Returns:
            A function that takes the job back if no worker has begun it, and says whether it did.

        Raises:
            RuntimeError: not one thread can be had.
        """
        entry: Job = partial(contextvars.copy_context().run, job)
        with self._lock:
            self._jobs.append(entry)
            if self._idle >= len(self._jobs):
                self._ready.notify()
            elif self._threads < self.most:
                self._start(entry)

        def take_back() -> bool:
            with self._lock:
                try:
                    self._jobs.remove(entry)
                except ValueError:
                    return False
                return True

        return take_back

    def _start(self, entry: Job) -> None:
        self._threads += 1
        self._number += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._number}", daemon=True)
        try:
            # In an empty context: where threads inherit one, it would keep the first caller's for as long as it lives.
            contextvars.Context().run(thread.start)
        except RuntimeError:
            # No more threads can be had here; with none at all the job would wait for ever.
            self._threads -= 1
            if not self._threads:
                self._jobs.remove(entry)
                raise

    def _work(self) -> None:
        _here.pool, forks = self, self._forks
        # After a fork inside a job, this is the one thread of a child, and no worker of anybody.
        while forks == self._forks and (job := self._next()) is not None:
            job()
            del job

    def _next(self) -> Job | None:
        """Wait for a job; None for one whose time is over."""
        with self._lock:
            self._idle += 1
            try:
                if self._ready.wait_for(self._has_jobs, self._idle_for):
                    return self._jobs.popleft()
                self._threads -= 1
                return None
            finally:
                self._idle -= 1

    def _has_jobs(self) -> bool:
        return bool(self._jobs)

    def below(self) -> Workers:
        """The pool for what its own workers ask for."""
        with self._lock:
            if self._below is None:
                self._below = Workers(self.most, self._idle_for, f"{self._name}-inner")
            return self._below

    def after_fork(self) -> None:
        """Begin anew: in a forked child, none of the threads is there."""
        self._forks += 1
        # The lock itself is taken, never the condition: that is Python code, in which a KeyboardInterrupt can lose it.
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._jobs: collections.deque[Job] = collections.deque()
        self._threads = self._idle = self._number = 0
        if self._below is not None:
            self._below.after_fork()


WORKERS = Workers()


def pool_here() -> Workers:
    """The pool for the jobs of the calling thread."""
    mine: Workers | None = getattr(_here, "pool", None)
    return WORKERS if mine is None else mine.below()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS.after_fork)
