"""Which of the finished calls still matter?

A share needs a bound on the past: what was true an hour ago must neither hide nor cause an outage now. Over calls the
bound is exact, the last N finished ones, no more and no fewer, and costs a number per bad one. Over time an exact bound
would have to remember when each call ended, which is most memory just when there is most traffic; so time is kept in
ten slices, and a result counts for at least nine tenths of the window, at most the whole of it.

Nearly every call is a good one, so each window has a number that a good call may be counted in by adding 1 to it.
"""

from __future__ import annotations

import collections

__all__ = ["LastCalls", "LastSeconds"]

_SLICES = 10
# No clock tells such moments apart, and a reading divided by it is still a number.
_FINEST = 1e-290


class LastCalls:
    """The last so many calls: how many there were, and which of them were bad.

    Attributes:
        calls: all that were counted, those that have left the window included. A good call may be counted by adding 1
            here, and by nothing else.
    """

    __slots__ = ("_bad", "_size", "calls")

    def __init__(self, calls: int) -> None:
        self._size = calls
        self._bad: collections.deque[int] = collections.deque()
        self.calls = 0

    def add(self, bad: bool, now: float) -> None:
        """Count a call that ended now."""
        self.calls = number = self.calls + 1
        if bad:
            self._bad.append(number)

    def counts(self, now: float) -> tuple[int, int]:
        """(bad calls, calls) in the window at present."""
        calls, bad = self.calls, self._bad
        while bad and bad[0] <= calls - self._size:
            bad.popleft()
        return len(bad), min(calls, self._size)


class LastSeconds:
    """Ten slices in a ring, and their sums. A slice is emptied when its turn comes round again.

    Attributes:
        width: the seconds of a slice.
        slice: the number of the present slice, `now // width` of its readings; None before the first.
        fresh: good calls of the present slice that the ring does not have yet. A good call may be counted by adding 1
            here, if its reading is of this slice, and by nothing else.
    """

    __slots__ = ("_bad", "_bad_in", "_calls", "_calls_in", "fresh", "slice", "width")

    def __init__(self, window: float) -> None:
        self.width = max(window / _SLICES, _FINEST)
        self.slice: int | None = None
        self.fresh = 0
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
        fresh, self.fresh = self.fresh, 0
        self._calls_in[self.slice % _SLICES] += fresh
        self._calls += fresh
        for begun in range(max(self.slice, reached - _SLICES) + 1, reached + 1):
            at = begun % _SLICES
            self._calls -= self._calls_in[at]
            self._bad -= self._bad_in[at]
            self._calls_in[at] = self._bad_in[at] = 0
        self.slice = max(self.slice, reached)
        return self.slice
