"""How a throttle is written: rates as text and as values, and what is refused, with a message that helps."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import Priority, Quota, Rate, Throttle

# --- text


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100)),
        ("10/minute burst 20", Rate(10, 60, burst=20)),
        ("5 per 2 seconds", Rate(5, 2)),
        ("5/2 s", Rate(5, 2)),
        ("0.5/s", Rate(0.5)),
        (".5/s", Rate(0.5)),
        ("1.5 / sec", Rate(1.5)),
        ("  200_000   tokens / min  burst  1_000 ", Rate(200_000, 60, burst=1000, of="tokens")),
        ("3 req-tokens per hour", Rate(3, 3600, of="req-tokens")),
        ("10 calls/day", Rate(10, 86400)),
        ("7/2.5 mins", Rate(7, 150)),
        ("100 / S", Rate(100)),
    ],
)
def test_rates_are_read_as_people_write_them(text: str, rate: Rate) -> None:
    """Amount, resource, time and burst, with decimals, underscores and spaces."""
    assert Rate.parse(text) == rate
    assert Throttle(text).snapshot()["rates"] == Throttle(rate).snapshot()["rates"]


@pytest.mark.parametrize(
    ("seconds", "units"),
    [
        (1, "s sec secs second seconds"),
        (60, "min mins minute minutes"),
        (3600, "h hour hours"),
        (86400, "d day days"),
    ],
)
def test_units_may_be_short_long_or_plural(seconds: int, units: str) -> None:
    """Every way to write a unit is the same unit."""
    assert {Rate.parse(f"3/{unit}") for unit in units.split()} == {Rate(3, seconds)}


def test_several_rates_stand_between_semicolons() -> None:
    """One text may hold more than one rate, and a throttle may take more than one text."""
    view = Throttle("500 calls/minute; 200_000 tokens/minute burst 1000", "10/s").snapshot()["rates"]
    assert [(rate["of"], rate["amount"], rate["per"]) for rate in view] == [
        ("calls", 500.0, 60.0),
        ("tokens", 200_000.0, 60.0),
        ("calls", 10.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10/m", "say min"),
        ("10/2 m", "say min"),
        ("10/fortnight", "unknown unit 'fortnight'"),
        ("10", "must read like"),
        ("", "must read like"),
        ("10/s;", "got '' in '10/s;'"),
        ("ten/s", "must read like"),
        ("-5/s", "must read like"),
        ("1,000/s", "must read like"),
        ("1e3/s", "must read like"),
        ("1.2.3/s", "must read like"),
        ("10calls/s", "must read like"),
        ("10 burst/s", "must read like"),
        ("10/s burst", "must read like"),
        ("10/s bursts 5", "must read like"),
        ("0/s", "amount must be a number above 0, got 0.0 in '0/s'"),
        ("5/0 s", "per must be a number of seconds above 0"),
        ("5/s burst 0", "burst must be a number above 0"),
        ("1__0/s", "underscore"),
        ("10_/s", "underscore"),
        ("9" * 400 + "/s", "amount must be a number above 0"),
    ],
)
def test_what_cannot_be_read_is_shown(text: str, says: str) -> None:
    """A text that is no rate is an error that shows it and what to write."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        Throttle(text)
    assert says in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in any other way."""
    try:
        Throttle(text)
    except ValueError as error:
        assert str(error)


# --- values


def test_a_rate_is_a_value() -> None:
    """It compares, hashes, pickles, cannot be changed, and its repr is how it is written."""
    rate = Rate(10, timedelta(minutes=1), burst=20, of="tokens")
    assert rate == Rate(10.0, 60.0, burst=20.0, of="tokens") and hash(rate) == hash(Rate(10, 60, burst=20, of="tokens"))
    assert rate != Rate(10, 60) and rate != "10/minute"
    assert repr(rate) == "Rate(10, per=60, burst=20, of='tokens')" and eval(repr(rate)) == rate
    assert repr(Rate(0.5)) == "Rate(0.5)" and Rate(0.5).burst == 1.0
    assert pickle.loads(pickle.dumps(rate)) == rate
    for change in (lambda: setattr(rate, "amount", 5), lambda: delattr(rate, "amount")):
        with pytest.raises(AttributeError, match="immutable"):
            change()


def test_a_quota_is_a_value() -> None:
    """What peek returns can be kept, compared and sent."""
    quota = Quota(10.0, 2.5, 3.0, 0.0)
    assert pickle.loads(pickle.dumps(quota)) == quota
    assert repr(quota) == "Quota(limit=10.0, remaining=2.5, reset_after=3.0, retry_after=0.0)"


def test_one_text_is_one_rate_for_a_rate() -> None:
    """Rate.parse reads one."""
    with pytest.raises(ValueError, match="one rate was expected, got 2"):
        Rate.parse("1/s; 2/s")


def test_a_burst_is_said_once() -> None:
    """On the throttle it belongs to exactly one rate that does not say it itself."""
    assert Throttle("10/s", burst=50).peek().limit == 50.0
    assert Throttle("10/s burst 50", burst=50).peek().limit == 50.0
    with pytest.raises(ValueError, match="for one rate, got 2"):
        Throttle("10/s", "5/s", burst=50)
    with pytest.raises(ValueError, match="said twice"):
        Throttle("10/s burst 20", burst=50)


# --- what is refused

NUMBERS = [True, "5", None, [1], 0, -1, nan, inf]
BAD: list[tuple[str, Callable[[Any], object], list[Any]]] = [
    ("amount", lambda value: Rate(value), NUMBERS),
    ("per", lambda value: Rate(1, value), [*NUMBERS, timedelta(0)]),
    ("burst", lambda value: Rate(1, burst=value), [value for value in NUMBERS if value is not None]),
    ("of", lambda value: Rate(1, of=value), [None, 5, "", " "]),
    ("amount", lambda value: Rate(1e300, value), [1e-300]),
    ("rate", lambda value: Throttle(value), [5, None, 5.0, True, ["5/s"], Throttle]),
    ("burst", lambda value: Throttle("5/s", burst=value), [value for value in NUMBERS if value is not None]),
    ("max_wait", lambda value: Throttle("5/s", max_wait=value), [True, "1", None, -1, nan, timedelta(seconds=-1)]),
    ("cost", lambda value: Throttle("5/s", cost=value), [*NUMBERS, {}, {"calls": 0}, {"calls": True}, {"calls": "1"}]),
    ("settle", lambda value: Throttle("5/s", settle=value), [5, "used"]),
    ("key", lambda value: Throttle("5/s", key=value), [5, True, ["user"], "", "no name", "a.b"]),
    ("headroom", lambda value: Throttle("5/s", headroom=value), [5, [0.5], {"SHEDDABLE": 0.5}, {1: 0.5}]),
    (
        "headroom",
        lambda value: Throttle("5/s", headroom={Priority.SHEDDABLE: value}),
        [True, "0.5", None, -0.1, 1.1, nan, inf],
    ),
    ("max_keys", lambda value: Throttle("5/s", max_keys=value), [True, "5", None, 0, -1, 1.5, inf]),
    ("name", lambda value: Throttle("5/s", name=value), [5, ""]),
    ("clock", lambda value: Throttle("5/s", clock=value), [5, object()]),
    ("max_wait", lambda value: Throttle("5/s").acquire(max_wait=value), [True, "1", -1, nan]),
    ("max_wait", lambda value: Throttle("5/s").reserve(max_wait=value), [True, "1", -1, nan]),
    ("cost", lambda value: Throttle("5/s").try_acquire(cost=value), [True, "1", 0, -1, nan, inf, [1], {}, {"x": 1}]),
]


@pytest.mark.parametrize(
    ("parameter", "build", "value"),
    [pytest.param(name, build, value, id=f"{name}={value!r}") for name, build, values in BAD for value in values],
)
def test_a_bad_parameter_is_refused(parameter: str, build: Callable[[Any], object], value: Any) -> None:
    """Parameter, rule and value are in the message."""
    with pytest.raises((TypeError, ValueError)) as caught:
        build(value)
    assert parameter in str(caught.value)


def test_what_is_forgotten_or_in_the_wrong_place_is_refused() -> None:
    """No rate, a bare decorator, a second positional that is no rate: each says what to write."""
    with pytest.raises(TypeError, match="at least one rate"):
        Throttle()
    with pytest.raises(TypeError, match=r'write @Throttle\("100/s"\)'):
        Throttle(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'a number needs a time, as in "10/s"'):
        Throttle(10)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a rate must be text"):
        Throttle("10/s", 5.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Rate.parse\('10/s'\)"):
        Rate("10/s")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="write with policy"), Throttle("1/s"):
        pass


def test_what_is_allowed_is_allowed() -> None:
    """Zero and infinite waits, whole headroom for nobody, durations as timedelta."""
    assert Throttle("5/s", max_wait=inf, headroom={Priority.SHEDDABLE: 0.0, Priority.DEFAULT: 0}).try_acquire()
    assert Throttle("5/s", max_wait=timedelta(seconds=0.5)).try_acquire()
    assert Throttle("5/s", max_wait=0, headroom={}).try_acquire()
