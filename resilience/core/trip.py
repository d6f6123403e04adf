"""When has it failed enough?

Three answers, each an immutable configuration (`Consecutive`, `FailureRate`, `SlowRate`) that makes a small mutable
tally. A breaker starts a new tally with every closed generation, so no old result can reach into a new one.

Counting failures in a row is the cheapest and right for calls that normally never fail. A rate is right under steady
traffic, where three failures in a row among a thousand calls a second mean nothing. Slowness is a failure too: a
dependency that answers everything after ten seconds has a perfect failure rate.

What a rate looks at is a window over calls or over time (`resilience.core.window`). It trips at `>=`, and is looked at
after every finished call, a success included: the tenth call may be the one that makes a verdict possible at all.
"""

from __future__ import annotations

from resilience._checks import is_number, positive_int, seconds, share, wrong_type, wrong_value
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.core.window import LastCalls, LastSeconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn, Protocol

    from resilience._checks import Duration
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


__all__ = ["Consecutive", "FailureRate", "SlowRate", "Trip", "coerce", "steady_window"]

_DEFAULT_WINDOW = 30.0


class Trip:
    """What may open a circuit. A trip of your own says how it counts by `start`; a tally belongs to one circuit."""

    __slots__ = ()

    def start(self) -> Tally:
        """A tally that has seen nothing yet."""
        raise TypeError(f"{type(self).__name__} does not say how it counts: define start()")


class _Numbers(Trip):
    """A trip that is nothing but its numbers: it never changes, and equals any other with the same."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _fill(self, *values: object) -> None:
        for field, value in zip(self._fields, values, strict=True):
            object.__setattr__(self, field, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field) for field in self._fields)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} never changes: build another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} never changes: build another one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Numbers) or type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        fields = ((field, getattr(self, field)) for field in self._fields)
        given = ", ".join(f"{field}={value!r}" for field, value in fields if value is not None)
        return f"{type(self).__name__}({given})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self._values())


def _rebuild(kind: type[_Numbers], values: tuple[object, ...]) -> _Numbers:
    trip = kind.__new__(kind)
    trip._fill(*values)
    return trip


class Consecutive(_Numbers):
    """Trip after `failures` failures in a row. A success starts the count anew; an ignored call does nothing.

    Raises:
        TypeError, ValueError: `failures` is not an integer from 1 on.
    """

    __slots__ = _fields = ("failures",)

    failures: int

    def __init__(self, failures: int) -> None:
        self._fill(positive_int("failures", failures))

    def start(self) -> Tally:
        """A tally that has seen nothing yet."""
        return _Row(self.failures)


class FailureRate(_Numbers):
    """Trip when at least `ratio` of the finished calls failed.

    Args:
        ratio: the share that trips it, above 0 and at most 1.
        calls: look at the last so many finished calls.
        window: look at the last so many seconds, 30 where neither is given. Giving both is an error.
        minimum_calls: never trip on fewer; 10, or `calls` where that is less.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = _fields = ("ratio", "calls", "window", "minimum_calls")

    ratio: float
    calls: int | None
    window: float | None
    minimum_calls: int

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        calls: int | None = None,
        window: Duration | None = None,
        minimum_calls: int | None = None,
    ) -> None:
        self._fill(share("ratio", ratio), *_window(calls, window, minimum_calls))

    def start(self) -> Tally:
        """A tally that has seen nothing yet."""
        return _Share(self.ratio, self.minimum_calls, _counter(self.calls, self.window), None)


class SlowRate(_Numbers):
    """Trip when at least `ratio` of the finished calls took longer than `slower_than` seconds, failed or not.

    Args:
        ratio: the share that trips it, above 0 and at most 1.
        slower_than: seconds; a call that takes longer is slow.
        calls, window, minimum_calls: as for `FailureRate`.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = _fields = ("ratio", "slower_than", "calls", "window", "minimum_calls")

    ratio: float
    slower_than: float
    calls: int | None
    window: float | None
    minimum_calls: int

    def __init__(
        self,
        ratio: float = 0.8,
        *,
        slower_than: Duration,
        calls: int | None = None,
        window: Duration | None = None,
        minimum_calls: int | None = None,
    ) -> None:
        seen = _window(calls, window, minimum_calls)
        self._fill(share("ratio", ratio), seconds("slower_than", slower_than), *seen)

    def start(self) -> Tally:
        """A tally that has seen nothing yet."""
        return _Share(self.ratio, self.minimum_calls, _counter(self.calls, self.window), self.slower_than)


def coerce(given: int | Trip | tuple[int | Trip, ...]) -> tuple[Trip, ...]:
    """What may be written for a trip, as trips: one, a number of failures in a row, or a tuple of these.

    Raises:
        TypeError, ValueError: it is none of these; the message shows the right form.
    """
    parts = given if isinstance(given, tuple) else (given,)
    if not parts:
        raise wrong_value("trip", "at least one condition", given)
    return tuple(_trip(part) for part in parts)


def steady_window(tallies: Iterable[Tally]) -> LastCalls | LastSeconds | None:
    """The window of these tallies that is all that one more success changes, unless it is slow; None where there is no
    such window.
    """
    window = None
    for tally in tallies:
        if not tally.clean:
            found: LastCalls | LastSeconds | None = getattr(tally, "steady", None)
            if found is None or window is not None:
                return None
            window = found
    return window


def _trip(given: object) -> Trip:
    if isinstance(given, Trip):
        return given
    if isinstance(given, int):
        return Consecutive(positive_int("trip", given))
    form = "5, FailureRate(0.5) or SlowRate(0.8, slower_than=2.0)"
    if is_number(given) and 0 < given < 1:
        form = f"FailureRate({given})"
    rule = f"a number of failures in a row, a FailureRate or a SlowRate: write {form}"
    raise wrong_type("trip", rule, given)


def _window(
    calls: int | None, window: Duration | None, minimum_calls: int | None
) -> tuple[int | None, float | None, int]:
    if calls is not None and window is not None:
        raise ValueError(f"give calls or window, not both, got calls={calls!r} and window={window!r}")
    most = None if calls is None else positive_int("calls", calls)
    if minimum_calls is not None:
        least = positive_int("minimum_calls", minimum_calls)
    else:
        least = 10 if most is None else min(10, most)
    if most is not None and least > most:
        raise ValueError(f"minimum_calls must be at most calls={most}, got {minimum_calls!r}")
    length = None
    if most is None:
        length = _DEFAULT_WINDOW if window is None else seconds("window", window)
    return most, length, least


def _counter(calls: int | None, window: float | None) -> LastCalls | LastSeconds:
    return LastCalls(calls) if calls is not None else LastSeconds(window or _DEFAULT_WINDOW)


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
    __slots__ = ("_least", "_ratio", "_slower_than", "_steady", "_window")

    def __init__(self, ratio: float, least: int, window: LastCalls | LastSeconds, slower_than: float | None) -> None:
        self._ratio = ratio
        self._least = least
        self._window = window
        self._slower_than = slower_than
        self._steady = True

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
        bad_calls, calls = self.counts(now)
        # The quotient is rounded once, as the ratio was: 11 of 20 is 0.55, while 0.55 * 20 is above 11.
        return calls >= self._least and bad_calls / calls >= self._ratio

    @property
    def steady(self) -> LastCalls | LastSeconds | None:
        """The window, if one more success that is not slow can only make the share smaller: it may be counted there
        and then.

        Over time that is so for as long as no call leaves the window, so until its present slice ends.
        """
        return self._window if self._steady else None

    def counts(self, now: float) -> tuple[int, int]:
        bad_calls, calls = self._window.counts(now)
        self._steady = calls >= self._least or not bad_calls
        return bad_calls, calls

    @property
    def clean(self) -> bool:
        return False
