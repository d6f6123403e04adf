"""Calls that are slow before they end: when they enter which window, and that they do so once."""

from __future__ import annotations

import math

import pytest

from resilience.core.breaker import REFUSED, Circuit, CircuitState, Settled
from resilience.core.trip import Consecutive, FailureRate, SlowRate, Trip
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict

CLOSED, OPEN, HALF_OPEN, _ = CircuitState
COUNTED, LATE = Settled


def circuit(*trips: Trip) -> Circuit:
    """A circuit that rests for ten seconds."""
    return Circuit(trips, 10.0, 1, 5.0)


def slow(calls: int = 9, ratio: float = 1.0, minimum: int | None = None, bound: float = 2.0) -> SlowRate:
    """A trip on slow calls among the last few."""
    return SlowRate(ratio, slower_than=bound, calls=calls, minimum_calls=minimum)


def under_way(it: Circuit) -> set[int]:
    """The permits that are watched."""
    assert it.watches is not None
    return it.watches.under_way


def test_a_call_that_hangs_trips_while_it_hangs() -> None:
    """Nobody ends; a look just past the bound opens the circuit, and not before."""
    it = circuit(slow(3, minimum=3))
    permits = [it.acquire(0.0) for _ in range(3)]
    assert len({*permits, it.generation}) == 4
    assert it.look(2.0) is CLOSED and it.counts() == (0, 0)
    assert it.look(math.nextafter(2.0, 3.0)) is OPEN
    assert it.changes == [(CLOSED, OPEN)] and it.retry_after() == 10.0
    assert [it.settle(permit, SUCCESS, 50.0, 50.0) for permit in permits] == [LATE] * 3


def test_asking_for_a_permit_is_an_access() -> None:
    """The call that finds the others hanging is refused, and the circuit is open."""
    it = circuit(slow(1))
    it.acquire(0.0)
    assert it.acquire(2.5) == REFUSED and it.state is OPEN and it.since == 2.5


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_call_enters_the_window_once(verdict: Verdict) -> None:
    """Counted as slow while it ran, it is not counted again when it ends, whatever comes of it."""
    it = circuit(slow())
    permit = it.acquire(0.0)
    it.look(3.0)
    assert it.counts() == (1, 1)
    it.look(4.0)
    assert it.settle(permit, verdict, 5.0, 5.0) is COUNTED
    assert it.counts() == (1, 1) and under_way(it) == set()


@pytest.mark.parametrize(
    ("verdict", "elapsed", "counts"),
    [
        (SUCCESS, 1.0, (0, 1)),
        (SUCCESS, 3.0, (1, 1)),
        (FAILURE, 3.0, (1, 1)),
        (IGNORED, 3.0, (1, 1)),
        (IGNORED, 0.0, (0, 0)),
    ],
)
def test_a_call_nobody_looked_at_enters_when_it_ends(verdict: Verdict, elapsed: float, counts: tuple[int, int]) -> None:
    """Its end says what it was: an error that is neutral is not slow either, however long it took."""
    it = circuit(slow())
    assert it.settle(it.acquire(0.0), verdict, 3.0, elapsed) is COUNTED
    assert it.counts() == counts


def test_it_enters_no_other_window_before_it_ends() -> None:
    """What fails in the end is a failure then; until then only slowness is known of it."""
    it = circuit(Consecutive(5), FailureRate(1.0, calls=9), slow())
    permit = it.acquire(0.0)
    it.look(3.0)
    assert [tally.counts(3.0) for tally in it.tallies] == [(0, 0), (0, 0), (1, 1)]
    it.settle(permit, FAILURE, 4.0, 4.0)
    assert [tally.counts(4.0) for tally in it.tallies] == [(1, 1), (1, 1), (1, 1)]


def test_each_bound_has_its_own_time() -> None:
    """Two rates with two bounds count the same call each in its turn, and each once."""
    it = circuit(slow(bound=2.0), slow(bound=4.0))
    permit = it.acquire(0.0)
    seen = []
    for now in (2.0, 3.0, 5.0, 6.0):
        it.look(now)
        seen.append([tally.counts(now)[0] for tally in it.tallies])
    it.settle(permit, SUCCESS, 7.0, 7.0)
    seen.append([tally.counts(7.0)[0] for tally in it.tallies])
    assert seen == [[0, 0], [1, 0], [1, 1], [1, 1], [1, 1]]


def test_one_of_several_rates_suffices_and_each_counts() -> None:
    """When the first trips, the others have seen the same calls."""
    it = circuit(slow(1), slow(9))
    it.acquire(0.0)
    assert it.look(3.0) is OPEN
    assert [tally.counts(3.0) for tally in it.tallies] == [(1, 1), (1, 1)]


def test_the_end_of_one_call_is_an_access_to_the_others() -> None:
    """A fast call that ends finds the hanging ones, and what they trip makes its own result late."""
    it = circuit(slow(2, minimum=2))
    hung = [it.acquire(0.0), it.acquire(0.5)]
    fast = it.acquire(2.4)
    assert it.settle(fast, SUCCESS, 2.4, 0.0) is COUNTED
    assert it.counts() == (1, 2), "one hangs beyond the bound, one does not yet"
    other = it.acquire(2.4)
    assert it.settle(other, SUCCESS, 9.0, 0.0) is COUNTED
    assert it.state is CLOSED and it.counts() == (1, 2)
    assert [it.settle(permit, SUCCESS, 9.0, 9.0) for permit in hung] == [COUNTED, COUNTED]

    it = circuit(slow(2, minimum=2))
    hung, fast = [it.acquire(0.0) for _ in range(2)], it.acquire(0.0)
    assert it.settle(fast, SUCCESS, 9.0, 0.0) is LATE and it.state is OPEN


def test_permits_of_another_generation_are_watched_no_more() -> None:
    """What hung before a close by hand is neither slow nor anything else afterwards."""
    for verb in ("close", "reset", "open", "isolate"):
        it = circuit(slow(1))
        old = it.acquire(0.0)
        it.isolate("", 1.0) if verb == "isolate" else getattr(it, verb)(1.0)
        it.reset(1.0)
        assert it.look(50.0) is CLOSED and it.counts() == (0, 0)
        assert it.settle(old, FAILURE, 60.0, 60.0) is LATE and it.state is CLOSED
        assert under_way(it) == set()


def test_a_permit_comes_back_once() -> None:
    """Settled a second time it is late, and counts nothing."""
    it = circuit(slow())
    permit = it.acquire(0.0)
    assert it.settle(permit, SUCCESS, 1.0, 1.0) is COUNTED
    assert it.settle(permit, SUCCESS, 1.0, 1.0) is LATE
    assert it.settle(it.generation, SUCCESS, 1.0, 1.0) is LATE, "nobody was admitted as this"
    assert it.counts() == (0, 1)


def test_calls_that_are_forgotten_come_back_late() -> None:
    """Of the calls under way only those named are watched on."""
    it = circuit(slow())
    one, other = it.acquire(0.0), it.acquire(0.0)
    watches = it.watches
    assert watches is not None
    watches.keep([other, 99])
    it.look(9.0)
    assert it.counts() == (1, 1)
    assert [it.settle(permit, SUCCESS, 9.0, 9.0) for permit in (one, other)] == [LATE, COUNTED]


def test_nothing_is_kept_of_calls_that_ended() -> None:
    """Two thousand calls one after the other leave what one leaves, though one hangs all the while."""
    it = circuit(slow(9, bound=1e9))
    it.acquire(0.0)
    for second in range(2000):
        it.settle(it.acquire(float(second)), SUCCESS, second + 0.5, 0.5)
    assert len(under_way(it)) == 1
    assert it.watches is not None and len(it.watches.running) == 1


def test_trials_are_not_watched() -> None:
    """A trial that hangs is the lease's business; it enters no window."""
    it = circuit(slow(1))
    it.open(0.0)
    permit = it.acquire(10.0)
    assert it.state is HALF_OPEN and under_way(it) == set()
    assert it.look(14.0) is HALF_OPEN and permit in it.leases


def test_a_clock_that_steps_back_makes_nothing_slow() -> None:
    """Only time that has passed by the newest reading counts."""
    it = circuit(slow())
    it.acquire(100.0)
    it.acquire(50.0)
    it.look(0.0)
    assert it.counts() == (0, 0)
    it.look(102.5)
    assert it.counts() == (2, 2)
