"""What a parameter may be, said in one voice.

Every policy is checked when it is built, because a wrong number in a retry shows itself on the worst day of the year.
The checks live here so that each rule has one wording, and whoever reads an error finds the same three things in the
same order: which parameter, what it has to be, what was given.

    cooldown must be a number of seconds above 0, got -1

A wrong type is a TypeError, a wrong value a ValueError, and both say the same sentence. A bool is never a number here:
`attempts=True` is always a mistake. Durations may be given as `datetime.timedelta`; whoever has one has imported that
module already. Each check takes any object, since that is what a caller may pass, and returns the value in the type
that a policy keeps.
"""

from __future__ import annotations

import sys
from math import inf, isnan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, TypeAlias, TypeGuard, TypeVar, overload

    C = TypeVar("C", bound=Callable[..., Any])
    Duration: TypeAlias = float | timedelta
    """Seconds, or a timedelta."""

__all__ = [
    "callable_or_none",
    "is_number",
    "is_timedelta",
    "number",
    "positive_int",
    "seconds",
    "seconds_or_none",
    "share",
    "text_or_none",
    "wrong_type",
    "wrong_value",
]


def wrong_type(name: str, rule: str, value: object) -> TypeError:
    """The error to raise when `value` is of a kind that `name` never takes."""
    return TypeError(f"{name} must be {rule}, got {value!r}")


def wrong_value(name: str, rule: str, value: object) -> ValueError:
    """The error to raise when `value` is of the right kind and out of bounds."""
    return ValueError(f"{name} must be {rule}, got {value!r}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is an int or a float, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_timedelta(value: object) -> TypeGuard[timedelta]:
    """Whether `value` is a `datetime.timedelta`, found out without importing `datetime`."""
    datetime = sys.modules.get("datetime")
    return datetime is not None and isinstance(value, datetime.timedelta)


def number(name: str, value: object, *, zero: bool = False, infinite: bool = False, kind: str = "a number") -> float:
    """Check a quantity above 0, or from 0 on with `zero`; `infinite` lets `math.inf` through."""
    rule = (f"{kind}, 0 or more" if zero else f"{kind} above 0") + (", or math.inf" if infinite else "")
    if not is_number(value):
        raise wrong_type(name, rule, value)
    try:
        # Adding 0.0 turns -0.0 into 0.0.
        checked = float(value) + 0.0
    except OverflowError:
        raise wrong_value(name, rule, value) from None
    if checked < 0 or (checked == 0 and not zero) or isnan(checked) or (checked == inf and not infinite):
        raise wrong_value(name, rule, value)
    return checked


def seconds(name: str, value: object, *, zero: bool = False, infinite: bool = False) -> float:
    """Check a duration, a number of seconds or a timedelta, and return it in seconds."""
    given = value.total_seconds() if is_timedelta(value) else value
    return number(name, given, zero=zero, infinite=infinite, kind="a number of seconds")


def seconds_or_none(name: str, value: object, *, zero: bool = False, infinite: bool = False) -> float | None:
    """Check a duration that may be left out."""
    return None if value is None else seconds(name, value, zero=zero, infinite=infinite)


if TYPE_CHECKING:

    @overload
    def positive_int(name: str, value: object) -> int: ...
    @overload
    def positive_int(name: str, value: object, *, infinite: bool) -> int | float: ...


def positive_int(name: str, value: object, *, infinite: bool = False) -> int | float:
    """Check a count from 1 on; with `infinite`, `math.inf` stands for no bound."""
    rule = "an integer, 1 or more" + (", or math.inf" if infinite else "")
    if infinite and value == inf:
        return inf
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, rule, value)
    if value < 1:
        raise wrong_value(name, rule, value)
    return value


def share(name: str, value: object, *, zero: bool = False) -> float:
    """Check a part of a whole: above 0, or from 0 on with `zero`, up to 1."""
    rule = "a number from 0 to 1" if zero else "a number above 0, at most 1"
    if not is_number(value):
        raise wrong_type(name, rule, value)
    if 0 < value <= 1 or (zero and value == 0):
        return float(value) + 0.0
    raise wrong_value(name, rule, value)


def callable_or_none(name: str, value: C | None, *, rule: str = "a callable") -> C | None:
    """Check something that is called later, if it is given at all."""
    if value is not None and not callable(value):
        raise wrong_type(name, f"{rule} or None", value)
    return value


def text_or_none(name: str, value: object) -> str | None:
    """Check a name, a string that is not empty, if it is given at all."""
    rule = "a string that is not empty, or None"
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, rule, value)
    if not value:
        raise wrong_value(name, rule, value)
    return value
