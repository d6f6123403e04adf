"""How much of what is sent is accepted, and how much need not be sent.

Theory of operation
-------------------
A backend that is overloaded refuses calls, and refusing costs it something too: enough of it, and it does nothing else.
Its clients know how many of their calls came through lately, so they can hold back the hopeless part themselves:

    p = max(0, (requests - k * accepts) / (requests + 1))

`requests` is what was asked of the client and `accepts` what the backend accepted, both over a window; `p` is the
chance with which a call is refused on the spot. So about `k` calls are sent for each one that is accepted: enough to
notice when more are, and no more. (Beyer, Jones, Petoff and Murphy, "Site Reliability Engineering", chapter 21,
"Handling Overload", O'Reilly 2016, with a window of two minutes.)

Three things are different.

*A floor.* `p` never exceeds `max_rejection`. Without it, a client whose calls were all refused for a window would send
nothing more, and never learn that it could.

*What has no answer yet does not count.* Otherwise the first calls to a backend that is merely slow would be requests
without accepts, and those that come after them would be refused before anything has failed.

*What we refused needlessly does not count.* Calls refused here are in `requests` without a chance to be in `accepts`;
that is what holds the load at `k` times the accepted. But once the backend is well they keep `p` up, which refuses more
calls, and so on: after a total outage the textbook formula still refuses most calls a whole window later. So the window
is kept in ten slices, and in a slice in which the backend refused nothing, calls refused here are left out: they say
nothing about the backend, only about us. Hence all is well at most a window after the backend is.

A permit is the number of the slice in which the call was sent, and there its answer is counted: a slow call is compared
with those among which it was sent, and one that outlives the window counts no more.

Time never runs backwards in here: a reading older than the newest one seen is raised to it.
"""

from __future__ import annotations

from math import inf

from resilience.core.verdict import FAILURE, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.verdict import Verdict

__all__ = ["REFUSED", "Accepts"]

REFUSED = -1
"""What `acquire` returns instead of a permit."""

_SLICES = 10


class _Slice:
    __slots__ = ("accepted", "held_back", "number", "refused")

    def __init__(self, number: int) -> None:
        self.number = number
        self.accepted = 0
        self.refused = 0
        self.held_back = 0

    @property
    def requests(self) -> int:
        """Calls that say something about the backend."""
        return self.accepted + self.refused + self.held_back if self.refused else self.accepted


class Accepts:
    """What came of the calls of the last `window` seconds. Not thread-safe by itself: a policy holds its lock.

    Args:
        k: calls to send for each one that is accepted, 1 or more.
        window: seconds to look back; in slices of a tenth, so a call counts for 0.9 to 1.0 of it.
        minimum_calls: nothing is refused on fewer requests than this.
        max_rejection: the highest chance of refusal, below 1.
    """

    __slots__ = ("_began", "_k", "_latest", "_max_rejection", "_minimum_calls", "_refused", "_slices", "_width")

    def __init__(self, k: float, window: float, minimum_calls: int, max_rejection: float) -> None:
        self._k = k
        self._width = window / _SLICES
        self._minimum_calls = minimum_calls
        self._max_rejection = max_rejection
        self._slices: list[_Slice] = []
        self._refused = 0
        self._began: float | None = None
        self._latest = -inf

    def acquire(self, now: float, u: float) -> int:
        """A permit for one call, or REFUSED, as the chance `u` in [0, 1) will have it."""
        present = self._present(now)
        if self._refused and u < self._rejection():
            present.held_back += 1
            return REFUSED
        return present.number

    def settle(self, permit: int, verdict: Verdict) -> None:
        """Take a permit back: SUCCESS says that the call was accepted, FAILURE that it was not, IGNORED nothing."""
        for each in reversed(self._slices):
            if each.number == permit:
                if verdict is SUCCESS:
                    each.accepted += 1
                elif verdict is FAILURE:
                    each.refused += 1
                    self._refused += 1
                return

    def rejection(self, now: float) -> float:
        """The chance with which a call is refused at present."""
        self._present(now)
        return self._rejection()

    def counts(self, now: float) -> tuple[int, int]:
        """(requests, accepts) in the window."""
        self._present(now)
        return self._counts()

    def _counts(self) -> tuple[int, int]:
        return sum(each.requests for each in self._slices), sum(each.accepted for each in self._slices)

    def _rejection(self) -> float:
        requests, accepts = self._counts()
        if requests < self._minimum_calls:
            return 0.0
        return min(self._max_rejection, max(0.0, (requests - self._k * accepts) / (requests + 1)))

    def _present(self, now: float) -> _Slice:
        """The slice of this moment; those that are too old are forgotten."""
        self._latest = max(self._latest, now)
        if self._began is None:
            self._began = self._latest
        slices, number = self._slices, int((self._latest - self._began) / self._width)
        if not slices or slices[-1].number != number:
            slices.append(_Slice(number))
            while slices[0].number <= number - _SLICES:
                self._refused -= slices.pop(0).refused
        return slices[-1]
