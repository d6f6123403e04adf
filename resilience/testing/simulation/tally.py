"""What is written down of a run: counts per bin of time, and latencies as a histogram.

A run may be a minute or a month, so what is kept does not grow with it: at most `BINS` bins of equal width, each with a
few whole numbers, and latencies in steps of five percent.
"""

from __future__ import annotations

from collections import Counter
from math import exp, inf, log, nextafter

__all__ = ["BINS", "COUNTS", "LEAST", "MANY", "Tally", "quantile"]

BINS = 600
COUNTS = ("offered", "served", "failed", "rejected", "sent", "retried", "wasted")
"""offered: calls begun. served: ended with the server's answer. rejected: ended without one and without a request, as
the policies had it. failed: ended without one, after a request or more. sent: requests to the server. retried: those
that were not the first of their call. wasted: requests done by the server for clients that had gone.
"""

MANY = 1024
"""Latencies that are kept one by one, at most."""

LEAST = 1e-6
"""Seconds that stand for a latency of nothing at all, which has no logarithm."""

_STEP = 0.05


class Tally:
    """The counts of one run. What happens is added to the attributes of its name; `turn` puts them into their bin.

    Attributes:
        width: seconds of a bin.
        counts: for each name in `COUNTS`, a number per bin.
        latencies: per bin, how many calls that were served lasted how long, by the number of the step.
        lasted: seconds that calls of the present bin lasted and that are in no step yet; whoever appends the last of
            `MANY` calls `digest`.
    """

    __slots__ = (*COUNTS, "_here", "counts", "lasted", "latencies", "width")

    offered: int
    served: int
    failed: int
    rejected: int
    sent: int
    retried: int
    wasted: int
    _here: dict[int, int]

    def __init__(self, seconds: float) -> None:
        self.width = max(1.0, seconds / BINS)
        self.counts: dict[str, list[int]] = {name: [] for name in COUNTS}
        self.latencies: list[dict[int, int]] = []
        self.lasted: list[float] = []
        self._begin()

    def ends(self, seconds: float) -> list[float]:
        """The last moment of each bin."""
        whole = (nextafter(number * self.width, 0.0) for number in range(1, int(seconds / self.width) + 1))
        return [*(min(end, seconds) for end in whole), seconds]

    def turn(self) -> None:
        """The bin is over: begin the next."""
        self.digest()
        for name in COUNTS:
            self.counts[name].append(getattr(self, name))
        self.latencies.append(self._here)
        self._begin()

    def _begin(self) -> None:
        for name in COUNTS:
            setattr(self, name, 0)
        self._here = {}

    def digest(self) -> None:
        """Sort the latencies into their steps, many at a time, which is much cheaper than one by one."""
        here = self._here
        for step, count in Counter([round(log(seconds) / _STEP) for seconds in self.lasted]).items():
            here[step] = here.get(step, 0) + count
        self.lasted.clear()


def quantile(latencies: dict[int, int], share: float) -> float:
    """The latency, in seconds, that this share of the calls does not exceed; inf where there were no calls."""
    rank = share * sum(latencies.values())
    for step in sorted(latencies):
        rank -= latencies[step]
        if rank <= 0:
            return exp(step * _STEP)
    return inf
