"""What every policy has in common: a name, a clock, a lock, listeners, and the ways to be used.

A policy is an immutable configuration with, for some, a little shared state behind one lock. It can be used in three
ways (around a function, for one call, and, where that makes sense, around a block), and all three end in `bind`: a
function in, a function out. That is also the whole of what a pipeline asks of a policy written elsewhere.

`Policy[F]` is generic in what it may return *instead* of the function's own result. Only a fallback does; for all
others it is `Never`, which vanishes from the union, so a decorated function keeps its exact type.
"""

from __future__ import annotations

import threading
from functools import update_wrapper
from types import CoroutineType, FunctionType, GenericAlias, MethodType

from resilience import clock as _clock
from resilience._checks import text_or_none
from resilience._compile import compiled, explained
from resilience._fork import protect
from resilience._hub import Channel, live
from resilience._shape import close_coroutine, is_awaitable, shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, ClassVar, Generic, Never, NoReturn, ParamSpec, Self, TypeVar, overload

    from typing_extensions import TypeVar as DefaultTypeVar

    from resilience.clock import Clock
    from resilience.events import Event

    F_co = DefaultTypeVar("F_co", covariant=True, default=Never)
    P = ParamSpec("P")
    R = TypeVar("R")
else:
    F_co = None

    class Generic:
        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type:
            return cls


__all__ = ["Policy"]


class Policy(Generic[F_co]):
    """A rule about calls. Immutable in configuration; one object serves plain functions, threads, asyncio and trio at
    once.
    """

    __slots__ = ("__weakref__", "_arguments", "_channel", "_clock", "_lock", "_name")

    kind: ClassVar[str] = "policy"
    """What sort of policy this is, in one word; the last resort for a name, and the `.kind` of its events."""

    _form: ClassVar[str] = "..."
    _takes_callable: ClassVar[bool] = False
    _state: ClassVar[tuple[str, ...]] = ()
    """The attributes that calls change; the rest is configuration."""

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

        def __new__(cls, *args, **kwargs):
            if args and not cls._takes_callable and isinstance(args[0], FunctionType | MethodType):
                raise TypeError(f"{cls.__name__} is built first and then decorates: write @{cls.__name__}({cls._form})")
            return super().__new__(cls)

    def _setup(self, name: str | None, clock: Clock | None, arguments: dict[str, Any]) -> None:
        """Finish the construction of a subclass: call it last, when every parameter has been checked."""
        self._name = text_or_none("name", name)
        self._clock: Clock = _clock.default if clock is None else _checked_clock(clock)
        self._arguments = arguments
        self._lock = threading.Lock()
        self._channel = Channel()
        live.add(self)
        protect()

    # --- ways to use it -----------------------------------------------------------------------------------------------

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more: no metadata, no name. This is what a pipeline asks of each of its parts."""
        raise TypeError(f"{type(self).__name__} does not say how it wraps a function: define bind(fn)")

    if TYPE_CHECKING:

        @overload
        def __call__(
            self, fn: Callable[P, Coroutine[Any, Any, R]], /
        ) -> Callable[P, Coroutine[Any, Any, R | F_co]]: ...
        @overload
        def __call__(self, fn: Callable[P, R], /) -> Callable[P, R | F_co]: ...

    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Decorate a function. It keeps its signature, name, docstring and type, and gets an attribute `.policy`.

        Raises:
            TypeError: `fn` cannot be decorated with this policy; the message says what to write.
        """
        decorated: Any = fn
        if isinstance(fn, staticmethod | classmethod):
            method: Callable[..., Any] = type(decorated)(self(decorated.__func__))
            return method
        if not callable(decorated):
            close_coroutine(fn)
            raise TypeError(f"a policy decorates a function, got {fn!r}; for a single call write policy.call(fn, ...)")
        wrapper: Any = update_wrapper(compiled(self._chain(), fn) or self.bind(fn), fn)
        name = getattr(fn, "__name__", None)
        if name is not None:
            self._adopt(name)
        wrapper.policy = self
        function: Callable[..., Any] = wrapper
        return function

    if TYPE_CHECKING:

        @overload
        def call(
            self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R | F_co]: ...
        @overload
        def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R | F_co: ...

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(*args, **kwargs)` once under this policy. If `fn` is an `async def`, await what comes back.

        Raises:
            TypeError: `fn` is no function, or is a plain one that returned a coroutine.
        """
        _check_function(fn, "call")
        result: Any = self.bind(fn)(*args, **kwargs)
        if _is_coroutine(result) and shape_of(fn) == "sync":
            close_coroutine(result)
            raise TypeError(f"{fn!r} is a plain function that returned a coroutine: use call_async")
        return result

    async def call_async(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R | F_co:
        """Call `fn(*args, **kwargs)` once under this policy and await whatever it returns, in asyncio or trio.

        Raises:
            TypeError: `fn` is no function, or what it returned cannot be awaited.
        """
        _check_function(fn, "call_async")
        bound = self.bind(fn if shape_of(fn) == "coroutine" else _awaiting(fn))
        result: R | F_co = await bound(*args, **kwargs)
        return result

    def explain(self, fn: Callable[..., Any], /) -> str:
        """The text of the wrapper that decorating a function with this policy generates, for people to read.

        Args:
            fn: a plain or coroutine function, decorated with this policy or not.

        Raises:
            TypeError: `fn` cannot be decorated with this policy.
        """
        _check_function(fn, "explain")
        decorated: Any = fn
        return explained(self._chain(), decorated.__wrapped__ if getattr(fn, "policy", None) is self else fn)

    def _chain(self) -> tuple[Any, ...]:
        """The parts that this policy consists of, outermost first, each with a `bind` of its own."""
        return (self,)

    def __enter__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is no block: write with policy.guard():")

    def __exit__(self, *_: object) -> None:
        raise TypeError(f"{type(self).__name__} is no block: write with policy.guard():")

    async def __aenter__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is no block: write async with policy.guard():")

    async def __aexit__(self, *_: object) -> None:
        raise TypeError(f"{type(self).__name__} is no block: write async with policy.guard():")

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name given; else the pipeline's name and the kind; else the first decorated function's; else the kind."""
        return self._name or self.kind

    @property
    def _has_name(self) -> bool:
        return self._name is not None

    def _adopt(self, name: str) -> None:
        """Take a name if there is none yet."""
        if self._name is None:
            self._name = name

    def replace(self, **changes: Any) -> Self:
        """A new policy with fresh state and these parameters changed.

        Raises:
            TypeError, ValueError: as the constructor does.
        """
        unknown = changes.keys() - self._arguments.keys()
        if unknown:
            known = ", ".join(self._arguments)
            raise TypeError(f"{type(self).__name__} has no parameter {min(unknown)!r}; it has {known}")
        return self._rebuild({**self._arguments, **changes})

    def _rebuild(self, arguments: dict[str, Any]) -> Self:
        return type(self)(**arguments)

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON. Reads memory only; safe from any thread."""
        return {"name": self.name, "kind": self.kind}

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self._arguments.items() if value not in (None, ()))
        return f"{type(self).__name__}({given})"

    # --- who listens --------------------------------------------------------------------------------------------------

    def listen(self, callback: Callable[[Event], object], /, *event_types: type[Event]) -> Callable[[], None]:
        """Hear this policy's events, of these types or of all. Returns a function that stops listening.

        The callback is a plain function. It runs outside every lock, in the order of what happened, on whichever thread
        delivers; it may call the policy, and if it raises, the error is reported as unraisable and changes nothing.

        Raises:
            TypeError: `callback` is not callable, or a type is not an event type.
        """
        return self._channel.listen(callback, event_types)

    def _send(self, event: type[Event], **fields: object) -> None:
        """Deliver an event to those who listen; ask `_channel.heard` first. Never with the lock held."""
        self._channel.send(event(self.name, self.kind, self._clock.now(), **fields))

    def _choose_listeners(self) -> None:
        """Note who listens, where it is noted. Called with the hub's lock held, so it waits for no other."""

    def _listeners_changed(self) -> None:
        """Bring up to date what is read without a lock: who listens has changed, or the state was put back."""

    # --- for the clock, for tests and for fork ------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.now()

    def _freeze(self) -> dict[str, Any]:
        """A copy of the state, for virtual time to give back at its end."""
        from copy import deepcopy

        with self._lock:
            return {field: deepcopy(getattr(self, field)) for field in self._state}

    def _thaw(self, frozen: dict[str, Any]) -> None:
        """Take back a state from `_freeze`."""
        with self._lock:
            for field, value in frozen.items():
                setattr(self, field, value)
        self._listeners_changed()

    def _at_rest(self) -> bool:
        """Whether this policy could be forgotten and made anew without forgiving or closing anything."""
        return True

    def _after_fork(self) -> None:
        """In a forked child, with a fresh lock: forget what belonged to threads that are not here."""


def _is_coroutine(result: object) -> bool:
    return isinstance(result, CoroutineType)


def _check_function(fn: object, verb: str) -> None:
    if callable(fn):
        return
    if is_awaitable(fn):
        close_coroutine(fn)
        raise TypeError(f"{verb} takes the function, not its coroutine: write policy.{verb}(fn, arguments...)")
    raise TypeError(f"{verb} takes a function and its arguments: write policy.{verb}(fn, arguments...); got {fn!r}")


def _awaiting(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        if not is_awaitable(result):
            raise TypeError(f"call_async awaits what fn returns, and {fn!r} returned {type(result).__name__}: use call")
        return await result

    return update_wrapper(awaiting, fn)


def _checked_clock(clock: Clock) -> Clock:
    for method in ("now", "sleep", "sleep_async"):
        if not callable(getattr(clock, method, None)):
            raise TypeError(f"clock must have now(), sleep(s) and sleep_async(s); {clock!r} has no {method}")
    return clock
