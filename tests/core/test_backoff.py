"""Backoffs: every formula against a table written by hand and against a second model in decimal arithmetic."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import timedelta
from decimal import Context, Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from resilience import backoff
from resilience.core.backoff import Backoff, Curve

ALMOST_ONE = math.nextafter(1.0, 0.0)

EACH = [
    backoff.exponential(),
    backoff.constant(0.5),
    backoff.linear(1),
    backoff.fibonacci(),
    backoff.decorrelated(),
    backoff.schedule([0.1, 0.5, 2]),
]
names = pytest.mark.parametrize("b", EACH, ids=lambda b: type(b).__name__)


# --- the table ------------------------------------------------------------------------------------------------------

TABLE: list[tuple[Curve, list[float]]] = [
    (backoff.exponential(1, 2, 30, "none"), [1, 2, 4, 8, 16, 30, 30]),
    (backoff.exponential(1, 3, 1000, "none"), [1, 3, 9, 27, 81]),
    (backoff.exponential(8, 0.5, 30, "none"), [8, 4, 2, 1]),
    (backoff.exponential(60, 2, 30, "none"), [30, 30]),
    (backoff.exponential(0, 2, 30, "none"), [0, 0, 0]),
    (backoff.exponential(1, 2, 0, "none"), [0, 0]),
    (backoff.constant(0.5), [0.5, 0.5, 0.5]),
    (backoff.constant(0), [0, 0]),
    (backoff.linear(2, 7, "none"), [2, 4, 6, 7, 7]),
    (backoff.fibonacci(1, 30, "none"), [1, 1, 2, 3, 5, 8, 13, 21, 30, 30]),
    (backoff.fibonacci(0.5, 100, "none"), [0.5, 0.5, 1, 1.5, 2.5, 4, 6.5]),
    (backoff.schedule([0.1, 0.5, 2]), [0.1, 0.5, 2, 2, 2]),
    (backoff.schedule([3]), [3, 3, 3]),
]


@pytest.mark.parametrize(("b", "delays"), TABLE, ids=[repr(b) for b, _ in TABLE])
def test_delays_before_jitter(b: Curve, delays: list[float]) -> None:
    """Each curve gives the delays of the table, whatever the chance and the delay before."""
    for retry, delay in enumerate(delays, start=1):
        assert b(retry, 0.0, 0.0) == b(retry, 99.0, ALMOST_ONE) == b.delay(retry) == delay


JITTER: list[tuple[Any, float, float]] = [
    ("none", 0.0, 8.0),
    ("none", 0.75, 8.0),
    ("full", 0.0, 0.0),
    ("full", 0.75, 6.0),
    ("equal", 0.0, 4.0),
    ("equal", 0.75, 7.0),
    (0.25, 0.0, 6.0),
    (0.25, 0.5, 8.0),
    (0.25, 0.75, 9.0),
    (1, 0.0, 0.0),
    (1, 0.75, 12.0),
]


@pytest.mark.parametrize(("jitter", "u", "seconds"), JITTER)
@pytest.mark.parametrize(
    "build",
    [
        partial(backoff.exponential, 4, 2, 8),
        partial(backoff.constant, 8),
        partial(backoff.linear, 4, 8),
        partial(backoff.fibonacci, 8, 8),
        partial(backoff.schedule, [1, 8]),
    ],
    ids=lambda build: build.func.__name__,
)
@pytest.mark.parametrize("retry", [2, 7])
def test_jitter(build: Any, jitter: Any, u: float, seconds: float, retry: int) -> None:
    """Each jitter spreads a delay as its formula says, at and below the cap alike."""
    assert build(jitter=jitter)(retry, 0.0, u) == seconds


@pytest.mark.parametrize(
    ("previous", "u", "seconds"),
    [
        (0, 0, 1),
        (0, 0.5, 2),
        (0, ALMOST_ONE, 3),
        (0.25, 0.5, 2),
        (3, 0, 1),
        (3, 0.5, 5),
        (5, 0.5, 8),
        (9, 0.75, 10),
    ],
)
def test_decorrelated(previous: float, u: float, seconds: float) -> None:
    """Decorrelated jitter draws between the base and three times the delay before, and the cap bounds the draw."""
    assert backoff.decorrelated(1, 10)(1, previous, u) == pytest.approx(seconds, rel=1e-15)


def test_defaults() -> None:
    """The defaults are those that the documentation promises."""
    assert backoff.exponential() == backoff.exponential(base=0.1, factor=2.0, cap=30.0, jitter="full")
    assert backoff.constant(1) == backoff.constant(delay=1.0, jitter="none")
    assert backoff.linear(1) == backoff.linear(step=1.0, cap=30.0, jitter="full")
    assert backoff.fibonacci() == backoff.fibonacci(base=0.1, cap=30.0, jitter="full")
    assert backoff.decorrelated() == backoff.decorrelated(base=0.1, cap=30.0)
    assert backoff.schedule([1]) == backoff.schedule(delays=(1.0,), jitter="none")


# --- the second model -----------------------------------------------------------------------------------------------

EXACT = Context(prec=60, Emax=10**15, Emin=-(10**15))

durations = st.one_of(
    st.sampled_from([0.0, 5e-324, 2.2250738585072014e-308, 0.1, 1.0, 30.0, 3600.0, 1.7976931348623157e308]),
    st.floats(0, 1e6),
    st.floats(0, allow_infinity=False),
)
chances = st.one_of(st.sampled_from([0.0, 0.5, ALMOST_ONE]), st.floats(0, ALMOST_ONE))
retries = st.one_of(st.integers(1, 100), st.sampled_from([1024, 1025, 1476, 1477, 1478, 2000]), st.integers(1, 10**9))
jitters = st.one_of(st.sampled_from(["none", "full", "equal"]), st.floats(0, 1, exclude_min=True))
factors = st.one_of(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.floats(1e-6, 1e6))


def spread(d: Decimal, jitter: Any, u: float) -> Decimal:
    """What each kind of jitter makes of a delay."""
    chance = Decimal(u)
    match jitter:
        case "none":
            return d
        case "full":
            return EXACT.multiply(chance, d)
        case "equal":
            return EXACT.multiply(d, (1 + chance) / 2)
        case fraction:
            f = Decimal(fraction)
            return EXACT.multiply(d, EXACT.add(1 - f, 2 * f * chance))


def close(seconds: float, exact: Decimal) -> bool:
    """Whether a delay is what exact arithmetic gives, up to the rounding of floats."""
    largest = Decimal("1.7976931348623157e308")
    allowed = EXACT.add(EXACT.multiply(Decimal("1e-11"), exact), Decimal("1e-310"))
    return abs(Decimal(seconds) - min(exact, largest)) <= allowed


@given(durations, factors, durations, jitters, retries, chances)
@example(5e-324, 2.0, 30.0, "none", 1100, 0.0)
@example(1.0, 2.0, 1.7976931348623157e308, 1.0, 10**6, ALMOST_ONE)
def test_exponential_model(base: float, factor: float, cap: float, jitter: Any, retry: int, u: float) -> None:
    """Exponential backoff is what exact arithmetic says, at retry one thousand million too."""
    power = EXACT.power(Decimal(factor), retry - 1)
    # A float factor raised to a huge power loses relative accuracy in proportion to the exponent.
    assume(abs((retry - 1) * math.log(factor)) < 2000 or factor >= 1.0001 or factor <= 0.9999)
    # A power that falls under the smallest float, times a base of more years than the universe has, is of no interest.
    assume(factor >= 1 or base <= 1e6)
    d = min(Decimal(cap), EXACT.multiply(Decimal(base), power))
    assert close(backoff.exponential(base, factor, cap, jitter)(retry, 0.0, u), spread(d, jitter, u))


@given(durations, durations, jitters, retries, chances)
def test_linear_model(step: float, cap: float, jitter: Any, retry: int, u: float) -> None:
    """Linear backoff is what exact arithmetic says."""
    d = min(Decimal(cap), EXACT.multiply(Decimal(step), Decimal(retry)))
    assert close(backoff.linear(step, cap, jitter)(retry, 0.0, u), spread(d, jitter, u))


FIBONACCI = [0, 1]
for _ in range(3100):
    FIBONACCI.append(FIBONACCI[-2] + FIBONACCI[-1])


@given(durations, durations, jitters, retries, chances)
@example(5e-324, 30.0, "none", 1477, 0.0)
@example(5e-324, 30.0, "none", 1540, 0.0)
def test_fibonacci_model(base: float, cap: float, jitter: Any, retry: int, u: float) -> None:
    """Fibonacci backoff is what adding integers says; far out the cap has long been reached."""
    growth = FIBONACCI[min(retry, 3100)]
    d = min(Decimal(cap), EXACT.multiply(Decimal(base), Decimal(growth)))
    assert close(backoff.fibonacci(base, cap, jitter)(retry, 0.0, u), spread(d, jitter, u))


@given(durations, durations, durations, retries, chances)
def test_decorrelated_model(base: float, cap: float, previous: float, retry: int, u: float) -> None:
    """Decorrelated jitter is what exact arithmetic says, and depends on the delay before alone."""
    assume(max(base, previous) < 5e307)
    low = Decimal(base)
    high = 3 * max(Decimal(previous), low)
    exact = min(Decimal(cap), EXACT.add(low, EXACT.multiply(Decimal(u), EXACT.subtract(high, low))))
    assert close(backoff.decorrelated(base, cap)(retry, previous, u), exact)


@given(st.lists(durations, min_size=1, max_size=5), jitters, retries, chances)
def test_schedule_model(delays: list[float], jitter: Any, retry: int, u: float) -> None:
    """A schedule reads its list, and its last entry for ever after."""
    d = Decimal((delays + [delays[-1]] * 5)[min(retry, 6) - 1])
    assert close(backoff.schedule(delays, jitter)(retry, 0.0, u), spread(d, jitter, u))


@given(durations, factors, durations, jitters, chances)
def test_jitter_comes_after_the_cap(base: float, factor: float, cap: float, jitter: Any, u: float) -> None:
    """Far out, where every delay is capped, the jitter still spreads: it was not cut off by the cap."""
    assume(base >= 1e-3 and factor > 1.01)
    capped = backoff.constant(cap, jitter)
    assert backoff.exponential(base, factor, cap, jitter)(10**9, 0.0, u) == capped(1, 0.0, u)


@names
@pytest.mark.parametrize("retry", [10**6, 10**9, 10**18])
@pytest.mark.parametrize("u", [0.0, ALMOST_ONE])
def test_late_retries_are_finite(b: Backoff, retry: int, u: float) -> None:
    """At retry one million and beyond a delay is still a number within the cap."""
    assert 0.0 <= b(retry, 30.0, u) <= 30.0


def test_delays_near_the_largest_float_are_finite() -> None:
    """Not even delays near the largest float overflow into infinity or nonsense."""
    largest = 1.7976931348623157e308
    assert backoff.constant(largest, jitter=1)(1, 0.0, ALMOST_ONE) == largest
    assert backoff.decorrelated(1.0, largest)(10**6, largest, 0.0) == 1.0
    assert backoff.decorrelated(1.0, largest)(10**6, largest, ALMOST_ONE) == pytest.approx(largest)


# --- values ---------------------------------------------------------------------------------------------------------


@names
def test_preview_bounds_every_draw(b: Any) -> None:
    """No delay is below or above what the preview says for its retry."""
    for u in (0.0, 0.3, ALMOST_ONE):
        previous = 0.0
        for retry, (low, high) in enumerate(b.preview(8), start=1):
            previous = b(retry, previous, u)
            assert low <= previous <= high * (1 + 1e-15)


def test_preview_for_people() -> None:
    """A preview lists the least and the greatest delay of each retry."""
    assert backoff.exponential(1, 2, 5).preview(4) == [(0, 1), (0, 2), (0, 4), (0, 5)]
    assert backoff.linear(2, jitter="equal").preview(2) == [(1, 2), (2, 4)]
    assert backoff.constant(8, jitter=0.25).preview(1) == [(6, 10)]
    assert backoff.decorrelated(1, 10).preview(4) == [(1, 3), (1, 9), (1, 10), (1, 10)]
    assert backoff.decorrelated(60, 30).preview(1) == [(30, 30)]
    assert backoff.decorrelated().preview(1000)[-1] == (0.1, 30.0)
    assert backoff.exponential().preview(0) == []


@names
def test_repr_is_the_code_that_builds_it(b: Backoff) -> None:
    """What a backoff prints builds an equal one when it is evaluated."""
    built = eval(repr(b), {name: getattr(backoff, name) for name in backoff.__all__})
    assert built == b
    assert hash(built) == hash(b)


def test_repr_names_every_parameter() -> None:
    """What a backoff prints is the call with every parameter by name."""
    assert repr(backoff.exponential()) == "exponential(base=0.1, factor=2.0, cap=30.0, jitter='full')"
    assert repr(backoff.constant(1)) == "constant(delay=1.0, jitter='none')"
    assert repr(backoff.schedule([1, 2], 0.2)) == "schedule(delays=(1.0, 2.0), jitter=0.2)"


@names
def test_pickles_and_copies(b: Backoff) -> None:
    """A backoff comes back equal from a pickle and from a copy."""
    assert pickle.loads(pickle.dumps(b)) == copy.copy(b) == copy.deepcopy(b) == b


@names
def test_never_changes(b: Any) -> None:
    """No attribute of a backoff can be set, added or deleted."""
    before = repr(b)
    for name in [*b.__match_args__, "extra"]:
        with pytest.raises(AttributeError, match="never changes"):
            setattr(b, name, 1.0)
        with pytest.raises(AttributeError, match="never changes"):
            delattr(b, name)
    assert repr(b) == before


def test_equal_by_kind_and_parameters() -> None:
    """Two backoffs are equal when kind and parameters are, and then they hash alike."""
    assert len(set(EACH)) == len(EACH)
    assert all(one != other for one, other in pairwise(EACH))
    assert backoff.linear(1) == backoff.linear(1.0) != backoff.linear(2)
    assert backoff.linear(1) != backoff.fibonacci(1)
    assert backoff.linear(1) != "linear(step=1.0, cap=30.0, jitter='full')"


def test_a_curve_of_ones_own() -> None:
    """A subclass that draws another curve gets jitter and preview; one that draws none says so."""

    class Quadratic(Curve):
        jitter = "equal"

        def delay(self, retry: int) -> float:
            return retry * retry

    assert Quadratic().preview(3) == [(0.5, 1), (2, 4), (4.5, 9)]
    with pytest.raises(NotImplementedError):
        Curve().delay(1)


# --- parameters -----------------------------------------------------------------------------------------------------


def test_timedelta_is_taken_everywhere() -> None:
    """A duration may be a timedelta wherever a number of seconds is taken."""
    half, minute = timedelta(seconds=0.5), timedelta(minutes=1)
    assert backoff.exponential(half, cap=minute) == backoff.exponential(0.5, cap=60)
    assert backoff.constant(half) == backoff.constant(0.5)
    assert backoff.linear(half, minute) == backoff.linear(0.5, 60)
    assert backoff.fibonacci(half, minute) == backoff.fibonacci(0.5, 60)
    assert backoff.decorrelated(half, minute) == backoff.decorrelated(0.5, 60)
    assert backoff.schedule([half, 1, minute]) == backoff.schedule([0.5, 1, 60])


SECONDS_0 = "a number of seconds, 0 or more"
ABOVE_0 = "a number above 0"
JITTERS = "'none', 'full', 'equal' or a fraction above 0, at most 1"
DELAYS = "a sequence of seconds, at least one"
WRONG_VALUES: list[Any] = [-1, -0.001, -math.inf, math.inf, math.nan, 10**400]
WRONG_TYPES: list[Any] = [True, False, None, "1", b"1", [1], (1,), {1: 1}, 1j, Decimal(1), object(), int]

BAD: list[tuple[Any, str, str, Any, type[Exception]]] = [
    *(
        (partial(build, **{name: value}), name, SECONDS_0, value, kind)
        for build, name in [
            (backoff.exponential, "base"),
            (backoff.exponential, "cap"),
            (backoff.constant, "delay"),
            (backoff.linear, "step"),
            (partial(backoff.linear, 1), "cap"),
            (backoff.fibonacci, "base"),
            (backoff.fibonacci, "cap"),
            (backoff.decorrelated, "base"),
            (backoff.decorrelated, "cap"),
        ]
        for kind, values in [(ValueError, [*WRONG_VALUES, timedelta(seconds=-1)]), (TypeError, WRONG_TYPES)]
        for value in values
    ),
    *(
        (partial(backoff.exponential, factor=value), "factor", ABOVE_0, value, kind)
        for kind, values in [(ValueError, [*WRONG_VALUES, 0, 0.0]), (TypeError, [*WRONG_TYPES, timedelta(seconds=1)])]
        for value in values
    ),
    *(
        (partial(build, jitter=value), "jitter", JITTERS, value, kind)
        for build in [
            backoff.exponential,
            partial(backoff.constant, 1),
            partial(backoff.linear, 1),
            backoff.fibonacci,
            partial(backoff.schedule, [1]),
        ]
        for kind, values in [
            (ValueError, ["", "Full", "half", 0, 0.0, -0.1, 1.1, 2, math.nan, math.inf]),
            (TypeError, [True, False, None, [0.2], b"full", {"full"}, timedelta(seconds=1)]),
        ]
        for value in values
    ),
    *((partial(backoff.schedule, value), "delays", DELAYS, value, ValueError) for value in [[], ()]),
    *(
        (partial(backoff.schedule, value), "delays", DELAYS, value, TypeError)
        for value in [1, 1.0, None, True, "12", b"12", {1, 2}, {1: 2}, iter([1]), timedelta(seconds=1)]
    ),
    *((partial(backoff.schedule, [1, value]), "delays[1]", SECONDS_0, value, ValueError) for value in WRONG_VALUES),
    *((partial(backoff.schedule, (1, value)), "delays[1]", SECONDS_0, value, TypeError) for value in WRONG_TYPES),
]


@pytest.mark.parametrize(("build", "name", "rule", "value", "kind"), BAD, ids=lambda value: None)
def test_bad_parameters(build: Any, name: str, rule: str, value: Any, kind: type[Exception]) -> None:
    """A bad parameter is refused with its name, the rule and the value."""
    with pytest.raises(kind) as caught:
        build()
    shown = "" if value == 10**400 else repr(value)
    if not isinstance(value, timedelta) or kind is TypeError:
        assert str(caught.value).startswith(f"{name} must be {rule}, got {shown}")
    else:
        assert str(caught.value) == f"{name} must be {rule}, got {value.total_seconds()}"


def test_negative_zero_is_zero() -> None:
    """A delay of -0.0 is kept and shown as 0.0."""
    assert repr(backoff.constant(-0.0)) == "constant(delay=0.0, jitter='none')"


# --- what a policy takes --------------------------------------------------------------------------------------------


def steady(retry: int, previous: float, u: float) -> float:
    """A backoff as a plain function."""
    return 1.0


class Steady:
    """A backoff as an object of somebody else's."""

    def __call__(self, retry: int, previous: float = 0.0, *chance: float) -> float:
        return 1.0


def test_a_number_means_constant() -> None:
    """A policy that is given a number of seconds waits that long each time."""
    assert backoff.coerce(2) == backoff.coerce(2.0) == backoff.coerce(timedelta(seconds=2)) == backoff.constant(2)
    assert backoff.coerce(0) == backoff.constant(0)


def test_a_sequence_means_schedule() -> None:
    """A policy that is given a sequence of seconds waits by that schedule."""
    assert backoff.coerce([1, timedelta(seconds=2)]) == backoff.coerce((1, 2)) == backoff.schedule([1, 2])
    assert backoff.coerce(range(3)) == backoff.schedule([0, 1, 2])


@pytest.mark.parametrize("given_backoff", [*EACH, steady, Steady(), min, partial(steady)], ids=lambda _: None)
def test_a_backoff_is_taken_as_it_is(given_backoff: Any) -> None:
    """One of ours, and anything else that can be called with three numbers, is used as it is."""
    assert backoff.coerce(given_backoff) is given_backoff


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, TypeError),
        (None, TypeError),
        ("exponential", TypeError),
        (b"1", TypeError),
        ({1.0}, TypeError),
        (iter([1]), TypeError),
        (object(), TypeError),
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ([], ValueError),
        ([1, -1], ValueError),
        ([1, "2"], TypeError),
        (lambda: 1.0, TypeError),
        (lambda retry: 1.0, TypeError),
        (lambda a, b, c, d: 1.0, TypeError),
        (lambda *, retry, previous, u: 1.0, TypeError),
        (float, TypeError),
    ],
)
def test_what_is_no_backoff(value: Any, kind: type[Exception]) -> None:
    """Anything else is refused, and the error names the parameter that it was given for."""
    with pytest.raises(kind, match=r"^cooldown(\[1\])? must be "):
        backoff.coerce(value, "cooldown")


@pytest.mark.parametrize("name", backoff.__all__)
def test_a_factory_that_was_not_called(name: str) -> None:
    """Passing `backoff.exponential` without calling it gets an error that says what to write."""
    with pytest.raises(TypeError, match=rf"write backoff\.{name}\(\.\.\.\)$"):
        backoff.coerce(getattr(backoff, name))
