"""A race on the tasks of an event loop.

The copies run as tasks on a *track*, in asyncio or in trio. Whatever ends the race, an answer, an error, the caller's
own cancellation, the copies that are still running are cancelled then, and have ended, their gates settled and their
`finally` blocks run, before the caller goes on: the track is left like a nursery. Unlike a nursery it hands on no
groups. Each task reports its end, of whatever kind, and raises nothing; the caller raises, once, out of one task, what
a plain call would have raised.

What a copy makes of its cancellation is its own affair: it may take its time, and how it fails then is of no interest
to somebody who has an answer. Only what is no `Exception`, a KeyboardInterrupt above all, is never lost.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from math import inf

from resilience._runtime import current_runtime, is_cancellation
from resilience.policies._outcome import Outcome
from resilience.policies._race import ASK_LATE, CLOCK, Race

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from typing import Any

    from resilience.policies.budget import RetryBudget
    from resilience.policies.hedge import Hedge

__all__ = ["race_async"]


async def race_async(
    hedge: Hedge, deposits: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Hedge a coroutine function on tasks of its own runtime, all of which have ended when this returns."""
    budget = hedge._budget if hedge._budget is not None and hedge._budget._elsewhere else None
    course = Race(hedge, deposits=deposits, asks=budget is not None)
    track: _Track = _TrioTrack() if current_runtime() == "trio" else _AsyncioTrack()
    await track.open()
    outcome = Outcome()
    try:
        try:
            outcome = await _run(hedge, course, track, partial(fn, *args, **kwargs), budget)
        except GeneratorExit:
            track.abandon()
            raise
        except BaseException as error:
            outcome = Outcome(error=error)
        outcome = await track.close() or outcome
        if budget is not None and deposits and outcome.error is None:
            await budget.deposit_async()
        return outcome.get()
    finally:
        course.forget()
        outcome = Outcome()


async def _run(
    hedge: Hedge, course: Race, track: _Track, call: Callable[[], Awaitable[Any]], budget: RetryBudget | None
) -> Outcome:
    """The outcome of the race. When it is known, the copies that are left still run."""
    clock, armed = hedge._clock, inf
    track.start(call, 0)
    while True:
        if armed == inf and course.due < inf:
            armed = course.due
            track.start(partial(clock.sleep_async, max(0.0, armed - clock.now())), CLOCK)
        heard = await track.get()
        if heard.runner == CLOCK:
            rang, armed = armed, inf
            if heard.error is None and rang != course.due:
                continue  # a copy was sent meanwhile, after a failure
        step = course.after(heard)
        if isinstance(step, Outcome):
            return step
        if budget is not None and step <= ASK_LATE:
            # Beside the copies, so that an answer of theirs need not wait for the budget's.
            track.start(budget.withdraw_async, step)
        elif step:
            track.start(call, step)


class _Track:
    """Where the copies run. Used by the one task that hedges."""

    __slots__ = ()

    async def open(self) -> None:
        """Begin."""

    def start(self, call: Callable[[], Awaitable[Any]], runner: int) -> None:
        """Run `call` in a task of its own, in a copy of the context."""
        raise NotImplementedError

    async def get(self) -> Outcome:
        """The next end of a task."""
        raise NotImplementedError

    def put(self, outcome: Outcome) -> None:
        """Report the end of a task."""
        raise NotImplementedError

    async def close(self) -> Outcome | None:
        """Cancel what still runs, and wait until it has ended; returns an end that must not be lost, if there is one.

        Raises:
            asyncio.CancelledError: the caller was cancelled meanwhile.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """Cancel what still runs, from a coroutine that is being thrown away and cannot wait."""

    async def _report(self, call: Callable[[], Awaitable[Any]], runner: int) -> None:
        """Await a call and report its end. Raises nothing, not even its own cancellation."""
        try:
            result = await call()
        except BaseException as error:
            self.put(Outcome(error=error, runner=runner))
        else:
            self.put(Outcome(result, runner=runner))


def _must_be_told(outcome: Outcome) -> bool:
    """Whether the end of a copy that has lost matters all the same."""
    error = outcome.error
    return not (error is None or isinstance(error, Exception) or is_cancellation(error))


class _AsyncioTrack(_Track):
    __slots__ = ("_items", "_tasks")

    _items: asyncio.Queue[Outcome]
    _tasks: list[asyncio.Task[None]]

    async def open(self) -> None:
        self._items = sys.modules["asyncio"].Queue()
        self._tasks = []

    def start(self, call: Callable[[], Awaitable[Any]], runner: int) -> None:
        loop: asyncio.AbstractEventLoop = sys.modules["asyncio"].get_running_loop()
        self._tasks.append(loop.create_task(self._report(call, runner)))

    def put(self, outcome: Outcome) -> None:
        self._items.put_nowait(outcome)

    async def get(self) -> Outcome:
        return await self._items.get()

    async def close(self) -> Outcome | None:
        asyncio = sys.modules["asyncio"]
        cancelled: BaseException | None = None
        untold: Outcome | None = None
        try:
            self._cancel()
            while running := [task for task in self._tasks if not task.done()]:
                try:
                    await asyncio.wait(running)
                except asyncio.CancelledError as error:
                    # As a plain call would hear of it once more, so do the copies.
                    cancelled = error
                    self._cancel()
            while not self._items.empty():
                outcome = self._items.get_nowait()
                untold = outcome if _must_be_told(outcome) else untold
                del outcome
            if cancelled is not None and untold is None:
                raise cancelled
            return untold
        finally:
            self._tasks.clear()
            cancelled = untold = None

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def abandon(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nothing runs there any more
            self._cancel()
        self._tasks.clear()


class _TrioTrack(_Track):
    __slots__ = ("_inbox", "_manager", "_nursery", "_outbox")

    # trio need not be installed, so its types are not named.
    _inbox: Any
    _outbox: Any
    _manager: Any
    _nursery: Any

    async def open(self) -> None:
        trio = sys.modules["trio"]
        self._inbox, self._outbox = trio.open_memory_channel(inf)
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()

    def start(self, call: Callable[[], Awaitable[Any]], runner: int) -> None:
        self._nursery.start_soon(self._report, call, runner)

    def put(self, outcome: Outcome) -> None:
        self._inbox.send_nowait(outcome)

    async def get(self) -> Outcome:
        outcome: Outcome = await self._outbox.receive()
        return outcome

    async def close(self) -> Outcome | None:
        scope = self._nursery.cancel_scope
        # They are cancelled here, so nobody further out needs to; and what ends here stays here.
        scope.shield = True
        scope.cancel()
        await self._manager.__aexit__(None, None, None)
        untold: Outcome | None = None
        with suppress(sys.modules["trio"].WouldBlock):
            while True:
                outcome: Outcome = self._outbox.receive_nowait()
                untold = outcome if _must_be_told(outcome) else untold
                del outcome  # a cancellation holds the frame that it was asked for in, which is this one
        self._inbox.close()
        self._outbox.close()
        del self._manager, self._nursery
        return untold
