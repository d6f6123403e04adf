"""How many questions a call through a shared breaker asks, and that saving one changes no decision."""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, CircuitOpen, CircuitState, Consecutive, FailureRate, SlowRate
from resilience.events import CallSucceeded, LateResult
from resilience.policies._store_words import trip_words
from resilience.stores import RedisStore
from tests.colours import FORMS, Colour, every_colour
from tests.stores.doubles import Moody
from tests.stores.servers import Server


async def fail(colour: Colour, breaker: CircuitBreaker) -> None:
    with pytest.raises(OSError, match="down"):
        await colour.call(breaker, colour.function([OSError("down")]))


@every_colour
@pytest.mark.parametrize("form", FORMS)
async def test_a_call_through_a_calm_circuit_asks_once(colour: Colour, form: str) -> None:
    """Where failures in a row trip and there are none, a call that succeeds asks before it and not after."""
    store = Moody(colour.clock.now)
    breaker = CircuitBreaker(3, store=store, name="api")
    told: list[object] = []
    breaker.listen(told.append, CallSucceeded)
    for _ in range(5):
        await colour.call(breaker, colour.function(["page"]), form=form)
    assert store.asked == 5
    assert len(told) == 5


@every_colour
async def test_a_success_after_a_failure_is_told(colour: Colour) -> None:
    """The success that ends a row of failures asks twice, whoever has failed, and the one after it once again."""
    store = Moody(colour.clock.now)
    one, two = (CircuitBreaker(3, store=store, name="api") for _ in range(2))
    for breaker in (one, two):
        await fail(colour, breaker)
    before = store.asked
    await colour.call(one, colour.function(["page"]))
    assert store.asked == before + 2
    await colour.call(two, colour.function(["page"]))
    assert store.asked == before + 3
    for _ in range(2):
        await fail(colour, two)
    assert one.state is CircuitState.CLOSED


@every_colour
async def test_a_success_counts_from_the_begin_of_its_call(colour: Colour) -> None:
    """A failure elsewhere while a call is under way is not made good by it, since the success may count from before."""
    store = Moody(colour.clock.now)
    one, two = (CircuitBreaker(2, store=store, name="api") for _ in range(2))
    async with colour.guard(one):
        await fail(colour, two)
    await fail(colour, two)
    with pytest.raises(CircuitOpen):
        await colour.call(one, colour.function([]))


@every_colour
async def test_a_late_success_is_told_where_it_is_known_to_be_late(colour: Colour) -> None:
    """When this breaker knows that the circuit has opened meanwhile, a success asks and is a `LateResult`."""
    store = Moody(colour.clock.now)
    breaker = CircuitBreaker(1, store=store, name="api")
    told: list[object] = []
    breaker.listen(told.append, LateResult)
    async with colour.guard(breaker):
        await fail(colour, breaker)
    assert len(told) == 1
    assert breaker.state is CircuitState.OPEN


@every_colour
@pytest.mark.parametrize("trip", [FailureRate(0.5, calls=4), SlowRate(0.5, slower_than=1.0, calls=4)])
async def test_where_successes_count_they_are_told(colour: Colour, trip: object) -> None:
    """With a share of calls as the trip, each call asks twice."""
    store = Moody(colour.clock.now)
    breaker = CircuitBreaker(trip, store=store, name="api")
    for _ in range(3):
        await colour.call(breaker, colour.function(["page"]))
    assert store.asked == 6


def test_an_answer_that_was_written_down_is_not_trusted(store: RedisStore, server: Server) -> None:
    """Junk in the place of the kept answer is an error that names the key, and nobody is let through by it."""
    breaker = CircuitBreaker(1, store=store, name="api", on_store_error="deny")
    breaker.call(int)
    with server.client() as client:
        for junk in ("", "open sesame ", "1 0 nan ", "1 9 -1 -1 0 30 0 0 0 30 0 "):
            client.hset("resilience:breaker:{api}", "calm", junk)
            with pytest.raises((ValueError, IndexError)):
                breaker._link._read("acquire", store.ask("breaker", ("api",), "acquire", breaker._link._terms, [0.0]))


def test_what_is_said_once_is_not_written_down(store: RedisStore) -> None:
    """That leases are too short is in the answer that finds it out, and not in those that follow."""
    terms = [5.0, 0, 2, 2.0, -1, *trip_words((Consecutive(2),))]

    def short(verb: str, now: float, *given: float) -> float:
        return float(store.ask("breaker", ("api",), verb, terms, given, now=now)[10])

    assert short("open", 100.0) == 0.0
    assert [short("acquire", 105.0, 0.0) for _ in range(2)] == [0.0, 0.0]
    assert short("close", 108.0) == 1.0
    assert [short("acquire", 108.0, 0.0) for _ in range(2)] == [0.0, 0.0]
