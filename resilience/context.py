"""How much time is left, and how much the work matters.

Both are facts about a piece of work, not about one function in it, so they travel with the work: in context variables, which follow
`await` and are copied into child tasks, under asyncio and trio alike. A deadline set where a request comes in is seen by the timeout
around a query five calls further down, and by the retry that must not sleep past it.

    with context.deadline(0.5):              # plain code: it asks context.remaining() and context.check()
    async with context.deadline(0.5):        # tasks: cancelled at the deadline, DeadlineExceeded raised here
    with context.priority(Priority.SHEDDABLE):
"""

from __future__ import annotations

import contextvars
import enum
import functools

from resilience import clock as _clock
from resilience._checks import seconds as _seconds
from resilience._scope import CutScope, Scope, current, time_left
from resilience._shape import shape_of
from resilience.errors import DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import ParamSpec, TypeVar

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
    scope = current.get()
    if scope is not None and scope.left() <= 0.0:
        late = scope.overdue()
        raise late if isinstance(late, DeadlineExceeded) else DeadlineExceeded(late.policy, late.seconds)


def current_priority() -> Priority:
    """The priority of the work that the caller is part of; `Priority.DEFAULT` where none was set."""
    return _priority.get()


class deadline:  # noqa: N801 - reads as a verb in `with`
    """Bound a piece of work by `seconds` from the moment of entry.

    `with` is cooperative: nothing is interrupted, code inside asks `remaining` and `check`, and policies inside keep within it. `async
    with` cancels what runs inside and raises `DeadlineExceeded`. As a decorator it does the first for `def` and the second for `async
    def`, anew for each call. Nested deadlines take the minimum. One object can be used many times, but not inside itself.

    Args:
        seconds: seconds as a number above 0, or a `timedelta`.
        clock: the clock that measures it; the machine's monotonic clock by default.

    Raises:
        DeadlineExceeded: on entry, when an outer deadline has passed already.
        TypeError, ValueError: `seconds` is not a duration above 0.
    """

    __slots__ = ("_clock", "_scope", "_seconds")

    def __init__(self, seconds: float | timedelta, *, clock: Clock | None = None) -> None:
        self._seconds = _seconds("seconds", seconds)
        self._clock: Clock = _clock.default if clock is None else clock
        self._scope: Scope | None = None

    def _enter(self, kind: type[Scope]) -> None:
        if self._scope is not None:
            raise RuntimeError("this deadline is in use: write context.deadline(...) anew for each block")
        scope = kind("deadline", self._seconds, self._clock, DeadlineExceeded)
        scope.__enter__()
        self._scope = scope

    def _exit(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(kind, error, trace)

    def __enter__(self) -> None:
        self._enter(Scope)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit(kind, error, trace)

    async def __aenter__(self) -> None:
        self._enter(CutScope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit(kind, error, trace)

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function: each of its calls gets the deadline."""
        seconds, clock = self._seconds, self._clock
        return _around(fn, lambda: deadline(seconds, clock=clock), cuts=True)


class priority:  # noqa: N801 - reads as a verb in `with`
    """Say how much the work inside matters, to every throttle and shedder that it passes. Also a decorator.

    One object can be used many times, also inside itself, by one thread or task at a time.

    Raises:
        TypeError: `value` is not a `Priority`.
    """

    __slots__ = ("_outer", "_value")

    def __init__(self, value: Priority) -> None:
        if not isinstance(value, Priority):
            raise TypeError(f"priority must be a Priority such as Priority.SHEDDABLE, got {value!r}")
        self._value = value
        self._outer: list[Priority] = []

    def __enter__(self) -> None:
        self._outer.append(_priority.get())
        _priority.set(self._value)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _priority.set(self._outer.pop())

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function: each of its calls has the priority."""
        value = self._value
        return _around(fn, lambda: priority(value), cuts=False)


def _around(fn: Callable[P, R], block: Callable[[], deadline | priority], *, cuts: bool) -> Callable[P, R]:
    shape = shape_of(fn)
    if shape in ("generator", "async_generator"):
        raise TypeError(f"{block().__class__.__name__} cannot decorate a generator: it runs in pieces; use it inside")
    if shape == "sync":

        @functools.wraps(fn)
        def sync_form(*args: P.args, **kwargs: P.kwargs) -> R:
            with block():
                return fn(*args, **kwargs)

        return sync_form

    @functools.wraps(fn)
    async def async_form(*args: P.args, **kwargs: P.kwargs) -> object:
        opened = block()
        if isinstance(opened, deadline):
            async with opened:
                return await fn(*args, **kwargs)  # type: ignore[misc]
        with opened:
            return await fn(*args, **kwargs)  # type: ignore[misc]

    return async_form  # type: ignore[return-value]
