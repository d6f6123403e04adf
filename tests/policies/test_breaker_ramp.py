"""The way back to full load: the ramp after a close, in every colour and every call form."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
from datetime import timedelta
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Consecutive, FailureRate, Keyed, Retry, SlowRate
from resilience.events import CallRejected, CircuitClosed, CircuitHalfOpened, CircuitOpened
from resilience.testing import VirtualClock, virtual_time
from tests.colours import Colour, every_colour
from tests.policies.test_breaker import Boom, after, in_every_form, outcome_of, through, works


def closing(clock: VirtualClock, **parameters: Any) -> CircuitBreaker:
    """A breaker that a trial has just closed, with a ramp of ten seconds."""
    breaker = CircuitBreaker(**{"trip": 1, "on": Boom, "cooldown": 5, "ramp": 10, "clock": clock} | parameters)
    breaker.open()
    clock.advance(5)
    assert breaker.call(lambda: "fine") == "fine" and breaker.state == "closed"
    return breaker


@in_every_form
@every_colour
async def test_the_share_grows_in_every_form(colour: Colour, form: str) -> None:
    """Through every form alike, a few at first, half of them half-way, all at the end; the others are refused."""
    chance = random.Random(3).random
    breaker = CircuitBreaker(1, on=Boom, cooldown=5, ramp=10, rng=chance, clock=colour.clock)
    breaker.open()
    await colour.sleep(5)
    assert await through(colour, breaker, form, works) == "fine"
    admitted = []
    for _ in range(10):
        outcomes = [await outcome_of(through(colour, breaker, form, works)) for _ in range(20)]
        admitted.append(outcomes.count("fine"))
        assert all(outcome == "fine" or type(outcome) is CircuitOpen for outcome in outcomes)
        await colour.sleep(1)
    assert admitted == pytest.approx([2 * n for n in range(10)], abs=1)
    assert [await through(colour, breaker, form, works) for _ in range(5)] == ["fine"] * 5


@pytest.mark.parametrize("trip", [Consecutive(5), FailureRate(), SlowRate(slower_than=9)], ids=repr)
def test_the_admitted_share_is_within_two_percent_of_the_line(trip: Any) -> None:
    """In 20 seeds, whatever trips it: calls at any moments, counted in each tenth of the ramp."""
    worst = 0.0
    for seed in range(20):
        clock, chance = VirtualClock(), random.Random(seed)
        breaker = closing(clock, trip=trip, rng=chance.random)
        for tenth in range(10):
            admitted, shares = 0, 0.0
            for _ in range(150):
                shares += (clock.now() - 5) / 10
                with contextlib.suppress(CircuitOpen):
                    admitted += breaker.call(lambda: 1)
                clock.advance(1 / 150)
            worst = max(worst, abs(admitted - shares) / 150)
            assert shares / 150 == pytest.approx((tenth + 0.5) / 10, abs=0.01)
    print(f"\nramp of {trip}: at most {worst:.2%} from the straight line, asked 2 %")
    assert worst <= 0.02


def test_a_refusal_of_the_ramp_says_so() -> None:
    """`CircuitOpen` with state closed, a moment of the rest of the ramp, and the last error; it pickles."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=5, ramp=10, rng=lambda: 0.75, name="db", clock=clock)
    heard: list[CallRejected] = []
    breaker.listen(heard.append, CallRejected)
    after(breaker, Boom("down"))
    clock.advance(5)
    breaker.call(int)
    clock.advance(5)
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(int)
    assert (refused.value.state, refused.value.retry_after) == ("closed", 2.5)
    assert refused.value.last_error == ("Boom", "down")
    assert pickle.loads(pickle.dumps(refused.value)).retry_after == 2.5
    assert [(event.reason, event.retry_after) for event in heard] == [("ramp", 2.5)]
    assert breaker.call(lambda: "fine") == "fine"
    view = json.loads(json.dumps(breaker.snapshot()))
    assert (view["state"], view["retry_after"], view["since"]) == ("closed", None, 5.0)


def test_a_ramp_tells_no_events_of_its_own() -> None:
    """B3: a transition is told once, whatever follows it."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=5, ramp=10, clock=clock)
    heard: list[Any] = []
    breaker.listen(heard.append, CircuitOpened, CircuitHalfOpened, CircuitClosed)
    breaker.open()
    clock.advance(5)
    for _ in range(30):
        with contextlib.suppress(CircuitOpen):
            breaker.call(int)
        clock.advance(1)
    assert [type(event) for event in heard] == [CircuitOpened, CircuitHalfOpened, CircuitClosed]
    assert breaker.state == "closed"


def test_after_the_ramp_a_success_is_as_cheap_as_ever() -> None:
    """The first call after its end is the last to ask: then no lock is taken and no clock read."""
    clock = VirtualClock()
    breaker = closing(clock, ramp=timedelta(seconds=10))
    assert breaker._permit < 0
    clock.advance(10)
    breaker.call(int)
    assert breaker._permit == breaker._clean == breaker._circuit.generation
    clock.now = lambda: pytest.fail("the clock was read")  # type: ignore[method-assign]
    breaker.call(int)


def test_a_ramp_that_fails_opens_again_and_begins_anew() -> None:
    """Failures count as ever, and the next close starts from nothing."""
    clock = VirtualClock()
    breaker = closing(clock, rng=lambda: 0.0)
    clock.advance(9)
    after(breaker, Boom())
    assert breaker.state == "open"
    clock.advance(5)
    breaker.call(int)
    with pytest.raises(CircuitOpen):
        breaker.call(int)


def test_a_retry_outside_comes_back_within_the_ramp() -> None:
    """What is refused waits for its `retry_after`, which lies within the ramp."""
    clock = VirtualClock()
    breaker = closing(clock, rng=lambda: 0.5)
    retry = Retry(on=CircuitOpen, attempts=5, backoff=0, clock=clock)
    started = clock.now()
    assert retry.call(breaker(lambda: "fine")) == "fine"
    assert 0 < clock.now() - started <= 10


def test_a_chance_is_drawn_only_where_there_is_something_to_choose() -> None:
    """A breaker without a ramp and with one cooldown never asks for a random number."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, rng=lambda: pytest.fail("drawn"), clock=clock)
    after(breaker, Boom())
    with pytest.raises(CircuitOpen):
        breaker.call(int)
    clock.advance(30)
    assert breaker.call(lambda: "fine") == "fine"


def test_virtual_time_gives_a_ramp_back() -> None:
    """What was gone of it on entry is gone of it on exit, and no more."""
    with virtual_time() as clock:
        breaker = CircuitBreaker(1, cooldown=5, ramp=1e6, rng=lambda: 0.9)
        breaker.open()
        clock.advance(5)
        breaker.call(int)
        frozen = breaker._freeze()
        clock.advance(1e6)
        breaker.call(int)
        assert breaker._permit >= 0
        breaker._thaw(frozen)
        assert breaker._permit < 0 and breaker._circuit.ramp is not None


def test_a_circuit_is_at_rest_when_nothing_would_be_lost() -> None:
    """Closed, through its ramp, and with nothing watched, whatever it has counted; asking changes nothing."""
    clock = VirtualClock()
    breaker = closing(clock)
    rests = []
    for _ in range(3):
        rests.append(breaker._at_rest())
        clock.advance(5)
    assert rests == [False, False, True]
    after(breaker, Boom())
    assert not breaker._at_rest()
    clock.advance(5)
    assert not breaker._at_rest() and breaker._circuit.state == "open"
    breaker.reset()
    assert breaker._at_rest()
    with breaker.isolate():
        assert not breaker._at_rest()
    hanging = CircuitBreaker(SlowRate(slower_than=1), clock=clock)
    with hanging.guard():
        assert not hanging._at_rest()
    assert hanging._at_rest()
    counting = CircuitBreaker(3, on=Boom, clock=clock)
    after(counting, Boom())
    assert counting._at_rest()


def test_no_table_of_breakers_forgets_an_open_one() -> None:
    """Whatever number of keys passes by, the circuits that are open stay."""
    clock = VirtualClock()
    hosts = Keyed(lambda key: CircuitBreaker(2, on=Boom, cooldown=1e6, clock=clock), max_keys=4, idle=1, clock=clock)
    hosts["down"].open()
    for n in range(50):
        clock.advance(10)
        after(hosts[f"host {n}"], "fine")
    assert hosts["down"].state == "open"
    assert len(hosts) <= 4
