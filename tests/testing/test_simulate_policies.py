"""Every policy does in simulated time what it does in a service, whether its calls are tasks or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from resilience import (
    AIMD,
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Gradient,
    Hedge,
    Keyed,
    LoadShedder,
    Pipeline,
    Retry,
    RetryBudget,
    Throttle,
    Timeout,
    Vegas,
)
from resilience._attempt import current_attempt
from resilience.testing.simulation import Clients, Incident, Scenario, Server, ways
from resilience.testing.simulation import run as simulation_run
from resilience.testing.simulation.loop import Loop
from resilience.testing.simulation.report import _merged
from resilience.testing.simulation.run import Run, play
from resilience.testing.simulation.tally import Tally, quantile
from resilience.testing.simulation.tasks import TaskCalls

DOWN = Incident(kind="down", at=0, lasts=inf)
STEADY = Server(workers=100, service=0.1, distribution="constant")
OVERLOADED = Server(workers=10, service=0.1, queue=1_000)


def played(built: Any, *, rate: float = 50.0, seconds: float = 60.0, **changes: Any) -> tuple[Run, dict[str, int]]:
    """A run of an open loop under one pipeline, and its counts in all."""
    scenario = Scenario(seconds=seconds, clients=Clients(loop="open", rate=rate), pipelines={"it": built}, **changes)
    run = play(scenario, "it", 1)
    return run, {name: sum(bins) for name, bins in run.counts.items()}


def latency(run: Run, share: float) -> float:
    """The latency that this share of the calls that were served did not exceed."""
    return quantile(_merged(run.latencies), share)


def test_a_hedge_shortens_the_tail() -> None:
    """Where work now and then takes long, hedged calls have a shorter tail, for a few requests more."""
    uneven = Server(workers=200, service=0.1, distribution="lognormal", spread=1.5)
    bare, _ = played((), server=uneven)
    hedged, counts = played(lambda: Hedge(after=0.3, max_extra_load=0.2), server=uneven)
    print(f"\np99 {latency(bare, 0.99):.3f} s bare, {latency(hedged, 0.99):.3f} s hedged, sent {counts['sent']}")
    assert latency(hedged, 0.99) < 0.7 * latency(bare, 0.99)
    assert counts["offered"] < counts["sent"] < 1.25 * counts["offered"]
    assert counts["retried"] == counts["sent"] - counts["offered"]
    assert counts["wasted"] > 0


def test_a_hedge_that_is_not_needed_sends_nothing() -> None:
    """Where all work takes the same, and less than a hedge waits, there are no copies."""
    _, counts = played(lambda: Hedge(after=0.2), server=STEADY)
    assert counts["sent"] == counts["offered"] > 2_000


@pytest.mark.parametrize("algorithm", [Gradient, Vegas, AIMD])
def test_an_adaptive_limit_sheds_what_is_too_much(algorithm: Callable[[], Any]) -> None:
    """Before a server with half the capacity that is asked for, a limit keeps the queue short and the server busy."""
    bare, _ = played((), server=OVERLOADED, rate=200.0)
    limited, counts = played(lambda: AdaptiveLimit(algorithm()), server=OVERLOADED, rate=200.0)
    print(f"\np50 {latency(bare, 0.5):.3f} s bare, {latency(limited, 0.5):.3f} s limited, {counts}")
    assert latency(limited, 0.5) < 0.2 * latency(bare, 0.5)
    assert counts["served"] / 60 > 80
    assert counts["rejected"] > 4_000


@pytest.mark.parametrize("queue", [0, 30])
def test_a_bulkhead_bounds_what_is_under_way(queue: int) -> None:
    """With ten places and calls of 0.1 s no more than 100 a second get through, and with a queue all of those."""
    run, counts = played(lambda: Bulkhead(10, queue=queue), server=STEADY, rate=200.0)
    busiest = max(run.counts["served"])
    print(f"\nserved {counts['served'] / 60:.1f} a second, {busiest} at most")
    assert busiest <= 110
    assert counts["served"] / 60 > (98 if queue else 60)
    assert counts["rejected"] > 5_000
    assert counts["failed"] == 0


def test_a_load_shedder_keeps_a_queue_of_callers_short() -> None:
    """Before a server with half the capacity that is asked for, what is let in is answered in time."""
    bare, _ = played((), server=OVERLOADED, rate=200.0)
    shed, counts = played(lambda: LoadShedder(target_delay=0.3), server=OVERLOADED, rate=200.0)
    print(f"\np50 {latency(bare, 0.5):.3f} s bare, {latency(shed, 0.5):.3f} s with a shedder, {counts}")
    assert latency(shed, 0.5) < 0.5 * latency(bare, 0.5)
    assert counts["rejected"] > 3_000
    assert counts["served"] / 60 > 80


def test_a_timeout_gives_up_in_time() -> None:
    """No call lasts longer than its timeout, and what is given up is worked on in vain."""
    run, counts = played(lambda: Timeout(0.5), server=OVERLOADED, rate=200.0)
    assert latency(run, 1.0) <= 0.55
    assert counts["failed"] > 5_000
    assert counts["wasted"] > 3_000


def test_a_timeout_around_a_retry_ends_its_waits() -> None:
    """A timeout cuts a retry while it waits: before a server that is down calls end at the timeout, after two tries."""
    built = lambda: Pipeline(Timeout(0.5), Retry(on=OSError, attempts=5, backoff=[0.3, 10, 10, 10]))  # noqa: E731
    _, counts = played(built, incidents=(DOWN,))
    assert counts["sent"] == pytest.approx(2 * counts["offered"], rel=0.02)
    assert counts["failed"] == pytest.approx(counts["offered"], rel=0.02)


def test_a_keyed_policy_has_one_of_its_kind_for_each_key() -> None:
    """A breaker per tenant, by a function of the call: each is opened by failures of its own."""
    calls = 0

    def tenant(call: object) -> int:
        nonlocal calls
        calls += 1
        return calls % 4

    def breaker(key: object) -> CircuitBreaker:
        return CircuitBreaker(5, on=OSError, cooldown=1000.0)

    _, counts = played(lambda: Keyed(breaker, key=tenant), incidents=(DOWN,))
    assert 20 <= counts["sent"] <= 24
    assert counts["rejected"] > 2_000


def test_a_keyed_timeout_is_on_the_clock_of_the_run() -> None:
    """What a keyed policy builds is built on simulated time as well."""
    _, counts = played(lambda: Keyed(lambda key: Timeout(0.05), key=lambda call: "one"), server=STEADY)
    assert counts["served"] == 0
    assert counts["failed"] > 2_000


def test_a_fallback_answers_in_the_place_of_the_server() -> None:
    """A value made up by a fallback is no answer of the server's: the call failed."""
    _, counts = played(lambda: Fallback(on=Exception, value=None), incidents=(DOWN,))
    assert counts["failed"] == pytest.approx(counts["offered"], abs=3)


def test_a_fallback_may_wait() -> None:
    """A fallback that is a coroutine function of its own, awaiting what it likes, is played as a task."""
    asked = []

    async def other(error: Exception, call: object) -> str:
        asked.append(1)
        return "from elsewhere"

    _, counts = played(lambda: Fallback(on=Exception, call=other), incidents=(DOWN,))
    assert len(asked) == counts["failed"] > 2_000


class Counted:
    """A policy of a user's own."""

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function in one that lets an event loop turn."""
        import asyncio

        async def bound(*args: Any, **kwargs: Any) -> Any:
            async with asyncio.timeout(0.05):
                return await fn(*args, **kwargs)

        return bound


def test_a_policy_of_a_users_own_may_use_asyncio() -> None:
    """Something with a `bind` gets a task and asyncio's own timeouts."""
    _, counts = played(lambda: Counted(), server=STEADY)
    assert counts["failed"] == pytest.approx(counts["offered"], abs=10)


# --- the two ways to play ---------------------------------------------------------------------------------------------

WITHOUT_TASKS: dict[str, Callable[[], Any]] = {
    "retries": lambda: Pipeline(
        Retry(on=OSError, attempts=4, backoff=[0.1, 0.3, 0.2], budget=RetryBudget(0.2)),
        CircuitBreaker(20, on=OSError, cooldown=2.0),
    ),
    "a retry": lambda: Retry(on=OSError, attempts=3, backoff=0.1),
    "judged results": lambda: Retry(on=OSError, on_result=lambda result: False, attempts=3, backoff=0.2),
    "gates": lambda: Pipeline(Throttle("45/s"), Bulkhead(20), LoadShedder(), AdaptiveLimit()),
    "adaptive": lambda: Pipeline(Fallback(on=OSError, value=1), AdaptiveThrottle(on=OSError, window=5)),
}


@pytest.mark.parametrize("loop", ["open", "closed"])
@pytest.mark.parametrize("name", WITHOUT_TASKS)
def test_calls_without_tasks_are_those_with_tasks(name: str, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies that need no tasks decide the same without and with them: the runs are equal, count by count."""
    clients = Clients(loop="open", rate=50.0, instances=2) if loop == "open" else Clients(number=100, instances=2)
    scenario = Scenario(
        seconds=60,
        clients=clients,
        server=replace(OVERLOADED, workers=6, queue=20),
        incidents=(Incident(kind="down", at=20, lasts=5), Incident(kind="slow", at=40, lasts=5, factor=4.0)),
        pipelines={"it": WITHOUT_TASKS[name]},
    )
    without = play(scenario, "it", 1)
    made: list[str] = []

    def calls_for(parts: Any, loop: Loop, tally: Tally) -> Any:
        made.append(type(ways.calls_for(parts, loop, tally)).__name__)
        return TaskCalls(loop, tally)

    monkeypatch.setattr(simulation_run, "calls_for", calls_for)
    with_tasks = play(scenario, "it", 1)
    assert made == ["PlainCalls"]
    assert sum(without.counts["served"]) > 500
    assert with_tasks == without


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
def test_each_call_knows_its_own_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many calls that wait at the same time each knows which attempt it makes, as it would in a task of its own."""
    seen: list[object] = []

    def told(error: Exception) -> bool:
        seen.append(current_attempt())
        return isinstance(error, OSError)

    def built() -> Pipeline:
        inner = Retry(on=told, attempts=2, backoff=0.3)
        return Pipeline(Retry(on=told, attempts=3, backoff=0.5), inner)

    played(built, incidents=(DOWN,), seconds=5.0)
    without, seen = seen, []
    monkeypatch.setattr(simulation_run, "calls_for", lambda parts, loop, tally: TaskCalls(loop, tally))
    played(built, incidents=(DOWN,), seconds=5.0)
    assert len(set(seen)) > 3
    assert without == seen


# --- what goes on around it -------------------------------------------------------------------------------------------


def test_a_deadline_of_whoever_simulates_is_none_of_the_clients_business() -> None:
    """Under a deadline that has passed, and inside a retry, a simulation is what it is anywhere."""
    pipeline = Pipeline(Retry(on=OSError, attempts=2), Timeout(1.0))
    outside, _ = played(lambda: pipeline, server=OVERLOADED, seconds=10.0)
    with Timeout(1e-9, thread=False).guard():
        inside, _ = played(lambda: pipeline, server=OVERLOADED, seconds=10.0)
    assert inside == outside


@pytest.mark.parametrize("needs", ["nothing", "a task"])
def test_an_answer_may_come_at_once(needs: str) -> None:
    """Work that takes less than a clock can tell is answered, with a latency of next to nothing."""
    built = Bulkhead(5) if needs == "nothing" else Timeout(1.0)
    run, counts = played(lambda: built, server=Server(service=1e-300, distribution="constant"))
    assert counts["served"] == counts["offered"] > 2_000
    assert 0.0 < latency(run, 1.0) <= 1e-6 * 1.05


def test_what_is_under_way_is_ended_with_the_run() -> None:
    """A call that the end of a run finds on its way is closed: its `finally` blocks run, and it counts as nothing."""
    begun, ended = [], []

    class Kept:
        def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
            async def bound(*args: Any) -> Any:
                begun.append(1)
                try:
                    return await fn(*args)
                finally:
                    ended.append(1)

            return bound

    slow = Server(workers=100, service=1e6, distribution="constant")
    for parts in (Kept(), Pipeline(Retry(on=OSError), Kept())):
        _, counts = played(lambda parts=parts: parts, server=slow, seconds=5.0)
        assert len(begun) == len(ended) > 100
        assert counts["served"] == counts["failed"] == 0
