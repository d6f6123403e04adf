"""Stretches of time that code runs in.

A bound is a deadline with something inside it. Bounds nest, each knows its parent, and a context variable holds the
innermost, so code deep inside can ask how much time is left without being handed anything. Most bounds only *say* what
is left, since a running sync call cannot be stopped from outside. A bound that cuts cancels the task that opened it,
with the means of its own runtime.

A cut is marked before it is made. A gate inside sees a cancellation arrive and must know whether the call was too slow
(a failure of what was called) or the caller went away (says nothing): it asks whether any bound around it has nothing
left. From the mark on a bound has nothing left, whatever its clock says, so that nothing is begun anew under it. trio
decides by itself when to cancel, and keeps the mark for us in `cancel_called`.

A bound is closed in the context in which it was opened, or not at all: a coroutine that is thrown away may be closed by
the garbage collector, in the middle of somebody else's task, whose deadline must not be touched.
"""

from __future__ import annotations

import contextvars
import sys
from math import inf

from resilience._runtime import current_runtime
from resilience.core.deadline import ends_at
from resilience.errors import DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Any

    from resilience.clock import Clock
    from resilience.errors import TimedOut

__all__ = ["Bound", "Scope", "current", "cut_by_us", "refuse_if_late", "time_left"]

current: contextvars.ContextVar[Bound | None] = contextvars.ContextVar("resilience_bound", default=None)


def time_left() -> float | None:
    """Seconds until the tightest deadline around the caller; zero or less once it has passed, None without one."""
    bound = current.get()
    if bound is None:
        return None
    left = bound.left()
    return None if left == inf else left


def cut_by_us() -> bool:
    """Whether a bound around the caller has expired: a cancellation that arrives now is the fault of what is inside."""
    left = time_left()
    return left is not None and left <= 0.0


def refuse_if_late() -> None:
    """Return while there is time left to begin something.

    Raises:
        TimedOut: the tightest bound around the caller has passed; the error is that bound's own.
    """
    bound = current.get()
    if bound is not None and bound.left() <= 0.0:
        raise bound.overdue()


class Bound:
    """What stands in the chain of deadlines. Used by the one thread or task that opened it, read by all inside it.

    Attributes:
        attempt: the number of the attempt that runs inside, where the bound belongs to a retry; 0 elsewhere.
        depth: how many retries are around that one; only where there is one.
        limit: the reading of `clock` at which the time is over; `math.inf` for never.
    """

    attempt = 0

    if TYPE_CHECKING:
        clock: Clock
        depth: int
        limit: float
        parent: Bound | None
        _cut: _AsyncioCut | _TrioCut | None
        _token: contextvars.Token[Bound | None]

        def late(self) -> TimedOut:
            """The error that says that this bound has passed."""
            ...
    else:
        __slots__ = ()

    def own_left(self) -> float:
        """Seconds until this bound's own limit; zero or less once it has passed or has begun to cut."""
        left = self.limit - self.clock.now()
        cut = self._cut
        return left if cut is None or not cut.called else min(left, 0.0)

    def left(self) -> float:
        """Seconds until the tightest limit from here outward. Each is asked by its own clock."""
        least = self.own_left()
        bound = self.parent
        while bound is not None:
            least = min(least, bound.own_left())
            bound = bound.parent
        return least

    def overdue(self) -> TimedOut:
        """The error of the tightest bound from here outward."""
        tightest: Bound = self
        bound = self.parent
        while bound is not None:
            if bound.own_left() < tightest.own_left():
                tightest = bound
            bound = bound.parent
        return tightest.late()

    def open(self, cuts: bool) -> None:
        """Stand around what follows in the present context, and cut the running task at the limit if asked to.

        Raises:
            RuntimeError: a cut is asked for, and no task runs here.
        """
        self.parent = current.get()
        self._token = current.set(self)
        if cuts:
            try:
                tightest = self._tightest_uncut()
                outer = None if tightest is self else tightest
                cut = _TrioCut(outer) if current_runtime() == "trio" else _AsyncioCut(outer)
                cut.start(tightest.own_left())
            except BaseException:
                self.leave()
                raise
            self._cut = cut

    def _tightest_uncut(self) -> Bound:
        """The tightest of this bound and those around it that cut nothing themselves: what a cut is made for."""
        tightest: Bound = self
        bound = self.parent
        while bound is not None and bound._cut is None:
            if bound.own_left() < tightest.own_left():
                tightest = bound
            bound = bound.parent
        return tightest

    def lift(self) -> None:
        """Bound nothing any more, although what runs inside goes on. A cut that was made stays made."""
        self.limit = inf
        if self._cut is not None:
            self._cut.lift()

    def leave(self) -> None:
        """Stand around nothing any more."""
        try:
            current.reset(self._token)
        except ValueError:
            return  # opened in another context, which is no business of whoever runs this

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.leave()
        if self._cut is not None and self._cut.stop(error):
            raise (self._cut.outer or self).late() from error
        return None


class Scope(Bound):
    """A deadline from the moment of entry. Single use."""

    __slots__ = ("_cut", "_token", "clock", "cuts", "error", "limit", "parent", "policy", "seconds")

    def __init__(
        self,
        policy: str,
        seconds: float,
        clock: Clock,
        error: type[TimedOut] = DeadlineExceeded,
        *,
        cuts: bool,
    ) -> None:
        self.policy = policy
        self.seconds = seconds
        self.clock = clock
        self.error = error
        self.cuts = cuts
        self._cut = None

    def late(self) -> TimedOut:
        """The error that says that this bound has passed."""
        return self.error(self.policy, self.seconds)

    def __enter__(self) -> None:
        refuse_if_late()
        self.limit = ends_at(self.clock.now(), self.seconds)
        self.open(self.cuts)


class _AsyncioCut:
    __slots__ = ("_cancelling", "_task", "_timer", "called", "outer")

    _cancelling: int
    _task: asyncio.Task[object]
    _timer: asyncio.TimerHandle

    def __init__(self, outer: Bound | None) -> None:
        # Never the bound that cuts, which knows this cut: the two would keep each other alive.
        self.outer = outer
        self.called = False

    def start(self, seconds: float) -> None:
        running = sys.modules["asyncio"]
        task = running.current_task()
        if task is None:
            raise RuntimeError("a timeout cuts a task, and no task runs here: await this from inside one")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = running.get_running_loop().call_later(seconds, self._fire)

    def lift(self) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        self.called = True
        self._task.cancel()

    def stop(self, error: BaseException | None) -> bool:
        """Take the timer back; True where the error is our own cancellation and nobody else asked for one."""
        task = self._task
        self._timer.cancel()
        # A timer keeps the context in which it was set, and there this bound stands: that would be a cycle.
        del self._timer, self._task
        if not self.called:
            return False
        asked_by_others = task.uncancel() > self._cancelling
        return not asked_by_others and isinstance(error, sys.modules["asyncio"].CancelledError)


class _TrioCut:
    __slots__ = ("_scope", "outer")

    # trio need not be installed, so its types are not named.
    _scope: Any

    def __init__(self, outer: Bound | None) -> None:
        self.outer = outer

    @property
    def called(self) -> bool:
        try:
            return bool(self._scope.cancel_called)
        except RuntimeError:  # asked from a thread outside of trio, where trio tells nobody the time
            return False

    def start(self, seconds: float) -> None:
        trio = sys.modules["trio"]
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._scope.__enter__()

    def lift(self) -> None:
        self._scope.deadline = inf

    def stop(self, error: BaseException | None) -> bool:
        """Leave the cancel scope; True where it caught its own cancellation."""
        self._scope.__exit__(None if error is None else type(error), error, None)
        return bool(self._scope.cancelled_caught)
