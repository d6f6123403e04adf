"""`reset_all`: every policy as it was built, whatever a test did to it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitState,
    Hedge,
    Keyed,
    LoadShedder,
    Pipeline,
    Policy,
    Retry,
    RetryBudget,
    Throttle,
    Timeout,
    registry,
)
from resilience.events import CircuitOpened
from resilience.testing.clock import VirtualClock
from resilience.testing.reset import reset_all
from tests.colours import Colour, every_colour
from tests.stores.doubles import Moody


def down() -> None:
    """Fail as a service does."""
    raise ConnectionError("connection refused")


def use(policy: Policy[Any], times: int = 1) -> None:
    """Let calls fail under a policy."""
    for _ in range(times):
        with pytest.raises(ConnectionError):
            policy.call(down)


def test_open_circuits_are_closed_and_clean() -> None:
    """A circuit that a test opened is closed afterwards, and needs as many failures to open as a new one."""
    breaker = CircuitBreaker(2, on=ConnectionError)
    use(breaker, 2)
    assert breaker.state is CircuitState.OPEN
    reset_all()
    use(breaker)
    assert breaker.state is CircuitState.CLOSED


def test_an_isolation_is_over() -> None:
    """A breaker that a test took out of service is back in service."""
    breaker = CircuitBreaker()
    isolation = breaker.isolate("deploy")
    reset_all()
    assert breaker.call(str) == ""
    assert not isolation.release()


def test_buckets_and_budgets_are_full() -> None:
    """Tokens that a test took from a throttle or a retry budget are there again."""
    throttle, budget = Throttle("2/hour"), RetryBudget(0, per_second=0, capacity=1)
    assert throttle.try_acquire(cost=2) and budget.withdraw()
    reset_all()
    assert throttle.try_acquire(cost=2)
    assert budget.withdraw()
    assert not budget.withdraw()


def test_the_buckets_of_keys_are_full() -> None:
    """A throttle with keys has forgotten all of them."""
    throttle = Throttle("1/hour", key="user")
    assert throttle.try_acquire(key="ann")
    reset_all()
    assert throttle.snapshot()["keys"] == 0
    assert throttle.try_acquire(key="ann")


def test_what_was_learnt_is_forgotten() -> None:
    """An adaptive throttle and a hedge know no more than when they were built."""
    clock = VirtualClock()
    throttle = AdaptiveThrottle(1, on=ConnectionError, minimum_calls=1, rng=lambda: 0.99, clock=clock)
    hedge = Hedge(clock=clock)
    fresh = throttle.snapshot(), hedge.snapshot()
    use(throttle, 5)
    hedge.call(str)
    assert throttle.snapshot()["requests"] == 5
    assert hedge.snapshot()["credit"] > 0
    reset_all()
    assert (throttle.snapshot(), hedge.snapshot()) == fresh


def test_keys_are_forgotten_and_what_somebody_holds_is_reset() -> None:
    """A `Keyed` begins with no keys, and a policy that a test still holds is as it was built."""
    hosts = Keyed(lambda host: CircuitBreaker(1, on=ConnectionError), name="hosts")
    held = hosts["a"]
    use(held)
    reset_all()
    assert list(hosts.items()) == []
    assert held.state is CircuitState.CLOSED


@every_colour
async def test_calls_in_flight_stay_in_flight(colour: Colour) -> None:
    """What is under way keeps its place in a bulkhead and a limit, and settles as it would have."""
    bulkhead, limit, shedder = Bulkhead(1), AdaptiveLimit(initial=5), LoadShedder()
    async with colour.guard(bulkhead), colour.guard(limit), colour.guard(shedder):
        reset_all()
        assert bulkhead.snapshot()["in_flight"] == 1
        assert limit.snapshot()["in_flight"] == shedder.snapshot()["in_flight"] == 1
        with pytest.raises(BulkheadFull):
            bulkhead.call(str)
    assert bulkhead.snapshot()["in_flight"] == 0
    assert limit.snapshot()["in_flight"] == shedder.snapshot()["in_flight"] == 0


def test_a_call_that_began_before_comes_back_late() -> None:
    """The failure of a call that began before the reset does not count after it."""
    breaker = CircuitBreaker(1, on=ConnectionError)

    def call() -> None:
        use(breaker)
        reset_all()
        down()

    with pytest.raises(ConnectionError):
        breaker.call(call)
    assert breaker.state is CircuitState.CLOSED


def test_names_listeners_and_functions_stay() -> None:
    """A policy keeps its name and who listens to it, is the same in the registry, and what it decorates works on."""
    breaker = CircuitBreaker(1, on=ConnectionError)
    failing = breaker(down)
    heard: list[type] = []
    stop = breaker.listen(lambda event: heard.append(type(event)))
    reset_all()
    with pytest.raises(ConnectionError):
        failing()
    reset_all()
    stop()
    assert breaker.name == "down"
    assert heard == [CircuitOpened]
    assert [policy for policy in registry() if policy.name == "down"] == [breaker]


def test_says_nothing_of_the_order_of_a_pipeline() -> None:
    """A pipeline warns of its order when it is built, and not again at each reset."""
    with pytest.warns(match="retry"):
        pipeline = Pipeline(Timeout(1, thread=False), Retry(on=ConnectionError, backoff=5, attempts=9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reset_all()
    assert len(pipeline.policies) == 2


def test_what_is_in_a_store_stays_there() -> None:
    """Policies that share their state by a store ask it nothing, and forget what they knew of it."""
    store = Moody(lambda: 0.0)
    breaker = CircuitBreaker(1, on=ConnectionError, store=store, name="shared")
    throttle = Throttle("1/hour", store=store, name="shared")
    use(breaker)
    assert throttle.try_acquire()
    asked = store.asked
    reset_all()
    assert breaker.snapshot()["state"] == "closed"
    assert store.asked == asked
    assert breaker.state is CircuitState.OPEN
    assert not throttle.try_acquire()
