"""Threads that take turns: one runs, the others stand still.

Each thread has a baton, a lock that nobody else waits for. Whoever runs counts its steps, and when its span is over
hands the baton of another thread on and waits for its own. So of real threads, with their own identities, locals and
stacks, exactly one runs at any time, and which one it is after each step is a list of pairs, the schedule: this thread
for so many steps, then that one. Everything that is random is in the `Plan`, which is asked for the spans and for who
is next; a plan that reads a schedule makes the same run again.
"""

from __future__ import annotations

import sys
import threading
import time
from _thread import allocate_lock, get_ident
from math import inf, log

from resilience.testing._cooperative import SEATS
from resilience.testing._cooperative_trace import PASSED, importing
from resilience.testing._whereabouts import frames_of_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from resilience.testing._cooperative import CooperativeLock

    class Plan(Protocol):
        """Who runs, and for how many steps."""

        def turn(self, ready: Sequence[int]) -> tuple[int, int]:
            """Choose one of these threads, and say for how many steps it runs, 1 or more."""
            ...


__all__ = ["PATIENCE", "Abandoned", "ByChance", "ByScript", "Deadlock", "InOrder", "Loosely", "Misfit", "Turns"]

MOST_STEPS = 1_000_000
PATIENCE = 5.0
"""Seconds of real time without a step after which a run is given up."""


class Abandoned(BaseException):
    """The run is over for a thread that has not ended; it unwinds."""


class Deadlock(RuntimeError):
    """Every thread waits for a lock that another one holds."""


class Misfit(RuntimeError):
    """A schedule asks for what the threads do not do."""


class InOrder:
    """Each thread to its end, in their order; a thread that waits for another by looking is left after a while."""

    def __init__(self) -> None:
        self._last = -1

    def turn(self, ready: Sequence[int]) -> tuple[int, int]:
        """The next one, for a long span."""
        self._last = next((index for index in ready if index > self._last), ready[0])
        return self._last, MOST_STEPS // 20


class ByChance:
    """Spans around a mean that each run draws anew, since races hide at every scale: from 1 to 1,000 steps."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        mean = 1000.0 ** rng.random()
        self._log = log(1.0 - 1.0 / mean) if mean > 1.0 else -inf

    def turn(self, ready: Sequence[int]) -> tuple[int, int]:
        """Any thread, for a geometrically distributed span."""
        return ready[int(self._rng.random() * len(ready))], 1 + int(log(1.0 - self._rng.random()) / self._log)


class Loosely:
    """About as a schedule says, as far as the threads can; what is left of them afterwards, in order."""

    def __init__(self, schedule: Sequence[tuple[int, int]]) -> None:
        self._rest = iter(schedule)
        self._then = InOrder()

    def turn(self, ready: Sequence[int]) -> tuple[int, int]:
        """The next pair of the schedule that is possible."""
        return next((pair for pair in self._rest if pair[0] in ready and pair[1]), None) or self._then.turn(ready)


class ByScript:
    """Exactly as a schedule says."""

    def __init__(self, schedule: Sequence[tuple[int, int]]) -> None:
        self._rest = iter(schedule)

    def turn(self, ready: Sequence[int]) -> tuple[int, int]:
        """The next pair of the schedule."""
        index, span = next(self._rest, (-1, 0))
        if index not in ready:
            raise Misfit("the schedule does not fit these callables: they have changed since it was printed")
        return index, span


class Turns:
    """One run of several threads."""

    def __init__(self, plan: Plan, names: Sequence[str], unwatch: Callable[[], None], *, tells: bool = False) -> None:
        self._plan = plan
        self._unwatch = unwatch
        self._tells = tells
        self._names = names
        self._batons = [allocate_lock() for _ in names]
        for baton in self._batons:
            baton.acquire()
        self._alive = list(range(len(names)))
        self._waiting: dict[int, tuple[CooperativeLock, float]] = {}
        self._idents: dict[int, int] = {}
        self._over = allocate_lock()
        self._over.acquire()
        self._known: frozenset[threading.Thread] = frozenset()
        self._left = 0
        self._span = 0
        self._steps = 0
        self._running = -1
        self._expired = -1
        self.schedule: list[tuple[int, int]] = []
        self.places: list[str] = []
        """Where each turn of the schedule ended, if that is told."""
        self.error: BaseException | None = None
        """What ended the run before its threads did."""

    # --- from the thread that explores --------------------------------------------------------------------------------

    def run(self) -> None:
        """Let the first thread run, and wait until the last has ended or nothing goes on."""
        self._known = frozenset(threading.enumerate())
        self._hand_on()
        seen = -1
        while not self._over.acquire(timeout=PATIENCE):
            if self._progress() == seen:
                self.abandon(RuntimeError(self._stuck()))
                return
            seen = self._progress()

    def abandon(self, error: BaseException) -> None:
        """End the run: whoever stands still unwinds."""
        if self.error is None:
            self.error = error
            self._left = 0
            for baton in self._batons:
                _free(baton)
            _free(self._over)

    def _progress(self) -> int:
        return self._steps + self._span - self._left

    def _stuck(self) -> str:
        ident = next((ident for ident, index in self._idents.items() if index == self._running), -1)
        frame = frames_of_threads().get(ident)
        where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
        return (
            f"thread {self._running} ({self._names[self._running]}) has made no step for {PATIENCE} s{where}: it waits "
            "for what the explorer cannot see, such as a lock made before the run. Make it in setup"
        )

    # --- from the threads ---------------------------------------------------------------------------------------------

    def begin(self, index: int) -> None:
        """Take a seat, and wait for the first turn."""
        self._idents[get_ident()] = index
        self._await(index)
        SEATS[get_ident()] = self

    def step(self) -> None:
        """Count a step of the running thread, after handing on where its span is over."""
        if self._left <= 0 and not importing():
            self._next_turn(self._running)
        self._left -= 1

    def give_way(self, lock: CooperativeLock, timeout: float) -> bool:
        """Let others run until `lock` may be tried again; False when `timeout` is over instead."""
        index = self._running if self.error is None else self._idents[get_ident()]
        self._waiting[index] = (lock, timeout)
        self._next_turn(index)
        if self._expired == index:
            self._expired = -1
            return False
        return True

    def end(self, index: int) -> None:
        """Leave for good."""
        SEATS.pop(get_ident(), None)
        if self.error is not None:
            return
        self._alive.remove(index)
        self._note("its end")
        if self._alive:
            self._hand_on()
        else:
            _free(self._over)

    def _next_turn(self, index: int) -> None:
        if self.error is None:
            self._note()
            if self._hand_on() == index:
                return
        self._await(index)

    def _await(self, index: int) -> None:
        if self.error is None:
            self._batons[index].acquire()
        if self.error is not None:
            # What unwinds is not stopped again, or a `finally` would not be one.
            self._unwatch()
            raise Abandoned

    # --- who is next --------------------------------------------------------------------------------------------------

    def _note(self, place: str = "") -> None:
        """Write down the turn that is over; two of the same thread in a row are one."""
        done = self._span - self._left
        self._steps += done
        if self._tells:
            self.places.append(place or _where())
        if self.schedule and self.schedule[-1][0] == self._running:
            self.schedule[-1] = (self._running, self.schedule[-1][1] + done)
            del self.places[-2:-1]
        else:
            self.schedule.append((self._running, done))

    def _hand_on(self) -> int:
        """Choose who is next, let it run, and say who it is; called by whoever runs.

        When the other has its baton it may be anywhere, back here included: only what is in a local still holds then.
        """
        before = self._running
        try:
            ready = self._ready()
            if self._steps > MOST_STEPS:
                raise RuntimeError(f"no end after {MOST_STEPS:,} steps: the threads keep each other from going on")
            chosen, self._span = self._plan.turn(ready)
        except BaseException as error:
            self.abandon(error)
            return -1
        self._running, self._left = chosen, self._span
        self._waiting.pop(chosen, None)
        if chosen != before:
            _free(self._batons[chosen])
        return chosen

    def _ready(self) -> list[int]:
        """Who could go on; where all wait, the one that waits for the shortest time gives up."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ready = [index for index in self._alive if self._can_go_on(index)]
            if ready:
                return ready
            timed = [(timeout, index) for index, (_, timeout) in self._waiting.items() if timeout >= 0]
            if timed:
                self._expired = min(timed)[1]
                return [self._expired]
            # A thread that a callable has started takes no turns, and may still free a lock.
            if not self._others_run() or time.monotonic() > deadline:
                raise Deadlock(self._deadlock())
            time.sleep(0.0005)

    def _can_go_on(self, index: int) -> bool:
        waits = self._waiting.get(index)
        return waits is None or not waits[0].locked()

    def _others_run(self) -> bool:
        return not self._known.issuperset(threading.enumerate())

    def _deadlock(self) -> str:
        lines = ["deadlock:"]
        for index in self._alive:
            lock, _ = self._waiting[index]
            lines.append(f"  {self._name(index)} waits for a lock made at {lock.made}, held by {self._holder(lock)}")
        return "\n".join(lines)

    def _holder(self, lock: CooperativeLock) -> str:
        if lock.owner is None:
            return "nobody"
        index = self._idents.get(lock.owner)
        return "a thread of its own" if index is None else self._name(index)

    def _name(self, index: int) -> str:
        return f"thread {index} ({self._names[index]})"


def _free(baton: threading.Lock) -> None:
    """Release a lock that somebody who gives up may have released already."""
    if baton.locked():
        baton.release()


def _where() -> str:
    """The line at which the calling thread stands, below the code of the explorer."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename in PASSED and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
