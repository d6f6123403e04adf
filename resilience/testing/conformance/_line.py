"""Waiters: who stands in line, and in which order they come through.

Fairness and leaks are about callers that wait and go away, so they are checked with tasks, of asyncio and trio, and
with threads. A script is written once, as a coroutine that does everything by way of its stage. On a loop it is played
without giving others a turn between its steps, but for those steps that do: so a place is granted in the very tick in
which its waiter is cancelled, as often as not.

Threads have no ticks and cannot be cancelled. There each step goes on until everybody rests, which virtual time knows
of threads that wait in this library; of others, it is guessed from where they stand.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._subject import own_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Protocol

    Main = Callable[[], Coroutine[Any, Any, None]]

    class Gate(Protocol):
        """Where a call waits for its end."""

        def end(self, outcome: object) -> None:
            """Let it return that, or raise it; once."""
            ...

    class Waiter(Protocol):
        """Somebody who asks to come in."""

        name: str

        @property
        def done(self) -> bool: ...
        @property
        def refused(self) -> BaseException | None:
            """What it raised, if it has ended in an error that is no cancellation."""
            ...

        def cancel(self) -> None: ...

    class Stage(Protocol):
        """Where a script is played: one runtime, a clock, and everybody who comes."""

        clock: Any
        is_async: bool
        in_order: bool
        """Whether those who are let go in one moment go on in that order."""

        def run(self, main: Main) -> None:
            """Play a script to its end, and then let nobody wait any more."""
            ...

        def come(self, name: str, ask: Callable[[], Any]) -> Waiter: ...
        def gate(self) -> Any: ...
        async def settle(self) -> None:
            """Let everybody do what they can do without time passing."""
            ...

        async def arrive(self) -> None:
            """Let who has just come ask before the next one comes."""
            ...

        async def tick(self) -> None:
            """One turn of the loop."""
            ...

        async def pass_by(self, seconds: float) -> None: ...
else:
    Gate = Waiter = Stage = object

__all__ = ["Gate", "Stage", "Waiter", "on_a_loop", "stage_of"]

TURNS = 12


def stage_of(colour: str) -> Stage:
    """A stage, for one script."""
    if colour == "sync":
        from resilience.testing.conformance._line_threads import ThreadStage

        return ThreadStage()
    return TrioStage() if colour == "trio" else AsyncioStage()


def on_a_loop(main: Main) -> None:
    """Run a coroutine function to its end on an asyncio loop of its own.

    Raises:
        RuntimeError: an event loop runs here.
    """
    with own_loop("async") as loop:
        if loop is not None:
            loop.run_until_complete(main())


class AsyncioStage(Stage):
    """Tasks of an asyncio loop of its own."""

    is_async = in_order = True

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, main: Main) -> None:
        """Play a script to its end.

        Raises:
            RuntimeError: an event loop runs here.
        """

        async def play() -> None:
            try:
                await main()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

        on_a_loop(play)

    def come(self, name: str, ask: Callable[[], Any]) -> Waiter:
        """A task that asks."""
        waiter = _Task(name, ask)
        self._tasks.append(waiter.task)
        return waiter

    def gate(self) -> Gate:
        """Where a call waits."""
        return _Future()

    async def settle(self) -> None:
        """Let everybody do what they can do without time passing."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def arrive(self) -> None:
        """Tasks begin in order."""

    async def tick(self) -> None:
        """One turn of the loop."""
        await asyncio.sleep(0)

    async def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.sleep_async(seconds)


class _Task:
    def __init__(self, name: str, ask: Callable[[], Any]) -> None:
        async def come() -> None:
            await ask()

        self.name = name
        self.task = asyncio.ensure_future(come())

    def cancel(self) -> None:
        self.task.cancel()

    @property
    def done(self) -> bool:
        return self.task.done()

    @property
    def refused(self) -> BaseException | None:
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None


class _Future(Gate):
    def __init__(self) -> None:
        self._future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def wait(self) -> object:
        return await self._future

    def end(self, outcome: object) -> None:
        if self._future.done():
            return
        if isinstance(outcome, BaseException):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)


class TrioStage(Stage):
    """Tasks of a trio run of its own."""

    is_async = True
    in_order = False

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._nursery: Any = None
        self._blocked: Any = None

    def run(self, main: Main) -> None:
        """Play a script to its end."""
        trio, testing = import_module("trio"), import_module("trio.testing")
        self._blocked = testing.wait_all_tasks_blocked

        async def play() -> None:
            error: BaseException | None = None
            async with trio.open_nursery() as self._nursery:
                try:
                    await main()
                except Exception as raised:
                    error = raised
                self._nursery.cancel_scope.cancel()
            if error is not None:
                # Outside the nursery it is itself, not a group of one.
                raise error

        trio.run(play)

    def come(self, name: str, ask: Callable[[], Any]) -> Waiter:
        """A task that asks."""
        waiter = _Scope(name, ask)
        self._nursery.start_soon(waiter.run)
        return waiter

    def gate(self) -> Gate:
        """Where a call waits."""
        return _Event()

    async def settle(self) -> None:
        """Let everybody do what they can do without time passing."""
        await self._blocked()

    async def arrive(self) -> None:
        """Tasks that were started in one turn begin in any order."""
        await self._blocked()

    async def tick(self) -> None:
        """One turn of the loop."""
        await sys.modules["trio"].lowlevel.checkpoint()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.sleep_async(seconds)


class _Scope:
    def __init__(self, name: str, ask: Callable[[], Any]) -> None:
        self.name = name
        self.done = False
        self.refused: BaseException | None = None
        self._ask = ask
        self._scope: Any = sys.modules["trio"].CancelScope()

    async def run(self) -> None:
        try:
            with self._scope:
                await self._ask()
        except Exception as error:
            self.refused = error.with_traceback(None)
        finally:
            self.done = True

    def cancel(self) -> None:
        self._scope.cancel()


class _Event(Gate):
    def __init__(self) -> None:
        self._event: Any = sys.modules["trio"].Event()
        self._outcome: object = None

    async def wait(self) -> object:
        await self._event.wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def end(self, outcome: object) -> None:
        if not self._event.is_set():
            self._outcome = outcome
            self._event.set()
