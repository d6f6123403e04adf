"""Policies as text, read without running anything.

A scenario writes a policy exactly as the service does, `Retry(on=OSError, attempts=3)`, since a second notation would
be one more thing to learn and to keep in step. The text is parsed, and only this much of the language means something:
calls of the library's own classes and backoffs, names of errors, and literal numbers, strings, lists, tuples and
dictionaries. There are no attributes but `backoff.` and `math.inf`, no operators, no comprehensions, and nothing is
ever handed to `eval`: a scenario from somebody else can be wrong, but it cannot do anything.
"""

from __future__ import annotations

import ast
from math import inf

import resilience
from resilience import backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["BACKOFFS", "POLICIES", "evaluate"]

_CLASSES = (
    "AIMD AdaptiveLimit AdaptiveThrottle Bulkhead CircuitBreaker Consecutive FailureRate Fallback Gradient Hedge "
    "LoadShedder Rate Retry RetryBudget SlowRate Throttle Timeout Vegas "
    "BulkheadFull CircuitOpen DeadlineExceeded LimitExceeded LoadShed Rejected ResilienceError ResultNotAccepted "
    "Throttled TimedOut"
)
_ERRORS: tuple[type[Exception], ...] = (Exception, OSError, ConnectionError, TimeoutError)
_LONGEST = 10_000

BACKOFFS: Mapping[str, Any] = {
    **{name: getattr(backoff, name) for name in backoff.__all__},
    **{f"backoff.{name}": getattr(backoff, name) for name in backoff.__all__},
    "inf": inf,
    "math.inf": inf,
}
"""What an expression for a backoff may name."""

POLICIES: Mapping[str, Any] = {
    **BACKOFFS,
    **{error.__name__: error for error in _ERRORS},
    **{name: getattr(resilience, name) for name in _CLASSES.split() if name in resilience.__all__},
}
"""What an expression for a policy may name."""


def evaluate(text: object, names: Mapping[str, Any], where: str) -> Any:
    """The value of an expression.

    Args:
        text: the expression.
        names: what it may name.
        where: what the expression is, for errors.

    Raises:
        TypeError, ValueError: it is no expression, or says more than it may, or what it calls refuses its parameters;
            the message begins with `where`.
    """
    if not isinstance(text, str):
        raise TypeError(f"{where} must be an expression, as text, got {text!r}")
    if len(text) > _LONGEST:
        raise ValueError(f"{where} must be at most {_LONGEST} characters long, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return _value(tree, names, where)
    except SyntaxError as error:
        raise ValueError(f"{where} must be an expression, got {text!r}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{where} must be an expression of sane depth, got {text[:60]!r}...") from None


def _value(node: ast.expr, names: Mapping[str, Any], where: str) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=parts):
            return tuple(_value(part, names, where) for part in parts)
        case ast.List(elts=parts):
            return [_value(part, names, where) for part in parts]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_key(key, where): _value(value, names, where) for key, value in pairs}
        case ast.Name() | ast.Attribute():
            return _named(node, names, where)
        case ast.Call(func=ast.Name() | ast.Attribute() as called, args=args, keywords=keywords):
            return _call(node, _named(called, names, where), args, keywords, names, where)
        case _:
            raise ValueError(
                f"{where} must be made of calls, names, numbers, strings and lists of them, got {ast.unparse(node)!r}"
            )


def _key(node: ast.expr | None, where: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(f"{where} must have strings as the keys of a dictionary")


def _named(node: ast.expr, names: Mapping[str, Any], where: str) -> Any:
    name = ast.unparse(node)
    if name not in names:
        known = ", ".join(sorted(known for known in names if "." not in known))
        raise ValueError(f"{where} must name one of {known}, got {name!r}")
    return names[name]


def _call(
    node: ast.expr,
    function: Callable[..., Any],
    args: list[ast.expr],
    keywords: list[ast.keyword],
    names: Mapping[str, Any],
    where: str,
) -> Any:
    if not callable(function):
        raise TypeError(f"{where} must call what can be called, got {ast.unparse(node)!r}")
    positional = [_value(argument, names, where) for argument in args]
    named: dict[str, Any] = {}
    for keyword in keywords:
        if keyword.arg is None:
            raise ValueError(f"{where} must name its parameters one by one, got {ast.unparse(node)!r}")
        named[keyword.arg] = _value(keyword.value, names, where)
    try:
        return function(*positional, **named)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}, {ast.unparse(node)!r}: {error}") from None
