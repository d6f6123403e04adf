"""Three ways to move a concurrency limit.

Each is told what one window of calls has shown, and answers with the next limit. Nothing is remembered: when to look,
what to compare with, and whether to believe it is the business of `resilience.core.adaptive`.

    next_limit(limit, latency, least, lost) -> limit

`latency` is what calls take now and `least` what they take when nothing waits, in seconds; `lost` is the share of calls
that ended in a sign of overload. By Little's law a service with room for `c` calls, given `limit`, answers in
`least * limit / c`: so `limit * least / latency` is how many of the calls in flight are being worked on, and the rest
stand in a queue.

    Gradient   goes half the way to that number, plus a little room to grow        quick, and steady
    Vegas      a step up while the queue is short, a step down when it is long     slower, gentler
    AIMD       a step up until something is wrong, then a cut                      saws; needs no good latencies

All three are after Netflix's concurrency-limits (`Gradient2Limit`, `VegasLimit`, `AIMDLimit`), which took the last two
from TCP: Brakmo, O'Malley and Peterson, "TCP Vegas", SIGCOMM 1994; Chiu and Jain, "Analysis of the Increase and
Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989. The numbers are ours.
"""

from __future__ import annotations

from resilience._checks import number, share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

__all__ = ["AIMD", "Algorithm", "Gradient", "Vegas"]


class Algorithm(Protocol):
    """A way to move a limit: one of the three below, or one of your own. Pure, so one object serves many limits."""

    def next_limit(self, limit: float, latency: float, least: float, lost: float, /) -> float:
        """The limit after a window in which calls took `latency` seconds and the share `lost` failed of overload."""
        ...


class _Value:
    __slots__ = ()
    # Not the slots, which a subclass of a subclass says anew.
    __match_args__: tuple[str, ...] = ()

    def _numbers(self) -> tuple[float, ...]:
        return tuple(getattr(self, field) for field in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        return self._numbers() == other._numbers() if isinstance(other, _Value) and type(other) is type(self) else False

    def __hash__(self) -> int:
        return hash((type(self), self._numbers()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map('{}={!r}'.format, self.__match_args__, self._numbers()))})"


class Gradient(_Value):
    """Go half the way to what is being worked on, plus `headroom`.

    It comes to rest where calls take `1 + headroom` times as long as they would alone.

    Args:
        headroom: room to grow, as a share of the limit, at least half a call; above 0, at most 1.
    """

    __slots__ = __match_args__ = ("headroom",)

    def __init__(self, *, headroom: float = 0.03) -> None:
        self.headroom = share("headroom", headroom)

    def next_limit(self, limit: float, latency: float, least: float, lost: float) -> float:
        """The limit after a window in which calls took `latency` seconds and the share `lost` failed of overload."""
        # One window never halves the limit, since its noise would; above 1, so that noise does not only pull down.
        gradient = max(0.5, min(least / latency, 1.0 - lost if lost else 1.2))
        aim = limit * gradient + max(0.5, limit * self.headroom)
        return (limit + aim) / 2


class Vegas(_Value):
    """A step up while fewer than `low` of the calls wait, a step down when more than `high` do.

    Args:
        low, high: shares of the limit; at least half a call, and a whole one.
    """

    __slots__ = __match_args__ = ("low", "high")

    def __init__(self, *, low: float = 0.04, high: float = 0.1) -> None:
        self.low = share("low", low)
        self.high = share("high", high)
        if self.low >= self.high:
            raise ValueError(f"low must be less than high={high!r}, got {low!r}")

    def next_limit(self, limit: float, latency: float, least: float, lost: float) -> float:
        """The limit after a window in which calls took `latency` seconds and the share `lost` failed of overload."""
        waiting = limit * (1.0 - least / latency)
        step = max(1.0, limit / 20)
        if lost or waiting > max(1.0, limit * self.high):
            return limit - step
        return limit + step if waiting < max(0.5, limit * self.low) else limit


class AIMD(_Value):
    """Add one until a call is lost or calls take `tolerance` times as long as they would alone; then cut to `backoff`.

    Args:
        backoff: the factor of a cut, above 0 and below 1.
        tolerance: the factor by which latency may grow, above 1.
    """

    __slots__ = __match_args__ = ("backoff", "tolerance")

    def __init__(self, *, backoff: float = 0.9, tolerance: float = 1.125) -> None:
        self.backoff = share("backoff", backoff)
        self.tolerance = number("tolerance", tolerance)
        if self.backoff >= 1.0:
            raise ValueError(f"backoff must be below 1, got {backoff!r}")
        if self.tolerance <= 1.0:
            raise ValueError(f"tolerance must be above 1, got {tolerance!r}")

    def next_limit(self, limit: float, latency: float, least: float, lost: float) -> float:
        """The limit after a window in which calls took `latency` seconds and the share `lost` failed of overload."""
        if lost or latency > least * self.tolerance:
            return limit * self.backoff
        return limit + 1.0
