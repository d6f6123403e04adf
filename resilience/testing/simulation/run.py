"""One run: one pipeline, one seed, from the first second to the last.

The policies are bound to a coroutine that sends a request, so the library's own drivers make every decision. All that
is replaced is the time and the chance: each policy is built again with the clock of the run and with dice of its own.
Clients, server and policies draw from separate dice, so two pipelines that are compared under the same seed meet the
same world for as long as they do the same. Whether a call is a task depends on what its policies ask for: see
`ways`.
"""

from __future__ import annotations

import sys
from contextvars import copy_context
from dataclasses import dataclass
from functools import reduce
from random import Random

from resilience import Pipeline
from resilience._compile import compiled
from resilience._scope import current
from resilience.testing.simulation.loop import Loop
from resilience.testing.simulation.rebuild import rebuilt
from resilience.testing.simulation.server import Workers
from resilience.testing.simulation.tally import Tally
from resilience.testing.simulation.ways import calls_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from resilience.testing.simulation.scenario import Incident, Scenario

__all__ = ["Run", "play"]


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
    # Whoever simulates may be under a deadline, which is none of the clients' business.
    return copy_context().run(_played, scenario, pipeline, seed)


def _played(scenario: Scenario, pipeline: str, seed: int) -> Run:
    current.set(None)
    tally = Tally(scenario.seconds)
    play = _Play(scenario, pipeline, seed, tally)
    try:
        with play.loop.running():
            for end in tally.ends(scenario.seconds):
                play.loop.play(end)
                tally.turn()
    finally:
        play.calls.close()
    return Run(pipeline, seed, tally.width, tally.counts, tally.latencies)


class _Play:
    __slots__ = ("calls", "loop", "scenario", "seed", "server")

    def __init__(self, scenario: Scenario, pipeline: str, seed: int, tally: Tally) -> None:
        self.scenario = scenario
        self.seed = seed
        self.loop = Loop()
        self.calls = calls_for(chain(scenario.build(pipeline)), self.loop, tally)
        self.server = Workers(scenario.server, self.loop, self._dice("server"), self.calls.answer)
        self.calls.server = self.server
        for number, incident in enumerate(scenario.incidents):
            self._schedule(incident, number)
        clients = scenario.clients
        for instance in range(clients.instances):
            call = self._protected(pipeline, instance)
            if clients.loop == "open":
                rate = (clients.rate or 0.0) / clients.instances
                self.calls.stream(call, self._dice(f"clients {instance}"), rate)
                continue
            for number in range(instance, clients.number, clients.instances):
                self.calls.client(call, self._dice(f"client {number}"), clients.think)

    def _dice(self, stream: str) -> Random:
        return Random(f"{self.seed} {stream}")

    def _protected(self, pipeline: str, instance: int) -> Callable[[Any], Awaitable[object]]:
        """The call of an instance, under policies of its own."""
        dice = self._dice(f"policies {instance}")
        known: dict[int, Any] = {}
        clock: Any = self.calls.clock
        parts = [rebuilt(part, clock, dice, known) for part in self.scenario.build(pipeline)]
        request = self.calls.request()
        if not parts:
            return request
        # As a decorator does it, so that what can be written out as one wrapper is.
        layers = chain(parts)
        bound: Callable[[Any], Awaitable[object]] | None = compiled(layers, request)
        return bound or reduce(lambda fn, part: part.bind(fn), reversed(layers), request)

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

        def arrive(_: object) -> None:
            if loop.now < incident.until:
                server.arrive(None)
                loop.at(loop.now + dice.expovariate(rate), arrive)

        loop.at(incident.at + dice.expovariate(rate), arrive)


def chain(parts: list[Any]) -> list[Any]:
    """The policies of a list, and of the pipelines in it, outermost first."""
    return [each for part in parts for each in (part._chain() if isinstance(part, Pipeline) else (part,))]


def _refuse_trio() -> None:
    trio = sys.modules.get("trio")
    if trio is None:
        return
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return
    raise RuntimeError("simulate() runs an event loop of its own, and cannot inside a trio task: use a worker thread")
