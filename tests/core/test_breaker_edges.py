"""The edges of a circuit: what holds where nothing is said, and of whom a copy goes on to watch the calls."""

from __future__ import annotations

import copy

from resilience.core.breaker import REFUSED, Circuit, CircuitState
from resilience.core.trip import Consecutive, SlowRate
from resilience.core.verdict import FAILURE, SUCCESS

CLOSED, OPEN, HALF_OPEN, _ = CircuitState


def watching() -> Circuit:
    """A circuit that keeps an eye on slow calls."""
    return Circuit((SlowRate(1.0, slower_than=2.0, calls=9),), 10.0, 1, 5.0)


def under_way(it: Circuit) -> set[int]:
    """The permits that are watched."""
    assert it.watches is not None
    return it.watches.under_way


def test_a_call_without_a_chance_of_its_own_is_let_into_a_ramp_as_soon_as_one_is_owed() -> None:
    """Who draws no chance has the best one: after a tenth of the ramp it is admitted."""
    it = Circuit((Consecutive(1),), 10.0, 1, 5.0, ramp=10.0)
    it.settle(it.acquire(0.0), FAILURE, 0.0)
    it.settle(it.acquire(10.0), SUCCESS, 10.0)
    assert it.state is CLOSED and it.acquire(10.0) == REFUSED
    assert it.acquire(11.0) != REFUSED


def test_a_circuit_watches_on_what_another_watches() -> None:
    """A copy that takes over forgets the calls that have come back to the other one, and keeps the rest."""
    it = watching()
    back, out = it.acquire(0.0), it.acquire(0.0)
    taken_over = copy.deepcopy(it)
    it.settle(back, SUCCESS, 1.0, 1.0)
    taken_over.forget_calls(it)
    assert under_way(taken_over) == {out}
    taken_over.look(3.0)
    assert taken_over.counts() == (1, 1)


def test_a_circuit_that_takes_over_from_one_that_watches_nobody_forgets_all_calls() -> None:
    """Without another circuit, or with one that has no eye on its calls, none is under way any more."""
    for other in (None, Circuit((Consecutive(1),), 10.0, 1, 5.0)):
        it = watching()
        it.acquire(0.0)
        it.forget_calls(other)
        assert under_way(it) == set()


def test_without_a_hint_a_short_cooldown_is_as_short_as_it_says() -> None:
    """Nobody has asked for more: neither the call that opens the circuit, nor a slow one, nor who opens it by hand."""
    failing, by_hand = (Circuit((Consecutive(1),), 0.5, 1, 5.0) for _ in range(2))
    failing.settle(failing.acquire(0.0), FAILURE, 0.0)
    by_hand.open(0.0)
    hanging = Circuit((SlowRate(1.0, slower_than=2.0, calls=1),), 0.5, 1, 5.0)
    hanging.acquire(-2.5)
    hanging.look(0.0)
    for it in (failing, by_hand, hanging):
        assert it.state is OPEN and it.look(0.5) is HALF_OPEN
