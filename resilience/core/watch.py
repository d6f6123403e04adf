"""Calls that are slow already, though they have not ended.

A call that hangs is the slowest there is, and one that is judged only at its end would be judged last, or never. So a
circuit with a `SlowRate` keeps an eye on the calls under way: once a call has run for longer than the bound, it is slow
whatever becomes of it, and enters the window at the first access from then on. Nothing more enters when it ends.

A look at all of them is dear, and nearly always finds nobody. So each look says until when none is due: while the
oldest call has not reached the bound, no other has. That makes way for calls that are neither slow nor meet with a
slow one: up to `until`, a call may begin by writing itself down in `running`, and end by taking itself out and adding 1
to `window`, and whoever does nothing else between two looks needs no lock. One that finds nobody there may write no
more than when it began, in `alone`, and take that back; who comes to look puts it to the others.
"""

from __future__ import annotations

from math import inf, nextafter

from resilience.core.verdict import IGNORED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilience.core.trip import Tally
    from resilience.core.window import LastCalls, LastSeconds

__all__ = ["Watches"]

_TO_BE_DRAWN = -1


class Watches:
    """The calls under way in one closed generation of a circuit, as far as tallies of slow calls watch them.

    Args:
        slow: each tally of slow calls, and the seconds beyond which a call is slow to it; without one, never `look`.

    Attributes:
        running: the calls under way that nobody has seen being slow: of each permit, when it began.
        due: no call becomes slow at a reading up to this one.
        until: the reading up to which calls may begin and succeed as above; `-math.inf` for none. For the holder of the
            lock to set.
        window: where they are counted; meaningless while they may not.
        alone: when the call began that is by itself, or None.
        number: the permit of such a call, below 0 where one has to be drawn.
    """

    __slots__ = ("_floor", "_seen", "_slow", "_watches", "alone", "due", "number", "running", "until", "window")

    _seen: int
    """The permit that had been drawn last by the last look. Before the first there is none, and no call began before
    it."""

    def __init__(self, slow: Iterable[tuple[Tally, float]]) -> None:
        self._watches = [_Watch(tally, bound) for tally, bound in slow]
        self._slow: dict[int, float] = {}
        self._floor = -inf
        """The reading of the last look."""
        self.running: dict[int, float] = {}
        self.due = -inf
        self.until = -inf
        self.window: LastCalls | LastSeconds | None = None
        self.alone: float | None = None
        self.number = _TO_BE_DRAWN

    def __contains__(self, permit: int) -> bool:
        return permit in self.running or permit in self._slow

    @property
    def under_way(self) -> set[int]:
        """The permits of the calls under way."""
        alone = () if self.alone is None else (self.number,)
        return {*self.running, *self._slow, *alone}

    def gather(self) -> None:
        """Whoever is alone is one among others from now on. With the lock held, and before anything else."""
        alone, number = self.alone, self.number
        if alone is not None:
            # It began after the last look, whatever reading it had by then.
            self.running[number], self.alone, self.number = max(alone, self._floor), None, _TO_BE_DRAWN

    def begin(self, permit: int, now: float) -> int:
        """A call begins. Returns its permit."""
        self.running[permit] = now
        return permit

    def end(self, permit: int, tallies: list[Tally]) -> list[Tally]:
        """A call ends. Returns those of the tallies that have not counted it yet."""
        if self.running.pop(permit, None) is not None or self._slow.pop(permit, None) is None:
            return tallies
        counted = [watch.tally for watch in self._watches if watch.end(permit)]
        return [tally for tally in tallies if not any(tally is each for each in counted)]

    def look(self, now: float, serial: int) -> bool:
        """Count each call that has become slow; True if the circuit is to open. `serial` is the permit drawn last."""
        floor = self._floor
        for permit, began in self.running.items():
            if began < floor and permit > self._seen:
                # It read the clock, lost its thread, and was written down after the last look: then it began there.
                self.running[permit] = floor
        tripped = False
        for watch in self._watches:
            for permit, began in watch.slow(self._slow | self.running, now):
                self._slow[permit] = began
                self.running.pop(permit, None)
                tripped = watch.count(permit, began, now) or tripped
        self._floor, self._seen = now, serial
        calls = self._slow | self.running
        self.due = min(watch.due(calls, now) for watch in self._watches)
        return tripped

    def keep(self, alive: Iterable[int]) -> None:
        """Watch no call any more but these. Afterwards the short way has to be opened anew."""
        self.until = -inf
        self.gather()
        self.number = _TO_BE_DRAWN
        for permit in self.under_way.difference(alive):
            self.end(permit, [])


class _Watch:
    """What one tally of slow calls has seen of the calls under way."""

    __slots__ = ("_bound", "_counted", "tally")

    def __init__(self, tally: Tally, bound: float) -> None:
        self.tally = tally
        self._bound = bound
        self._counted: set[int] = set()

    def slow(self, calls: dict[int, float], now: float) -> list[tuple[int, float]]:
        """The calls that are slow and have not been counted, and when each began."""
        return [
            (permit, began)
            for permit, began in calls.items()
            if now - began > self._bound and permit not in self._counted
        ]

    def count(self, permit: int, began: float, now: float) -> bool:
        """Count a call that is slow; True if the circuit is to open."""
        self._counted.add(permit)
        return self.tally.record(IGNORED, now - began, now)

    def end(self, permit: int) -> bool:
        """A call ends. True if it has been counted."""
        counted = permit in self._counted
        self._counted.discard(permit)
        return counted

    def due(self, calls: dict[int, float], now: float) -> float:
        """A reading up to which no other call becomes slow, be it one of these or one that begins from now on."""
        oldest = min((began for permit, began in calls.items() if permit not in self._counted), default=now)
        oldest = min(oldest, now)
        due = oldest + self._bound
        while due - oldest > self._bound:
            due = nextafter(due, -inf)
        return due
