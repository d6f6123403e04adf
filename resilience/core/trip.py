"""When has it failed enough?

Three answers, each an immutable configuration (`Consecutive`, `FailureRate`, `SlowRate`) that makes a small mutable tally. A breaker
starts a new tally with every closed generation, so no old result can reach into a new one.

Counting failures in a row is the cheapest and right for calls that normally never fail. A rate is right under steady traffic, where three
failures in a row among a thousand calls a second mean nothing. Slowness is a failure too: a dependency that answers everything after ten
seconds has a perfect failure rate.

Windows over calls are exact: the last N finished calls, no more and no fewer. Windows over time are kept in ten slices, so that they need
no memory per call: a result counts for at least nine tenths of the window and at most the whole of it.

A rate trips at `>=`. It is looked at after every finished call, a success included: the tenth call may be the one that makes a verdict
possible at all.
"""

from __future__ import annotations

import collections

from resilience._checks import positive_int, seconds, share
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Protocol

    from resilience.core.verdict import Verdict

    class Tally(Protocol):
        """What a trip has seen in one closed generation."""

        def record(self, verdict: Verdict, elapsed: float, now: float) -> bool:
            """Count one finished call; True if the circuit is to open."""
            ...

        def counts(self, now: float) -> tuple[int, int]:
            """(calls that count against it, calls counted) at present."""
            ...

        @property
        def clean(self) -> bool:
            """Whether one more success would change nothing."""
            ...


__all__ = ["Consecutive", "FailureRate", "SlowRate", "Trip"]

_SLICES = 10
_DEFAULT_WINDOW = 30.0


class Trip:
    """The base of the three configurations: a value, equal and hashable by its numbers."""

    __slots__ = ()

    def start(self) -> Tally:
        """A tally that has seen nothing yet."""
        raise TypeError(f"{type(self).__name__} does not say how it counts: define start()")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, field) for field in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        given = [(f, getattr(self, f)) for f in self.__slots__]
        return f"{type(self).__name__}({', '.join(f'{f}={v!r}' for f, v in given if v is not None)})"


class Consecutive(Trip):
    """Trip after `failures` failures in a row. A success starts the count anew; an ignored call does nothing."""

    __slots__ = ("failures",)

    def __init__(self, failures: int) -> None:
        self.failures = positive_int("failures", failures)

    def start(self) -> _Row:
        """A tally that has seen nothing yet."""
        return _Row(self.failures)

    def __repr__(self) -> str:
        return f"Consecutive({self.failures})"


class FailureRate(Trip):
    """Trip when at least `ratio` of the finished calls failed.

    Args:
        ratio: the share that trips it, above 0 and at most 1.
        calls: look at the last so many finished calls.
        window: look at the last so many seconds, 30 where neither is given. Giving both is an error.
        minimum_calls: never trip on fewer; 10, or `calls` where that is less.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("calls", "minimum_calls", "ratio", "window")

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        calls: int | None = None,
        window: float | timedelta | None = None,
        minimum_calls: int | None = None,
    ) -> None:
        self.ratio = share("ratio", ratio)
        self.calls, self.window, self.minimum_calls = _window(calls, window, minimum_calls)

    def start(self) -> _Share:
        """A tally that has seen nothing yet."""
        return _Share(self.ratio, self.minimum_calls, _seen(self.calls, self.window), None)


class SlowRate(Trip):
    """Trip when at least `ratio` of the finished calls took longer than `slower_than` seconds, whether they failed or not.

    Args:
        ratio: the share that trips it, above 0 and at most 1.
        slower_than: seconds; a call that takes longer is slow.
        calls, window, minimum_calls: as for `FailureRate`.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("calls", "minimum_calls", "ratio", "slower_than", "window")

    def __init__(
        self,
        ratio: float = 0.8,
        *,
        slower_than: float | timedelta,
        calls: int | None = None,
        window: float | timedelta | None = None,
        minimum_calls: int | None = None,
    ) -> None:
        self.ratio = share("ratio", ratio)
        self.slower_than = seconds("slower_than", slower_than)
        self.calls, self.window, self.minimum_calls = _window(calls, window, minimum_calls)

    def start(self) -> _Share:
        """A tally that has seen nothing yet."""
        return _Share(self.ratio, self.minimum_calls, _seen(self.calls, self.window), self.slower_than)


def _window(
    calls: int | None, window: float | timedelta | None, minimum_calls: int | None
) -> tuple[int | None, float | None, int]:
    if calls is not None and window is not None:
        raise ValueError(f"give calls or window, not both, got calls={calls!r} and window={window!r}")
    most = None if calls is None else positive_int("calls", calls)
    least = min(10, most or 10) if minimum_calls is None else positive_int("minimum_calls", minimum_calls)
    if most is not None and least > most:
        raise ValueError(f"minimum_calls must be at most calls={most}, got {minimum_calls!r}")
    length = None
    if most is None:
        length = _DEFAULT_WINDOW if window is None else seconds("window", window)
    return most, length, least


def _seen(calls: int | None, window: float | None) -> _LastCalls | _LastSeconds:
    return _LastCalls(calls) if calls is not None else _LastSeconds(window or _DEFAULT_WINDOW)


class _Row:
    __slots__ = ("_limit", "_run")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._run = 0

    def record(self, verdict: Verdict, elapsed: float, now: float) -> bool:
        if verdict is FAILURE:
            self._run += 1
            return self._run >= self._limit
        if verdict is SUCCESS:
            self._run = 0
        return False

    def counts(self, now: float) -> tuple[int, int]:
        return self._run, self._run

    @property
    def clean(self) -> bool:
        return self._run == 0


class _Share:
    __slots__ = ("_least", "_ratio", "_slower_than", "_window")

    def __init__(
        self, ratio: float, least: int, window: _LastCalls | _LastSeconds, slower_than: float | None
    ) -> None:
        self._ratio = ratio
        self._least = least
        self._window = window
        self._slower_than = slower_than

    def record(self, verdict: Verdict, elapsed: float, now: float) -> bool:
        if self._slower_than is None:
            if verdict is IGNORED:
                return False
            bad = verdict is FAILURE
        else:
            bad = elapsed > self._slower_than
            if verdict is IGNORED and not bad:
                return False
        self._window.add(bad, now)
        bad_calls, calls = self._window.counts(now)
        # The quotient is rounded once, as the ratio was when it was written: 11 of 20 is 0.55, while 0.55 * 20 is above 11.
        return calls >= self._least and bad_calls / calls >= self._ratio

    def counts(self, now: float) -> tuple[int, int]:
        return self._window.counts(now)

    @property
    def clean(self) -> bool:
        return False


class _LastCalls:
    __slots__ = ("_bad", "_seen")

    def __init__(self, calls: int) -> None:
        self._seen: collections.deque[bool] = collections.deque(maxlen=calls)
        self._bad = 0

    def add(self, bad: bool, now: float) -> None:
        if len(self._seen) == self._seen.maxlen:
            self._bad -= self._seen[0]
        self._seen.append(bad)
        self._bad += bad

    def counts(self, now: float) -> tuple[int, int]:
        return self._bad, len(self._seen)


class _LastSeconds:
    """Ten slices in a ring, and their sums. A slice is emptied when its turn comes round again."""

    __slots__ = ("_bad", "_bad_in", "_calls", "_calls_in", "_slice", "_width")

    def __init__(self, window: float) -> None:
        self._width = window / _SLICES
        self._slice: int | None = None
        self._calls_in = [0] * _SLICES
        self._bad_in = [0] * _SLICES
        self._calls = 0
        self._bad = 0

    def add(self, bad: bool, now: float) -> None:
        at = self._turn(now) % _SLICES
        self._calls_in[at] += 1
        self._bad_in[at] += bad
        self._calls += 1
        self._bad += bad

    def counts(self, now: float) -> tuple[int, int]:
        self._turn(now)
        return self._bad, self._calls

    def _turn(self, now: float) -> int:
        reached = int(now // self._width)
        current = self._slice
        if current is None or reached - current >= _SLICES:
            self._calls_in = [0] * _SLICES
            self._bad_in = [0] * _SLICES
            self._calls = self._bad = 0
        elif reached <= current:
            # A clock that stands still or steps back keeps the slice it had.
            return current
        else:
            for later in range(current + 1, reached + 1):
                at = later % _SLICES
                self._calls -= self._calls_in[at]
                self._bad -= self._bad_in[at]
                self._calls_in[at] = self._bad_in[at] = 0
        self._slice = reached
        return reached
