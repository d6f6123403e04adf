"""What is written down of a run: counts per bin of time, and latencies as a histogram.

A run may be a minute or a month, so what is kept does not grow with it: at most `BINS` bins of equal width, each with a
few whole numbers, and latencies in steps of five percent.
"""

from __future__ import annotations

from math import exp, inf, log

__all__ = ["BINS", "COUNTS", "Tally", "quantile"]

BINS = 600
COUNTS = ("offered", "served", "failed", "rejected", "sent", "retried", "wasted")
"""offered: calls begun. served: ended with the server's answer. rejected: ended without one and without a request, as
the policies had it. failed: ended without one, after a request or more. sent: requests to the server. retried: those
that were not the first of their call. wasted: requests done by the server for clients that had gone.
"""

_STEP = 0.05


class Tally:
    """The counts of one run.

    Attributes:
        width: seconds of a bin.
        counts: for each name in `COUNTS`, a number per bin.
        latencies: per bin, how many calls that were served lasted how long, by the number of the step.
    """

    __slots__ = ("counts", "latencies", "width")

    def __init__(self, seconds: float) -> None:
        self.width = max(1.0, seconds / BINS)
        bins = int(seconds / self.width) + 1
        self.counts = {name: [0] * bins for name in COUNTS}
        self.latencies: list[dict[int, int]] = [{} for _ in range(bins)]

    def offered(self, now: float) -> None:
        """A call begins."""
        self.counts["offered"][int(now / self.width)] += 1

    def sent(self, now: float, again: bool) -> None:
        """A request goes out."""
        here = int(now / self.width)
        self.counts["sent"][here] += 1
        if again:
            self.counts["retried"][here] += 1

    def wasted(self, now: float) -> None:
        """A request has been worked on in vain."""
        self.counts["wasted"][int(now / self.width)] += 1

    def ended(self, now: float, began: float, served: bool, requests: int) -> None:
        """A call ends."""
        here = int(now / self.width)
        if served:
            self.counts["served"][here] += 1
            step = _step(now - began)
            latencies = self.latencies[here]
            latencies[step] = latencies.get(step, 0) + 1
        else:
            self.counts["failed" if requests else "rejected"][here] += 1


def _step(latency: float) -> int:
    return round(log(max(latency, 1e-6)) / _STEP)


def quantile(latencies: dict[int, int], share: float) -> float:
    """The latency, in seconds, that this share of the calls does not exceed; inf where there were no calls."""
    rank = share * sum(latencies.values())
    for step in sorted(latencies):
        rank -= latencies[step]
        if rank <= 0:
            return exp(step * _STEP)
    return inf
