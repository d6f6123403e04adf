"""A clock whose hours pass when nobody has anything better to do.

Code that waits is tested by giving it this clock and letting it wait: a sleep of an hour returns at once, and `now()`
is an hour later. Three rules say when time passes.

- A blocking `sleep(s)` moves time to `s` seconds after it was entered, if it is not later already, and returns.
- Tasks asleep in `sleep_async(s)` are woken in the order in which they are due. As soon as every other task of their
  loop waits for something, time jumps to the next one that is due: `now()` is then exactly when that one meant to wake.
- `advance(s)` moves time by `s` seconds at once, as a thread does that is busy for so long. Whoever was due in between
  wakes after it, in order and late, just as behind a busy thread. To let `s` seconds pass with everybody waking on
  time, await `sleep_async(s)`.

So a test that awaits what it tests never has to move time, and a test of a plain function moves it by `advance`.
"""

from __future__ import annotations

import heapq
import sys
import threading
from itertools import count
from weakref import WeakSet

from resilience._checks import number
from resilience._checks import seconds as checked
from resilience._runtime import current_runtime
from resilience.testing._loops import here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta

    from resilience.testing._loops import Bed, Loop

__all__ = ["VirtualClock"]


class _Sleeper:
    """A task that sleeps, or that was cancelled and is not there any more."""

    __slots__ = ("bed", "due", "gone", "number", "seconds")

    def __init__(self, due: float, number: int, seconds: float, bed: Bed) -> None:
        self.due = due
        self.number = number
        self.seconds = seconds
        self.bed = bed
        self.gone = False

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class VirtualClock:
    """Virtual time, for `clock=`: sleeping takes no time, and `advance` moves it on.

    Safe from any thread; its sleepers may live on any number of asyncio and trio loops at once.

    Attributes:
        sleeps: the seconds of each sleep that ended by itself, blocking or not, in the order in which they ended.

    Args:
        start: the first reading, in seconds, 0 or more.

    Raises:
        TypeError, ValueError: `start` is not such a number.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = number("start", start, zero=True)
        self._lock = threading.Lock()
        self._numbers = count()
        self._asleep: dict[Loop, list[_Sleeper]] = {}
        self._watched: WeakSet[Loop] = WeakSet()
        self.sleeps: list[float] = []

    def now(self) -> float:
        """The present reading, in seconds."""
        return self._now

    def sleep(self, seconds: float | timedelta, /) -> None:
        """Let `seconds` pass for the calling thread, and return at once.

        Raises:
            TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
        """
        span = checked("seconds", seconds, zero=True)
        entered = self._now
        with self._lock:
            self.sleeps.append(span)
            woken = self._move(entered + span)
        for sleeper in woken:
            sleeper.bed.wake()

    def advance(self, seconds: float | timedelta, /) -> None:
        """Move time by `seconds`, and wake whoever is due by then.

        Raises:
            TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
        """
        span = checked("seconds", seconds, zero=True)
        with self._lock:
            woken = self._move(self._now + span)
        for sleeper in woken:
            sleeper.bed.wake()

    async def sleep_async(self, seconds: float | timedelta, /) -> None:
        """Suspend the calling task, of asyncio or trio, until `seconds` have passed.

        Raises:
            RuntimeError: no event loop is running here.
            TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
        """
        span = checked("seconds", seconds, zero=True)
        if self._now + span <= self._now:
            self.sleeps.append(span)
            await sys.modules[current_runtime()].sleep(0)
            return
        loop = here()
        with self._lock:
            sleeper = _Sleeper(self._now + span, next(self._numbers), span, loop.bed())
            heapq.heappush(self._asleep.setdefault(loop, []), sleeper)
            unwatched = loop not in self._watched
            self._watched.add(loop)
        if unwatched:
            loop.when_idle(lambda: self._pass(loop))
        try:
            await sleeper.bed.sleep()
        except BaseException:
            with self._lock:
                self._forget(loop, sleeper)
            raise

    def _pass(self, loop: Loop) -> bool:
        """Nothing else is left to do on `loop`: go on to its next sleeper, if there is one."""
        with self._lock:
            if loop not in self._asleep:
                self._watched.discard(loop)
                return False
            woken = self._move(self._asleep[loop][0].due)
        for sleeper in woken:
            sleeper.bed.wake()
        return True

    def _move(self, to: float) -> list[_Sleeper]:
        """Move time, never back, and return whoever is due by then, in order. Called with the lock held."""
        self._now = max(self._now, to)
        due: list[_Sleeper] = []
        for loop, heap in list(self._asleep.items()):
            while heap and (heap[0].gone or heap[0].due <= self._now):
                sleeper = heapq.heappop(heap)
                if not sleeper.gone:
                    due.append(sleeper)
            if not heap:
                del self._asleep[loop]
        due.sort()
        self.sleeps += [sleeper.seconds for sleeper in due]
        return due

    def _forget(self, loop: Loop, sleeper: _Sleeper) -> None:
        """Leave no trace of a sleeper that was cancelled. Called with the lock held."""
        sleeper.gone = True
        heap = self._asleep.get(loop, [])
        while heap and heap[0].gone:
            heapq.heappop(heap)
        if not heap:
            self._asleep.pop(loop, None)

    def __repr__(self) -> str:
        return f"<VirtualClock {self._now!r} s>"
