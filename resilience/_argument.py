"""Finding one argument of a call by its parameter's name.

Where the argument stands is found out once, when a function is decorated: a name that the function does not have is an
error then and there, and a call pays for a look-up, not for binding a signature.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Getter = Callable[[tuple[Any, ...], dict[str, Any]], Any]

__all__ = ["argument_of", "calling"]


def argument_of(fn: Callable[..., Any], name: str, parameter: str) -> Getter:
    """A function of (args, kwargs) that returns the argument `name` of a call of `fn`, or its default.

    Args:
        fn: the function that will be called.
        name: the name of one of its parameters.
        parameter: what the policy calls it, for the error.

    Raises:
        TypeError: the function has no such parameter.
    """
    from inspect import Parameter, signature

    described = signature(fn)
    parameters = described.parameters
    found = parameters.get(name)
    if found is None or found.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
        known = ", ".join(parameters) or "none"
        raise TypeError(f"{parameter} names the parameter {name!r}, which {fn!r} does not have; it has: {known}")
    keyword = None if found.kind is Parameter.POSITIONAL_ONLY else name
    index = len(parameters) if found.kind is Parameter.KEYWORD_ONLY else list(parameters).index(name)
    default = None if found.default is Parameter.empty else found.default

    def get(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if index < len(args) and found.kind is not Parameter.KEYWORD_ONLY:
            return args[index]
        if keyword is not None and keyword in kwargs:
            return kwargs[keyword]
        if found.default is Parameter.empty:
            described.bind(*args, **kwargs)  # raises, in the words of a call without a policy
        return default

    return get


def calling(function: Callable[..., Any]) -> Getter:
    """A function of (args, kwargs) that calls `function` with them."""
    return lambda args, kwargs: function(*args, **kwargs)
