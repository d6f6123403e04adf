"""Lines of waiters written by hand, for threads and for both loops: good ones, and ones that each make one mistake."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.testing.broken import Refused, Throttle


class ThreadBulkhead:
    """So many threads at a time; the others wait in line, each at a lock of its own."""

    def __init__(self, limit: int, *, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self._inside = 0
        self._lock = threading.Lock()
        self._line: deque[threading.Lock] = deque()

    def next(self) -> threading.Lock:
        return self._line.popleft()

    def pass_on(self, failed: bool) -> None:
        """A place is free: it goes to the next."""
        with self._lock:
            if self._line:
                self.next().release()
            else:
                self._inside -= 1

    def call(self, fn: Callable[[], Any]) -> Any:
        with self._lock:
            turn = None
            if self._inside < self.limit:
                self._inside += 1
            elif len(self._line) < self.queue:
                turn = threading.Lock()
                turn.acquire()
                self._line.append(turn)
            else:
                raise Refused
        if turn is not None:
            turn.acquire()
        failed = True
        try:
            result = fn()
            failed = False
        finally:
            self.pass_on(failed)
        return result


class UnfairThreads(ThreadBulkhead):
    """The last who came is the next."""

    def next(self) -> threading.Lock:
        return self._line.pop()


class PlaceLostOnFailure(ThreadBulkhead):
    """Whoever fails takes the place along."""

    def pass_on(self, failed: bool) -> None:
        if not failed:
            super().pass_on(failed)


class TrioBulkhead:
    """So many tasks at a time; the others wait in line, each for an event of its own."""

    def __init__(self, limit: int, *, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self._inside = 0
        self._line: deque[trio.Event] = deque()

    def next(self) -> trio.Event:
        return self._line.popleft()

    def pass_on(self) -> None:
        if self._line:
            self.next().set()
        else:
            self._inside -= 1

    def went_away(self, turn: trio.Event) -> None:
        """A waiter was cancelled, perhaps after its turn had come."""
        if turn.is_set():
            self.pass_on()
        elif turn in self._line:
            self._line.remove(turn)

    async def call_async(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        if self._inside < self.limit:
            self._inside += 1
        elif len(self._line) >= self.queue:
            raise Refused
        else:
            turn = trio.Event()
            self._line.append(turn)
            try:
                await turn.wait()
            except trio.Cancelled:
                self.went_away(turn)
                raise
        try:
            return await fn()
        finally:
            self.pass_on()


class UnfairTasks(TrioBulkhead):
    """The last who came is the next."""

    def next(self) -> trio.Event:
        return self._line.pop()


class GhostInLine(TrioBulkhead):
    """Who has gone away still stands in line, and is given a place."""

    def went_away(self, turn: trio.Event) -> None:
        if turn.is_set():
            self.pass_on()


class EveryoneForThemselves(Throttle):
    """There is no line: each sleeps until its tokens should be there, and looks again."""

    def acquire(self, *, cost: float = 1.0, max_wait: float = 0.0) -> None:
        while wait := self.take(cost):
            if wait > max_wait:
                raise Refused(wait)
            self._clock.sleep(wait)

    async def acquire_async(self, *, cost: float = 1.0, max_wait: float = 0.0) -> None:
        while wait := self.take(cost):
            if wait > max_wait:
                raise Refused(wait)
            await self._clock.sleep_async(wait)
