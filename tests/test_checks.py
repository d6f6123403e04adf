"""The checks of parameters: what passes, in which type it comes back, and what the error says."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from resilience import _checks

NO_NUMBERS: list[Any] = [True, False, "1", b"1", [1], 1j, Decimal(1), object(), int]


def test_seconds_come_back_as_a_float() -> None:
    """A duration passes as int, float or timedelta and comes back in seconds, as a float."""
    for given in (2, 2.0, timedelta(seconds=2)):
        checked = _checks.seconds("cooldown", given)
        assert checked == 2.0
        assert type(checked) is float


def test_zero_infinity_and_none_pass_where_they_are_allowed() -> None:
    """Zero, infinity and None pass where the parameter takes them, and a negative zero becomes a plain one."""
    assert math.copysign(1.0, _checks.seconds("max_wait", -0.0, zero=True)) == 1.0
    assert _checks.seconds("max_wait", math.inf, infinite=True) == math.inf
    assert _checks.seconds_or_none("within", None) is None
    assert _checks.seconds_or_none("within", 3) == 3.0
    assert _checks.positive_int("attempts", math.inf, infinite=True) == math.inf
    assert _checks.positive_int("attempts", 1) == 1
    assert _checks.share("ratio", 0, zero=True) == 0.0
    assert _checks.share("ratio", 1) == 1.0
    assert _checks.text_or_none("name", None) is None
    assert _checks.text_or_none("name", "auth0") == "auth0"
    assert _checks.callable_or_none("rng", None) is None
    assert _checks.callable_or_none("rng", len) is len


@pytest.mark.parametrize(
    ("check", "rule", "wrong_values", "wrong_types"),
    [
        (
            lambda value: _checks.seconds("p", value),
            "a number of seconds above 0",
            [0, -0.0, -1, math.inf, -math.inf, math.nan, 10**400, -(10**400)],
            [*NO_NUMBERS, None],
        ),
        (
            lambda value: _checks.seconds("p", value, zero=True, infinite=True),
            "a number of seconds, 0 or more, or math.inf",
            [-1, -math.inf, math.nan],
            [*NO_NUMBERS, None],
        ),
        (lambda value: _checks.seconds_or_none("p", value), "a number of seconds above 0", [0, -1], NO_NUMBERS),
        (
            lambda value: _checks.number("p", value),
            "a number above 0",
            [0, -1, math.inf, math.nan],
            [*NO_NUMBERS, None, timedelta(seconds=1)],
        ),
        (lambda value: _checks.positive_int("p", value), "an integer, 1 or more", [0, -1], [*NO_NUMBERS, None, 1.0]),
        (
            lambda value: _checks.positive_int("p", value, infinite=True),
            "an integer, 1 or more, or math.inf",
            [0, -1],
            [*NO_NUMBERS, None, 1.0, math.nan, -math.inf],
        ),
        (
            lambda value: _checks.share("p", value),
            "a number above 0, at most 1",
            [0, -0.0, 1.1, -1, 2, math.nan, math.inf, 10**400],
            [*NO_NUMBERS, None],
        ),
        (lambda value: _checks.share("p", value, zero=True), "a number from 0 to 1", [-0.1, 1.1], [*NO_NUMBERS, None]),
        (lambda value: _checks.callable_or_none("p", value), "a callable or None", [], [1, "f", True, [len]]),
        (
            lambda value: _checks.text_or_none("p", value),
            "a string that is not empty, or None",
            [""],
            [1, True, b"name", ["name"]],
        ),
    ],
)
def test_errors_name_parameter_rule_and_value(
    check: Any, rule: str, wrong_values: list[Any], wrong_types: list[Any]
) -> None:
    """A wrong value is a ValueError, a wrong type a TypeError, and both name the parameter, the rule and the value."""
    for kind, values in [(ValueError, wrong_values), (TypeError, wrong_types)]:
        for value in values:
            with pytest.raises(kind) as caught:
                check(value)
            assert type(caught.value) is kind
            assert str(caught.value) == f"p must be {rule}, got {value!r}"
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_negative_timedelta_is_told_in_seconds() -> None:
    """A timedelta that is out of bounds is named by its seconds."""
    with pytest.raises(ValueError, match=r"^cooldown must be a number of seconds above 0, got -1\.5$"):
        _checks.seconds("cooldown", timedelta(seconds=-1.5))


def test_durations_are_checked_without_importing_datetime() -> None:
    """Where nobody has imported `datetime`, checking a duration does not import it either."""
    code = (
        "import sys; sys.modules.pop('datetime', None); from resilience._checks import seconds; seconds('p', 1); "
        "print('datetime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
