"""A client in an event loop awaits a retry budget that is in a store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from resilience import Retry, RetryBudget
from resilience.events import RetryGaveUp
from resilience.http import transient
from resilience.integrations.httpx import ResilientTransport
from tests.colours import Colour, async_colours
from tests.stores.test_asked_budget import Slow


async def statuses(colour: Colour, script: list[int], method: str, retry: Retry) -> list[int]:
    """What a client gets for one request, and whatever of the script is left."""
    left = list(script)

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(left.pop(0))

    transport = ResilientTransport(httpx.MockTransport(answer), policy=retry)
    async with httpx.AsyncClient(transport=transport) as client:
        return [(await client.request(method, "http://service.test/")).status_code, *left]


def retry_of(store: Slow, **options: Any) -> Retry:
    budget = RetryBudget(0.5, per_second=0.0, capacity=2, store=store, name="asked by a client")
    return Retry(on=transient, attempts=3, backoff=0, budget=budget, **options)


@async_colours
async def test_an_attempt_is_paid_for_by_a_question_that_is_awaited(colour: Colour) -> None:
    """Each further attempt, and the deposit after the last, takes one answer of the store; none blocks the loop."""
    store = Slow(colour, 1.0)
    assert await statuses(colour, [503, 503, 200], "GET", retry_of(store, clock=colour.clock)) == [200]
    assert colour.clock.now() == 3.0


@async_colours
async def test_without_tokens_the_response_is_returned(colour: Colour) -> None:
    """When the store has no token left, the last response is the answer, and the rest is not asked for."""
    store = Slow(colour)
    retry = retry_of(store, clock=colour.clock)
    assert await statuses(colour, [503, 503, 503], "GET", retry) == [503]
    assert await statuses(colour, [503, 200], "GET", retry) == [503, 200]


@async_colours
async def test_what_may_not_be_repeated_asks_nobody(colour: Colour) -> None:
    """A POST that has got an answer returns it at once, and the store is not asked."""
    store = Slow(colour)
    heard: list[Any] = []
    retry = retry_of(store, clock=colour.clock)
    retry.listen(heard.append, RetryGaveUp)
    assert await statuses(colour, [503, 200], "POST", retry) == [503, 200]
    assert not store.asked
    assert not heard


@async_colours
async def test_a_success_is_deposited_without_blocking(colour: Colour) -> None:
    """After a success the deposit is awaited too; it is brought to the store with a later question."""
    store = Slow(colour)
    retry = retry_of(store, clock=colour.clock)
    assert await statuses(colour, [503, 200], "GET", retry) == [200]
    assert await statuses(colour, [200], "GET", retry) == [200]
    assert store.asked[:1]


@async_colours
async def test_a_bad_error_passes(colour: Colour) -> None:
    """An error that is not transient is raised after one attempt."""
    store = Slow(colour)

    async def fall(request: httpx.Request) -> httpx.Response:
        raise httpx.UnsupportedProtocol("no", request=request)

    transport = ResilientTransport(httpx.MockTransport(fall), policy=retry_of(store, clock=colour.clock))
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("http://service.test/")
    assert not store.asked
