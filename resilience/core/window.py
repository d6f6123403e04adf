"""Which of the finished calls still matter?

A share needs a bound on the past: what was true an hour ago must neither hide nor cause an outage now. Over calls the
bound is exact, the last N finished ones, no more and no fewer, and costs a number per bad one. Over time an exact bound
would have to remember when each call ended, which is most memory just when there is most traffic; so time is kept in
ten slices, and a result counts for at least nine tenths of the window, at most the whole of it.

Nearly every call is a good one, so each window has a number that a good call may be counted in by adding 1 to it.
"""

from __future__ import annotations

import collections
from math import inf, nextafter

__all__ = ["LastCalls", "LastSeconds"]

_SLICES = 10
# No clock tells such moments apart, and a reading divided by it is still a number.
_FINEST = 1e-290


class LastCalls:
    """The last so many calls: how many there were, and which of them were bad.

    Attributes:
        ticks: all that were counted, those that have left the window included. A good call may be counted by adding 1
            here, and by nothing else.
        ends: the last reading up to which that is so: it always is.
    """

    __slots__ = ("_bad", "_size", "ticks")

    ends = inf

    def __init__(self, calls: int) -> None:
        self._size = calls
        self._bad: collections.deque[int] = collections.deque()
        self.ticks = 0

    def add(self, bad: bool, now: float) -> None:
        """Count a call that ended now."""
        self.ticks = number = self.ticks + 1
        if bad:
            self._bad.append(number)

    def counts(self, now: float) -> tuple[int, int]:
        """(bad calls, calls) in the window at present."""
        calls, bad = self.ticks, self._bad
        while bad and bad[0] <= calls - self._size:
            bad.popleft()
        return len(bad), min(calls, self._size)


class LastSeconds:
    """Ten slices in a ring, and their sums. A slice is emptied when its turn comes round again.

    Attributes:
        width: the seconds of a slice.
        slice: the number of the present slice, `now // width` of its readings; None before the first.
        ends: no reading up to this one is of a later slice.
        ticks: good calls of the present slice that the ring does not have yet. A good call may be counted by adding 1
            here, if its reading is not above `ends`, and by nothing else.
    """

    __slots__ = ("_bad", "_bad_in", "_calls", "_calls_in", "ends", "slice", "ticks", "width")

    def __init__(self, window: float) -> None:
        self.width = max(window / _SLICES, _FINEST)
        self.slice: int | None = None
        self.ends = -inf
        self.ticks = 0
        self._calls_in = [0] * _SLICES
        self._bad_in = [0] * _SLICES
        self._calls = 0
        self._bad = 0

    def add(self, bad: bool, now: float) -> None:
        """Count a call that ended now."""
        at = self._turn(now) % _SLICES
        self._calls_in[at] += 1
        self._bad_in[at] += bad
        self._calls += 1
        self._bad += bad

    def counts(self, now: float) -> tuple[int, int]:
        """(bad calls, calls) in the window at present."""
        if self.slice is not None:
            self._turn(now)
        return self._bad, self._calls

    def _turn(self, now: float) -> int:
        """Empty the slices that begin anew; return the present one, which time that steps back does not change."""
        reached = int(now // self.width)
        if self.slice is None:
            self.slice = reached
            self.ends = self._end(reached)
        fresh, self.ticks = self.ticks, 0
        self._calls_in[self.slice % _SLICES] += fresh
        self._calls += fresh
        for begun in range(max(self.slice, reached - _SLICES) + 1, reached + 1):
            at = begun % _SLICES
            self._calls -= self._calls_in[at]
            self._bad -= self._bad_in[at]
            self._calls_in[at] = self._bad_in[at] = 0
        if reached > self.slice:
            self.slice, self.ends = reached, self._end(reached)
        return self.slice

    def _end(self, number: int) -> float:
        end = (number + 1) * self.width
        while end // self.width > number:
            end = nextafter(end, -inf)
        return end
