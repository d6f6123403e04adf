"""`disabled`: calls pass as if policies were not there, and policies go on afterwards as if nothing had been."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Fallback,
    Hedge,
    LoadShedder,
    Pipeline,
    Retry,
    RetryBudget,
    Throttle,
    Throttled,
    TimedOut,
    Timeout,
    _compile,
    context,
    listen,
)
from resilience._hub import live
from resilience.events import Event
from resilience.testing.disabled_block import disabled
from resilience.testing.disabled_shadows import real_class
from tests.colours import Colour, every_colour
from tests.stores.doubles import Moody


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """After every test, no policy is disabled and the register is the ordinary one."""
    yield
    assert [policy for policy in live if type(policy) is not real_class(policy)] == []
    assert type(live).__name__ == "_Live"


@pytest.fixture(params=["generated", "closures"], autouse=True)
def wrappers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with generated wrappers and with closures."""
    monkeypatch.setattr(_compile, "ENABLED", request.param == "generated")


def down(*_: object) -> None:
    """Fail as a service does."""
    raise ConnectionError("connection refused")


def use(fn: Callable[..., Any], *args: object, times: int = 1) -> None:
    """Call a function that fails."""
    for _ in range(times):
        with pytest.raises(ConnectionError):
            fn(*args)


def of_user(colour: Colour, fetch: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with a parameter `user`."""

    def plain(user: str) -> Any:
        return fetch(user)

    async def coroutine(user: str) -> Any:
        return await fetch(user)

    return coroutine if colour.is_async else plain


def opened() -> CircuitBreaker:
    """An open breaker."""
    breaker = CircuitBreaker(1, on=ConnectionError)
    breaker.open()
    return breaker


@every_colour
async def test_functions_that_were_bound_before_follow(colour: Colour) -> None:
    """A function decorated long before passes while its policies are disabled, and is protected again afterwards."""
    breaker = CircuitBreaker(1, on=OSError)
    pipeline = Pipeline(
        Fallback(on=(OSError, CircuitOpen), value="stale"), Retry(on=OSError, attempts=3, backoff=1), breaker
    )
    fetch = colour.function([OSError("first"), ...])
    fetching = pipeline(fetch)
    with disabled(pipeline):
        with pytest.raises(OSError, match="first"):
            await colour.invoke(fetching)
        assert len(fetch.calls) == 1
        assert breaker.state is CircuitState.CLOSED
    assert await colour.invoke(fetching) == "stale"
    assert breaker.state is CircuitState.OPEN


@every_colour
async def test_functions_that_were_bound_inside_are_protected_afterwards(colour: Colour) -> None:
    """A function decorated while its policy is disabled is under it once the block is left."""
    breaker, retry = CircuitBreaker(1, on=OSError), Retry(on=OSError, attempts=2, backoff=1)
    shedder, throttle = LoadShedder(user="user"), Throttle("1/hour", key="user")
    fetch = colour.function([OSError("down"), ...])
    with disabled(breaker, retry, shedder, throttle):
        fetching = retry(breaker(shedder(throttle(of_user(colour, fetch)))))
        with pytest.raises(OSError, match="down"):
            await colour.invoke(fetching, "ann")
        assert len(fetch.calls) == 1
    with pytest.raises(CircuitOpen):
        await colour.invoke(fetching, "ann")
    assert shedder.snapshot()["in_flight"] == 0
    assert throttle.snapshot()["keys"] == 1
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("options", [{}, {"within": 9}, {"on_result": lambda _: False}, {"budget": RetryBudget()}])
@every_colour
async def test_a_retry_makes_one_attempt(colour: Colour, options: dict[str, Any]) -> None:
    """Whatever a retry has been told, it makes one attempt and raises the first error, at once."""
    retry = Retry(on=OSError, attempts=3, backoff=1, **options)
    fetch = colour.function([OSError("first"), OSError("second"), "page"])
    fetching = retry(fetch)
    with disabled(retry), pytest.raises(OSError, match="first"):
        await colour.invoke(fetching)
    assert len(fetch.calls) == 1
    assert await colour.invoke(fetching) == "page"
    assert colour.clock.sleeps == [1.0]


def test_a_retried_block_runs_once() -> None:
    """`attempts()` hands out one attempt, which knows that there is no other."""
    retry, seen = Retry(on=ConnectionError, attempts=3, backoff=1), []
    with disabled(retry), pytest.raises(ConnectionError):
        for attempt in retry.attempts():
            seen.append((attempt.number, attempt.next_wait))
            with attempt:
                down()
    assert seen == [(1, None)]


def test_a_refused_result_is_returned() -> None:
    """A result that a retry, a fallback or a hedge would not accept is the caller's."""
    retry = Retry(on_result=lambda result: result is None, backoff=0)
    fallback = Fallback(on=OSError, on_result=lambda result: result is None, value="stale")
    with disabled(retry, fallback):
        assert retry.call(lambda: None) is None
        assert fallback.call(lambda: None) is None


@every_colour
async def test_a_timeout_bounds_nothing(colour: Colour) -> None:
    """A call may take as long as it likes, and sees no deadline."""
    timeout = Timeout(1, thread=False)
    seen: list[float | None] = []
    slow = colour.function([(5, "page"), "page"])
    with disabled(timeout):
        assert await colour.call(timeout, slow) == "page"
        async with colour.guard(timeout):
            seen.append(context.remaining())
    async with colour.guard(timeout):
        seen.append(context.remaining())
    assert seen == [None, 1.0]


@every_colour
async def test_a_call_on_a_worker_is_not_left_behind(colour: Colour) -> None:
    """`Timeout(thread=True)` waits for its worker as long as it takes, and says the same of itself."""
    timeout = Timeout(1) if colour.is_async else Timeout(1, thread=True)
    slow = colour.function([(5, "page"), (5, "page")])
    bounded = timeout(slow)
    with disabled(timeout):
        assert await colour.invoke(bounded) == "page"
        assert timeout.snapshot()["seconds"] == 1.0
    with pytest.raises(TimedOut):
        await colour.invoke(bounded)


def test_a_wrong_use_stays_wrong() -> None:
    """What raises a TypeError without the block raises it inside."""
    timeout, throttle = Timeout(1), Throttle("1/s", key="user")
    with disabled(timeout, throttle):
        with pytest.raises(TypeError, match="cannot be cut"), timeout.guard():
            pass
        with pytest.raises(TypeError, match="say key="):
            throttle.acquire()


@every_colour
async def test_a_hedge_sends_no_copies(colour: Colour) -> None:
    """A hedge makes the one call, however long it takes, and learns nothing from it."""
    hedge = Hedge(after=1, max_extra_load=1, on=OSError)
    fetch = colour.function([(5, "page"), OSError("first")])
    hedged, before = hedge(fetch), hedge.snapshot()
    with disabled(hedge):
        assert await colour.invoke(hedged) == "page"
        with pytest.raises(OSError, match="first"):
            await colour.invoke(hedged)
    assert len(fetch.calls) == 2
    assert hedge.snapshot() == before


def test_a_budget_always_has_a_token_and_takes_none() -> None:
    """Retries that share a disabled budget are never refused, and it holds afterwards what it held before."""
    budget = RetryBudget(1, per_second=0, capacity=1)
    retry = Retry(on=ConnectionError, attempts=4, backoff=0, budget=budget)
    with disabled(budget):
        assert [budget.withdraw() for _ in range(3)] == [True] * 3
        calls = 0

        def fetch() -> int:
            nonlocal calls
            calls += 1
            return calls if calls == 4 else down() or 0

        assert retry.call(fetch) == 4
    assert budget.snapshot()["level"] == 1
    assert budget.withdraw()
    with disabled(budget):
        budget.deposit()
    assert not budget.withdraw()


@pytest.mark.parametrize("rate", ["2/hour", "2/s"])
@every_colour
async def test_a_throttle_takes_no_tokens(colour: Colour, rate: str) -> None:
    """Whatever passes a disabled throttle, by call or by hand, its tokens are all there afterwards."""
    throttle = Throttle(rate)
    fetch = colour.function(["page", ...])
    fetching = throttle(fetch)
    with disabled(throttle):
        for _ in range(5):
            assert await colour.invoke(fetching) == "page"
            assert throttle.try_acquire()
            assert await throttle.try_acquire_async()
            throttle.acquire()
            await throttle.acquire_async()
            async with colour.guard(throttle, cost=2) as guard:
                assert guard.settle(1)
            turn = throttle.reserve(cost=2)
            assert turn.delay == (await throttle.reserve_async()).delay == 0.0
            assert turn.cancel()
            assert not turn.settle(1)
    assert throttle.peek().remaining == 2
    assert throttle.try_acquire(cost=2)
    assert not throttle.try_acquire()
    with pytest.raises(Throttled):
        await colour.invoke(fetching)


@every_colour
async def test_keys_and_users_are_passed_by(colour: Colour) -> None:
    """Gates that look at an argument, decorated before or inside, pass every call and keep nothing of it."""
    throttle, shedder = Throttle("1/hour", key="user"), LoadShedder(user="user")
    fetch = of_user(colour, colour.function(["page", ...]))
    before = shedder(fetch)
    taken = throttle(fetch)
    await colour.invoke(taken, "ann")
    with disabled(throttle, shedder):
        inside = shedder(fetch)
        for fetching in (before, inside, taken, throttle(fetch)):
            assert await colour.invoke(fetching, "ann") == "page"
            assert await colour.invoke(fetching, "ann") == "page"
        shedder.report(100)
    assert await colour.invoke(inside, "ann") == "page"
    assert shedder.snapshot()["in_flight"] == 0
    assert shedder.snapshot()["delay"] == 0.0
    assert throttle.snapshot()["keys"] == 1
    with pytest.raises(Throttled):
        await colour.invoke(taken, "ann")


@every_colour
async def test_what_is_in_a_store_is_not_asked_for(colour: Colour) -> None:
    """A policy whose state is in a store asks it nothing while disabled, and keeps to it again afterwards."""
    store = Moody(colour.clock.now)
    throttle = Throttle("1/hour", key="user", store=store, name="throttle")
    breaker = CircuitBreaker(1, on=OSError, store=store, name="breaker")
    budget = RetryBudget(store=store, name="budget")
    retry = Retry(on=OSError, attempts=2, backoff=0, budget=budget)
    fetching = retry(breaker(throttle(of_user(colour, colour.function(["page", "page", OSError("down"), ...])))))
    assert await colour.invoke(fetching, "ann") == "page"
    asked = store.asked
    store.down = True
    with disabled(throttle, breaker, budget):
        assert await colour.invoke(fetching, "ann") == "page"
        with pytest.raises(OSError, match="down"):
            await colour.invoke(fetching, "ann")
        async with colour.guard(throttle, key="ann"), colour.guard(breaker):
            pass
        assert throttle.try_acquire(key="ann")
        assert await throttle.try_acquire_async(key="ann")
        assert budget.withdraw()
        assert await budget.withdraw_async()
        await budget.deposit_async()
        assert type(throttle.replace()) is type(Throttle("1/s", store=store, name="other"))
        assert store.asked == asked
    store.down = False
    with pytest.raises(Throttled):
        await colour.invoke(fetching, "ann")
    assert store.asked > asked


def test_generators_pass() -> None:
    """A generator passes a disabled gate, and so does an async one."""
    breaker = opened()

    @breaker
    def pages() -> Iterator[int]:
        yield from (1, 2)

    @breaker
    async def more_pages() -> AsyncIterator[int]:
        yield 1

    with disabled(breaker):
        assert list(pages()) == [1, 2]
        steps = more_pages().__aiter__()
        with pytest.raises(StopIteration, match="1"):
            steps.__anext__().__await__().send(None)
    with pytest.raises(CircuitOpen):
        list(pages())


def test_nothing_is_told() -> None:
    """Those who listen hear nothing of calls that pass."""
    heard: list[Event] = []
    stop = listen(heard.append)
    inner = (Timeout(1, thread=False), Bulkhead(1), Throttle("1/hour"), CircuitBreaker(1), Hedge())
    policy = Pipeline(Fallback(on=OSError, value=1), Retry(on=OSError, backoff=0), *inner)
    fetch = policy(down)
    with disabled():
        use(fetch, times=3)
        policy.call(str)
    stop()
    assert heard == []
