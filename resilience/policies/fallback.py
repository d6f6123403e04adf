"""Answer with something else.

The last cached page, an empty list, a polite apology: when the real answer cannot be had, a worse one now is often
better than an error. It stands outermost, because what it hides is hidden from everything outside it. And it must be
narrow: a fallback on `Exception` turns every bug into a plausible answer.
"""

from __future__ import annotations

from types import CoroutineType

from resilience._checks import callable_or_none
from resilience._drivers import bind_value
from resilience._shape import shape_of
from resilience.errors import ResultNotAccepted
from resilience.events import CallSucceeded, FallbackUsed
from resilience.matching import Matcher
from resilience.policies._base import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, NoReturn, Self, TypeVar, overload

    from resilience.clock import Clock
    from resilience.matching import On

    F_co = TypeVar("F_co", covariant=True)
else:
    F_co = None

__all__ = ["Fallback"]


_MISSING: Any = object()


class Fallback(Policy[F_co]):
    """Replace an error, or a result that is not good enough, by something else.

    Only `Exception` is ever replaced. Holds no state between calls: any number of threads and tasks may use one object
    at once.

    Args:
        on: the errors to replace: a type, a tuple of types, or a predicate. `Rejected` is matched like any other error.
        ignore: errors never to replace, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means "replace it".
        value: what to return instead, as it is. Exactly one of `value` and `call` is given.
        call: called as `call(error, *args, **kwargs)` with the arguments of the failed call; where a result is
            replaced, `error` is a `ResultNotAccepted` that holds it. An `async def` needs an async function. If it
            fails, its error is raised with the first one as context.
        name: for events, errors and the registry.
        clock: the time source of events; the machine's monotonic clock by default.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_awaits", "_call", "_matcher", "_value")

    kind = "fallback"
    _form = "on=ConnectionError, value=None"

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            *,
            on: On,
            ignore: On = (),
            on_result: Callable[[Any], bool | float | None] | None = None,
            value: F_co,
            name: str | None = None,
            clock: Clock | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self,
            *,
            on: On,
            ignore: On = (),
            on_result: Callable[[Any], bool | float | None] | None = None,
            call: Callable[..., Awaitable[F_co]],
            name: str | None = None,
            clock: Clock | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self,
            *,
            on: On,
            ignore: On = (),
            on_result: Callable[[Any], bool | float | None] | None = None,
            call: Callable[..., F_co],
            name: str | None = None,
            clock: Clock | None = None,
        ) -> None: ...

    def __init__(
        self,
        *,
        on: On,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        value: Any = _MISSING,
        call: Callable[..., Any] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if on is None:
            raise TypeError("on must be an exception type, a tuple of them or a predicate, got None")
        self._matcher = Matcher(on, ignore, on_result, rejected=True)
        if (value is _MISSING) == (call is None):
            given = "neither" if call is None else "both"
            raise TypeError(f"Fallback takes exactly one of value=... and call=..., got {given}")
        self._value = value
        self._call = callable_or_none("call", call)
        self._awaits = call is not None and shape_of(call) == "coroutine"
        self._setup(
            name,
            clock,
            {
                "on": on,
                "ignore": ignore,
                "on_result": on_result,
                "value": value,
                "call": call,
                "name": name,
                "clock": clock,
            },
        )

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        if self._awaits and shape_of(fn) == "sync":
            raise TypeError(f"call={self._call!r} is async, so it needs an async function; {fn!r} is a plain one")
        return bind_value(self, fn, "Fallback cannot wrap a generator: what it has yielded cannot be replaced")

    def guard(self, *_: object, **__: object) -> NoReturn:
        """A block has no outcome that could be replaced, so there is no guard.

        Raises:
            TypeError: always; it says what to write.
        """
        raise TypeError(
            "Fallback cannot guard a block, which has no result to replace: decorate a function or use call"
        )

    def replace(self, **changes: Any) -> Self:
        """A new policy with these parameters changed; a new `value` or `call` takes the place of the old one.

        Raises:
            TypeError, ValueError: as the constructor does.
        """
        if changes.keys() & {"value", "call"}:
            changes = {"value": _MISSING, "call": None, **changes}
        return super().replace(**changes)

    def __repr__(self) -> str:
        instead = f"value={self._value!r}" if self._call is None else f"call={self._call!r}"
        return f"Fallback(on={self._arguments['on']!r}, {instead})"

    def _replaces_error(self, error: Exception) -> bool:
        if self._matcher.error(error) is None:
            return False
        if self._channel.heard:
            self._send(FallbackUsed, error=error)
        return True

    def _replaces_result(self, result: object) -> bool:
        if self._matcher.result(result) is None:
            if self._channel.heard:
                self._send(CallSucceeded, attempts=1)
            return False
        if self._channel.heard:
            self._send(FallbackUsed, error=None)
        return True

    def _refused(self, result: object) -> ResultNotAccepted:
        return ResultNotAccepted(self.name, result, 1, 0.0)

    def _substitute(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._call is None:
            return self._value
        instead = self._call(error, *args, **kwargs)
        if not self._awaits and type(instead) is CoroutineType:
            instead.close()
            raise TypeError(f"call={self._call!r} returned a coroutine: make it an async def, for an async function")
        return instead
