"""Stretches of time that code runs in.

A scope is a deadline with something inside it. Scopes nest, each knows its parent, and a context variable holds the innermost, so code
deep inside can ask how much time is left without being handed anything. There are two kinds. A plain scope only *says* what is left: a
running sync call cannot be cut from outside. A `CutScope` cancels the task that entered it, with the means of its own runtime.

A cut is marked before it is made. A gate inside sees a cancellation arrive and must know whether the call was too slow (a failure of
what was called) or the caller went away (says nothing): it reads the mark. trio decides by itself when to cancel, and keeps the mark for
us in `cancel_called`.
"""

from __future__ import annotations

import contextvars
import sys

from resilience._runtime import current_runtime
from resilience.core.deadline import ends_at
from resilience.errors import DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Self

    import trio

    from resilience.clock import Clock
    from resilience.errors import TimedOut

__all__ = ["CutScope", "Scope", "current", "cut_by_us", "time_left"]

current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("resilience_scope", default=None)


def time_left() -> float | None:
    """Seconds until the tightest deadline around the caller; zero or less once it has passed, None without one."""
    scope = current.get()
    return None if scope is None else scope.left()


def cut_by_us() -> bool:
    """Whether a scope around the caller has expired: a cancellation that arrives now is the fault of what is inside."""
    scope = current.get()
    while scope is not None:
        if scope.expired or scope.own_left() <= 0.0:
            return True
        scope = scope.parent
    return False


class Scope:
    """A deadline that says what is left, and cuts nothing. Single use, by one thread or task."""

    __slots__ = ("at", "clock", "error", "parent", "policy", "seconds")

    def __init__(self, policy: str, seconds: float, clock: Clock, error: type[TimedOut] = DeadlineExceeded) -> None:
        self.policy = policy
        self.seconds = seconds
        self.clock = clock
        self.error = error
        self.at = 0.0
        self.parent: Scope | None = None

    @property
    def expired(self) -> bool:
        """Whether this scope has begun to cancel what is inside it."""
        return False

    def own_left(self) -> float:
        """Seconds until this scope's own deadline."""
        return self.at - self.clock.now()

    def left(self) -> float:
        """Seconds until the tightest deadline from here outward. Each is asked by its own clock."""
        least = self.own_left()
        scope = self.parent
        while scope is not None:
            least = min(least, scope.own_left())
            scope = scope.parent
        return least

    def overdue(self) -> TimedOut:
        """The error of the innermost scope that has no time left."""
        scope: Scope = self
        while scope.own_left() > 0.0 and scope.parent is not None:
            scope = scope.parent
        return scope.error(scope.policy, scope.seconds)

    def __enter__(self) -> Self:
        parent = current.get()
        if parent is not None and parent.left() <= 0.0:
            raise parent.overdue()
        self.parent = parent
        self.at = ends_at(self.clock.now(), self.seconds)
        current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        current.set(self.parent)
        return None


class CutScope(Scope):
    """A deadline that cancels the task that entered it, and turns that cancellation, and no other, into its own error."""

    __slots__ = ("_cut",)

    def __init__(self, policy: str, seconds: float, clock: Clock, error: type[TimedOut] = DeadlineExceeded) -> None:
        super().__init__(policy, seconds, clock, error)
        self._cut: _AsyncioCut | _TrioCut | None = None

    @property
    def expired(self) -> bool:
        """Whether this scope has begun to cancel what is inside it."""
        return self._cut is not None and self._cut.called

    def __enter__(self) -> Self:
        cut = _TrioCut() if current_runtime() == "trio" else _AsyncioCut()
        super().__enter__()
        try:
            cut.start(self.seconds)
        except BaseException:
            super().__exit__(None, None, None)
            raise
        self._cut = cut
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        super().__exit__(kind, error, trace)
        cut = self._cut
        if cut is None or not cut.stop(kind, error, trace):
            return None
        raise self.error(self.policy, self.seconds) from error


class _AsyncioCut:
    __slots__ = ("_cancelling", "_task", "_timer", "called")

    def __init__(self) -> None:
        self.called = False
        self._task: asyncio.Task[object] | None = None

    def start(self, seconds: float) -> None:
        asyncio = sys.modules["asyncio"]
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout cuts a task, and no task runs here: await this from inside one")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self.called = True
        if self._task is not None:
            self._task.cancel()

    def stop(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Take the timer back; True where the error is our own cancellation and nobody else asked for one."""
        self._timer.cancel()
        task, self._task = self._task, None
        if not self.called or task is None:
            return False
        asked_by_others = task.uncancel() > self._cancelling
        return not asked_by_others and isinstance(error, sys.modules["asyncio"].CancelledError)


class _TrioCut:
    __slots__ = ("_scope",)

    _scope: trio.CancelScope

    @property
    def called(self) -> bool:
        return self._scope.cancel_called

    def start(self, seconds: float) -> None:
        trio = sys.modules["trio"]
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._scope.__enter__()

    def stop(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Leave the cancel scope; True where it caught its own cancellation."""
        self._scope.__exit__(kind, error, trace)
        return self._scope.cancelled_caught
