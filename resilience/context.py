"""How much time is left, and how much the work matters.

Both are facts about a piece of work, not about one function in it, so they travel with the work: in context variables,
which follow `await` and are copied into child tasks, under asyncio and trio alike. A deadline set where a request comes
in is seen by the timeout around a query five calls further down, and by the retry that must not sleep past it.

    with context.deadline(0.5):              # plain code: it asks context.remaining() and context.check()
    async with context.deadline(0.5):        # tasks: cancelled at the deadline, DeadlineExceeded raised here
    with context.priority(Priority.SHEDDABLE):
"""

from __future__ import annotations

import contextvars
import enum
import functools
from contextlib import suppress

from resilience import clock as _clock
from resilience._checks import seconds as _seconds
from resilience._scope import Scope, current, time_left
from resilience._shape import close_coroutine, shape_of
from resilience.errors import DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar

    from resilience.clock import Clock

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["Priority", "check", "current_priority", "deadline", "priority", "remaining"]


class Priority(enum.IntEnum):
    """How much a piece of work matters. A higher number gives way later."""

    SHEDDABLE = 0
    DEFAULT = 1
    CRITICAL = 2


_priority: contextvars.ContextVar[Priority] = contextvars.ContextVar("resilience_priority", default=Priority.DEFAULT)


def remaining() -> float | None:
    """Seconds until the tightest deadline around the caller, 0.0 once it has passed; None without a deadline."""
    left = time_left()
    return None if left is None else max(0.0, left)


def check() -> None:
    """Return while there is time left.

    Raises:
        DeadlineExceeded: the tightest deadline around the caller has passed.
    """
    bound = current.get()
    if bound is not None and bound.left() <= 0.0:
        late = bound.overdue()
        raise late if isinstance(late, DeadlineExceeded) else DeadlineExceeded(late.policy, late.seconds)


def current_priority() -> Priority:
    """The priority of the work that the caller is part of; `Priority.DEFAULT` where none was set."""
    return _priority.get()


class deadline:  # noqa: N801 - reads as a verb in `with`
    """Bound a piece of work by `seconds` from the moment of entry.

    `with` is cooperative: nothing is interrupted, code inside asks `remaining` and `check`, and policies inside keep
    within it. `async with` cancels what runs inside and raises `DeadlineExceeded`. As a decorator it does the first for
    `def` and the second for `async def`, anew for each call. Nested deadlines take the minimum. One object can be used
    many times, but not inside itself, and not by two threads or tasks at once.

    Args:
        seconds: seconds as a number above 0, or a `timedelta`.
        clock: the clock that measures it; the machine's monotonic clock by default. Cuts are timed by the event loop.

    Raises:
        DeadlineExceeded: from an `async with` that was cut; on entry, when an outer deadline has passed already
            (`TimedOut` where that was a `Timeout`).
        TypeError, ValueError: `seconds` is not a duration above 0, or `clock` is no clock.
    """

    __slots__ = ("_clock", "_scope", "_seconds")

    def __init__(self, seconds: float | timedelta, *, clock: Clock | None = None) -> None:
        _refuse_bare("deadline", "2.0", seconds)
        self._seconds = _seconds("seconds", seconds)
        self._clock: Clock = _clock.default if clock is None else _checked_clock(clock)
        self._scope: Scope | None = None

    def _enter(self, *, cuts: bool) -> None:
        if self._scope is not None:
            raise RuntimeError("this deadline is in use: write context.deadline(...) anew for each block")
        scope = Scope("deadline", self._seconds, self._clock, cuts=cuts)
        scope.__enter__()
        self._scope = scope

    def _exit(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(kind, error, trace)

    def __enter__(self) -> None:
        self._enter(cuts=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit(kind, error, trace)

    async def __aenter__(self) -> None:
        self._enter(cuts=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit(kind, error, trace)

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function: each of its calls gets the deadline.

        Raises:
            TypeError: `fn` is no function, or a generator.
        """
        seconds, clock = self._seconds, self._clock
        return _around("deadline", fn, lambda cuts: Scope("deadline", seconds, clock, cuts=cuts))


class priority:  # noqa: N801 - reads as a verb in `with`
    """Say how much the work inside matters, to every throttle and shedder that it passes. Also a decorator.

    One object can be used many times, also inside itself, by one thread or task at a time.

    Args:
        value: a `Priority`.

    Raises:
        TypeError: `value` is not a `Priority`.
    """

    __slots__ = ("_tokens", "_value")

    def __init__(self, value: Priority) -> None:
        _refuse_bare("priority", "Priority.SHEDDABLE", value)
        self._value = _checked_priority(value)
        self._tokens: list[contextvars.Token[Priority]] = []

    def __enter__(self) -> None:
        self._tokens.append(_priority.set(self._value))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ValueError):  # entered in another context, which is no business of whoever runs this
            _priority.reset(self._tokens.pop())

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function: each of its calls has the priority.

        Raises:
            TypeError: `fn` is no function, or a generator.
        """
        value = self._value
        return _around("priority", fn, lambda _: priority(value))


def _around(verb: str, fn: Callable[..., Any], block: Callable[[bool], Scope | priority]) -> Callable[..., Any]:
    """Run each call of a function in a block of its own."""
    decorated: object = fn
    if isinstance(decorated, staticmethod | classmethod):
        kind: Any = type(fn)
        inner: Any = getattr(fn, "__func__", fn)
        again: Callable[..., Any] = kind(_around(verb, inner, block))
        return again
    if not callable(decorated) or isinstance(decorated, type):
        close_coroutine(fn)
        raise TypeError(f"context.{verb} decorates a function, got {fn!r}")
    shape = shape_of(fn)
    if shape == "sync":

        @functools.wraps(fn)
        def sync_form(*args: Any, **kwargs: Any) -> Any:
            with block(False):
                return fn(*args, **kwargs)

        return sync_form
    if shape == "coroutine":

        @functools.wraps(fn)
        async def async_form(*args: Any, **kwargs: Any) -> Any:
            with block(True):
                return await fn(*args, **kwargs)

        return async_form
    raise TypeError(f"context.{verb} cannot decorate a generator: it runs in pieces; use it inside, round each piece")


def _refuse_bare(verb: str, form: str, given: object) -> None:
    if callable(given):
        raise TypeError(f"write @context.{verb}({form}), got {given!r}")


def _checked_priority(value: object) -> Priority:
    if not isinstance(value, Priority):
        raise TypeError(f"priority must be a Priority such as Priority.SHEDDABLE, got {value!r}")
    return value


def _checked_clock(clock: Clock) -> Clock:
    for method in ("now", "sleep", "sleep_async"):
        if not callable(getattr(clock, method, None)):
            raise TypeError(f"clock must have now(), sleep(s) and sleep_async(s); {clock!r} has no {method}")
    return clock
