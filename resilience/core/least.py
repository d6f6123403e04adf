"""What a call takes when nothing waits, learnt without a say in what is sent.

The latency of a call is its own work and the time it waited, and nothing in it says which is which. What tells them
apart is the crowd: with twice as many calls in flight, one that waits takes longer, one that does not takes as long. So
latencies are taken in *cohorts*, a number of calls admitted one after the other, of which every one is waited for, and
each cohort knows how crowded it was. The least is learnt from a cohort

    that was quicker            whatever the crowd
    in no greater crowd         than the one in which the least was learnt: there was no queue there then
    in half the crowd or less   of the largest lately, without being quicker in the same measure: a queue would have
                                been (Little's law), so what was measured in the large crowd is no queue but the service
    for which room was made     by turning most callers away, if that has halved the crowd: what is left has no queue

and from no other: a queue that stays, however slowly it came, is always a slower cohort in a greater crowd. The last
two let a service become slower for good: as soon as it has little to do, or room is made to find out.

The first cohort is of eight calls, so that a service that is overloaded from its first second still knows, from the
calls that came when the queue was not there yet.
"""

from __future__ import annotations

__all__ = ["Least"]

_FIRST_COHORT = 8
_COHORT = 100
_PATIENCE = 10

_REMEMBERED = 300
"""Calls for which what is known counts, against a new cohort."""

_IN_STEP = 0.65
"""With half the crowd, a queue leaves half of the latency; with noise, up to this much of it."""

_FADES = 0.99


class Least:
    """The least latency. Not thread-safe by itself.

    Attributes:
        seconds: the least, in seconds, or None before the first cohort is back.
        cohort: the number of the present cohort, even and rising.
    """

    __slots__ = (
        "_calls",
        "_crowd",
        "_ended_since",
        "_known",
        "_largest",
        "_learnt_in",
        "_out",
        "_size",
        "_slowest",
        "_sum",
        "_taken",
        "_trusted",
        "cohort",
        "seconds",
    )

    # Known from the first cohort on, as `seconds` is.
    _learnt_in: float
    _slowest: float

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.cohort = 0
        self._size = _FIRST_COHORT
        self._known = 0
        self._largest = 0.0
        self._trusted = 0
        self._begin()

    def _begin(self) -> None:
        self.cohort += 2
        self._taken = 0
        self._out = 0
        self._crowd = 0
        self._sum = 0.0
        self._calls = 0
        self._ended_since = 0

    def enter(self, in_flight: int) -> int:
        """A call is admitted as one of `in_flight`: the number of its cohort, or an odd one if it is of none."""
        if self._taken == self._size:
            return self.cohort + 1
        self._taken += 1
        self._out += 1
        self._crowd += in_flight
        return self.cohort

    def leave(self, cohort: int, latency: float | None, in_flight: int) -> None:
        """A call of this cohort, or of none, has ended after `latency` seconds; `in_flight` are left.

        None is the latency of a call that was cut short, and says nothing.
        """
        if cohort == self.cohort:
            self._out -= 1
            if latency is not None:
                self._sum += latency
                self._calls += 1
        elif self._taken == self._size:
            self._ended_since += 1
        # Whoever has not come back while so many others did is not waited for any longer.
        if self._taken == self._size and (self._out == 0 or self._ended_since > _PATIENCE * (self._size + in_flight)):
            if self._calls:
                self._learn(self._sum / self._calls, self._crowd / self._taken)
            self._begin()

    def _learn(self, latency: float, crowd: float) -> None:
        roomy = crowd <= self._largest / 2
        known = min(self._known, _REMEMBERED)
        if self.seconds is None or (roomy and self.cohort == self._trusted):
            self._take(latency, crowd, 0)
        elif latency < self.seconds or (roomy and latency > self._slowest * _IN_STEP):
            self._take(latency, max(crowd, self._learnt_in), known)
        elif crowd <= self._learnt_in:
            self._take(latency, self._learnt_in, known)
        if crowd >= self._largest * _FADES:
            self._largest, self._slowest = crowd, latency
        else:
            self._largest *= _FADES
        self._size = min(_COHORT, 2 * self._size)

    def _take(self, latency: float, crowd: float, known: int) -> None:
        self._known = known + self._calls
        self.seconds = ((self.seconds or 0.0) * known + latency * self._calls) / self._known
        self._learnt_in = crowd

    def make_room(self) -> int:
        """Most callers are turned away from now on: the number of the cohort that will show what that has changed."""
        self._begin()
        self._trusted = self.cohort + 2
        return self._trusted

    def restart(self, after: int) -> None:
        """Begin a new cohort, numbered after this one: calls of the present one do not come back."""
        self.cohort = max(self.cohort, after)
        self._begin()
