"""The decisions of a retry: rule by rule, and against a second model that was written without looking at the first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import backoff as backoffs
from resilience.core.retry import RetryPlan, RetryRun


def plan(
    attempts: float = 3, within: float | None = None, backoff: Any = 1.0, max_retry_after: float = 60.0
) -> RetryPlan:
    """A plan whose delay is a constant number of seconds, or what a function says."""
    return RetryPlan(attempts, within, backoff if callable(backoff) else lambda *_: backoff, max_retry_after)


def run(now: float = 0.0, **numbers: Any) -> RetryRun:
    """One run of such a plan."""
    return RetryRun(plan(**numbers), now)


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_counts_calls_in_all(attempts: int) -> None:
    """After so many attempts there is no other one, the first counted."""
    call = run(attempts=attempts)
    for number in range(1, attempts):
        assert call.attempt == number
        assert call.next_delay(0.0, 0.5) == 1.0
        assert call.ended_by is None
    assert call.attempt == attempts
    assert call.next_delay(0.0, 0.5) is None
    assert call.ended_by == "attempts"
    assert call.attempt == attempts


def test_infinite_attempts_never_run_out() -> None:
    """`math.inf` is no bound."""
    call = run(attempts=math.inf)
    for _ in range(10_000):
        assert call.next_delay(0.0, 0.5) == 1.0
    assert call.attempt == 10_001


def test_a_new_run_has_done_nothing() -> None:
    """A run begins at attempt 1, having waited for nothing."""
    call = run(7.0, within=3.0)
    assert (call.attempt, call.previous, call.waited, call.ended_by) == (1, 0.0, 0.0, None)
    assert (call.started, call.limit) == (7.0, 10.0)
    assert (RetryRun(plan()).started, RetryRun(plan(within=3.0)).limit) == (0.0, 3.0)


# --- how long ---------------------------------------------------------------------------------------------------------


def test_the_backoff_is_asked_with_retry_previous_and_chance() -> None:
    """A backoff hears the number of the retry from 1, the last computed delay from 0.0, and the chance as given."""
    asked: list[tuple[int, float, float]] = []

    def grow(retry: int, previous: float, u: float) -> float:
        asked.append((retry, previous, u))
        return previous + 2.0

    call = run(attempts=4, backoff=grow)
    assert [call.next_delay(0.0, u) for u in (0.1, 0.2, 0.3)] == [2.0, 4.0, 6.0]
    assert asked == [(1, 0.0, 0.1), (2, 2.0, 0.2), (3, 4.0, 0.3)]


def test_the_backoff_is_not_asked_when_there_is_no_next_attempt() -> None:
    """A decision that is made already asks for no delay."""

    def never(*_: float) -> float:
        raise AssertionError("asked")

    assert run(attempts=1, backoff=never).next_delay(0.0, 0.5) is None
    assert run(backoff=never).next_delay(0.0, 0.5, hint=61.0) is None


def test_waits_add_up() -> None:
    """A run knows how long it has been told to wait so far."""
    call = run(attempts=4, backoff=lambda retry, *_: float(retry))
    for waited in (1.0, 3.0, 6.0):
        call.next_delay(0.0, 0.5)
        assert call.waited == waited
    call.next_delay(0.0, 0.5)
    assert call.waited == 6.0


@pytest.mark.parametrize(("hint", "delay"), [(0.0, 1.0), (0.999, 1.0), (1.0, 1.0), (1.5, 1.5), (60.0, 60.0)])
def test_a_hint_lengthens_and_never_shortens(hint: float, delay: float) -> None:
    """The delay is the larger of what was computed and what was asked for."""
    call = run()
    assert call.next_delay(0.0, 0.5, hint) == delay
    assert call.waited == delay


def test_a_hint_does_not_feed_the_backoff() -> None:
    """The last computed delay, which a decorrelated backoff builds on, knows nothing of hints."""
    call = run()
    call.next_delay(0.0, 0.5, hint=50.0)
    assert call.previous == 1.0


@pytest.mark.parametrize("hint", [60.0001, 3600.0, math.inf])
def test_a_hint_above_the_bound_ends_the_run(hint: float) -> None:
    """Whoever asks for more than `max_retry_after` is not waited for at all."""
    call = run()
    assert call.next_delay(0.0, 0.5, hint) is None
    assert call.ended_by == "max_retry_after"
    assert (call.attempt, call.waited, call.previous) == (1, 0.0, 0.0)


def test_a_bound_of_nothing_obeys_no_hint() -> None:
    """With `max_retry_after=0` any hint ends the run, and no hint does not."""
    assert run(max_retry_after=0.0).next_delay(0.0, 0.5) == 1.0
    assert run(max_retry_after=0.0).next_delay(0.0, 0.5, hint=0.001) is None


@pytest.mark.parametrize("junk", [-0.001, -math.inf, math.nan, math.inf])
def test_a_backoff_that_answers_a_wrong_number_is_an_error(junk: float) -> None:
    """A backoff of one's own that answers a negative, infinite or undefined delay is told so by name."""

    def mine(*_: float) -> float:
        return junk

    with pytest.raises(ValueError) as caught:
        run(backoff=mine).next_delay(0.0, 0.5)
    assert str(caught.value) == f"the backoff {mine!r} must answer a number of seconds, 0 or more, got {junk!r}"


@pytest.mark.parametrize("junk", [None, "1", [1]])
def test_a_backoff_that_answers_no_number_is_an_error(junk: Any) -> None:
    """A backoff of one's own that answers something else is a type error that names it."""

    def mine(*_: float) -> Any:
        return junk

    with pytest.raises(TypeError) as caught:
        run(backoff=mine).next_delay(0.0, 0.5)
    assert str(caught.value) == f"the backoff {mine!r} must answer a number of seconds, 0 or more, got {junk!r}"


# --- until when -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("now", "delay"), [(0.0, 1.0), (8.999, 1.0), (9.0, None), (9.5, None), (100.0, None)])
def test_an_attempt_that_would_begin_at_the_limit_is_not_made(now: float, delay: float | None) -> None:
    """With `now + delay` at or past the end of `within`, the run ends before the sleep."""
    call = run(within=10.0)
    assert call.next_delay(now, 0.5) == delay
    assert call.ended_by == (None if delay else "within")


def test_within_counts_from_the_first_attempt() -> None:
    """The limit is `within` seconds after the reading at which the run began, not after zero."""
    assert run(100.0, within=10.0).next_delay(108.9, 0.5) == 1.0
    assert run(100.0, within=10.0).next_delay(109.0, 0.5) is None


def test_a_clock_that_steps_back_buys_no_time() -> None:
    """A reading that is older than the last one counts as the last one, so `within` is never longer than it says."""
    call = run(100.0, within=10.0, attempts=99)
    assert call.next_delay(108.0, 0.5) == 1.0
    assert call.next_delay(50.0, 0.5) == 1.0
    assert call.next_delay(108.5, 0.5) == 1.0
    assert call.next_delay(109.0, 0.5) is None
    again = run(100.0, within=10.0, attempts=99)
    assert again.next_delay(109.5, 0.5) is None
    assert again.next_delay(100.0, 0.5) is None
    fresh = run(100.0, within=10.0)
    assert fresh.next_delay(0.0, 0.5, hint=9.9) == 9.9
    assert run(100.0, within=10.0).next_delay(0.0, 0.5, hint=10.0) is None


def test_a_hint_that_would_pass_the_limit_ends_the_run_at_once() -> None:
    """An obeyed hint counts as a sleep: one that reaches past `within` is not slept."""
    call = run(within=10.0)
    assert call.next_delay(0.0, 0.5, hint=10.0) is None
    assert call.ended_by == "within"


@pytest.mark.parametrize(("left", "delay"), [(None, 1.0), (1.001, 1.0), (1.0, None), (0.0, None), (-3.0, None)])
def test_an_attempt_that_would_begin_at_an_outer_deadline_is_not_made(left: float | None, delay: float | None) -> None:
    """What is left of the caller's own deadline bounds the sleep in the same way."""
    call = run()
    assert call.next_delay(0.0, 0.5, left=left) == delay
    assert call.ended_by == (None if delay else "deadline")


def test_no_time_left_ends_even_a_retry_without_a_delay() -> None:
    """With nothing left, an attempt without a wait has no time to run either."""
    assert run(backoff=0.0).next_delay(0.0, 0.5, left=0.0) is None
    assert run(backoff=0.0, within=1.0).next_delay(1.0, 0.5) is None


def test_a_budget_is_asked_for_the_next_attempt_and_for_nothing_else() -> None:
    """Every token buys an attempt: it is taken last, and not where another bound ends the run."""
    asked: list[bool] = []

    def pay() -> bool:
        asked.append(True)
        return True

    call = run(attempts=3)
    assert call.next_delay(0.0, 0.5, left=0.5, pay=pay) is None
    assert asked == []
    assert call.next_delay(0.0, 0.5, pay=pay) == 1.0
    assert asked == [True]


def test_a_decision_to_stop_changes_nothing_else() -> None:
    """A run that ends keeps its numbers, for whoever tells the story."""
    call = run(attempts=5)
    call.next_delay(0.0, 0.5)
    call.next_delay(0.0, 0.5, left=0.5)
    assert (call.attempt, call.previous, call.waited, call.ended_by) == (2, 1.0, 1.0, "deadline")


@pytest.mark.parametrize(
    ("numbers", "inputs", "bound"),
    [
        ({"attempts": 1}, {"now": 99.0, "hint": 999.0, "left": 0.0}, "attempts"),
        ({"within": 10.0}, {"now": 99.0, "hint": 999.0, "left": 0.0}, "max_retry_after"),
        ({"within": 10.0}, {"now": 99.0, "left": 0.0}, "within"),
        ({"within": 10.0}, {"now": 0.0, "left": 0.0}, "deadline"),
        ({"within": 10.0}, {"now": 0.0, "left": 99.0, "pay": lambda: False}, "budget"),
    ],
)
def test_of_several_bounds_the_first_in_order_is_named(numbers: Any, inputs: Any, bound: str) -> None:
    """Attempts before hints, hints before the own limit, the own limit before the caller's deadline."""
    call = run(**numbers)
    assert call.next_delay(u=0.5, **inputs) is None
    assert call.ended_by == bound


# --- looking ahead ----------------------------------------------------------------------------------------------------


def test_a_look_ahead_tells_what_comes_and_decides_nothing() -> None:
    """`expected_delay` answers what `next_delay` would without a hint, any number of times, and changes nothing."""
    call = run(attempts=2, backoff=lambda retry, previous, u: retry + previous + u)
    assert call.expected_delay(0.0, 0.25) == call.expected_delay(0.0, 0.25) == 1.25
    assert (call.attempt, call.previous, call.waited, call.ended_by) == (1, 0.0, 0.0, None)
    assert call.next_delay(0.0, 0.25) == 1.25
    assert call.expected_delay(0.0, 0.25) is None
    assert (call.attempt, call.previous, call.waited, call.ended_by) == (2, 1.25, 1.25, None)


def test_a_look_ahead_sees_the_deadlines() -> None:
    """Where no other attempt would be made in time, none is expected."""
    assert run(within=10.0).expected_delay(9.0, 0.5) is None
    assert run().expected_delay(0.0, 0.5, left=1.0) is None
    assert run().expected_delay(0.0, 0.5, left=1.1) == 1.0


def test_a_look_ahead_expects_no_hint() -> None:
    """What is expected is the computed delay, however small."""
    assert run(backoff=0.0).expected_delay(0.0, 0.5) == 0.0


# --- against a second model -------------------------------------------------------------------------------------------


@dataclass
class Failure:
    """One failed attempt, as the world deals it."""

    took: float
    u: float
    hint: float
    left: float | None


failures = st.builds(
    Failure,
    took=st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    u=st.sampled_from([0.0, 0.5, 0.75]),
    hint=st.sampled_from([0.0, 0.5, 1.0, 4.0, 4.5, math.inf]),
    left=st.sampled_from([None, 0.0, 0.5, 1.0, 2.0, 100.0]),
)


def naive(attempts: float, within: float | None, most: float, step: float, story: list[Failure]) -> list[float | None]:
    """The whole run in one loop: every wait, and None where it stops."""
    waits: list[float | None] = []
    clock = elapsed = 0.0
    for number, failure in enumerate(story, start=1):
        clock += failure.took
        elapsed = clock
        wait = max(failure.u * step * number, failure.hint)
        if number == attempts or failure.hint > most:
            return [*waits, None]
        if within is not None and elapsed + wait >= within:
            return [*waits, None]
        if failure.left is not None and wait >= failure.left:
            return [*waits, None]
        waits.append(wait)
        clock += wait
    return waits


@given(
    attempts=st.sampled_from([1, 2, 3, 7, math.inf]),
    within=st.sampled_from([None, 0.5, 2.0, 8.0]),
    most=st.sampled_from([0.0, 1.0, 4.0]),
    step=st.sampled_from([0.0, 0.5, 1.0]),
    story=st.lists(failures, max_size=8),
    origin=st.sampled_from([0.0, 1024.0]),
)
def test_a_run_is_what_the_rules_say(
    attempts: float, within: float | None, most: float, step: float, story: list[Failure], origin: float
) -> None:
    """Any run of failures ends where a second, naive reading of the rules ends it, with the same waits."""
    linear = backoffs.linear(step, cap=1e9, jitter="full")
    call = RetryRun(RetryPlan(attempts, within, linear, most), origin)
    now, waits = origin, []
    for failure in story:
        now += failure.took
        delay = call.next_delay(now, failure.u, failure.hint, failure.left)
        waits.append(delay)
        if delay is None:
            break
        now += delay
    assert waits == naive(attempts, within, most, step, story)
    assert call.waited == sum(wait for wait in waits if wait is not None)
    assert (call.ended_by is None) == (None not in waits)


@given(
    st.floats(0, 1e6), st.floats(0.001, 100), st.lists(st.floats(0, 30), min_size=1, max_size=30), st.floats(0, 0.99)
)
def test_a_sleep_never_passes_the_limit(origin: float, within: float, took: list[float], u: float) -> None:
    """Whatever the attempts take, every wait that is granted ends before the limit."""
    call = RetryRun(RetryPlan(math.inf, within, backoffs.exponential(), 60.0), origin)
    now = origin
    for seconds in took:
        now += seconds
        delay = call.next_delay(now, u)
        if delay is None:
            assert call.ended_by == "within"
            return
        now += delay
        assert now < call.limit
