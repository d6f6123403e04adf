"""The throttle as callers meet it: what it grants, refuses, reserves and settles."""

from __future__ import annotations

import asyncio
import json
import pickle
from math import inf, nextafter
from typing import Any

import pytest

from resilience import Pipeline, Priority, Quota, Rate, Retry, Throttle, Throttled, context, listen
from resilience.events import CallRejected, KeysFull
from resilience.testing import VirtualClock, virtual_time
from tests.colours import FORMS, Colour, every_colour


def at(start: float = 1000.0) -> VirtualClock:
    """A clock that stands until it is told to go on."""
    return VirtualClock(start)


async def acquire(colour: Colour, throttle: Throttle, **terms: Any) -> None:
    """Acquire in a colour."""
    if colour.is_async:
        await throttle.acquire_async(**terms)
    else:
        throttle.acquire(**terms)


def refusal(throttle: Throttle, **terms: Any) -> Throttled:
    """The error with which a call is refused."""
    with pytest.raises(Throttled) as caught:
        throttle.acquire(max_wait=0, **terms)
    return caught.value


# --- granting and refusing


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_a_burst_passes_and_the_rest_is_refused(colour: Colour, form: str) -> None:
    """In every form and colour: burst calls at once, then a refusal that says when to come back, then the rate."""
    throttle = Throttle("10/s burst 3", name="api", clock=colour.clock)
    fn = colour.function(["done", ...])
    for _ in range(3):
        await colour.call(throttle, fn, form=form)
    with pytest.raises(Throttled) as caught:
        await colour.call(throttle, fn, form=form)
    assert (caught.value.policy, caught.value.reason) == ("api", "rate")
    assert caught.value.retry_after == pytest.approx(0.1)
    await colour.sleep(caught.value.retry_after)
    await colour.call(throttle, fn, form=form)
    assert len(fn.calls) == 4, "a refused call is not made"


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_calls_wait_for_their_turn(colour: Colour, form: str) -> None:
    """With max_wait, calls are spread out to the rate, and one that would come too late is refused at once."""
    throttle = Throttle("10/s burst 1", max_wait=0.25, clock=colour.clock)
    fn = colour.function(["done", ...])
    if colour.is_async:
        outcomes = await colour.together(*[lambda: colour.call(throttle, fn, form=form)] * 4)
        assert [isinstance(each, Throttled) for each in outcomes].count(True) == 1
        assert sorted(fn.times) == pytest.approx([0.0, 0.1, 0.2])
    else:
        # One caller after the other: each waits for its own turn, and none for longer than a tenth.
        assert [await colour.call(throttle, fn, form=form) for _ in range(4)] == ["done"] * 4
        assert fn.times == pytest.approx([0.0, 0.1, 0.2, 0.3])
        with pytest.raises(Throttled):
            throttle.acquire(max_wait=0.05)


def test_retry_after_is_enough_after_thirty_years() -> None:
    """Sleeping exactly retry_after suffices where the clock's last place is a tenth of a microsecond."""
    for rate in ("3/s", "7/minute", "100/minute", "0.3/s"):
        clock = at(1e9)
        throttle = Throttle(rate, burst=2, clock=clock)
        while throttle.try_acquire():
            pass
        for _ in range(50):
            clock.sleep(refusal(throttle).retry_after or 0.0)
            assert throttle.try_acquire()
            assert not throttle.try_acquire()


def test_a_token_is_there_at_its_time_and_not_before() -> None:
    """At retry_after less one place of the clock the call is refused, and that costs nothing."""
    clock = at(1000.0)
    throttle = Throttle("1 per 8 s", clock=clock)
    assert throttle.try_acquire()
    clock.advance(nextafter(1008.0, 0.0) - 1000.0)
    assert not throttle.try_acquire()
    clock.advance(1008.0 - clock.now())
    assert throttle.try_acquire()


def test_a_cost_above_the_burst_can_never_pass() -> None:
    """Such a cost is an error that names both, never a wait."""
    throttle = Throttle("10/s burst 5", clock=at())
    with pytest.raises(ValueError, match=r"cost of 6.*burst of 5"):
        throttle.try_acquire(cost=6)
    with pytest.raises(ValueError, match=r"cost of 20.*burst of 10"):
        Throttle("10/s", cost=20)
    assert throttle.try_acquire(cost=5), "an error costs nothing"


def test_several_rates_are_one_check() -> None:
    """What one rate refuses takes nothing from the others."""
    clock = at()
    throttle = Throttle("10/s burst 10", "20/minute burst 12", clock=clock)
    assert sum(throttle.try_acquire() for _ in range(20)) == 10
    clock.advance(1.0)
    assert sum(throttle.try_acquire() for _ in range(20)) == 2
    assert [rate["remaining"] for rate in throttle.snapshot()["rates"]] == pytest.approx([8.0, 1 / 3])


def test_resources_are_charged_by_name() -> None:
    """A mapping charges each resource, a number charges calls, and what is omitted costs nothing."""
    throttle = Throttle("500 calls/minute; 200_000 tokens/minute burst 1000", clock=at())
    assert throttle.try_acquire(cost={"calls": 1, "tokens": 900})
    assert not throttle.try_acquire(cost={"tokens": 101})
    assert throttle.try_acquire(cost=499) and not throttle.try_acquire()
    assert throttle.try_acquire(cost={"tokens": 100})
    with pytest.raises(ValueError, match=r"'images'.*'calls', 'tokens'"):
        throttle.try_acquire(cost={"images": 1})
    with pytest.raises(ValueError, match=r"name its resource.*images.*words"):
        Throttle("5 images/s; 5 words/s")
    assert Throttle("5 images/s", clock=at()).try_acquire(cost=5), "the only resource need not be named"


def test_a_cost_may_come_from_the_arguments() -> None:
    """A callable cost sees the call's arguments; without a call the cost has to be said."""
    throttle = Throttle("10/s", cost=lambda text, times=1: len(text) * times, clock=at())
    say = throttle(lambda text, times=1: text * times)
    assert say("abc", times=2) == "abcabc"
    with pytest.raises(Throttled):
        say("abcde")
    assert say("abcd") == "abcd"
    with pytest.raises(TypeError, match="say cost="):
        throttle.try_acquire()
    with pytest.raises(ValueError, match="burst of 10"):
        say("a" * 11)


# --- keys


def test_each_key_has_a_bucket_of_its_own() -> None:
    """One key neither delays nor uses up another."""
    throttle = Throttle("1/s", clock=at())
    assert throttle.try_acquire(key="a") and not throttle.try_acquire(key="a")
    assert throttle.try_acquire(key="b") and throttle.try_acquire(key=7) and throttle.try_acquire(key=("a", 7))
    assert throttle.try_acquire(), "nor does it touch the bucket without a key"


@every_colour
async def test_a_key_may_be_an_argument(colour: Colour) -> None:
    """The key is the argument of that name, by position, by keyword or by default."""
    throttle = Throttle("1/hour", key="user", clock=colour.clock)
    if colour.is_async:

        @throttle
        async def report(day: int, user: str = "nobody", *rest: int) -> str:
            return user
    else:

        @throttle
        def report(day: int, user: str = "nobody", *rest: int) -> str:
            return user

    assert await colour.invoke(report, 1, "ann") == "ann"
    assert await colour.invoke(report, 1, user="bob") == "bob"
    assert await colour.invoke(report, 1) == "nobody"
    for arguments in ((2, "ann"), (2, "bob"), (2,)):
        with pytest.raises(Throttled):
            await colour.invoke(report, *arguments)


def test_a_key_may_be_a_callable_and_a_method_has_arguments_too() -> None:
    """A callable key sees the call's arguments, the object of a method included."""
    by_call = Throttle("1/hour", key=lambda self, item: (self.name, item), clock=at())
    by_name = Throttle("1/hour", key="item", clock=at())

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @by_call
        def sell(self, item: str) -> str:
            return f"{self.name} sells {item}"

        @by_name
        def buy(self, item: str) -> str:
            return f"{self.name} buys {item}"

    one, two = Shop("one"), Shop("two")
    assert one.sell("tea") and two.sell("tea") and one.sell("milk") and one.buy("tea")
    with pytest.raises(Throttled):
        one.sell("tea")
    with pytest.raises(Throttled):
        two.buy(item="tea")


def test_what_a_key_must_be_is_said_in_time() -> None:
    """A wrong name is an error when decorating; a missing or wrong key when calling."""
    throttle = Throttle("1/s", key="user", clock=at())
    with pytest.raises(TypeError, match=r"'user'.*has: day"):
        throttle(lambda day: day)
    with pytest.raises(TypeError, match="say key="):
        throttle.try_acquire()
    with pytest.raises(TypeError, match="say key="):
        throttle.peek()
    with pytest.raises(TypeError, match="say key="), throttle.guard():
        pass
    for key in (1.5, True, None, b"a", ["a"], ("a", 1.5), (("a",),)):
        with pytest.raises(TypeError, match="key"):
            throttle.try_acquire(key=key)  # type: ignore[arg-type]
    assert throttle.try_acquire(key="ann"), "an explicit key wins"


def test_an_explicit_key_or_cost_wins() -> None:
    """What is said by hand goes before what the throttle would have taken."""
    throttle = Throttle("10/s", key=lambda: "calls", cost=lambda: 5, clock=at())
    assert throttle.try_acquire(key="by hand", cost=10) and not throttle.try_acquire(key="by hand", cost=1)
    assert throttle.call(lambda: "done") == "done"
    with throttle.guard(key="calls", cost=5):
        pass
    with pytest.raises(Throttled):
        throttle.call(lambda: "done")


def test_key_number_100_001_never_resets_key_1() -> None:
    """With the table full of keys that have used up their tokens, an unknown key is refused, and that is said once."""
    clock = at()
    throttle = Throttle("1/hour burst 2", max_keys=100_000, name="users", clock=clock)
    heard: list[object] = []
    throttle.listen(heard.append, KeysFull)
    for number in range(1, 100_001):
        assert throttle.try_acquire(key=number)
    assert throttle.try_acquire(key=1) and not throttle.try_acquire(key=1)
    for number in range(100_001, 100_201):
        assert not throttle.try_acquire(key=number)
    error = refusal(throttle, key=100_001)
    assert (error.reason, error.retry_after) == ("keys", None) and "no room for another key" in str(error)
    assert heard == [KeysFull("users", "throttle", 1000.0, max_keys=100_000)]
    assert not throttle.try_acquire(key=1), "key 1 is as it was"
    clock.advance(3600)
    assert throttle.try_acquire(key=100_001), "a full bucket was forgotten"
    assert throttle.snapshot()["keys"] == 100_000


def test_a_new_episode_of_full_keys_is_said_again() -> None:
    """KeysFull is sent once from the first key turned away until room is found."""
    clock = at()
    throttle = Throttle("1/s", max_keys=1, clock=clock)
    heard: list[object] = []
    throttle.listen(heard.append, KeysFull)
    for _ in range(2):
        assert throttle.try_acquire(key=f"at {clock.now()}")
        assert not any(throttle.try_acquire(key=f"more {number}") for number in range(10))
        clock.advance(1.0)
    assert len(heard) == 2


# --- priorities


def test_headroom_is_kept_from_what_matters_less() -> None:
    """The last tokens of the burst are for those that matter more."""
    throttle = Throttle("1/s burst 10", headroom={Priority.SHEDDABLE: 0.5, Priority.DEFAULT: 0.1}, clock=at())
    granted = []
    for priority in (Priority.SHEDDABLE, Priority.DEFAULT, Priority.CRITICAL):
        with context.priority(priority):
            granted.append(sum(throttle.try_acquire() for _ in range(20)))
            assert not throttle.peek().remaining
    assert granted == [5, 4, 1]


def test_headroom_counts_in_waits_and_limits() -> None:
    """For a call of a lower priority, the burst is what is left of it; a cost above that is an error."""
    clock = at()
    throttle = Throttle("1/s burst 10", headroom={Priority.SHEDDABLE: 0.5}, clock=clock)
    with context.priority(Priority.SHEDDABLE):
        assert throttle.try_acquire(cost=5)
        assert refusal(throttle, cost=2).retry_after == 2.0
        with pytest.raises(ValueError, match=r"burst of 10 less a headroom of 5"):
            throttle.try_acquire(cost=6)
        throttle.acquire(cost=2, max_wait=2)
        assert clock.now() == 1002.0
    assert throttle.try_acquire(cost=5)
    with pytest.raises(ValueError, match="headroom"):
        Throttle("1/s", headroom={Priority.DEFAULT: 0.1})
    with pytest.raises(ValueError, match="lower priority"):
        Throttle("10/s", headroom={Priority.SHEDDABLE: 0.1, Priority.DEFAULT: 0.2})


# --- reservations


def test_a_reservation_says_when() -> None:
    """Tokens are taken in advance, one reservation after the other."""
    clock = at()
    throttle = Throttle("1/s burst 2", clock=clock)
    assert [throttle.reserve().delay for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
    assert refusal(throttle).retry_after == pytest.approx(3.0)
    with pytest.raises(Throttled) as caught:
        throttle.reserve(max_wait=2.5)
    assert caught.value.retry_after == pytest.approx(3.0)
    clock.advance(2.5)
    assert not throttle.try_acquire()
    clock.advance(0.6)
    assert throttle.try_acquire()


def test_a_cancelled_reservation_gives_back_once() -> None:
    """What was not used comes back; a second cancel or settle does nothing and says so."""
    throttle = Throttle("1/s burst 5", clock=at())
    assert throttle.try_acquire(cost=5)
    before = throttle.peek()
    turn = throttle.reserve(cost=3)
    assert (turn.delay, repr(turn)) == (3.0, "<Reservation in 3 s>")
    assert turn.cancel() is True
    assert (turn.cancel(), turn.settle(1)) == (False, False)
    assert throttle.peek() == before
    now = throttle.reserve(cost=1, max_wait=inf)
    assert now.settle(0.5) is True and now.cancel() is False


def test_a_settled_reservation_costs_what_it_cost() -> None:
    """Before its time and after it, less comes back and more is a debt."""
    clock = at()
    throttle = Throttle("1/s burst 5", clock=clock)
    first, second, third = (throttle.reserve(cost=cost) for cost in (5, 2, 2))
    assert [first.delay, second.delay, third.delay] == [0.0, 2.0, 4.0]
    assert third.settle(1)
    assert refusal(throttle).retry_after == pytest.approx(4.0)
    assert second.settle(4)
    assert refusal(throttle).retry_after == pytest.approx(6.0)
    clock.advance(6.1)
    assert throttle.try_acquire()
    with pytest.raises(ValueError, match="settled cost"):
        throttle.reserve().settle(-1)


@every_colour
async def test_the_async_twins_do_the_same(colour: Colour) -> None:
    """Every method that may reach a store has a twin that can be awaited."""
    throttle = Throttle("1/s burst 2", clock=colour.clock)

    async def scenario() -> list[Any]:
        turn = await throttle.reserve_async(cost=2)
        seen: list[Any] = [await throttle.try_acquire_async(), (await throttle.peek_async()).remaining]
        seen += [await turn.settle_async(1), await turn.cancel_async()]
        await throttle.acquire_async()
        seen.append(await throttle.try_acquire_async())
        await throttle.reset_async()
        seen.append((await throttle.peek_async()).remaining)
        return seen

    if colour.is_async:
        assert await scenario() == [False, 0.0, True, False, False, 2.0]
    else:
        turn = throttle.reserve(cost=2)
        assert [throttle.try_acquire(), turn.settle(1), turn.cancel()] == [False, True, False]


# --- settling


@every_colour
async def test_a_decorated_call_settles_to_what_it_really_cost(colour: Colour) -> None:
    """The estimate is taken before, the difference is charged or given back after."""
    throttle = Throttle(
        "60 calls/minute; 600 tokens/minute burst 100",
        cost={"calls": 1, "tokens": 50},
        settle=lambda used: {"tokens": used},
        clock=colour.clock,
    )
    fn = colour.function([10, 130, 50, OSError("down"), ...])
    remaining = []
    for _ in range(2):
        await colour.call(throttle, fn)
        remaining.append([rate["remaining"] for rate in throttle.snapshot()["rates"]])
    assert remaining == [[59.0, 90.0], [58.0, 0.0]]
    with pytest.raises(Throttled) as caught:
        await colour.call(throttle, fn)
    assert caught.value.retry_after == pytest.approx(9.0), "forty of debt and fifty of cost at ten a second"
    await colour.sleep(9.0)
    await colour.call(throttle, fn)
    await colour.sleep(5.0)
    with pytest.raises(OSError, match="down"):
        await colour.call(throttle, fn)
    assert throttle.snapshot()["rates"][1]["remaining"] == 0.0, "a failed call costs the estimate"
    assert not throttle._pending


@every_colour
async def test_a_block_settles_by_hand(colour: Colour) -> None:
    """In a block, g.settle says the cost, once; a block that says nothing costs the estimate."""
    throttle = Throttle("10/s", clock=colour.clock)
    async with colour.guard(throttle, cost=5) as g:
        assert (g.settle(2), g.settle(9)) == (True, False)
    assert throttle.peek().remaining == 8.0
    async with colour.guard(throttle, cost=5):
        pass
    assert throttle.peek().remaining == 3.0
    with pytest.raises(OSError, match="down"):
        async with colour.guard(throttle, cost=3):
            raise OSError("down")
    assert throttle.peek().remaining == 0.0 and not throttle._pending
    with pytest.raises(Throttled):
        async with colour.guard(throttle, cost=1, max_wait=0.05):
            pytest.fail("a refused block runs")
    async with colour.guard(throttle, cost=1, max_wait=0.1):
        assert colour.clock.now() == pytest.approx(0.1)


def test_a_settle_that_returns_junk_is_an_error_that_names_it() -> None:
    """A settled cost that is none is never silently ignored."""
    for junk in ("much", -1, float("nan"), None):
        throttle = Throttle("10/s", settle=lambda result: result, clock=at())
        with pytest.raises((TypeError, ValueError), match="settled cost"):
            throttle.call(lambda junk=junk: junk)
        assert not throttle._pending


# --- looking


def test_peek_says_what_is_left() -> None:
    """Limit, what remains, when all is back, and when one call passes."""
    clock = at()
    throttle = Throttle("2/s burst 10", clock=clock)
    assert throttle.peek() == Quota(10.0, 10.0, 0.0, 0.0)
    assert throttle.try_acquire(cost=10)
    assert throttle.peek() == Quota(10.0, 0.0, 5.0, 0.5)
    clock.advance(1.0)
    assert throttle.peek() == Quota(10.0, 2.0, 4.0, 0.0)
    assert throttle.peek(key="other").remaining == 10.0
    throttle.reset()
    assert throttle.peek() == Quota(10.0, 10.0, 0.0, 0.0)


def test_peek_shows_the_rate_that_matters() -> None:
    """Of several rates the one that refuses longest, else the one with the least share left."""
    throttle = Throttle("10/s burst 10", "6/minute burst 4", clock=at())
    assert throttle.peek().limit == 10.0
    assert throttle.try_acquire()
    assert (throttle.peek().limit, throttle.peek().remaining) == (4.0, 3.0)
    assert throttle.try_acquire(cost=3)
    assert (throttle.peek().limit, throttle.peek().retry_after) == (4.0, 10.0)


def test_a_snapshot_is_ready_for_json() -> None:
    """Status pages get plain values."""
    throttle = Throttle("2/s burst 10; 5 tokens/s", name="api", clock=at())
    throttle.try_acquire(cost={"calls": 1, "tokens": 2})
    throttle.try_acquire(key="a")
    view = throttle.snapshot()
    assert json.loads(json.dumps(view)) == view
    assert view == {
        "name": "api",
        "kind": "throttle",
        "keys": 1,
        "waiting": 0,
        "rates": [
            {"of": "calls", "amount": 2.0, "per": 1.0, "burst": 10.0, "remaining": 9.0},
            {"of": "tokens", "amount": 5.0, "per": 1.0, "burst": 5.0, "remaining": 3.0},
        ],
    }
    assert "remaining" not in Throttle("1/s", key="user").snapshot()["rates"][0]


def test_refusals_are_told_to_who_listens() -> None:
    """One CallRejected for each call that was refused, in whatever form."""
    throttle = Throttle("1/s", name="api", clock=at())
    heard: list[object] = []
    stop = listen(heard.append, CallRejected)
    try:
        throttle.try_acquire()
        throttle.try_acquire()
        with pytest.raises(Throttled):
            throttle.call(lambda: None)
    finally:
        stop()
    rejected = CallRejected("api", "throttle", 1000.0, reason="rate", retry_after=1.0)
    assert heard == [rejected, rejected]


# --- shape


def test_replace_and_repr_say_what_it_is() -> None:
    """A changed copy has fresh state; the repr is how it would be written."""
    throttle = Throttle("1/s", Rate(5, per=60), max_wait=2, clock=None)
    assert repr(throttle) == "Throttle('1/s', Rate(5, per=60), max_wait=2)"
    assert throttle.try_acquire()
    other = throttle.replace(max_wait=3)
    assert other.try_acquire() and repr(other) == "Throttle('1/s', Rate(5, per=60), max_wait=3)"
    assert repr(throttle.replace(rates="9/s")) == "Throttle('9/s', max_wait=2)"


def test_a_refusal_pickles() -> None:
    """The error can cross to another process."""
    throttle = Throttle("1/s", name="api", clock=at())
    throttle.try_acquire()
    error = pickle.loads(pickle.dumps(refusal(throttle)))
    assert (str(error), error.retry_after) == ("api: the rate is used up; try again in 1 s", 1.0)


def test_generators_are_gated_from_their_first_step() -> None:
    """A generator costs nothing until it runs."""
    throttle = Throttle("1/s", clock=at())

    @throttle
    def numbers() -> Any:
        yield 1
        yield 2

    unused, used, refused = numbers(), numbers(), numbers()
    assert list(used) == [1, 2]
    with pytest.raises(Throttled):
        next(refused)
    unused.close()


def test_a_coroutine_that_is_never_awaited_costs_nothing() -> None:
    """Nothing is taken before the first step."""
    throttle = Throttle("1/s", clock=at())

    @throttle
    async def work() -> str:
        return "done"

    work().close()
    throttle.acquire_async().close()
    assert asyncio.run(work()) == "done"


def test_tokens_are_spent_when_granted_and_refusals_are_neutral() -> None:
    """A retry outside a throttle pays for each attempt and does not retry what was refused, unless told to."""
    clock = at()
    throttle = Throttle("1/s burst 2", clock=clock)
    calls: list[float] = []

    def fails() -> None:
        calls.append(clock.now())
        raise OSError("down")

    plain = Pipeline(Retry(on=OSError, attempts=3, backoff=0, clock=clock), throttle)
    with pytest.raises(Throttled):
        plain.call(fails)
    assert calls == [1000.0, 1000.0]
    patient = Pipeline(Retry(on=(OSError, Throttled), attempts=2, backoff=0, clock=clock), throttle)
    with pytest.raises(OSError, match="down"):
        patient.call(fails)
    assert calls[2:] == [1001.0]


def test_virtual_time_reaches_a_throttle_built_before() -> None:
    """Inside the block waiting takes no time, afterwards the bucket is as it was."""
    throttle = Throttle("1/hour burst 1", max_wait=inf)
    assert throttle.try_acquire()
    with virtual_time() as clock:
        throttle.acquire()
        throttle.acquire()
        assert clock.sleeps == pytest.approx([3600.0, 3600.0], rel=1e-3)
    assert not throttle.try_acquire()
    assert throttle.peek().retry_after == pytest.approx(3600.0, rel=1e-3)


def test_virtual_time_reaches_waiting_tasks() -> None:
    """The same on an event loop, for all who wait."""
    throttle = Throttle("1/hour burst 1", max_wait=inf)
    assert throttle.try_acquire()

    async def scenario() -> float:
        async with virtual_time() as clock:
            started = clock.now()
            await asyncio.gather(*[throttle.acquire_async() for _ in range(5)])
            return clock.now() - started

    assert asyncio.run(scenario()) == pytest.approx(5 * 3600, rel=1e-3)
    assert not throttle.try_acquire()
