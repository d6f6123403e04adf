"""One virtual time for every thread of a process.

A thread that sleeps comes to rest here with the time at which it is due. When nobody is left who could still do
something, time jumps to the earliest of those who rest, and that one goes on: `now` is then exactly the time it is due.
So sleeps of several threads overlap as they do in real time, and threads wake in the order of their due times, on a
busy machine too. An event loop is one more thread that rests, whose wait can also end early, by a message from outside.

Who could still do something? Every thread alive that does not rest. But some never will: they wait for a lock, a
socket, another thread, and nobody can tell from outside. So whoever is due next looks at the others, once a
millisecond, and a thread that was found at the same instruction `LOOKS` times in a row counts as away until it comes to
rest itself, or leaves the system call in which it waits, where that can be seen (`_blocked.py`): a worker that is fed
acts before time jumps. One that goes round in circles counts as away after `MANY_LOOKS`. Looks are counted, not
seconds: on a machine that is too busy to run the others, the one who looks hardly runs either; and where the kernel
tells that a thread only waits for a processor, it does not count as standing. Threads that were there before virtual
time began are away from the start. Work that a loop has handed to a pool of threads is under way from then until its
result is back, and is given `MANY_LOOKS`.
"""

from __future__ import annotations

import heapq
import threading
import time
from itertools import count
from math import inf

from resilience.testing._bell import Bells, nobody
from resilience.testing._blocked import RUNNING, waits_in
from resilience.testing._running import would_run
from resilience.testing._whereabouts import frames_of_threads, line_of, spot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["GLANCE", "LOOKS", "MANY_LOOKS", "PATIENCE", "Stuck", "Timeline"]

GLANCE = 0.001
LOOKS = 30
MANY_LOOKS = 1000
PATIENCE = 2.0  # seconds of real time in which the outside may help when nobody has a due time


class Stuck(RuntimeError):
    """Nobody can go on, and nobody has a due time."""


def _time_of_others() -> float:
    """Processor time, in seconds, of this process's other threads."""
    return time.process_time() - time.thread_time()


class _Rest:
    __slots__ = ("due", "number", "poke", "thread", "woken")

    def __init__(self, due: float, number: int, thread: threading.Thread, poke: Callable[[], object]) -> None:
        self.due = due
        self.number = number
        self.thread = thread
        self.poke = poke
        self.woken = False

    def __lt__(self, other: _Rest) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class Timeline:
    """Virtual time, and all who rest in it. Safe from any thread.

    Attributes:
        now: the present reading, in seconds.
        over: whether everybody was let go, and nobody comes to rest any more.
    """

    def __init__(self, start: float) -> None:
        self.now = start
        self._lock = threading.Lock()
        self._bells = Bells()
        self._numbers = count()
        self._resting: list[_Rest] = []
        self._still: set[threading.Thread] = set()
        self._before = frozenset(threading.enumerate()) - {threading.current_thread()}
        self._away = {thread: waits_in(thread) for thread in self._before}
        self._waiting: set[threading.Thread] = set()
        self._one_looks = threading.Lock()
        self._pooled: set[threading.Thread] = set()
        self._jobs: dict[object, threading.Thread | None] = {}
        self._given_up: set[object] = set()
        self._looks: dict[object, tuple[object, int, int]] = {}
        self._stirred = time.monotonic()
        self.over = False

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass for the calling thread."""
        bell = self._bells.of_this_thread
        self.rest(self.now + seconds, bell.wait, bell.ring)

    def rest(self, due: float, wait: Callable[[float], T], poke: Callable[[], object], alone: bool = False) -> T | None:
        """Do nothing until `due`, or until `wait` comes back with something, which is returned.

        Args:
            due: when to go on, on this timeline; infinity if only something from outside can help.
            wait: really waits, at most so many seconds.
            poke: makes `wait` come back; called from any thread.
            alone: nothing outside this process can make `wait` come back with something.

        Raises:
            Stuck: everybody's due time is infinite.
        """
        if due <= self.now:
            return None
        with self._lock:
            me = self._come_to_rest(due, poke)
        return self._rest(me, wait, alone)

    def _come_to_rest(self, due: float, poke: Callable[[], object]) -> _Rest:
        me = _Rest(due, next(self._numbers), threading.current_thread(), poke)
        heapq.heappush(self._resting, me)
        self._still.add(me.thread)
        self._away.pop(me.thread, None)
        self._looks.pop(me.thread, None)
        self._stirred = time.monotonic()
        return me

    def _rest(self, me: _Rest, wait: Callable[[float], T], alone: bool) -> T | None:
        try:
            while True:
                with self._lock:
                    longest = self._decide(me, alone)
                if me.woken:
                    return None
                found = wait(longest)
                if found:
                    return found
        finally:
            # Whoever has been woken was struck off by the one who moved time.
            if not me.woken:
                with self._lock:
                    self._stirred = time.monotonic()
                    if not me.woken:
                        self._rise(me)

    def wait(self, wait: Callable[[float], T], due: float = inf, poke: Callable[[], object] = nobody) -> T | None:
        """Wait for what another thread brings, such as a place in a bulkhead, until `wait` comes back with it.

        Whoever brings it calls `stir` before, and then the one who waited acts from that moment on, before time jumps.
        None when it is due, or virtual time is over.

        Args:
            wait: really waits, at most so many seconds; not at all for 0.
            due: when to go on in any case.
            poke: makes `wait` come back; called from any thread.

        Raises:
            Stuck: nothing came for `PATIENCE` seconds of real time, and nobody is left who could bring it.
        """
        thread = threading.current_thread()
        me: _Rest | None = None
        with self._lock:
            # What was brought before this, was brought to somebody who acts.
            if (here := wait(0.0)) or due <= self.now:
                return here
            if due < inf:
                me = self._come_to_rest(due, poke)
            else:
                self._waiting.add(thread)
                self._away.pop(thread, None)
                self._looks.pop(thread, None)
        if me is not None:
            return self._rest(me, wait, alone=False)
        try:
            while not (found := wait(PATIENCE) or self._look_for_help(wait)):
                if self.over:
                    return None
            return found
        finally:
            with self._lock:
                self._waiting.discard(thread)

    def stir(self, thread: threading.Thread, poke: Callable[[], object]) -> None:
        """A thread is being brought what it waits for: no time passes before it comes to rest again.

        By then it may have gone on by itself and rest elsewhere, so it is known by what pokes it, too.
        """
        with self._lock:
            self._waiting.discard(thread)
            self._away.pop(thread, None)
            for rest in self._resting:
                if rest.thread is thread and rest.poke == poke:
                    rest.woken = True
                    self._rise(rest)
                    break

    def _look_for_help(self, wait: Callable[[float], T]) -> T | None:
        if not self._one_looks.acquire(blocking=False):
            return None
        try:
            worked = _time_of_others()
            before: dict[threading.Thread, object] = {}
            for _ in range(3 * LOOKS):
                spots = self._spots_of_helpers()
                if spots is None or (before and spots != before):
                    return None
                before = spots
                if found := wait(GLANCE):
                    return found
            # A thread at work can be seen on one spot as often as one that waits, but it takes its time.
            if _time_of_others() - worked > GLANCE:
                return None
            with self._lock:
                raise self._stuck(self._waiting | set(before))
        finally:
            self._one_looks.release()

    def _spots_of_helpers(self) -> dict[threading.Thread, object] | None:
        """Where those stand who may still do something; None if somebody will, or if virtual time is over."""
        with self._lock:
            known = self._still | self._before | self._waiting
            if self.over or any(rest.due < inf for rest in self._resting):
                return None
            if any(thread not in known for thread in self._jobs.values()):
                return None
        frames = frames_of_threads()
        spots = {each: spot(frames.get(each.ident or 0)) for each in set(threading.enumerate()) - known}
        del frames  # this frame is one of them
        return spots

    def _stuck(self, threads: set[threading.Thread]) -> Stuck:
        """The error, with the threads that wait and where."""
        frames = frames_of_threads()
        lines = [line_of(thread, frames.get(thread.ident or 0)) for thread in threads]
        del frames
        return Stuck("\n".join(["virtual time stands still: nothing can run. Waiting:", *sorted(lines)]))

    def advance(self, seconds: float) -> None:
        """Move time by `seconds`, and let go whoever is due by then."""
        with self._lock:
            self._move(self.now + seconds)

    def close(self) -> None:
        """Let everybody go, now and from now on."""
        with self._lock:
            self.over = True
            for rest in self._resting:
                rest.poke()

    # --- work handed to other threads ---------------------------------------------------------------------------------

    def hand_over(self, work: Callable[..., T]) -> tuple[Callable[..., T], Callable[[object], None]]:
        """The same function, known to be under way, and what to call when its result is back."""
        job = object()
        with self._lock:
            self._jobs[job] = None

        def known(*args: object) -> T:
            thread = threading.current_thread()
            with self._lock:
                self._pooled.add(thread)
                if job in self._jobs:
                    self._jobs[job] = thread
            try:
                return work(*args)
            finally:
                with self._lock:
                    if job in self._jobs:
                        self._jobs[job] = None

        def back(_: object) -> None:
            with self._lock:
                self._jobs.pop(job, None)
                self._given_up.discard(job)
                self._looks.pop(job, None)

        return known, back

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _decide(self, me: _Rest, alone: bool) -> float:
        """Jump if the time has come, else tell how long to wait, unless poked, before asking again."""
        if me.woken or self.over:
            me.woken = True
            return 0.0
        others = set(threading.enumerate()).difference(self._still, self._waiting, self._pooled)
        first = me is self._resting[0]
        if self._somebody_acts(others.difference(self._away), looking=first) or self._somebody_was_woken(others):
            return GLANCE if first else LOOKS * GLANCE
        if self._resting[0].due < inf:
            self._move(self._resting[0].due, me)
        elif (alone and not others and not self._jobs) or time.monotonic() - self._stirred > PATIENCE:
            raise self._stuck(others | self._waiting | {me.thread})
        return LOOKS * GLANCE

    def _somebody_acts(self, threads: set[threading.Thread], *, looking: bool) -> bool:
        if not threads and not self._jobs:
            return False
        still = self._still | self._waiting
        jobs = [job for job, thread in self._jobs.items() if thread not in still and job not in self._given_up]
        if looking and (threads or jobs):
            frames = frames_of_threads()
            for thread in threads:
                where = spot(frames.get(thread.ident or 0))
                if where == self._looks.get(thread, (None,))[0] and would_run(thread):
                    where = object()
                if self._look(thread, where) > LOOKS:
                    self._away[thread] = waits_in(thread)
            del frames  # this frame is one of them
            for job in jobs:
                if self._look(job, job) > MANY_LOOKS:
                    self._given_up.add(job)
        return bool(threads or jobs)

    def _somebody_was_woken(self, threads: set[threading.Thread]) -> bool:
        woken = False
        for thread, call in list(self._away.items()):
            if call and call != RUNNING and thread in threads and waits_in(thread) != call:
                woken = True
                del self._away[thread]
                looks = self._looks.get(thread, (None, 0, 0))[2]
                self._looks[thread] = None, 0, looks
        return woken

    def _look(self, at: object, spot: object) -> int:
        """How often `at` has been seen on one spot; after many looks in all, any spot counts."""
        last, same, looks = self._looks.get(at, (None, 0, 0))
        same = same + 1 if spot == last else 1
        self._looks[at] = spot, same, looks + 1
        return same if looks < MANY_LOOKS else looks

    def _rise(self, rest: _Rest) -> None:
        self._still.discard(rest.thread)
        if rest in self._resting:
            self._resting.remove(rest)
            heapq.heapify(self._resting)

    def _move(self, to: float, me: _Rest | None = None) -> None:
        self.now = max(self.now, to)
        self._stirred = time.monotonic()
        while self._resting and self._resting[0].due <= to:
            rest = heapq.heappop(self._resting)
            rest.woken = True
            self._still.discard(rest.thread)
            if rest is not me:
                rest.poke()
