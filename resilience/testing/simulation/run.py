"""One run: one pipeline, one seed, from the first second to the last.

The clients run as tasks, and the policies are bound to a coroutine that sends a request, so the library's own drivers
make every decision. All that is replaced is the time and the chance: each policy is built again with the clock of the
run and with dice of its own. Clients, server and policies draw from separate dice, so two pipelines that are compared
under the same seed meet the same world for as long as they do the same.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from functools import reduce
from random import Random

from resilience import Pipeline, PipelineWarning, ResilienceError
from resilience.policies._base import Policy
from resilience.testing.simulation.loop import Loop, LoopClock
from resilience.testing.simulation.server import ANSWER, Workers
from resilience.testing.simulation.tally import Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeGuard

    from resilience.testing.simulation.scenario import Incident, Scenario

__all__ = ["Run", "play", "rebuilt"]


@dataclass(frozen=True)
class Run:
    """What came of one run; see `Tally` for its parts."""

    pipeline: str
    seed: int
    width: float
    counts: dict[str, list[int]]
    latencies: list[dict[int, int]]


def play(scenario: Scenario, pipeline: str, seed: int) -> Run:
    """Simulate one pipeline of a scenario under one seed. The same arguments give the same run.

    Raises:
        RuntimeError: it is called in a trio task, or simulated time stands still.
        Exception: whatever a call raised that is neither an OSError nor an error of this library.
    """
    _refuse_trio()
    tally = Tally(scenario.seconds)
    play = _Play(scenario, pipeline, seed, tally)
    try:
        play.loop.run(scenario.seconds)
    finally:
        play.over = True
        play.loop.close()
    return Run(pipeline, seed, tally.width, tally.counts, tally.latencies)


class _Call:
    """One call of a client, handed through its policies."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


class _Play:
    __slots__ = ("loop", "over", "scenario", "seed", "server", "tally")

    def __init__(self, scenario: Scenario, pipeline: str, seed: int, tally: Tally) -> None:
        self.scenario = scenario
        self.seed = seed
        self.tally = tally
        self.over = False
        self.loop = Loop()
        self.server = Workers(scenario.server, self.loop, self._dice("server"), tally)
        for number, incident in enumerate(scenario.incidents):
            self._schedule(incident, number)
        clients = scenario.clients
        for instance in range(clients.instances):
            call = self._protected(pipeline, instance)
            if clients.loop == "open":
                self._open_loop(call, self._dice(f"clients {instance}"))
                continue
            for number in range(instance, clients.number, clients.instances):
                self.loop.create_task(self._closed_loop(call, self._dice(f"client {number}")))

    def _dice(self, stream: str) -> Random:
        return Random(f"{self.seed} {stream}")

    # --- calls --------------------------------------------------------------------------------------------------------

    def _protected(self, pipeline: str, instance: int) -> Callable[[_Call], Coroutine[Any, Any, object]]:
        """The call of an instance, under policies of its own."""
        dice = self._dice(f"policies {instance}")
        known: dict[int, Any] = {}
        parts = [rebuilt(part, self.loop, dice, known) for part in self.scenario.build(pipeline)]
        return reduce(lambda fn, part: part.bind(fn), reversed(parts), self._request)

    async def _request(self, call: _Call) -> object:
        call.requests += 1
        if not self.over:
            self.tally.sent(self.loop.now, call.requests > 1)
        return await self.server.request()

    async def _call(self, protected: Callable[[_Call], Coroutine[Any, Any, object]]) -> None:
        loop, call, result = self.loop, _Call(), None
        began = loop.now
        self.tally.offered(began)
        try:
            result = await protected(call)
        except (OSError, ResilienceError):
            pass
        except Exception as error:
            # Neither the server nor a policy at work: a mistake in a policy, which would look like an outage.
            loop.fail(error)
        if not self.over:
            self.tally.ended(loop.now, began, result is ANSWER, call.requests)

    async def _closed_loop(self, protected: Callable[[_Call], Coroutine[Any, Any, object]], dice: Random) -> None:
        loop, rate = self.loop, 1.0 / self.scenario.clients.think
        while True:
            await loop.nap(dice.expovariate(rate))
            await self._call(protected)

    def _open_loop(self, protected: Callable[[_Call], Coroutine[Any, Any, object]], dice: Random) -> None:
        clients = self.scenario.clients
        loop, rate = self.loop, (clients.rate or 0.0) / clients.instances

        def arrive() -> None:
            loop.create_task(self._call(protected))
            loop.at(loop.now + dice.expovariate(rate), arrive)

        loop.at(dice.expovariate(rate), arrive)

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def _schedule(self, incident: Incident, number: int) -> None:
        loop, server = self.loop, self.server
        if incident.kind == "surge":
            self._surge(incident, self._dice(f"incident {number}"))
            return
        loop.at(incident.at, server.begin_incident, incident)
        if incident.until < self.scenario.seconds:
            loop.at(incident.until, server.end_incident, incident)

    def _surge(self, incident: Incident, dice: Random) -> None:
        loop, server, rate = self.loop, self.server, incident.rate or 0.0

        def arrive() -> None:
            if loop.now < incident.until:
                server.arrive(None)
                loop.at(loop.now + dice.expovariate(rate), arrive)

        loop.at(incident.at + dice.expovariate(rate), arrive)


def _is_policy(value: object) -> TypeGuard[Policy[Any]]:
    return isinstance(value, Policy)


def rebuilt(value: Any, loop: Loop, dice: Random, known: dict[int, Any]) -> Any:
    """The same policy with fresh state, on the time of a loop and with these dice, and so are the policies in it.

    Args:
        value: a policy; anything else is returned as it is.
        loop: whose time it is.
        dice: where chance comes from.
        known: what was rebuilt before, by identity: what policies shared they share again.
    """
    if not _is_policy(value):
        return value
    policy = value
    if id(policy) in known:
        return known[id(policy)]
    arguments: dict[str, Any] = policy._arguments
    changes: dict[str, Any] = {}
    for name, argument in arguments.items():
        if _is_policy(argument):
            changes[name] = rebuilt(argument, loop, dice, known)
        elif name == "policies":
            changes[name] = tuple(rebuilt(part, loop, dice, known) for part in argument)
        elif name == "factory":
            changes[name] = _rebuilding(argument, loop, dice)
    if "clock" in arguments:
        changes["clock"] = LoopClock(loop)
    if "rng" in arguments:
        changes["rng"] = dice.random
    with warnings.catch_warnings():
        # What there is to say about its order was said when it was first built.
        warnings.simplefilter("ignore", PipelineWarning)
        fresh: Any
        if "policies" in changes:
            fresh = Pipeline(*changes["policies"], name=arguments["name"])
        else:
            fresh = policy.replace(**changes)
    # The original is kept beside it, so that its identity is not given to another object meanwhile.
    known[id(policy)] = fresh
    known[id(fresh)] = policy
    return fresh


def _rebuilding(factory: Callable[..., Any], loop: Loop, dice: Random) -> Callable[..., Any]:
    def build(*args: Any) -> Any:
        return rebuilt(factory(*args), loop, dice, {})

    return build


def _refuse_trio() -> None:
    trio = sys.modules.get("trio")
    if trio is None:
        return
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return
    raise RuntimeError("simulate() runs an event loop of its own, and cannot inside a trio task: use a worker thread")
