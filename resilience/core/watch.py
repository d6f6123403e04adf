"""Calls that are slow already, though they have not ended.

A call that hangs is the slowest there is, and one that is judged only at its end would be judged last, or never. So a
circuit with a `SlowRate` keeps an eye on the calls under way: once a call has run for longer than the bound, it is slow
whatever becomes of it, and enters the window at the first access from then on. Nothing more enters when it ends.

Calls begin in order, so the slow ones are always the oldest. A lower bound of the oldest beginning says in one
comparison that nobody is slow yet.
"""

from __future__ import annotations

from math import inf

from resilience.core.verdict import IGNORED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilience.core.trip import Tally

__all__ = ["Watches"]


class Watches:
    """The calls under way in one closed generation of a circuit, as far as tallies of slow calls watch them.

    Args:
        slow: each tally of slow calls, and the seconds beyond which a call is slow to it.

    Attributes:
        running: the permits of the calls under way.
    """

    __slots__ = ("_watches", "running")

    def __init__(self, slow: Iterable[tuple[Tally, float]]) -> None:
        self._watches = [_Watch(tally, bound) for tally, bound in slow]
        self.running: set[int] = set()

    def begin(self, permit: int, now: float) -> int:
        """A call begins. Returns its permit."""
        for watch in self._watches:
            watch.begin(permit, now)
        self.running.add(permit)
        return permit

    def end(self, permit: int, tallies: list[Tally]) -> list[Tally]:
        """A call ends. Returns those of the tallies that have not counted it yet."""
        self.running.discard(permit)
        counted = [watch.tally for watch in self._watches if not watch.end(permit)]
        return [tally for tally in tallies if not any(tally is each for each in counted)] if counted else tallies

    def look(self, now: float) -> bool:
        """Count each call that has become slow; True if the circuit is to open."""
        tripped = False
        for watch in self._watches:
            tripped = watch.look(now) or tripped
        return tripped

    def keep(self, alive: Iterable[int]) -> None:
        """Watch no call any more but these."""
        for permit in self.running.difference(alive):
            self.end(permit, [])


class _Watch:
    """The calls under way that one tally of slow calls has not seen yet."""

    __slots__ = ("_began", "_bound", "_oldest", "tally")

    def __init__(self, tally: Tally, bound: float) -> None:
        self.tally = tally
        self._bound = bound
        self._began: dict[int, float] = {}
        self._oldest = inf
        """No call that is watched began before."""

    def begin(self, permit: int, now: float) -> None:
        """A call begins."""
        self._began[permit] = now
        self._oldest = min(self._oldest, now)

    def end(self, permit: int) -> bool:
        """A call ends. False if it was slow before and has been counted."""
        return self._began.pop(permit, None) is not None

    def look(self, now: float) -> bool:
        """Count each call that has become slow; True if the circuit is to open."""
        if now - self._oldest <= self._bound:
            return False
        tripped = False
        slow = [(permit, began) for permit, began in self._began.items() if now - began > self._bound]
        for permit, began in slow:
            del self._began[permit]
            tripped = self.tally.record(IGNORED, now - began, now) or tripped
        self._oldest = min(self._began.values(), default=inf)
        return tripped
