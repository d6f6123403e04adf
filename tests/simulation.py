"""A server in virtual time, event by event, and the traffic in front of it.

What policies promise about overload (a limit that finds a capacity, users that are hit for the length of an episode)
is a promise about what many calls do to each other, and can only be measured with many calls. Here is the smallest
server that has a capacity: so many workers, each serving one call at a time, and a queue before them, first come, first
served. Calls arrive at random; a policy stands in between, used as anybody would use it, as a block.

    clock = Clock()
    limit = AdaptiveLimit(clock=clock)
    server = Server(workers=20, service=exponential(0.1))
    for sample in Simulation(clock, server, door(limit), rate=400, seed=1).run(60):
        ...                                      # once for each second: look at the limit, change the server

Everything is seeded, so a figure is the same on every machine. A call costs about ten microseconds of real time.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from resilience import Priority, Rejected, context

__all__ = ["Call", "Clock", "Server", "Simulation", "constant", "door", "exponential", "lognormal"]

Service = Callable[[random.Random], float]


def constant(mean: float) -> Service:
    """Every call takes the same."""
    return lambda rng: mean


def exponential(mean: float) -> Service:
    """The usual model of work that varies."""
    return lambda rng: rng.expovariate(1 / mean)


def lognormal(mean: float) -> Service:
    """As latencies are: most are short, and some are very long."""
    return lambda rng: rng.lognormvariate(math.log(mean) - 0.5, 1.0)


class Clock:
    """Virtual time that only the simulation moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """The present reading, in seconds."""
        return self.time

    def sleep(self, seconds: float, /) -> None:
        """Nobody sleeps in here."""
        raise AssertionError("a simulated call does not sleep")

    async def sleep_async(self, seconds: float, /) -> None:
        """Nobody sleeps in here."""
        raise AssertionError("a simulated call does not sleep")


class Server:
    """So many workers, and a queue before them.

    Attributes:
        workers: how many calls it works on at a time; may be changed at any time.
        service: how long it works on one, without the queue; may be changed too.
        completed: calls that it has answered.
    """

    def __init__(self, workers: int, service: Service) -> None:
        self.workers = workers
        self.service = service
        self.busy = 0
        self.queue: deque[Call] = deque()
        self.completed = 0


class Call:
    """One call: when it came, whose it is, and what became of it.

    Attributes:
        waited: seconds in the queue, or None while it is there or if it was refused.
    """

    __slots__ = ("block", "came", "priority", "refused", "user", "waited")

    def __init__(self, came: float, user: int, priority: Priority) -> None:
        self.came = came
        self.user = user
        self.priority = priority
        self.refused = False
        self.waited: float | None = None
        self.block: AbstractContextManager[Any] | None = None


def door(policy: Any, *, by_user: bool = False) -> Callable[[Call], AbstractContextManager[Any]]:
    """What a call has to go through: a block of this policy."""
    if by_user:
        return lambda call: policy.guard(user=f"user-{call.user}")
    return lambda call: policy.guard()


class Simulation:
    """A server, a door before it, and callers who come at random, `rate` a second, and go away when refused.

    Args:
        clock: the clock of the policy.
        server: where the calls go.
        entrance: what they go through.
        rate: callers a second, or a function of the time.
        seed: of all that is random.
        users: how many there are; each call is of a random one.
        priorities: the priorities of the calls, each as likely as the next.
    """

    def __init__(
        self,
        clock: Clock,
        server: Server,
        entrance: Callable[[Call], AbstractContextManager[Any]],
        rate: float | Callable[[float], float],
        *,
        seed: int,
        users: int = 1,
        priorities: tuple[Priority, ...] = (Priority.DEFAULT,),
    ) -> None:
        self._clock = clock
        self._server = server
        self._entrance = entrance
        self._rate = rate
        self._rng = random.Random(seed)
        self._users = users
        self._priorities = priorities
        self._ending: list[tuple[float, int, Call]] = []
        self._serial = 0
        self.calls: list[Call] = []

    def run(self, until: float) -> Iterator[float]:
        """Let time pass, and yield it once a second."""
        clock, ending = self._clock, self._ending
        arrival, second = self._next_arrival(clock.time), math.floor(clock.time) + 1.0
        while clock.time < until:
            # Of what happens at the same time, an end comes before an arrival, and both before a look.
            if ending and ending[0][0] <= min(arrival, second):
                clock.time, _, call = heapq.heappop(ending)
                self._end(call)
            elif arrival <= second:
                clock.time = arrival
                self._arrive(Call(arrival, self._rng.randrange(self._users), self._rng.choice(self._priorities)))
                arrival = self._next_arrival(arrival)
            else:
                clock.time = second
                second += 1.0
                yield clock.time

    def _next_arrival(self, now: float) -> float:
        rate = self._rate(now) if callable(self._rate) else self._rate
        return now + self._rng.expovariate(rate)

    def _arrive(self, call: Call) -> None:
        self.calls.append(call)
        block = self._entrance(call)
        try:
            if call.priority is Priority.DEFAULT:
                block.__enter__()
            else:
                with context.priority(call.priority):
                    block.__enter__()
        except Rejected:
            call.refused = True
            return
        call.block = block
        server = self._server
        if server.busy < server.workers:
            self._begin(call)
        else:
            server.queue.append(call)

    def _begin(self, call: Call) -> None:
        now = self._clock.time
        call.waited = now - call.came
        self._server.busy += 1
        self._serial += 1
        heapq.heappush(self._ending, (now + self._server.service(self._rng), self._serial, call))

    def _end(self, call: Call) -> None:
        server = self._server
        server.busy -= 1
        server.completed += 1
        block, call.block = call.block, None
        if block is not None:
            block.__exit__(None, None, None)
        while server.queue and server.busy < server.workers:
            self._begin(server.queue.popleft())
