"""The number of an attempt, and nothing else.

A retry that has failed once, with no deadline around it and nobody listening, still owes one thing to what it calls:
the number of the attempt, for an HTTP client to pass on and for a retry further in to tell its depth. A mark stands in
the chain of bounds for that, and bounds nothing.
"""

from __future__ import annotations

from math import inf

from resilience import clock as _clock
from resilience._scope import Bound, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Mark"]


class Mark(Bound):
    """The attempts of one plain call, by number. Used by the one thread or task that made it.

    Attributes:
        delay: the delay before the running attempt, in seconds.
        waited: seconds of delay so far.
    """

    __slots__ = ("_token", "attempt", "delay", "waited")

    clock = _clock.default
    depth = 0
    limit = inf
    parent = None
    _cut = None

    def __init__(self, delay: float) -> None:
        """The second attempt comes, after `delay` seconds."""
        self.attempt = 2
        self.delay = self.waited = delay
        self._token = current.set(self)

    def next(self, delay: float) -> Self:
        """Another attempt comes, after `delay` seconds."""
        self.attempt += 1
        self.delay = delay
        self.waited += delay
        return self
