"""The circuit, transition by transition: the table at the top of `core/breaker.py`, and what must never happen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.breaker import REFUSED, Circuit, CircuitState, Settled
from resilience.core.trip import Consecutive, FailureRate, SlowRate, Trip
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict

CLOSED, OPEN, HALF_OPEN, ISOLATED = CircuitState
COUNTED, LATE = Settled


def circuit(
    *trips: Trip, cooldown: float = 10.0, trials: int = 1, lease: float = 5.0, state: CircuitState = CLOSED
) -> Circuit:
    """A circuit that trips on the first failure unless told otherwise, brought to a state at time 0."""
    made = Circuit(trips or (Consecutive(1),), cooldown, trials, lease)
    if state is ISOLATED:
        made.isolate("", 0.0)
    elif state is not CLOSED:
        made.open(-cooldown if state is HALF_OPEN else 0.0)
        made.look(0.0)
    made.changes.clear()
    return made


def call(it: Circuit, verdict: Verdict, now: float = 0.0, elapsed: float = 0.0) -> Settled:
    """One call that is admitted and ends at the same moment."""
    permit = it.acquire(now)
    assert permit != REFUSED
    return it.settle(permit, verdict, now, elapsed)


def test_the_states_are_their_names() -> None:
    """A state compares, prints and formats as its name."""
    assert [str(state) for state in CircuitState] == ["closed", "open", "half_open", "isolated"]
    assert [f"{state}" for state in CircuitState] == [state.value for state in CircuitState]
    assert CLOSED == "closed" and isinstance(HALF_OPEN, str)
    assert [settled.value for settled in Settled] == ["counted", "late"]
    assert [verdict.value for verdict in Verdict] == ["success", "failure", "ignored"]


# --- closed -----------------------------------------------------------------------------------------------------------


def test_a_new_circuit_is_closed_and_clean() -> None:
    """Nothing has happened yet."""
    it = circuit()
    assert (it.state, it.since, it.clean, it.retry_after(), it.counts()) == (CLOSED, None, True, None, (0, 0))
    assert it.reason() == ""


def test_calls_of_a_closed_circuit_share_one_permit_and_write_nothing() -> None:
    """Admitting a call while closed changes nothing, so nothing has to be locked for it."""
    it = circuit()
    assert {it.acquire(float(t)) for t in range(5)} == {it.generation}
    assert it.leases == {} and it.serial == 0


def test_failures_trip_it_at_the_time_of_the_last() -> None:
    """The tripping call opens the circuit; the cooldown runs from its end."""
    it = circuit(Consecutive(3))
    assert [call(it, FAILURE, now) for now in (1.0, 2.0, 3.0)] == [COUNTED] * 3
    assert (it.state, it.since, it.retry_after()) == (OPEN, 3.0, 10.0)
    assert it.changes == [(CLOSED, OPEN)]


def test_neutral_calls_neither_count_nor_reset() -> None:
    """B4, closed: an ignored call leaves the tally as it was."""
    it = circuit(Consecutive(2))
    call(it, FAILURE)
    assert call(it, IGNORED) is COUNTED
    assert it.counts() == (1, 1) and not it.clean
    call(it, FAILURE)
    assert it.state is OPEN


def test_any_trip_suffices_and_each_sees_every_call() -> None:
    """Of several trips one is enough, and the others go on counting meanwhile."""
    it = circuit(Consecutive(3), FailureRate(0.5, calls=4))
    for verdict in (FAILURE, SUCCESS, FAILURE):
        call(it, verdict)
    assert it.counts() == (2, 3)
    call(it, SUCCESS)
    assert it.state is OPEN

    it = circuit(FailureRate(1.0, calls=50), Consecutive(2))
    call(it, FAILURE)
    assert it.state is CLOSED
    call(it, FAILURE)
    assert it.state is OPEN

    tallies = circuit(Consecutive(1), FailureRate(0.5, calls=4))
    call(tallies, FAILURE)
    assert [tally.counts(0.0) for tally in tallies.tallies] == [(1, 1), (1, 1)]


def test_the_counts_are_those_of_the_worst_tally() -> None:
    """Of several tallies the one with the most failures is shown."""
    it = circuit(Consecutive(9), FailureRate(1.0, calls=9))
    for verdict in (FAILURE, FAILURE, SUCCESS, FAILURE):
        call(it, verdict)
    assert it.counts() == (3, 4)


def test_counts_follow_time() -> None:
    """What has left the window is not counted."""
    it = circuit(FailureRate(window=10))
    call(it, FAILURE, 0.0)
    it.look(9.9)
    assert it.counts() == (1, 1)
    it.look(10.0)
    assert it.counts() == (0, 0)


def test_a_success_that_completes_the_minimum_may_trip() -> None:
    """A rate is looked at after every finished call."""
    it = circuit(FailureRate(0.5, calls=4))
    for verdict in (FAILURE, FAILURE, SUCCESS):
        call(it, verdict)
    assert it.state is CLOSED
    assert call(it, SUCCESS) is COUNTED
    assert it.state is OPEN


def test_slow_calls_trip_it() -> None:
    """Successes that took too long open the circuit, as does a call that was given up only after too long."""
    it = circuit(SlowRate(1.0, slower_than=2.0, calls=2))
    call(it, SUCCESS, elapsed=2.1)
    call(it, IGNORED, elapsed=2.0)
    assert it.state is CLOSED
    call(it, IGNORED, elapsed=2.1)
    assert it.state is OPEN


def test_clean_means_that_a_success_changes_nothing() -> None:
    """Clean is closed with nothing counted; a rate is never clean."""
    it = circuit(Consecutive(2))
    assert it.clean
    call(it, FAILURE)
    assert not it.clean
    call(it, SUCCESS)
    assert it.clean
    assert not circuit(FailureRate()).clean
    assert not circuit(Consecutive(2), FailureRate()).clean
    assert not any(circuit(Consecutive(2), state=state).clean for state in (OPEN, HALF_OPEN, ISOLATED))


# --- open -------------------------------------------------------------------------------------------------------------


def test_an_open_circuit_refuses_until_its_cooldown_is_over() -> None:
    """Open becomes half-open at the very moment of opening plus cooldown, when somebody looks."""
    it = circuit(state=OPEN)
    just_before = math.nextafter(10.0, 0.0)
    assert it.acquire(just_before) == REFUSED and it.state is OPEN
    assert it.retry_after() == pytest.approx(0.0, abs=1e-12) and it.retry_after() > 0.0
    assert it.look(10.0) is HALF_OPEN
    assert it.since == 10.0 and it.changes == [(OPEN, HALF_OPEN)]


def test_asking_an_open_circuit_is_what_makes_it_half_open() -> None:
    """The first call after the cooldown is the first trial."""
    it = circuit(state=OPEN)
    permit = it.acquire(99.0)
    assert it.leases == {permit: 104.0}
    assert (it.state, it.since) == (HALF_OPEN, 99.0)


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_result_from_before_the_opening_is_late(verdict: Verdict) -> None:
    """B2: a call admitted while closed that ends when the circuit has moved on changes nothing, whatever it says."""
    for when, state in [(5.0, OPEN), (10.0, HALF_OPEN), (11.0, CLOSED)]:
        it = circuit()
        old = it.acquire(0.0)
        call(it, FAILURE, 0.0)
        if state is CLOSED:
            call(it, SUCCESS, 10.0)
        assert it.look(when) is state
        before = it.counts(), it.since, it.generation
        assert it.settle(old, verdict, when) is LATE
        assert (it.state, it.counts(), it.since, it.generation) == (state, *before)


def test_a_late_failure_does_not_prolong_the_cooldown() -> None:
    """Open stays open for its cooldown, however many calls from before it fail meanwhile."""
    it = circuit()
    old = [it.acquire(0.0) for _ in range(5)]
    assert it.settle(old[0], FAILURE, 0.0) is COUNTED
    assert [it.settle(permit, FAILURE, 9.0) for permit in old[1:]] == [LATE] * 4
    assert it.look(10.0) is HALF_OPEN


# --- half-open --------------------------------------------------------------------------------------------------------


def test_half_open_admits_as_many_as_its_trials() -> None:
    """B1: a place each, and no more."""
    it = circuit(trials=3, state=HALF_OPEN)
    permits = [it.acquire(0.0) for _ in range(20)]
    assert permits[3:] == [REFUSED] * 17
    assert len({*permits[:3], it.generation}) == 4
    assert set(it.leases) == set(permits[:3])


def test_a_place_is_taken_only_for_what_is_still_needed() -> None:
    """Trials under way and successes together never exceed the trials, so no more run than decide."""
    it = circuit(trials=3, state=HALF_OPEN)
    one, other = it.acquire(0.0), it.acquire(0.0)
    it.settle(one, SUCCESS, 0.0)
    assert it.acquire(0.0) != REFUSED
    assert it.acquire(0.0) == REFUSED
    assert it.counts() == (0, 1)
    it.settle(other, SUCCESS, 0.0)
    assert it.acquire(0.0) == REFUSED
    assert it.counts() == (0, 2)


def test_as_many_successes_as_trials_close_it_clean() -> None:
    """The last of the successes closes the circuit, and nothing of the outage is remembered."""
    it = circuit(Consecutive(2), trials=2, state=CLOSED)
    call(it, FAILURE)
    call(it, FAILURE)
    call(it, SUCCESS, 10.0)
    assert it.state is HALF_OPEN
    call(it, SUCCESS, 11.0)
    assert (it.state, it.since, it.clean, it.counts()) == (CLOSED, 11.0, True, (0, 0))
    assert it.changes == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
    call(it, FAILURE, 12.0)
    assert it.state is CLOSED


def test_the_first_failed_trial_opens_it_again() -> None:
    """One failure is enough, the cooldown starts anew, and the other trials are late."""
    it = circuit(Consecutive(5), trials=3, state=HALF_OPEN)
    one, other, third = (it.acquire(0.0) for _ in range(3))
    it.settle(one, SUCCESS, 1.0)
    assert it.settle(other, FAILURE, 2.0) is COUNTED
    assert (it.state, it.retry_after(), it.leases) == (OPEN, 10.0, {})
    assert it.settle(third, SUCCESS, 3.0) is LATE
    assert it.look(12.0) is HALF_OPEN
    assert it.counts() == (0, 0)


def test_a_slow_trial_is_a_failed_one() -> None:
    """Where a `SlowRate` is set, a success that took longer than any of them allows opens the circuit."""
    trips = (SlowRate(slower_than=2.0), Consecutive(5), SlowRate(slower_than=3.0))
    for elapsed, state in [(2.0, CLOSED), (2.1, OPEN), (3.5, OPEN)]:
        it = circuit(*trips, state=HALF_OPEN)
        call(it, SUCCESS, elapsed=elapsed)
        assert it.state is state
    it = circuit(state=HALF_OPEN)
    call(it, SUCCESS, elapsed=1e9)
    assert it.state is CLOSED
    it = circuit(SlowRate(slower_than=0.5), state=HALF_OPEN)
    it.settle(it.acquire(0.0), SUCCESS, 0.0)
    assert it.state is CLOSED


def test_a_trial_that_was_given_up_late_is_a_failed_one() -> None:
    """A cancelled trial that had run longer than a `SlowRate` allows was slow."""
    for elapsed, state in [(2.0, HALF_OPEN), (2.1, OPEN)]:
        it = circuit(SlowRate(slower_than=2.0), state=HALF_OPEN)
        call(it, IGNORED, elapsed=elapsed)
        assert it.state is state


def test_an_ignored_trial_gives_its_place_back_and_counts_nothing() -> None:
    """B4, half-open: the place is free for the next, and the successes so far stand."""
    it = circuit(trials=2, state=HALF_OPEN)
    call(it, SUCCESS)
    for _ in range(50):
        assert call(it, IGNORED) is COUNTED
        assert (it.state, it.counts(), it.leases) == (HALF_OPEN, (0, 1), {})
    call(it, SUCCESS)
    assert it.state is CLOSED


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_trial_gives_back_one_place_once(verdict: Verdict) -> None:
    """A permit that is settled twice is late the second time, and frees nothing."""
    it = circuit(trials=3, state=HALF_OPEN)
    one, other = it.acquire(0.0), it.acquire(0.0)
    it.settle(one, IGNORED, 0.0)
    assert it.settle(one, verdict, 0.0) is LATE
    assert (it.state, set(it.leases), it.counts()) == (HALF_OPEN, {other}, (0, 0))


def test_a_place_comes_back_when_its_lease_ends() -> None:
    """B5: a trial that hangs holds its place for its lease, to the moment, and no longer."""
    it = circuit(state=HALF_OPEN)
    hung = it.acquire(0.0)
    assert it.acquire(math.nextafter(5.0, 0.0)) == REFUSED
    assert it.retry_after() > 0.0
    fresh = it.acquire(5.0)
    assert fresh not in (REFUSED, hung) and set(it.leases) == {fresh}


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_trial_that_ends_after_its_lease_is_late(verdict: Verdict) -> None:
    """B2: it counts neither way, and its place, given to another, stays the other's."""
    it = circuit(state=HALF_OPEN)
    hung = it.acquire(0.0)
    assert it.settle(hung, verdict, 5.0) is LATE
    assert it.leases == {} and it.state is HALF_OPEN
    fresh = it.acquire(5.0)
    assert it.settle(hung, verdict, 5.0) is LATE
    assert set(it.leases) == {fresh}
    assert it.settle(fresh, SUCCESS, 6.0) is COUNTED
    assert it.state is CLOSED


def test_a_trial_decides_up_to_the_end_of_its_lease() -> None:
    """Just before the end it still counts."""
    it = circuit(state=HALF_OPEN)
    permit = it.acquire(0.0)
    assert it.settle(permit, SUCCESS, math.nextafter(5.0, 0.0)) is COUNTED
    assert it.state is CLOSED


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_trial_never_decides_a_later_generation(verdict: Verdict) -> None:
    """A trial of the first half-open that ends in the second changes nothing there."""
    it = circuit(trials=2, lease=1000.0, state=HALF_OPEN)
    old, failing = it.acquire(0.0), it.acquire(0.0)
    it.settle(failing, FAILURE, 0.0)
    fresh = it.acquire(10.0)
    assert it.state is HALF_OPEN
    assert it.settle(old, verdict, 11.0) is LATE
    assert (it.state, set(it.leases), it.counts()) == (HALF_OPEN, {fresh}, (0, 0))


def test_leases_end_each_at_its_own_time() -> None:
    """Only the places whose lease is over are free; asking again helps when the first of the others ends."""
    it = circuit(trials=3, state=HALF_OPEN)
    first, second, third = it.acquire(0.0), it.acquire(1.0), it.acquire(2.0)
    assert it.acquire(3.5) == REFUSED and it.retry_after() == 1.5
    it.look(6.0)
    assert set(it.leases) == {third} and it.retry_after() == 0.0
    assert it.settle(first, SUCCESS, 6.0) is it.settle(second, SUCCESS, 6.0) is LATE


def test_two_lapses_in_a_row_say_that_the_lease_is_too_short() -> None:
    """The second lapse in a row is told once; then it takes two more."""
    it = circuit(trials=1, state=HALF_OPEN)
    told = []
    for n in range(6):
        assert it.acquire(5.0 * n) != REFUSED
        told.append(it.short_leases)
        it.short_leases = False
    assert told == [False, False, True, False, True, False]


def test_two_leases_that_end_together_are_two_in_a_row() -> None:
    """One look may find both."""
    it = circuit(trials=2, state=HALF_OPEN)
    it.acquire(0.0), it.acquire(0.0)
    it.look(5.0)
    assert it.short_leases


@pytest.mark.parametrize("verdict", [SUCCESS, IGNORED])
def test_a_trial_that_ends_in_time_breaks_the_row_of_lapses(verdict: Verdict) -> None:
    """In a row means: with no trial between them that kept its lease."""
    it = circuit(trials=3, state=HALF_OPEN)
    it.acquire(0.0)
    it.look(5.0)
    call(it, verdict, 5.0)
    it.acquire(5.0)
    it.look(10.0)
    assert it.leases == {} and not it.short_leases


def test_a_row_of_lapses_does_not_reach_across_states() -> None:
    """A lapse in one half-open and one in the next are not in a row."""
    it = circuit(trials=1, state=HALF_OPEN)
    it.acquire(0.0)
    it.look(5.0)
    it.open(5.0)
    it.acquire(15.0)
    it.look(20.0)
    assert it.leases == {} and not it.short_leases


def test_a_full_half_open_circuit_names_the_end_of_its_earliest_lease() -> None:
    """While a place is free asking helps at once; when none is, at the first lease to end."""
    it = circuit(trials=2, lease=5.0, state=HALF_OPEN)
    assert it.retry_after() == 0.0
    it.acquire(1.0)
    assert it.retry_after() == 0.0
    it.acquire(2.0)
    it.look(3.0)
    assert it.retry_after() == 3.0


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_that_steps_back_mints_nothing() -> None:
    """A reading older than the state's is raised to it: no cooldown ends early, and none begins anew."""
    it = circuit(state=OPEN)
    it.look(9.0)
    assert it.acquire(-1e9) == REFUSED and it.retry_after() == 1.0
    assert it.look(3.0) is OPEN
    assert it.look(10.0) is HALF_OPEN
    permit = it.acquire(0.0)
    assert it.leases == {permit: 15.0}
    assert it.look(-5.0) is HALF_OPEN and it.latest == 10.0


def test_time_that_stands_still_mints_nothing() -> None:
    """However often an open circuit is asked at one moment, it stays open; a lease does not end either."""
    it = circuit(state=OPEN)
    assert {it.acquire(9.0) for _ in range(1000)} == {REFUSED}
    it.acquire(10.0)
    assert {it.acquire(10.0) for _ in range(1000)} == {REFUSED}


def test_a_failure_with_an_old_reading_opens_from_now() -> None:
    """The cooldown runs from the state's own time, not from a reading that came late."""
    it = circuit()
    it.look(100.0)
    call(it, FAILURE, 1.0)
    assert it.since == 100.0 and it.retry_after() == 10.0


moments = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 0.1, 1e9, 1e-300, 5e-324])
spans = st.floats(1e-9, 1e6) | st.sampled_from([5e-324, 0.1, 30.0, 1e-9, 1e300])


@given(moments, spans, spans, st.floats(0.0, 1.0))
def test_waiting_as_long_as_told_is_enough(opened: float, cooldown: float, lease: float, part: float) -> None:
    """A caller who sleeps exactly `retry_after` is never too early, whatever floats do, and hardly late."""
    it = Circuit((Consecutive(1),), cooldown, 1, lease)
    call(it, FAILURE, opened)
    it.look(opened + part * cooldown)
    for span in (cooldown, lease):
        wait = it.retry_after()
        assert wait is not None and 0.0 <= wait <= math.nextafter(span, math.inf) + math.ulp(it.latest)
        if it.acquire(it.latest) == REFUSED:
            assert it.acquire(it.latest + wait) != REFUSED


def test_waiting_as_long_as_told_is_enough_where_a_plain_difference_is_not() -> None:
    """Here the end less the present, added to the present, is one bit before the end."""
    opened, cooldown, now = 2.0, 10.4, 4.2
    it = circuit(cooldown=cooldown)
    call(it, FAILURE, opened)
    it.look(now)
    assert now + (opened + cooldown - now) < opened + cooldown
    assert now + it.retry_after() >= opened + cooldown
    assert it.retry_after() == math.nextafter(opened + cooldown - now, math.inf)


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN])
def test_opening_by_hand_starts_the_cooldown_anew(state: CircuitState) -> None:
    """From whatever state; one that is open already changes no state, but waits again."""
    it = circuit(state=state)
    it.open(7.0)
    assert (it.state, it.retry_after()) == (OPEN, 10.0)
    assert it.changes == ([] if state is OPEN else [(state, OPEN)])
    assert it.since == (0.0 if state is OPEN else 7.0)


def test_opening_a_circuit_that_is_due_passes_through_half_open() -> None:
    """Time takes effect first, so both transitions are told."""
    it = circuit(state=OPEN)
    it.open(10.0)
    assert it.changes == [(OPEN, HALF_OPEN), (HALF_OPEN, OPEN)]


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN])
def test_closing_by_hand_forgets_every_failure(state: CircuitState) -> None:
    """From whatever state; a closed one that is closed again starts a new generation."""
    it = circuit(Consecutive(2), state=state)
    if state is CLOSED:
        call(it, FAILURE)
    before = it.acquire(0.0)
    it.close(7.0)
    assert (it.state, it.clean, it.retry_after()) == (CLOSED, True, None)
    assert it.changes == ([] if state is CLOSED else [(state, CLOSED)])
    assert it.settle(before, FAILURE, 8.0) is LATE
    call(it, FAILURE, 8.0)
    assert it.state is CLOSED


def test_an_isolated_circuit_refuses_for_ever_and_names_no_time() -> None:
    """No cooldown ends an isolation."""
    it = circuit(state=ISOLATED)
    assert it.acquire(1e12) == REFUSED and it.retry_after() is None
    it.open(1e12)
    it.close(1e12)
    assert it.state is ISOLATED


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN])
def test_the_last_release_leaves_it_closed_and_clean(state: CircuitState) -> None:
    """Whatever it was before, and whatever calls were under way."""
    it = circuit(Consecutive(2), state=state)
    if state is CLOSED:
        call(it, FAILURE)
    old = it.acquire(0.0)
    token = it.isolate("deploy", 1.0)
    assert it.changes == [(state, ISOLATED)] and it.reason() == "deploy"
    assert it.settle(old, FAILURE, 2.0) is LATE
    assert it.release(token, 3.0)
    assert (it.state, it.since, it.clean, it.reason()) == (CLOSED, 3.0, True, "")


def test_isolations_are_counted() -> None:
    """Each is taken back once, in any order; only the last one closes the circuit."""
    it = circuit()
    one, other = it.isolate("one", 0.0), it.isolate("other", 1.0)
    assert one != other and it.since == 0.0 and it.reason() == "other"
    assert it.release(other, 2.0) is True
    assert it.release(other, 2.0) is False
    assert it.state is ISOLATED and it.reason() == "one"
    assert it.release(one, 3.0)
    assert it.state is CLOSED
    assert not it.release(one, 4.0)
    assert it.changes == [(CLOSED, ISOLATED), (ISOLATED, CLOSED)]


def test_a_reset_drops_every_isolation() -> None:
    """What is released afterwards is no isolation any more, and changes nothing."""
    it = circuit(Consecutive(2))
    tokens = [it.isolate("", 0.0) for _ in range(3)]
    it.reset(1.0)
    assert (it.state, it.since) == (CLOSED, 1.0)
    call(it, FAILURE, 1.0)
    assert not any(it.release(token, 2.0) for token in tokens)
    assert it.counts() == (1, 1)


@pytest.mark.parametrize("verb", ["open", "close", "reset", "isolate", "release"])
def test_each_verb_lets_time_take_effect_first(verb: str) -> None:
    """An open circuit whose cooldown is over is half-open before anything else happens to it."""
    it = circuit(state=OPEN)
    {
        "open": lambda: it.open(10.0),
        "close": lambda: it.close(10.0),
        "reset": lambda: it.reset(10.0),
        "isolate": lambda: it.isolate("", 10.0),
        "release": lambda: it.release(-5, 10.0),
    }[verb]()
    assert it.changes[0] == (OPEN, HALF_OPEN) and it.latest == 10.0


def test_every_permit_and_every_token_is_a_number_of_its_own() -> None:
    """Generations, trials and isolations are drawn from one counter, and never again."""
    it = circuit(trials=2, lease=1.0)
    seen = [it.generation]
    for round_ in range(5):
        call(it, FAILURE, 100.0 * round_)
        seen += [it.acquire(100.0 * round_ + 10.0 + t) for t in (0, 0, 1, 1)]
        seen.append(it.isolate("", 100.0 * round_ + 20.0))
        it.reset(100.0 * round_ + 30.0)
        seen.append(it.generation)
    assert len(set(seen)) == len(seen) and min(seen) == 0
