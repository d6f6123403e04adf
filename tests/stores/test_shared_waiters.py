"""Those who wait at a shared throttle, when somebody ahead of them gives back."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilience import Reservation, Throttle
from resilience.stores import MemoryStore, RedisStore
from resilience.testing import conformance
from tests.colours import Colour, async_colours, every_colour


def throttle_at(colour: Colour, **terms: object) -> Throttle:
    """A throttle of one call a second, in memory, at the colour's clock."""
    return Throttle("1/s", store=MemoryStore(clock=colour.clock.now), name="api", max_wait=100, **terms)


async def reserved(colour: Colour, throttle: Throttle, **terms: object) -> Reservation:
    """`reserve` in the colour."""
    return await throttle.reserve_async(**terms) if colour.is_async else throttle.reserve(**terms)


def waiter(
    colour: Colour, throttle: Throttle, times: dict[str, float], name: str
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Somebody who waits for a call's worth and says when it came."""

    async def wait() -> None:
        await throttle.acquire_async() if colour.is_async else throttle.acquire()
        times[name] = colour.clock.now()

    return wait


def queue_of(throttle: Throttle) -> int:
    """How many wait."""
    return sum(len(places) for places in throttle._line._places.values())


@every_colour
async def test_whoever_is_behind_a_cancelled_reservation_moves_up(colour: Colour) -> None:
    """Each waiter takes the moment of the one before it, and the next who comes stands behind all of them."""
    throttle, times = throttle_at(colour), dict[str, float]()
    await reserved(colour, throttle)
    turn = await reserved(colour, throttle)
    jobs = []
    for place, name in enumerate(["b", "c"]):
        jobs.append(colour.start(waiter(colour, throttle, times, name)))
        await colour.until(lambda place=place: queue_of(throttle) == place + 1)
    assert turn.delay == 1.0
    assert await turn.cancel_async() if colour.is_async else turn.cancel()
    late = await reserved(colour, throttle)
    assert late.delay == 3.0
    for job in jobs:
        await job.outcome()
    assert times == {"b": 1.0, "c": 2.0}
    assert queue_of(throttle) == 0


@every_colour
async def test_whoever_is_ahead_keeps_its_moment(colour: Colour) -> None:
    """What is given back behind a waiter makes it no earlier, so nobody passes before the tokens are there."""
    throttle, times = throttle_at(colour), dict[str, float]()
    await reserved(colour, throttle)
    job = colour.start(waiter(colour, throttle, times, "a"))
    await colour.until(lambda: queue_of(throttle) == 1)
    behind = await reserved(colour, throttle)
    assert await behind.cancel_async() if colour.is_async else behind.cancel()
    await job.outcome()
    assert times == {"a": 1.0}


@async_colours
async def test_a_cancelled_waiter_leaves_no_trace(colour: Colour) -> None:
    """When the first of four who wait is cancelled, the others come through one after the other, a second apart."""
    throttle, times = throttle_at(colour), dict[str, float]()
    await throttle.acquire_async()
    jobs = []
    for place, name in enumerate("abcd"):
        jobs.append(colour.start(waiter(colour, throttle, times, name)))
        await colour.until(lambda place=place: queue_of(throttle) == place + 1)
    await colour.sleep(0.5)
    jobs[0].cancel()
    await jobs[0].outcome()
    jobs[2].cancel()
    for job in jobs:
        await job.outcome()
    assert times == {"b": 1.0, "d": 2.0}
    assert throttle.peek().retry_after == 1.0


@async_colours
async def test_whoever_is_due_by_that_goes_at_once(colour: Colour) -> None:
    """Where the cancelled one was to take more than a token, the next does not wait for the time that is past."""
    throttle = Throttle("1/s burst 5", store=MemoryStore(clock=colour.clock.now), name="api", max_wait=100)
    times: dict[str, float] = {}
    await throttle.acquire_async(cost=5)

    async def big() -> None:
        await throttle.acquire_async(cost=5)

    first = colour.start(big)
    await colour.until(lambda: queue_of(throttle) == 1)
    second = colour.start(waiter(colour, throttle, times, "small"))
    await colour.until(lambda: queue_of(throttle) == 2)
    await colour.sleep(3.0)
    first.cancel()
    await first.outcome()
    await second.outcome()
    assert times == {"small": 3.0}


@every_colour
async def test_one_key_does_not_move_another(colour: Colour) -> None:
    """Tokens that come back are those of their key."""
    throttle = Throttle("1/s", store=MemoryStore(clock=colour.clock.now), name="users", key="user", max_wait=100)
    times: dict[str, float] = {}
    turns = [await reserved(colour, throttle, key=key) for key in ("ann", "ann", "bob")]

    async def wait() -> None:
        await throttle.acquire_async(key="bob") if colour.is_async else throttle.acquire(key="bob")
        times["bob"] = colour.clock.now()

    job = colour.start(wait)
    await colour.until(lambda: queue_of(throttle) == 1)
    assert await turns[1].cancel_async() if colour.is_async else turns[1].cancel()
    await job.outcome()
    assert times == {"bob": 1.0}


@async_colours
async def test_a_cancelled_waiter_gives_its_tokens_back(colour: Colour) -> None:
    """A waiter that is cancelled on a loop leaves no trace in the store."""
    store = MemoryStore(clock=colour.clock.now)
    throttle = Throttle("1/s", max_wait=50, store=store, name="api")
    await throttle.acquire_async()
    jobs = [colour.start(throttle.acquire_async) for _ in range(20)]
    await colour.until(lambda: throttle.peek().retry_after > 20.0)
    for job in jobs:
        job.cancel()
    for job in jobs:
        await job.outcome()
    assert throttle.peek().retry_after <= 1.0


def test_the_server_says_what_came_back(store: RedisStore) -> None:
    """A settlement answers with what was given back for each rate, which may be less than was asked for."""
    terms = [2.0, 1.0, 1.0, 5.0, 10.0, 1.0, 10.0]
    for asked in (store, MemoryStore()):
        mark = asked.ask("bucket", ("api",), "take", terms, [3, 3, 0, 0, 0, 0, 1, 0], now=100.0)[2:]
        answer = asked.ask("bucket", ("api",), "settle", terms, [3, 3, 1, 3, *mark], now=100.0)
        assert [float(word) for word in answer] == [1.0, 2.0, 0.0, 2.0, 0.0]
        mark = asked.ask("bucket", ("api",), "take", terms, [3, 3, 0, 0, 0, 0, 1, 0], now=100.0)[2:]
        answer = asked.ask("bucket", ("api",), "settle", terms, [3, 3, 0, 0, *mark], now=107.0)
        assert [float(word) for word in answer] == [1.0, 0.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("rate", ["1/s", "10/s burst 5", "3/s burst 2"])
def test_a_shared_throttle_keeps_the_laws_of_waiting(rate: str) -> None:
    """The checks for throttles find nothing: first come, first served, and no trace of who was cancelled."""
    conformance.throttle(
        lambda clock: Throttle(rate, store=MemoryStore(clock=clock.now), name="api", clock=clock, max_wait=1e9),
        rate=rate,
        examples=40,
        seed=random.Random(rate).randrange(1000),
    )
