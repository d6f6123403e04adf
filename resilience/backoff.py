"""How long to wait before trying again: `from resilience import backoff`.

    backoff.exponential()                   0 to 0.1 s, 0 to 0.2 s, 0 to 0.4 s ... 0 to 30 s
    backoff.constant(0.5, jitter=0.2)       0.4 s to 0.6 s
    backoff.schedule([0.1, 0.5, 2])         0.1 s, 0.5 s, 2 s, 2 s ...

Wherever a backoff is taken, a number of seconds means `constant` and a sequence of them means `schedule`. Your own may
be any pure function `(retry, previous, u) -> seconds`.

Jitter is on where delays grow, because callers that fail together would otherwise come back together; it is off where a
delay was written down by hand, because then it is meant. `"full"` spreads from 0 to the delay, `"equal"` over its upper
half, a fraction such as 0.2 over plus and minus 20 %.

What the factories return is pure, immutable, hashable and safe to share between any number of policies, threads and
event loops. The formulas stand in `resilience.core.backoff`; `preview(n)` shows what they come to.
"""

from __future__ import annotations

from resilience._checks import is_number, is_timedelta, number, seconds, wrong_type, wrong_value
from resilience.core.backoff import Constant, Curve, Decorrelated, Exponential, Fibonacci, Linear, Schedule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import Any, TypeGuard

    from resilience.core.backoff import Backoff, Jitter

__all__ = ["constant", "decorrelated", "exponential", "fibonacci", "linear", "schedule"]


def exponential(
    base: float | timedelta = 0.1, factor: float = 2.0, cap: float | timedelta = 30.0, jitter: Jitter = "full"
) -> Exponential:
    """Wait `base` seconds, then `factor` times as long each time, at most `cap` seconds.

    Raises:
        TypeError, ValueError: a parameter is not what it has to be.
    """
    return Exponential(
        seconds("base", base, zero=True), number("factor", factor), seconds("cap", cap, zero=True), _jitter(jitter)
    )


def constant(delay: float | timedelta, jitter: Jitter = "none") -> Constant:
    """Wait `delay` seconds each time.

    Raises:
        TypeError, ValueError: a parameter is not what it has to be.
    """
    return Constant(seconds("delay", delay, zero=True), _jitter(jitter))


def linear(step: float | timedelta, cap: float | timedelta = 30.0, jitter: Jitter = "full") -> Linear:
    """Wait `step` seconds, then `step` more each time, at most `cap` seconds.

    Raises:
        TypeError, ValueError: a parameter is not what it has to be.
    """
    return Linear(seconds("step", step, zero=True), seconds("cap", cap, zero=True), _jitter(jitter))


def fibonacci(base: float | timedelta = 0.1, cap: float | timedelta = 30.0, jitter: Jitter = "full") -> Fibonacci:
    """Wait `base` seconds times 1, 1, 2, 3, 5, 8 ..., at most `cap` seconds.

    Raises:
        TypeError, ValueError: a parameter is not what it has to be.
    """
    return Fibonacci(seconds("base", base, zero=True), seconds("cap", cap, zero=True), _jitter(jitter))


def decorrelated(base: float | timedelta = 0.1, cap: float | timedelta = 30.0) -> Decorrelated:
    """Wait between `base` seconds and three times the last wait, at most `cap` seconds.

    Raises:
        TypeError, ValueError: a parameter is not what it has to be.
    """
    return Decorrelated(seconds("base", base, zero=True), seconds("cap", cap, zero=True))


def schedule(delays: Sequence[float | timedelta], jitter: Jitter = "none") -> Schedule:
    """Wait the listed seconds one after the other; the last entry repeats.

    Raises:
        TypeError, ValueError: a parameter is not what it has to be.
    """
    return Schedule(_delays("delays", delays), _jitter(jitter))


def coerce(value: object, parameter: str = "backoff") -> Backoff:
    """What a policy was given as a backoff, as one: a number means constant, a sequence means schedule.

    Raises:
        TypeError, ValueError: `value` is none of these; the error names `parameter`.
    """
    if isinstance(value, Curve | Decorrelated):
        return value
    if callable(value):
        return _foreign(value, parameter)
    if is_number(value) or is_timedelta(value):
        return Constant(seconds(parameter, value, zero=True), "none")
    return Schedule(_delays(parameter, value, "a backoff, a number of seconds or a sequence of them"), "none")


def _jitter(value: Jitter) -> Jitter:
    rule = "'none', 'full', 'equal' or a fraction above 0, at most 1"
    if isinstance(value, str):
        if value not in {"none", "full", "equal"}:
            raise wrong_value("jitter", rule, value)
        return value
    if not is_number(value):
        raise wrong_type("jitter", rule, value)
    if not 0 < value <= 1:
        raise wrong_value("jitter", rule, value)
    return float(value)


def _delays(name: str, value: object, rule: str = "a sequence of seconds, at least one") -> tuple[float, ...]:
    if not _is_listing(value):
        raise wrong_type(name, rule, value)
    if not value:
        raise wrong_value(name, rule, value)
    return tuple(seconds(f"{name}[{index}]", delay, zero=True) for index, delay in enumerate(value))


def _is_listing(value: object) -> TypeGuard[Sequence[object]]:
    from collections.abc import Sequence

    # An iterator may never end, a set has no order, and the characters of a string are no delays.
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _foreign(function: Callable[..., Any], parameter: str) -> Backoff:
    from inspect import signature

    rule = "a backoff, to be called with (retry, previous, u)"
    for name in __all__:
        if function is globals()[name]:
            raise TypeError(f"{parameter} must be {rule}, got what builds one: write backoff.{name}(...)")
    try:
        signature(function).bind(1, 0.0, 0.5)
    except ValueError:
        pass  # built in, without a signature to look at
    except TypeError:
        raise wrong_type(parameter, rule, function) from None
    return function
