"""Calls without tasks, for policies that only decide and wait.

A retry, a breaker, a budget or a shedder never asks who runs it. So nobody needs to: a call is a coroutine, begun and
continued by whatever happens in simulated time, and between two events it is nothing but the place where it stopped. It
stops in two ways: it has sent a request, and goes on with what the server answers, or it naps, for the seconds that it
hands up.

What a task would give it besides is a context of its own. In it the library keeps one thing, the innermost of the
bounds around a call, and that is taken away from a call that stops and given back when it goes on.
"""

from __future__ import annotations

from heapq import heappush
from math import log
from types import coroutine

from resilience import ResilienceError
from resilience._scope import current
from resilience.testing.simulation.loop import Time
from resilience.testing.simulation.server import ANSWER
from resilience.testing.simulation.tally import LEAST, MANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from random import Random
    from typing import Any, TypeAlias

    from resilience._scope import Bound
    from resilience.testing.simulation.loop import Loop
    from resilience.testing.simulation.server import Workers
    from resilience.testing.simulation.tally import Tally

    Protected: TypeAlias = Callable[[Any], Awaitable[object]]

__all__ = ["PlainCalls"]


class Caller:
    """Somebody who makes one call at a time.

    Attributes:
        stream: what the calls are made for.
        coro: the call, as far as it has come.
        bound: the innermost bound around the place where it stopped.
        began: when the call began.
        requests: how many it has sent.
    """

    __slots__ = ("began", "bound", "coro", "requests", "stream")

    coro: Any
    bound: Bound | None
    began: float
    requests: int

    def __init__(self, stream: _Stream) -> None:
        self.stream = stream
        self.coro = None
        self.bound = None

    def done(self) -> bool:
        """Whether they have gone: nobody goes who cannot be cancelled."""
        return False


class _Stream:
    """Where calls come from: a source that does not wait for answers, or a client that does.

    Attributes:
        mean: seconds between a call and the next, or from its end to the next.
        idle: callers of an open loop that have nothing to do; None in a closed loop.
    """

    __slots__ = ("idle", "mean", "protected", "random")

    def __init__(self, protected: Protected, dice: Random, mean: float, idle: list[Caller] | None) -> None:
        self.protected = protected
        self.random = dice.random
        self.mean = mean
        self.idle = idle


class PlainClock(Time):
    """The time of a loop as a `Clock`, for `clock=`, where calls are no tasks."""

    __slots__ = ()

    @coroutine
    def sleep_async(self, seconds: float, /) -> Generator[float, Any, None]:
        """Stop for `seconds`."""
        yield seconds


class PlainCalls:
    """The calls of one run."""

    __slots__ = ("_arrived", "_begun", "_callers", "_loop", "_tally", "clock", "server")

    server: Workers

    def __init__(self, loop: Loop, tally: Tally) -> None:
        self._loop = loop
        self._tally = tally
        self._callers: list[Caller] = []
        # Bound once, not once for each call.
        self._arrived = self._arrive
        self._begun = self._begin
        self.clock = PlainClock(loop)

    def request(self) -> Protected:
        """The function that sends a request."""
        tally, arrive = self._tally, self.server.arrive

        @coroutine
        def request(caller: Caller) -> Generator[None, Any, object]:
            tally.sent += 1
            if caller.requests:
                tally.retried += 1
            caller.requests += 1
            arrive(caller)
            outcome = yield
            if outcome is ANSWER:
                return outcome
            raise outcome

        return request

    def stream(self, protected: Protected, dice: Random, rate: float) -> None:
        """Begin calls at this rate, whatever becomes of them."""
        stream = _Stream(protected, dice, 1.0 / rate, [])
        self._loop.at(-log(1.0 - stream.random()) * stream.mean, self._arrive, stream)

    def client(self, protected: Protected, dice: Random, think: float) -> None:
        """Think, call, and so on."""
        caller = self._caller(_Stream(protected, dice, think, None))
        self._think(caller)

    def close(self) -> None:
        """End what is under way."""
        with self._loop.running():
            for caller in self._callers:
                if caller.coro is not None:
                    current.set(caller.bound)
                    caller.coro.close()
            current.set(None)
        self._loop.close()

    def _caller(self, stream: _Stream) -> Caller:
        caller = Caller(stream)
        self._callers.append(caller)
        return caller

    def _think(self, caller: Caller) -> None:
        loop, stream = self._loop, caller.stream
        wait = -log(1.0 - stream.random()) * stream.mean
        heappush(loop.due, (loop.now + wait, loop.serial(), self._begun, caller))

    def _arrive(self, stream: _Stream) -> None:
        loop, idle = self._loop, stream.idle
        when = loop.now - log(1.0 - stream.random()) * stream.mean
        heappush(loop.due, (when, loop.serial(), self._arrived, stream))
        self._begin(idle.pop() if idle else self._caller(stream))

    def _begin(self, caller: Caller) -> None:
        self._tally.offered += 1
        caller.began = self._loop.now
        caller.requests = 0
        coro: Any = caller.stream.protected(caller)
        caller.coro = coro
        try:
            nap: float | None = coro.send(None)
        except StopIteration as stop:
            self._end(caller, stop.value)
        except (OSError, ResilienceError):
            self._end(caller, None)
        else:
            if nap is not None or current.get() is not None:
                self._stop(caller, nap)

    def answer(self, caller: Caller, outcome: object) -> None:
        """Let a call go on, with an answer or an error."""
        if caller.bound is not None:
            current.set(caller.bound)
            caller.bound = None
        try:
            nap: float | None = caller.coro.send(outcome)
        except StopIteration as stop:
            self._end(caller, stop.value)
        except (OSError, ResilienceError):
            self._end(caller, None)
        else:
            if nap is not None or current.get() is not None:
                self._stop(caller, nap)

    def _stop(self, caller: Caller, nap: float | None) -> None:
        caller.bound = current.get()
        current.set(None)
        if nap is not None:
            self._loop.at(self._loop.now + nap, self._wake, caller)

    def _end(self, caller: Caller, result: object) -> None:
        tally = self._tally
        if result is ANSWER:
            tally.served += 1
            lasted = tally.lasted
            lasted.append(self._loop.now - caller.began or LEAST)
            if len(lasted) >= MANY:
                tally.digest()
        elif caller.requests:
            tally.failed += 1
        else:
            tally.rejected += 1
        idle = caller.stream.idle
        if idle is None:
            self._think(caller)
        else:
            idle.append(caller)

    def _wake(self, caller: Caller) -> None:
        self.answer(caller, None)
