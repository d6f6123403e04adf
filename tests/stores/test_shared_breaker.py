"""A breaker whose circuit is in a store: what processes learn from each other, and what one does without the store."""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, CircuitOpen, CircuitState, FailureRate, SlowRate, StoreUnavailable, backoff
from resilience.core.trip import Trip
from resilience.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    Event,
    LateResult,
    StoreLost,
    StoreRecovered,
)
from resilience.stores import MemoryStore, RedisStore
from tests.colours import FORMS, Colour, async_colours, every_colour
from tests.stores.doubles import Moody


def pair(colour: Colour, *terms: object, **options: object) -> tuple[CircuitBreaker, CircuitBreaker, list[Event]]:
    """Two breakers of one name over one store, and the transitions that they tell."""
    store = MemoryStore(clock=colour.clock.now)
    one, two = (CircuitBreaker(*terms, store=store, name="api", **options) for _ in range(2))
    told: list[Event] = []
    for breaker in (one, two):
        breaker.listen(told.append, CircuitOpened, CircuitHalfOpened, CircuitClosed, CircuitIsolated)
    return one, two, told


async def fail(colour: Colour, breaker: CircuitBreaker, form: str = "call") -> None:
    with pytest.raises(OSError, match="down"):
        await colour.call(breaker, colour.function([OSError("down")]), form=form)


@every_colour
@pytest.mark.parametrize("form", FORMS)
async def test_breakers_of_one_name_learn_together(colour: Colour, form: str) -> None:
    """Failures of both open the circuit for both, one trial closes it for both, and each transition is told once."""
    one, two, told = pair(colour, 2, cooldown=10)
    await fail(colour, one, form)
    await fail(colour, two, form)
    with pytest.raises(CircuitOpen) as caught:
        await colour.call(one, colour.function([]), form=form)
    assert caught.value.retry_after == 10.0
    await colour.sleep(10.0)
    await colour.call(one, colour.function(["page"]), form=form)
    assert two.state is CircuitState.CLOSED
    assert [type(event) for event in told] == [CircuitOpened, CircuitHalfOpened, CircuitClosed]


@every_colour
async def test_a_success_anywhere_starts_the_count_anew(colour: Colour) -> None:
    """Failures in a row are in a row over all breakers of the name."""
    one, two, _ = pair(colour, 2)
    await fail(colour, one)
    await colour.call(two, colour.function(["page"]))
    await fail(colour, one)
    assert two.state is CircuitState.CLOSED


@every_colour
async def test_no_more_trials_than_that_run_over_all(colour: Colour) -> None:
    """In half-open the places are shared; a trial that does not end gives its place back after the lease."""
    one, two, _ = pair(colour, 1, cooldown=5, trials=1, trial_lease=2)
    await fail(colour, one)
    await colour.sleep(5.0)
    hangs = colour.guard(one)
    await hangs.__aenter__()
    with pytest.raises(CircuitOpen) as caught:
        await colour.call(two, colour.function([]))
    assert (caught.value.state, caught.value.retry_after) == (CircuitState.HALF_OPEN, 2.0)
    await colour.sleep(2.0)
    late: list[LateResult] = []
    one.listen(late.append, LateResult)
    await colour.call(two, colour.function(["page"]))
    await hangs.__aexit__(None, None, None)
    assert len(late) == 1
    assert one.state is CircuitState.CLOSED


@every_colour
@pytest.mark.parametrize(
    "trip", [FailureRate(0.5, calls=4, minimum_calls=4), FailureRate(0.5, window=60, minimum_calls=4)]
)
async def test_a_rate_counts_the_calls_of_all(colour: Colour, trip: Trip) -> None:
    """A share of failures is a share of all calls, wherever they were made."""
    one, two, _ = pair(colour, trip)
    for breaker in (one, two):
        await colour.call(breaker, colour.function(["page"]))
        await fail(colour, breaker)
    assert one.state is two.state is CircuitState.OPEN


@every_colour
async def test_a_slow_call_counts_when_it_ends(colour: Colour) -> None:
    """A call that took longer than the bound counts against the circuit at its end."""
    one, two, _ = pair(colour, SlowRate(1.0, slower_than=2, calls=2, minimum_calls=2))
    await colour.call(one, colour.function([(3.0, "page")]))
    assert two.state is CircuitState.CLOSED
    await colour.call(two, colour.function([(3.0, "page")]))
    assert one.state is CircuitState.OPEN


@every_colour
async def test_a_cooldown_grows_over_all(colour: Colour) -> None:
    """Each opening since the last close lengthens the cooldown for all."""
    one, two, _ = pair(colour, 1, cooldown=backoff.exponential(base=1, factor=2, jitter="none"))
    for breaker, cooldown in ((one, 1.0), (two, 2.0), (one, 4.0)):
        await fail(colour, breaker)
        with pytest.raises(CircuitOpen) as caught:
            await colour.call(two, colour.function([]))
        assert caught.value.retry_after == cooldown
        await colour.sleep(cooldown)


@every_colour
async def test_an_isolation_holds_for_all_until_the_last_is_released(colour: Colour) -> None:
    """Isolations are counted over all breakers of the name."""
    one, two, told = pair(colour, 5)
    first, second = one.isolate("deploy"), two.isolate()
    assert first.release()
    with pytest.raises(CircuitOpen) as caught:
        await colour.call(one, colour.function([]))
    assert (caught.value.state, caught.value.retry_after) == (CircuitState.ISOLATED, None)
    assert second.release()
    assert not second.release()
    assert await colour.call(one, colour.function(["page"])) == "page"
    assert [type(event) for event in told] == [CircuitIsolated, CircuitClosed]


@every_colour
async def test_a_local_circuit_carries_on_where_the_shared_one_was(colour: Colour) -> None:
    """An open circuit stays open when the store is lost, local failures open it, and the store's word counts again."""
    store = Moody(colour.clock.now)
    breaker = CircuitBreaker(1, store=store, name="api", cooldown=10)
    told: list[Event] = []
    breaker.listen(told.append, StoreLost, StoreRecovered)
    await fail(colour, breaker)
    with pytest.raises(CircuitOpen):
        await colour.call(breaker, colour.function([]))
    store.down = True
    with pytest.raises(CircuitOpen):
        await colour.call(breaker, colour.function([]))
    await colour.sleep(10.0)
    await fail(colour, breaker)
    with pytest.raises(CircuitOpen):
        await colour.call(breaker, colour.function([]))
    store.down = False
    await colour.sleep(1.0)
    assert await colour.call(breaker, colour.function(["page"])) == "page"
    assert breaker.state is CircuitState.CLOSED
    assert [type(event) for event in told] == [StoreLost, StoreRecovered]


@every_colour
async def test_a_result_that_cannot_be_told_counts_here(colour: Colour) -> None:
    """A store that goes away during a call does not hide its failure, and the call raises its own error."""
    store = Moody(colour.clock.now)
    breaker = CircuitBreaker(1, store=store, name="api")
    with pytest.raises(OSError, match="down"):
        async with colour.guard(breaker):
            store.down = True
            raise OSError("down")
    with pytest.raises(CircuitOpen):
        await colour.call(breaker, colour.function([]))


@every_colour
@pytest.mark.parametrize("way", ["allow", "deny"])
async def test_allow_and_deny_do_without_a_circuit(colour: Colour, way: str) -> None:
    """Without the store, "allow" makes every call and "deny" raises `StoreUnavailable`."""
    store = Moody(colour.clock.now)
    breaker = CircuitBreaker(1, store=store, name="api", on_store_error=way)
    store.down = True
    if way == "deny":
        with pytest.raises(StoreUnavailable, match="refused"):
            await colour.call(breaker, colour.function([]))
    else:
        for _ in range(3):
            await fail(colour, breaker)
        assert await colour.call(breaker, colour.function(["page"])) == "page"


@async_colours
async def test_a_cancelled_trial_gives_its_place_back_at_once(colour: Colour) -> None:
    """A trial that is cancelled is settled in spite of it: the place is free without waiting for the lease."""
    one, two, _ = pair(colour, 1, cooldown=5, trial_lease=1000)
    await fail(colour, one)
    await colour.sleep(5.0)
    hang = colour.gate()

    async def hangs() -> None:
        await hang.wait()

    job = colour.start(lambda: one.call_async(hangs))
    await colour.until(lambda: one.snapshot()["trials"] == 1)
    job.cancel()
    await job.outcome()
    assert await colour.call(two, colour.function(["page"])) == "page"


def test_an_abandoned_trial_is_given_back_by_the_next_caller() -> None:
    """A generator that is thrown away holds its place until somebody asks again."""
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0])
    breaker = CircuitBreaker(1, store=store, name="api", cooldown=5, trial_lease=1000)
    with pytest.raises(OSError, match="down"):
        breaker.call(_raise)
    now[0] = 5.0

    @breaker
    def steps() -> object:
        yield 1

    trial = steps()
    assert next(trial) == 1
    trial.close()
    assert breaker.call(lambda: "page") == "page"


def _raise() -> None:
    raise OSError("down")


@pytest.mark.parametrize("form", ["memory", "server"])
def test_a_snapshot_is_what_the_store_said_last(form: str, store: RedisStore) -> None:
    """`snapshot` asks nobody, and shows what the last answer was, by the clock here."""
    shared = store if form == "server" else MemoryStore()
    breaker = CircuitBreaker(1, store=shared, name="api", cooldown=60)
    with pytest.raises(OSError, match="down"):
        breaker.call(_raise)
    seen = breaker.snapshot()
    assert (seen["state"], seen["shared"], seen["store_lost"]) == ("open", True, False)
    assert 59.0 < seen["retry_after"] <= 60.0
    assert seen["last_error"] == ["OSError", "down"]


def test_only_what_a_store_can_count_is_taken() -> None:
    """A trip of one's own cannot be shared, and neither can a breaker without a name."""

    class Mine(Trip):
        def start(self) -> object:
            return object()

    with pytest.raises(TypeError, match="a store counts"):
        CircuitBreaker(Mine(), store=MemoryStore(), name="api")
    with pytest.raises(TypeError, match="needs name="):
        CircuitBreaker(store=MemoryStore())
    assert type(CircuitBreaker(store=MemoryStore(), name="api").replace(store=None)) is CircuitBreaker
