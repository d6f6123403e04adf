"""Callers that are cancelled while the store decides: what they took is lost at most, and nothing is minted.

Nobody can say of a question that was cut off whether the server has heard it. So the taken lies between what was
granted and what was granted or cancelled; with leases, times the lease.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from resilience import CircuitBreaker, CircuitOpen, CircuitState, Throttle
from resilience.stores import RedisStore
from tests.stores.servers import Server

STORMS, CALLERS = 20, 25
TURNS = 12  # of the loop, within which a caller is cancelled; a decision takes about as many

Storm = Callable[[Callable[[], Any], random.Random], tuple[int, int]]


def on_asyncio(store: RedisStore, call: Callable[[], Any], rng: random.Random) -> tuple[int, int]:
    """Callers of whom half are cancelled at any moment: how many came through, and how many did not."""

    async def main() -> tuple[int, int]:
        tasks = [asyncio.create_task(call()) for _ in range(CALLERS)]
        for _ in range(TURNS):
            await asyncio.sleep(rng.choice([0, 0, 0.0005]))
            rng.choice(tasks).cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await store.close_async()
        unexpected = [each for each in ended if isinstance(each, Exception) and not isinstance(each, CircuitOpen)]
        assert not unexpected
        return sum(each is True for each in ended), sum(isinstance(each, asyncio.CancelledError) for each in ended)

    return asyncio.run(main())


def on_trio(store: RedisStore, call: Callable[[], Any], rng: random.Random) -> tuple[int, int]:
    """The same on trio, where the plain client is asked in a thread."""
    came, cut = [0], [0]

    async def one(scope: trio.CancelScope) -> None:
        with scope:
            try:
                passed = await call()
                came[0] += passed is True
            except CircuitOpen:
                pass
        cut[0] += scope.cancelled_caught

    async def main() -> None:
        scopes = [trio.CancelScope() for _ in range(CALLERS)]
        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(one, scope)
            for _ in range(TURNS):
                await trio.sleep(rng.choice([0, 0, 0.0005]))
                rng.choice(scopes).cancel()

    trio.run(main)
    return came[0], cut[0]


LOOPS = pytest.mark.parametrize("storm", [on_asyncio, on_trio], ids=["asyncio", "trio"])


@LOOPS
@pytest.mark.parametrize("lease", [1, 10])
def test_who_is_cancelled_costs_a_lease_at_most(
    storm: Callable[..., tuple[int, int]], lease: int, server: Server
) -> None:
    """Over twenty storms the tokens that are gone are those granted, and at most one lease for each that was cut."""
    came = cut = 0
    store = RedisStore.from_url(server.url, timeout=2.0)
    throttle = Throttle("1/day burst 100000", store=store, name="api", lease=lease, on_store_error="deny")
    for seed in range(STORMS):
        more = storm(store, throttle.try_acquire_async, random.Random(seed))
        came, cut = came + more[0], cut + more[1]
    time.sleep(0.05)
    taken = round(100_000 - throttle.peek().remaining, 3)
    store.close()
    assert came + cut == STORMS * CALLERS
    assert cut > STORMS
    assert came - 0.1 <= taken <= came + lease * (cut + 1)


@pytest.mark.parametrize("storm", range(STORMS))
def test_a_trial_that_is_cancelled_again_and_again_tells_its_end(storm: int, server: Server) -> None:
    """Its place is free at once, long before the lease is over, though whoever made it is cancelled while he tells."""
    store = RedisStore.from_url(server.url, timeout=2.0)
    breaker = CircuitBreaker(1, store=store, name="api", cooldown=0.001, trial_lease=60, on_store_error="deny")
    breaker.open()
    time.sleep(0.002)

    async def on_asyncio() -> None:
        inside = asyncio.Event()

        @breaker
        async def page() -> None:
            inside.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(page())
        await inside.wait()
        for turn in range(storm + 1):
            task.cancel()
            await asyncio.sleep(0 if turn % 3 else 0.0003)
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.close_async()

    async def on_trio() -> None:
        inside = trio.Event()

        @breaker
        async def page() -> None:
            inside.set()
            await trio.sleep(60)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(page)
            await inside.wait()
            nursery.cancel_scope.cancel()

    if storm % 2:
        asyncio.run(on_asyncio())
    else:
        trio.run(on_trio)
    assert breaker.call(lambda: "page") == "page"
    assert breaker.state is CircuitState.CLOSED
    store.close()


@LOOPS
def test_a_trial_that_is_cancelled_gives_its_place_back(storm: Callable[..., tuple[int, int]], server: Server) -> None:
    """Over twenty storms of cancelled trials the circuit stays as it was, and is closed by the first that ends well."""
    store = RedisStore.from_url(server.url, timeout=2.0)
    breaker = CircuitBreaker(1, store=store, name="api", cooldown=0.001, trial_lease=0.3, on_store_error="deny")

    @breaker
    async def page() -> bool:
        if storm is on_asyncio:
            await asyncio.sleep(60)
        else:
            await trio.sleep(60)
        return True

    async def bounded() -> Any:
        if storm is on_asyncio:
            async with asyncio.timeout(0.004):
                return await page()
        with trio.move_on_after(0.004):
            return await page()

    for seed in range(STORMS):
        breaker.open()
        time.sleep(0.002)
        came, _ = storm(store, lambda: swallow(bounded), random.Random(seed))
        assert came == 0
    # What was cut before the server had heard of it is covered by the lease.
    deadline = time.monotonic() + 2.0
    while breaker.state is not CircuitState.CLOSED:
        assert time.monotonic() < deadline
        try:
            breaker.call(lambda: None)
        except CircuitOpen:
            time.sleep(0.01)
    store.close()


async def swallow(call: Callable[[], Any]) -> Any:
    """Call, and take having no time left for an end like another."""
    try:
        return await call()
    except TimeoutError:
        return None
