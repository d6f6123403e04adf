"""What a number of latencies say together, and how sure one can be of it.

A few slow calls decide what the mean of some latencies is, and next time it is other calls: the mean of a hundred can
be off by a tenth or by a third, which is what a queue would add. So latencies are averaged in their logarithms. The
geometric mean is steadier for every skewed distribution, it moves more when all calls wait a little than when a few
take long, and the ratio of two of them is a plain difference, whose standard error is known. Without its error, no
difference between two latencies means anything.
"""

from __future__ import annotations

from math import exp, log, sqrt

__all__ = ["Sample", "Window"]

_SHORTEST = 1e-6
"""Seconds, where a coarse clock measured zero: that has no logarithm, and nothing can be compared with it."""

_SAME = 0.001
"""The variance of a difference that is none: about 3 % either way."""


class Sample:
    """The latencies of some calls, in four numbers. A value: nothing in here changes one.

    Attributes:
        calls: how many there were.
        level: the mean of the natural logarithms of the latencies in seconds.
        variance: the variance of these logarithms.
        mean: the arithmetic mean, in seconds, which is what Little's law is about.
    """

    __slots__ = ("calls", "level", "mean", "variance")

    def __init__(self, calls: int, level: float, variance: float, mean: float) -> None:
        self.calls = calls
        self.level = level
        self.variance = variance
        self.mean = mean

    @property
    def typical(self) -> float:
        """The geometric mean, in seconds."""
        return exp(self.level)

    @property
    def error(self) -> float:
        """The standard error of `level`: 0.05 says that `typical` is known to about 5 %."""
        return sqrt(self.variance / self.calls)

    def above(self, other: Sample) -> float:
        """How far this lies above another, in standard errors of the difference. Beyond 2 it is hardly chance."""
        return (self.level - other.level) / sqrt(self.error**2 + other.error**2 + _SAME)

    def joined(self, other: Sample, at_most: int) -> Sample:
        """Both together, where this one counts for `at_most` calls, so that what is new keeps its say."""
        mine, theirs = min(self.calls, at_most), other.calls
        calls = mine + theirs
        share, gap = theirs / calls, other.level - self.level
        variance = self.variance * (1 - share) + other.variance * share + gap * gap * share * (1 - share)
        return Sample(calls, self.level + gap * share, variance, self.mean * (1 - share) + other.mean * share)

    def __repr__(self) -> str:
        return f"<{self.calls} calls of {self.typical:.4g} s, known to {self.error:.0%}>"


class Window:
    """The calls of which one decision is made: all that were admitted from `opened` to `filled`, with their ends.

    A call belongs to the window in which it was admitted, and the window waits for it. Calls that merely *end* within a
    stretch of time are no fair sample: the quick ones are, and the slow ones belong to the next.

    Attributes:
        permit: the permit of its calls, as integers are used elsewhere: nobody else's is the same.
        opened: when it began to admit.
        filled: when it had enough, or None.
        out: its calls that have not ended.
        ended: its calls that came through.
        lost: its calls that ended in a sign of overload.
        peak: the most calls in flight at a time, whichever window they are of.
        busy: seconds that all calls in flight have spent since it was opened.
    """

    __slots__ = ("_squares", "_sum", "_total", "busy", "ended", "filled", "lost", "opened", "out", "peak", "permit")

    def __init__(self, permit: int, now: float, in_flight: int) -> None:
        self.permit = permit
        self.filled: float | None = None
        self.out = 0
        self.ended = 0
        self.lost = 0
        self._sum = 0.0
        self._squares = 0.0
        self._total = 0.0
        self.begin(now, in_flight)

    def begin(self, now: float, in_flight: int) -> None:
        """Begin at `now`, while nothing has entered it."""
        self.opened = now
        self.peak = in_flight
        self.busy = 0.0

    @property
    def calls(self) -> int:
        """Its calls, ended or not. One that ended without saying anything is none."""
        return self.out + self.ended + self.lost

    def add(self, latency: float, calls: int = 1) -> None:
        """Count `calls` that came through after `latency` seconds."""
        latency = max(latency, _SHORTEST)
        level = log(latency)
        self.ended += calls
        self._sum += level * calls
        self._squares += level * level * calls
        self._total += latency * calls

    def sample(self) -> Sample | None:
        """What those say that came through; None where none did."""
        if self.ended == 0:
            return None
        level = self._sum / self.ended
        variance = max(0.0, self._squares / self.ended - level * level)
        return Sample(self.ended, level, variance, self._total / self.ended)
