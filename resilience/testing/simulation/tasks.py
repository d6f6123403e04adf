"""Calls as tasks, for policies that cancel, race or queue.

A timeout asks for the task that it is to cancel, a hedge starts tasks of its own, and a queue wakes those who wait in
it. They get all of that from asyncio's own tasks and futures, on our loop: what is simulated is then what runs in a
service, down to the order in which a cancellation arrives. It costs several times as much as `plain`.
"""

from __future__ import annotations

from math import log

from resilience import ResilienceError
from resilience.testing.simulation.loop import LoopClock
from resilience.testing.simulation.server import ANSWER
from resilience.testing.simulation.tally import LEAST, MANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from random import Random
    from typing import Any, TypeAlias

    from resilience.testing.simulation.loop import Loop
    from resilience.testing.simulation.server import Workers
    from resilience.testing.simulation.tally import Tally

    Protected: TypeAlias = Callable[[Any], Awaitable[object]]

__all__ = ["TaskCalls"]


class _Call:
    """One call of a client, handed through its policies."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


class TaskCalls:
    """The calls of one run, each a task."""

    __slots__ = ("_loop", "_tally", "clock", "server")

    server: Workers

    def __init__(self, loop: Loop, tally: Tally) -> None:
        self._loop = loop
        self._tally = tally
        self.clock = LoopClock(loop)

    def request(self) -> Protected:
        """The function that sends a request."""
        loop, tally, server = self._loop, self._tally, self.server

        async def request(call: _Call) -> object:
            call.requests += 1
            tally.sent += 1
            if call.requests > 1:
                tally.retried += 1
            waiting: asyncio.Future[object] = loop.create_future()
            server.arrive(waiting)
            return await waiting

        return request

    def answer(self, waiting: asyncio.Future[object], outcome: object) -> None:
        """Give an answer, or an error, to whoever waits, unless they have gone."""
        if not waiting.done():
            if isinstance(outcome, Exception):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)
        elif outcome is ANSWER:
            self._tally.wasted += 1

    def stream(self, protected: Protected, dice: Random, rate: float) -> None:
        """Begin calls at this rate, whatever becomes of them."""
        loop, random, mean = self._loop, dice.random, 1.0 / rate

        def arrive(_: object) -> None:
            loop.create_task(self._call(protected))
            loop.at(loop.now - log(1.0 - random()) * mean, arrive)

        loop.at(-log(1.0 - random()) * mean, arrive)

    def client(self, protected: Protected, dice: Random, think: float) -> None:
        """Think, call, and so on."""
        self._loop.create_task(self._client(protected, dice, think))

    def close(self) -> None:
        """End what is under way."""
        self._loop.close()

    async def _client(self, protected: Protected, dice: Random, think: float) -> None:
        while True:
            await self._loop.nap(-log(1.0 - dice.random()) * think)
            await self._call(protected)

    async def _call(self, protected: Protected) -> None:
        loop, tally, call, result = self._loop, self._tally, _Call(), None
        began = loop.now
        tally.offered += 1
        try:
            result = await protected(call)
        except (OSError, ResilienceError):
            pass
        except Exception as error:
            # Neither the server nor a policy at work: a mistake in a policy, which would look like an outage.
            loop.fail(error)
        if result is ANSWER:
            tally.served += 1
            lasted = tally.lasted
            lasted.append(loop.now - began or LEAST)
            if len(lasted) >= MANY:
                tally.digest()
        elif call.requests:
            tally.failed += 1
        else:
            tally.rejected += 1
