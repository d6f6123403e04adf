"""A throttle whose buckets are in a store: what it shares, and what it does without the store."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from resilience import (
    BlockingWarning,
    CircuitBreaker,
    Priority,
    Reservation,
    RetryBudget,
    StoreUnavailable,
    Throttle,
    Throttled,
    context,
)
from resilience.events import CallRejected, StoreLost, StoreRecovered
from resilience.stores import MemoryStore
from resilience.testing import VirtualClock
from tests.colours import FORMS, Colour, every_colour
from tests.stores.doubles import Moody


async def tried(colour: Colour, throttle: Throttle, **terms: object) -> bool:
    """`try_acquire` in the colour."""
    if colour.is_async:
        return await throttle.try_acquire_async(**terms)
    return throttle.try_acquire(**terms)


async def reserved(colour: Colour, throttle: Throttle, **terms: object) -> Reservation:
    """`reserve` in the colour."""
    return await throttle.reserve_async(**terms) if colour.is_async else throttle.reserve(**terms)


@every_colour
async def test_two_throttles_of_one_name_share_one_limit(colour: Colour) -> None:
    """What one takes the other does not have, and another name has its own."""
    store = MemoryStore(clock=colour.clock.now)
    one, two = (Throttle("1/s burst 3", store=store, name="api") for _ in range(2))
    other = Throttle("1/s burst 3", store=store, name="other")
    assert [await tried(colour, one), await tried(colour, two), await tried(colour, one)] == [True] * 3
    assert not await tried(colour, two)
    assert await tried(colour, other)
    await colour.sleep(1.0)
    assert await tried(colour, two)
    assert not await tried(colour, one)


@every_colour
@pytest.mark.parametrize("form", FORMS)
async def test_every_call_form_asks_the_store(colour: Colour, form: str) -> None:
    """Decorated, called or guarded, a call takes from the shared bucket and is refused with a wait that is enough."""
    store = MemoryStore(clock=colour.clock.now)
    throttle = Throttle("1/s burst 1", store=store, name="api")
    fetch = colour.function(["page", ...])
    assert await colour.call(throttle, fetch, form=form) in {"page", None}
    with pytest.raises(Throttled) as caught:
        await colour.call(throttle, fetch, form=form)
    assert caught.value.retry_after == 1.0
    await colour.sleep(1.0)
    await colour.call(throttle, fetch, form=form)
    assert len(fetch.calls) == 2


@every_colour
async def test_waiters_go_in_the_order_of_coming_over_all_throttles(colour: Colour) -> None:
    """Each waits for its own moment, one token after the other, and one that cannot be in time fails at once."""
    store = MemoryStore(clock=colour.clock.now)
    one, two = (Throttle("1/s burst 1", store=store, name="api", max_wait=2) for _ in range(2))
    fetch = colour.function(["page", ...])
    await colour.call(one, fetch)
    await colour.call(two, fetch)
    await colour.call(one, fetch)
    assert fetch.times == [0.0, 1.0, 2.0]
    first, second = await reserved(colour, one), await reserved(colour, two)
    assert (first.delay, second.delay) == (1.0, 2.0)
    with pytest.raises(Throttled) as caught:
        await reserved(colour, one, max_wait=2.5)
    assert caught.value.retry_after == 3.0


@every_colour
async def test_a_cancelled_reservation_gives_its_tokens_back_once(colour: Colour) -> None:
    """Cancelling returns True once, and the tokens are there for another throttle."""
    store = MemoryStore(clock=colour.clock.now)
    one, two = (Throttle("1/s burst 2", store=store, name="api") for _ in range(2))
    turn = await reserved(colour, one, cost=2)
    assert not await tried(colour, two)
    assert (await turn.cancel_async()) if colour.is_async else turn.cancel()
    assert not ((await turn.cancel_async()) if colour.is_async else turn.settle(1))
    assert await tried(colour, two, cost=2)


@every_colour
async def test_a_call_is_settled_to_what_it_cost(colour: Colour) -> None:
    """What a call did not need comes back, and what it needed beyond its estimate is owed."""
    store = MemoryStore(clock=colour.clock.now)
    throttle = Throttle("1 tokens/s burst 10", store=store, name="model", cost=4, settle=lambda used: used)
    other = Throttle("1 tokens/s burst 10", store=store, name="model")
    assert await colour.call(throttle, colour.function([1])) == 1
    assert (await other.peek_async() if colour.is_async else other.peek()).remaining == 9.0
    assert await colour.call(throttle, colour.function([12])) == 12
    assert (await other.peek_async() if colour.is_async else other.peek()).remaining == 0.0
    await colour.sleep(4.0)
    assert await tried(colour, other)
    assert not await tried(colour, other)


@every_colour
async def test_a_block_says_what_it_cost(colour: Colour) -> None:
    """`g.settle(n)` in a block corrects the shared bucket, and a second time is False."""
    store = MemoryStore(clock=colour.clock.now)
    throttle = Throttle("1/s burst 10", store=store, name="api")
    async with colour.guard(throttle, cost=5) as guard:
        assert guard.settle(2)
        assert not guard.settle(3)
    assert (await throttle.peek_async() if colour.is_async else throttle.peek()).remaining == 8.0


@every_colour
async def test_keys_and_several_rates_are_shared(colour: Colour) -> None:
    """Each key has its own buckets, and a refusal by one rate takes nothing of the other."""
    store = MemoryStore(clock=colour.clock.now)
    throttle = Throttle("2/s; 3/minute", key="user", store=store, name="users")
    other = Throttle("2/s; 3/minute", key="user", store=store, name="users")

    def report(user: object) -> object:
        return user

    async def report_async(user: object) -> object:
        return user

    call = throttle(report_async if colour.is_async else report)
    assert [await colour.invoke(call, user="ann"), await colour.invoke(call, "ann")] == ["ann", "ann"]
    assert not await tried(colour, other, key="ann")
    assert await tried(colour, other, key="bob")
    assert await tried(colour, other, key=1)
    await colour.sleep(1.0)
    assert await tried(colour, other, key="ann")
    assert not await tried(colour, throttle, key="ann")


@every_colour
async def test_headroom_is_kept_in_the_shared_bucket(colour: Colour) -> None:
    """Calls of a lower priority leave their share of the burst alone, whoever took the rest."""
    store = MemoryStore(clock=colour.clock.now)
    throttle = Throttle("1/s burst 4", headroom={Priority.SHEDDABLE: 0.5}, store=store, name="api")
    with context.priority(Priority.SHEDDABLE):
        assert [await tried(colour, throttle) for _ in range(3)] == [True, True, False]
    assert [await tried(colour, throttle) for _ in range(3)] == [True, True, False]


@every_colour
async def test_a_lease_takes_many_tokens_in_one_round_trip(colour: Colour) -> None:
    """A hundred calls ask once per lease, nobody is admitted beyond the burst, and a lease goes stale."""
    store = Moody(colour.clock.now)
    one, two = (Throttle("1/s burst 25", lease=10, store=store, name="api") for _ in range(2))
    assert [await tried(colour, one) for _ in range(10)] == [True] * 10
    assert store.asked == 1
    taken = 10 + sum([await tried(colour, throttle) for _ in range(25) for throttle in (one, two)])
    assert taken == 25
    await colour.sleep(25.0)
    assert await tried(colour, one)
    await colour.sleep(25.0)
    # Nine were left, which the bucket has made up for: they are not used on top of it.
    assert sum([await tried(colour, throttle) for _ in range(40) for throttle in (two, one)]) == 25


@every_colour
async def test_local_stands_in_for_the_store(colour: Colour) -> None:
    """Without the store each process keeps to its share, says so once, and is charged for it afterwards."""
    store = Moody(colour.clock.now)
    throttle = Throttle("1/s burst 10", store=store, name="api", local_share=0.5)
    said: list[object] = []
    throttle.listen(said.append, StoreLost, StoreRecovered)
    assert await tried(colour, throttle)
    store.down = True
    assert sum([await tried(colour, throttle) for _ in range(20)]) == 5
    assert [type(event) for event in said] == [StoreLost]
    assert "connection refused" in str(said[0])
    store.down = False
    await colour.sleep(0.5)
    # Ten less the one before and half a one that has come in, less the five, of which a quarter has come back here.
    assert sum([await tried(colour, throttle) for _ in range(20)]) == 4
    assert [type(event) for event in said] == [StoreLost, StoreRecovered]


@every_colour
async def test_an_outage_hands_out_no_burst_twice(colour: Colour) -> None:
    """A store that comes and goes gives nobody a new local burst each time."""
    store = Moody(colour.clock.now)
    throttle = Throttle("1/s burst 10", store=store, name="api")
    taken = 0
    for _ in range(10):
        store.down = not store.down
        for _ in range(3):
            taken += sum([await tried(colour, throttle) for _ in range(15)])
            await colour.sleep(0.5)
    # A burst here and a burst there, and the rate of either in its time.
    assert taken <= 10 + 10 + 15


@every_colour
async def test_the_store_is_asked_again_by_one_caller_each_half_second(colour: Colour) -> None:
    """While it is away, the store hears one question every half second, whoever calls."""
    store = Moody(colour.clock.now)
    throttle = Throttle("1000/s", store=store, name="api")
    store.down = True
    for _ in range(40):
        for _ in range(5):
            await tried(colour, throttle)
        await colour.sleep(0.125)
    assert 9 <= store.asked <= 11


@every_colour
async def test_deny_refuses_without_the_store(colour: Colour) -> None:
    """With "deny", asking is False and a call raises `StoreUnavailable`, which names the policy and the cause."""
    store = Moody(colour.clock.now)
    throttle = Throttle("1/s", store=store, name="api", on_store_error="deny")
    store.down = True
    assert not await tried(colour, throttle)
    with pytest.raises(StoreUnavailable, match=r"api.*connection refused") as caught:
        await colour.call(throttle, colour.function([]))
    assert not isinstance(caught.value.__cause__, ConnectionError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@every_colour
async def test_allow_lets_everything_through_without_the_store(colour: Colour) -> None:
    """With "allow", nothing is refused while the store is away."""
    store = Moody(colour.clock.now)
    throttle = Throttle("1/minute", store=store, name="api", on_store_error="allow")
    store.down = True
    assert all([await tried(colour, throttle) for _ in range(20)])
    assert await colour.call(throttle, colour.function(["page"])) == "page"


@every_colour
async def test_a_refusal_is_told(colour: Colour) -> None:
    """A refusal by the store is a `CallRejected` with its wait, as any other is."""
    throttle = Throttle("1/s", store=MemoryStore(clock=colour.clock.now), name="api")
    heard: list[CallRejected] = []
    throttle.listen(heard.append, CallRejected)
    await tried(colour, throttle)
    await tried(colour, throttle)
    assert [(event.reason, event.retry_after) for event in heard] == [("rate", 1.0)]


@every_colour
async def test_a_reset_fills_the_shared_bucket(colour: Colour) -> None:
    """After a reset by one, the other finds the bucket full."""
    store = MemoryStore(clock=colour.clock.now)
    one, two = (Throttle("1/s burst 2", store=store, name="api") for _ in range(2))
    assert await tried(colour, one, cost=2)
    await two.reset_async() if colour.is_async else two.reset()
    assert await tried(colour, one, cost=2)


def test_a_store_needs_a_name_and_is_checked() -> None:
    """A store without a name, no store at all and an unknown way out are refused when the policy is built."""
    store = MemoryStore()
    with pytest.raises(TypeError, match="needs name="):
        Throttle("1/s", store=store)
    with pytest.raises(TypeError, match="store must have ask"):
        Throttle("1/s", store=object(), name="api")
    with pytest.raises(ValueError, match='"local", "allow" or "deny"'):
        Throttle("1/s", store=store, name="api", on_store_error="panic")
    with pytest.raises(ValueError, match="lease"):
        Throttle("1/s", store=store, name="api", lease=0)
    with pytest.raises(ValueError, match="local_share"):
        Throttle("1/s", store=store, name="api", local_share=1.5)


def test_replace_may_take_the_store_away() -> None:
    """`replace` makes a throttle with or without a store, whatever this one has."""
    store = MemoryStore()
    shared = Throttle("1/s", store=store, name="api")
    alone = shared.replace(store=None)
    assert type(alone) is Throttle
    assert alone.try_acquire()
    assert shared.try_acquire()
    assert not alone.replace(store=store).try_acquire()


def test_a_plain_wait_on_a_loop_warns_once() -> None:
    """Waiting in plain form on the thread of an event loop warns that everything on it waits too, once per throttle."""
    clock = VirtualClock()
    throttle = Throttle("1/s", max_wait=5, store=MemoryStore(clock=clock.now), name="api", clock=clock)

    async def main() -> None:
        throttle.acquire()
        with pytest.warns(BlockingWarning, match="api waits on a thread that runs an event loop"):
            throttle.acquire()
        throttle.acquire()

    asyncio.run(main())
    assert clock.now() == 2.0


def test_a_waiter_that_is_interrupted_gives_its_tokens_back() -> None:
    """An interrupt during the wait of plain code undoes the claim in the store."""

    class Interrupted(VirtualClock):
        def sleep(self, seconds: float, /) -> None:
            raise KeyboardInterrupt

    store = MemoryStore(clock=lambda: 0.0)
    throttle = Throttle("1/s", max_wait=5, store=store, name="api", clock=Interrupted())
    throttle.acquire()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            throttle.acquire()
    assert throttle.peek().retry_after == 1.0


def test_junk_from_a_store_is_a_store_error() -> None:
    """Whatever a store answers, and whatever it raises, leads to the local bucket."""

    class Odd(MemoryStore):
        __slots__ = ("answer",)

        def ask(self, *question: object, **options: object) -> object:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    for answer in ([], ["x"], None, [1.0], KeyError("odd"), TypeError("odd")):
        store = Odd()
        store.answer = answer
        throttle = Throttle("1/hour burst 1", store=store, name="api")
        assert [throttle.try_acquire(), throttle.try_acquire()] == [True, False], answer
        breaker = CircuitBreaker(store=store, name="api")
        assert breaker.call(lambda: "page") == "page"
        budget = RetryBudget(capacity=1, per_second=0, store=store, name="api")
        assert [budget.withdraw(), budget.withdraw()] == [True, False]
