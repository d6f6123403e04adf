"""When to send a second copy of a call.

Most slow answers are slow for a reason that the next server does not share: a queue, a pause, a lost packet. So a
second copy, sent when the first is later than nearly all others were, usually overtakes it, and cuts the tail at the
price of a few more calls (Dean and Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013).

The price must stay small when it matters most, which is when everything is slow: a hedge that then doubles the load
finishes what the overload began. Two things keep it small, and the second does not trust the first:

    when     a copy is sent after the (1 - x) quantile of the recent successes, so that x of the calls come that far.
    The quantile is of
             whole calls, from their first copy to their answer: a call that a copy rescued still counts as one that was
                 late.
    whether  each call earns x of a copy, starting from nothing; a copy costs one whole. At most ten are saved up. So
    over any stretch of
             calls the extra load is at most x of them and ten more, whatever the latencies do.

The sums of what is earned are multiplied out, never added up, so that twenty calls at 0.05 earn one copy, not 0.9999.
"""

from __future__ import annotations

import bisect
import collections

__all__ = ["Hedging"]

_SAVED_AT_MOST = 10.0
_RECENT = 256


class Hedging:
    """The decisions of a hedge policy, shared by its calls. Not thread-safe by itself.

    Args:
        max_extra_load: x, the share of calls that may be sent again; above 0, at most 1.
        after: seconds after which a copy is sent, or None to learn it.
    """

    __slots__ = ("_calls", "_fewest", "_recent", "_sent", "_share", "_sorted", "after")

    def __init__(self, max_extra_load: float, after: float | None) -> None:
        self._share = max_extra_load
        self.after = after
        self._calls = 0
        self._sent = 0.0
        self._recent: collections.deque[float] = collections.deque(maxlen=_RECENT)
        self._sorted: list[float] = []
        # Fewer answers than this say nothing about a share as small as x.
        self._fewest = min(_RECENT, max(10, round(1.0 / max_extra_load)))

    @property
    def credit(self) -> float:
        """Copies that may be sent now."""
        return self._calls * self._share - self._sent

    def began(self) -> None:
        """A call has begun: it earns its share of a copy."""
        self._calls += 1
        self._sent = max(self._sent, self._calls * self._share - _SAVED_AT_MOST)

    def delay(self) -> float | None:
        """Seconds from the first copy to the next, or None while too little is known."""
        if self.after is not None:
            return self.after
        if len(self._sorted) < self._fewest:
            return None
        return self._sorted[min(len(self._sorted) - 1, int(len(self._sorted) * (1.0 - self._share)))]

    def spend(self) -> bool:
        """Pay for a copy; False where that cannot be paid."""
        if self.credit < 1.0:
            return False
        self._sent += 1.0
        return True

    def give_back(self) -> None:
        """A copy that was paid for has not been sent."""
        self._sent -= 1.0

    def succeeded(self, elapsed: float) -> None:
        """A call was answered, `elapsed` seconds after its first copy was sent."""
        if len(self._sorted) != len(self._recent):
            # A KeyboardInterrupt came between the two the last time.
            self._sorted = sorted(self._recent)
        if len(self._recent) == _RECENT:
            del self._sorted[bisect.bisect_left(self._sorted, self._recent[0])]
        self._recent.append(elapsed)
        bisect.insort(self._sorted, elapsed)
