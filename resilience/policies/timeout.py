"""Stop waiting.

A call without a bound has one anyway: the patience of whoever waits for it, which is the worst moment to find out. In
asyncio and trio a timeout cancels what runs inside, and knows its own cancellation from the caller's. A running plain
function cannot be cut by anybody, so there one has to choose, and is asked to:

    thread=False   a promise that the function has to keep. It opens a deadline, and code inside that reads
                   `context.remaining()`, this library's other policies among it, stays within. A call that ends late
                   has done its work: its result is returned, its error raised, and `DeadlineMissed` says how late.
    thread=True    the function runs on a worker thread, and its caller waits no longer than the bound. The worker is
                   left behind then; what it still does, nobody hears of.
"""

from __future__ import annotations

from resilience._checks import seconds as _seconds
from resilience._checks import wrong_value
from resilience._compile import Layer
from resilience._drivers import bind_scope
from resilience._scope import Scope
from resilience._shape import shape_of
from resilience.errors import TimedOut
from resilience.events import CallSucceeded, DeadlineMissed
from resilience.policies._base import Policy
from resilience.policies._guard import ScopeGuard
from resilience.policies._mailbox import Mailbox, warn_on_a_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Never  # noqa: F401 - Never is named in quotes

    from resilience.clock import Clock

__all__ = ["Timeout"]

_SYNC = (
    "a running sync call cannot be cut: pass thread=True, which runs it in a worker left behind at the deadline, "
    "or thread=False, where only code that reads context.remaining() obeys"
)
_NO_BLOCK = (
    "Timeout(thread=True) cannot guard a block, which runs on the thread of its caller and cannot be left behind: "
    "decorate a function or use call"
)


class Timeout(Policy["Never"]):
    """Bound the time of what is inside.

    Holds no state between calls: any number of threads and tasks may use one object at once.

    Args:
        seconds: the bound, in seconds or as a `timedelta`.
        thread: for plain functions. None (the default) refuses them; True runs them on a daemon thread of a bounded
            pool, in a copy of the caller's context, and leaves them behind at the bound; False opens a deadline that
            code inside has to keep. Async functions are cut in any case.
        name: for events, errors and the registry.
        clock: the time source of the deadline; the machine's monotonic clock by default. Cuts are timed by the event
            loop.

    Raises:
        TimedOut: the call was cut, or an outer bound had passed before it began (`DeadlineExceeded` where that was a
            deadline).
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_bound", "_thread", "_warned")

    kind = "timeout"
    _form = "2.0"

    def __init__(
        self,
        seconds: float | timedelta,
        *,
        thread: bool | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._bound = _seconds("seconds", seconds)
        if thread is not None and not isinstance(thread, bool):
            raise wrong_value("thread", "None, True or False", thread)
        self._thread = thread
        self._warned = False
        self._setup(name, clock, {"seconds": seconds, "thread": thread, "name": name, "clock": clock})

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        if shape_of(fn) == "sync":
            if self._thread is None:
                raise TypeError(_SYNC)
            if self._thread:
                return self._beside(fn)
        return bind_scope(self, fn, "Timeout cannot wrap a generator: between its steps the time is its caller's")

    def _inline(self) -> Layer:
        return Layer("scope", "timeout", {}, awaited=self._thread is not False)

    def guard(self) -> ScopeGuard:
        """A block under this bound: `async with` cuts it, `with` (only where `thread=False`) does not. Single use.

        Raises:
            TypeError: it is a `Timeout(thread=True)`; the message says why.
        """
        if self._thread:
            raise TypeError(_NO_BLOCK)
        return ScopeGuard(self)

    def _scope(self) -> Scope:
        if self._thread is None:
            raise TypeError(_SYNC)
        return _TimeoutScope(self, cuts=False, keeps=True)

    def _cut_scope(self) -> Scope:
        return _TimeoutScope(self, cuts=True, keeps=False)

    def _beside(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def bounded(*args: Any, **kwargs: Any) -> Any:
            return self._by_worker(fn, args, kwargs)

        return bounded

    def _by_worker(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        warn_on_a_loop(self)
        clock = self._clock
        scope = _TimeoutScope(self, cuts=False, keeps=False)
        with scope, Mailbox(clock) as mailbox:
            mailbox.order(fn, args, kwargs)
            until = min(scope.limit, clock.now() + scope.left())
            outcome = mailbox.get(until)
            if outcome is None or outcome.at >= until:
                raise scope.overdue()
            return outcome.get()

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values: the bound in seconds."""
        return {**super().snapshot(), "seconds": self._bound}


class _TimeoutScope(Scope):
    """The bound of one call or block, and what is told of it."""

    __slots__ = ("_keeps", "_timeout")

    def __init__(self, timeout: Timeout, *, cuts: bool, keeps: bool) -> None:
        super().__init__(timeout.name, timeout._bound, timeout._clock, TimedOut, cuts=cuts)
        self._timeout = timeout
        self._keeps = keeps

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        swallowed = super().__exit__(kind, error, trace)
        timeout = self._timeout
        if timeout._channel.heard:
            late = -self.own_left()
            if late >= 0.0 and self._keeps:
                timeout._send(DeadlineMissed, seconds=self.seconds, late=late)
            elif error is None:
                timeout._send(CallSucceeded, attempts=1)
        return swallowed
