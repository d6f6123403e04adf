"""Which of the finished calls still matter?

A share needs a bound on the past: what was true an hour ago must neither hide nor cause an outage now. Over calls the
bound is exact, the last N finished ones, no more and no fewer, and costs a bit per call. Over time an exact bound would
have to remember when each call ended, which is most memory just when there is most traffic; so time is kept in ten
slices, and a result counts for at least nine tenths of the window, at most the whole of it.
"""

from __future__ import annotations

import collections

__all__ = ["LastCalls", "LastSeconds"]

_SLICES = 10
# No clock tells such moments apart, and a reading divided by it is still a number.
_FINEST = 1e-290


class LastCalls:
    """The last so many calls."""

    __slots__ = ("_bad", "_last")

    def __init__(self, calls: int) -> None:
        self._last: collections.deque[bool] = collections.deque(maxlen=calls)
        self._bad = 0

    def add(self, bad: bool, now: float) -> None:
        """Count a call that ended now."""
        forgotten = len(self._last) == self._last.maxlen and self._last[0]
        # The sum first: an interrupt may arrive after the call, never before it.
        self._bad += bad - forgotten
        self._last.append(bad)

    def counts(self, now: float) -> tuple[int, int]:
        """(bad calls, calls) in the window at present."""
        return self._bad, len(self._last)


class LastSeconds:
    """Ten slices in a ring, and their sums. A slice is emptied when its turn comes round again."""

    __slots__ = ("_bad", "_bad_in", "_calls", "_calls_in", "_slice", "_width")

    def __init__(self, window: float) -> None:
        self._width = max(window / _SLICES, _FINEST)
        self._slice: int | None = None
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
        if self._slice is not None:
            self._turn(now)
        return self._bad, self._calls

    def _turn(self, now: float) -> int:
        """Empty the slices that begin anew; return the present one, which time that steps back does not change."""
        reached = int(now // self._width)
        if self._slice is None:
            self._slice = reached
        for begun in range(max(self._slice, reached - _SLICES) + 1, reached + 1):
            at = begun % _SLICES
            self._calls -= self._calls_in[at]
            self._bad -= self._bad_in[at]
            self._calls_in[at] = self._bad_in[at] = 0
        self._slice = max(self._slice, reached)
        return self._slice
