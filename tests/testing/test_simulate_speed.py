"""What the simulator costs: its clients call through policies almost as fast as through bare decisions.

The baseline is the same play, on the same loop, against the same server, whose calls ask the pure cores directly, with
no driver, lock, event or error of ours. It also makes the same decisions, which shows that the two are comparable.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Never

import pytest

from resilience import CircuitBreaker, FailureRate, Pipeline, Retry, backoff
from resilience.core.breaker import REFUSED, Circuit
from resilience.core.retry import RetryPlan, RetryRun
from resilience.core.verdict import Verdict
from resilience.testing.simulation import Clients, Incident, Scenario, Server
from resilience.testing.simulation import run as simulation_run
from resilience.testing.simulation.run import Run, play

MARK = 0.4
ASKED = 500_000
WAITS = backoff.exponential(0.05, cap=1.0, jitter="none")
TRIP = FailureRate(0.6, calls=100)


def layers() -> Pipeline[Never]:
    """Two layers, as a service builds them."""
    return Pipeline(Retry(on=OSError, backoff=WAITS), CircuitBreaker(TRIP, on=OSError, cooldown=1.0))


def scenario(seconds: float = 60.0, rate: float = 500.0) -> Scenario:
    """A server with room to spare, which is down for a thirtieth of the time."""
    return Scenario(
        seconds=seconds,
        clients=Clients(loop="open", rate=rate),
        server=Server(workers=100, service=0.05, distribution="constant"),
        incidents=(Incident(kind="down", at=seconds / 2, lasts=seconds / 30),),
        pipelines={"layers": layers},
    )


def bare(self: Any, pipeline: str, instance: int) -> Callable[[Any], Coroutine[Any, Any, object]]:
    """What `_Play._protected` makes, with the decisions of the cores written into the call."""
    loop, chance = self.loop, self._dice(f"policies {instance}").random
    request, nap = self.calls.request(), self.calls.clock.sleep_async
    plan = RetryPlan(3, None, WAITS, 60.0)
    circuit = Circuit((TRIP,), 1.0, 1, None)

    async def protected(call: Any) -> object:
        run = RetryRun(plan)
        while True:
            permit = circuit.acquire(loop.now)
            if permit == REFUSED:
                raise ConnectionRefusedError
            try:
                result: object = await request(call)
            except OSError:
                circuit.settle(permit, Verdict.FAILURE, loop.now)
                delay = run.next_delay(loop.now, chance())
                if delay is None:
                    raise
                await nap(delay)
            else:
                circuit.settle(permit, Verdict.SUCCESS, loop.now)
                return result

    return protected


def played(scenario: Scenario, seed: int, protected: Any) -> tuple[Run, float]:
    """A run in which this stands for `_protected`, and the processor time that it took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation_run._Play, "_protected", protected)
        began = time.process_time()
        return play(scenario, "layers", seed), time.process_time() - began


def test_the_policies_decide_as_their_bare_cores_do() -> None:
    """A play through the policies and one through the bare cores are the same play, count by count."""
    ours, _ = played(scenario(), 1, simulation_run._Play._protected)
    base, _ = played(scenario(), 1, bare)
    assert sum(ours.counts["retried"]) > 10
    assert sum(ours.counts["rejected"]) > 100
    assert ours.counts == base.counts


def without(self: Any, pipeline: str, instance: int) -> Callable[[Any], Awaitable[object]]:
    """What `_Play._protected` makes where there are no policies: what loop, clients and server cost."""
    request: Callable[[Any], Awaitable[object]] = self.calls.request()
    return request


@pytest.mark.benchmark
def test_a_simulated_call_costs_at_most_two_and_a_half_bare_ones() -> None:
    """Calls per second through two layers are at least 0.4 times those of the same loop with bare decisions."""
    ways = {"layers": simulation_run._Play._protected, "bare": bare, "without": without}
    seconds = dict.fromkeys(ways, float("inf"))
    offered: dict[str, int] = {}
    for _ in range(5):
        for name, way in ways.items():
            run, taken = played(scenario(200.0), 1, way)
            seconds[name] = min(seconds[name], taken)
            offered[name] = sum(run.counts["offered"])
    assert len(set(offered.values())) == 1
    calls, ratio = offered["bare"], seconds["bare"] / seconds["layers"]
    speeds = {name: f"{calls / taken:,.0f}" for name, taken in seconds.items()}
    print(f"\n{calls:,} calls, per second and core: {speeds['layers']} through two layers (asked: {ASKED:,}), ", end="")
    print(f"{speeds['bare']} bare, so {ratio:.2f} x (asked: {MARK}), {speeds['without']} without policies")
    assert ratio >= MARK


def test_memory_does_not_grow_with_simulated_time() -> None:
    """Four times the simulated time takes no more memory at its peak, but for what the histograms round up."""

    def peak(seconds: float) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            play(scenario(seconds, rate=3.0), "layers", 1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10.0)  # what is made once and kept
    short, long = peak(1_000.0), peak(4_000.0)
    print(f"\npeak {short:,} bytes for 1,000 s, {long:,} for 4,000 s, so {long / short:.2f} x")
    # With what the collector happens to leave; 9,000 more calls would leave far more.
    assert long < 1.25 * short + 100_000
