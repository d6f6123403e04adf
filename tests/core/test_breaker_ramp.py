"""The ramp after a close: how much is let through, which calls these are, and when the others may come back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.breaker import REFUSED, Circuit, CircuitState
from resilience.core.ramp import Ramp
from resilience.core.trip import Consecutive, SlowRate
from resilience.core.verdict import FAILURE, SUCCESS

CLOSED, OPEN, HALF_OPEN, ISOLATED = CircuitState


def closing(ramp: float | None = 10.0, at: float = 0.0) -> Circuit:
    """A circuit that a trial has just closed."""
    it = Circuit((Consecutive(1),), 1.0, 1, 1.0, ramp=ramp)
    it.open(at - 1.0)
    it.settle(it.acquire(at), SUCCESS, at)
    assert it.state is CLOSED
    return it


def test_the_admitted_share_is_a_straight_line() -> None:
    """In 20 seeds, the share admitted in each twentieth of the ramp is within 2 % of the line."""
    worst = 0.0
    for seed in range(20):
        chance = random.Random(seed)
        it = closing()
        for part in range(20):
            moments = sorted(part / 2 + chance.random() / 2 for _ in range(200))
            admitted = sum(it.acquire(moment, chance.random()) != REFUSED for moment in moments)
            worst = max(worst, abs(admitted / 200 - (part + 0.5) / 20))
    print(f"\nramp: the admitted share is at most {worst:.2%} from the straight line, asked 2 %")
    assert worst <= 0.02


def test_who_takes_turns_is_treated_alike() -> None:
    """Of two callers that alternate, each is let in half of the time where the share is a half."""
    chance = random.Random(7)
    ramp = Ramp(0.0, 10.0)
    admitted = [ramp.admits(5.0, chance.random()) for _ in range(4000)]
    assert sum(admitted) == pytest.approx(2000, abs=1)
    assert sum(admitted[::2]) == pytest.approx(1000, abs=70)


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1.0, exclude_max=True)), max_size=80),
    st.sampled_from([1e-9, 0.3, 10.0, 86_400.0]),
)
def test_the_number_let_in_is_never_a_whole_call_off(calls: list[tuple[float, float]], seconds: float) -> None:
    """However calls come and whatever chance says, the sum of the shares is met to less than one call."""
    ramp, owed, now = Ramp(0.0, seconds), 0.0, 0.0
    for step, u in sorted(calls):
        now = step * seconds
        if ramp.over(now):
            continue
        owed += now / seconds
        if ramp.admits(now, u):
            owed -= 1
        else:
            assert 0.0 < ramp.wait <= (seconds - now) * (1 + 1e-12)
        assert -1.0 - 1e-9 < owed < 1.0 + 1e-9


def test_nothing_at_the_closing_and_everything_at_the_end() -> None:
    """At the moment of the closing the share is nothing; from the end of the ramp on nobody has to ask."""
    it = closing()
    assert it.acquire(0.0, 0.0) == REFUSED
    assert it.state is CLOSED and it.retry_after() is None
    assert it.ramp is not None and it.ramp.wait == 10.0
    it.look(9.999)
    assert it.ramp is not None
    assert it.acquire(10.0, 0.999) == it.generation
    assert it.ramp is None


def test_what_is_refused_comes_back_spread_over_the_rest() -> None:
    """Chance decides when, evenly: who was refused narrowly waits for longest, and nobody beyond the end."""
    waits = []
    for u in (0.5, 0.75, 0.99):
        ramp = Ramp(0.0, 10.0)
        assert not ramp.admits(5.0, u)
        waits.append(ramp.wait)
    assert waits == pytest.approx([5.0, 2.5, 0.1])
    ramp = Ramp(0.0, 10.0)
    assert ramp.admits(5.0, 0.25) and not ramp.admits(0.0, 0.5)
    assert ramp.wait == 5.0


def test_half_way_every_other_call_is_let_in() -> None:
    """What is owed carries over: one refused makes the next one sure."""
    it = closing()
    assert [it.acquire(5.0, 0.5) != REFUSED for _ in range(6)] == [False, True] * 3


def test_without_a_ramp_a_closed_circuit_lets_all_through() -> None:
    """None is none."""
    it = closing(ramp=None)
    assert it.ramp is None and it.acquire(0.0, 0.99) == it.generation


def test_a_circuit_that_was_never_open_has_no_ramp() -> None:
    """The first calls of all go through, and a close by hand of a closed circuit begins no ramp."""
    it = Circuit((Consecutive(1),), 1.0, 1, 1.0, ramp=10.0)
    assert it.acquire(0.0, 0.99) == 0
    it.close(1.0)
    assert it.ramp is None


@pytest.mark.parametrize("way", ["close", "release"])
def test_every_way_of_closing_ramps(way: str) -> None:
    """By hand, or when the last isolation is released, the load comes back as gently."""
    it = Circuit((Consecutive(1),), 1.0, 1, 1.0, ramp=10.0)
    if way == "close":
        it.open(0.0)
        it.close(0.5)
    else:
        it.release(it.isolate("", 0.0), 0.5)
    assert it.state is CLOSED and it.acquire(0.5, 0.0) == REFUSED
    ramp = it.ramp
    it.close(1.0)
    assert it.ramp is ramp, "closing what is closed leaves the ramp as it is"


def test_a_reset_ends_a_ramp() -> None:
    """As if new: everything is let through."""
    it = closing()
    it.reset(1.0)
    assert it.acquire(1.0, 0.99) == it.generation


@pytest.mark.parametrize("verb", ["fail", "open", "isolate"])
def test_whatever_ends_the_closed_state_ends_the_ramp(verb: str) -> None:
    """A failure among the few that are let in opens the circuit; the next close ramps from the beginning."""
    it = closing()
    if verb == "fail":
        it.settle(it.acquire(9.0, 0.0), FAILURE, 9.0)
    elif verb == "open":
        it.open(9.0)
    else:
        token = it.isolate("", 9.0)
        assert it.ramp is None
        it.release(token, 9.5)
    if verb != "isolate":
        assert it.state is OPEN and it.ramp is None
        it.settle(it.acquire(20.0), SUCCESS, 20.0)
    assert it.state is CLOSED and it.ramp is not None and it.acquire(20.0 if verb != "isolate" else 9.5, 0.0) == REFUSED


def test_a_circuit_at_rest_has_nothing_to_lose() -> None:
    """At rest is closed, through the ramp and with no call watched, whatever is counted; asking changes nothing."""
    it = closing()
    assert [it.at_rest(now) for now in (0.0, 9.9, 10.0)] == [False, False, True]
    assert it.ramp is not None and it.latest == 0.0
    it = Circuit((Consecutive(2),), 1.0, 1, 1.0)
    assert it.at_rest(0.0)
    it.settle(it.acquire(0.0), FAILURE, 0.0)
    assert it.at_rest(0.0)
    for state in (OPEN, HALF_OPEN, ISOLATED):
        it = Circuit((Consecutive(2),), 1.0, 1, 1.0)
        if state is ISOLATED:
            it.isolate("", 0.0)
        else:
            it.open(0.0)
            it.look(1.0 if state is HALF_OPEN else 0.5)
        assert it.state is state and not it.at_rest(99.0)
    slow = Circuit((SlowRate(slower_than=1, window=10, minimum_calls=9),), 1.0, 1, 1.0)
    permit = slow.acquire(0.0)
    assert not slow.at_rest(0.0)
    slow.settle(permit, SUCCESS, 2.0, 2.0)
    assert slow.at_rest(2.0)
