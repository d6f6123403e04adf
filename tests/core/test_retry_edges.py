"""A delay that was granted and is asked about again, since time has passed before it could be slept."""

from __future__ import annotations

import pytest

from resilience import backoff as backoffs
from resilience.core.retry import RetryPlan, RetryRun


def run(within: float | None = 10.0) -> RetryRun:
    """A run that began at 100, and whose first retry waits for one second."""
    made = RetryRun(RetryPlan(5, within, backoffs.constant(1.0, jitter="none"), 60.0), 100.0)
    assert made.next_delay(100.0, 0.0) == 1.0
    return made


@pytest.mark.parametrize(
    ("now", "fits"), [(100.0, True), (108.999, True), (109.0, False), (110.0, False), (50.0, True)]
)
def test_a_granted_delay_no_longer_fits_where_it_would_end_at_the_limit(now: float, fits: bool) -> None:
    """Time that has passed since is taken off: an attempt that would begin at the end of `within` is not made."""
    call = run()
    assert call.still_fits(now, 1.0) is fits
    assert call.ended_by == (None if fits else "within")


@pytest.mark.parametrize(("left", "fits"), [(None, True), (1.001, True), (1.0, False), (-1.0, False)])
def test_a_granted_delay_no_longer_fits_where_it_would_end_at_the_deadline(left: float | None, fits: bool) -> None:
    """The caller's own deadline bounds it in the same way."""
    call = run(within=None)
    assert call.still_fits(1e9, 1.0, left) is fits
    assert call.ended_by == (None if fits else "deadline")


def test_asking_again_is_a_reading_of_the_clock() -> None:
    """What a later reading has taken off, an earlier one that comes afterwards does not bring back."""
    call = run()
    assert call.still_fits(108.5, 1.0) is True
    assert call.still_fits(100.0, 1.6) is False
    call = run()
    assert call.still_fits(108.5, 1.0) is True
    assert call.next_delay(100.0, 0.0, hint=1.6) is None and call.ended_by == "within"


def test_an_earlier_reading_does_not_lengthen_the_time_that_is_left() -> None:
    """A clock that stepped back since the delay was granted buys no time."""
    call = run()
    assert call.next_delay(108.0, 0.0) == 1.0
    assert call.still_fits(100.0, 2.0) is False


def test_asking_again_counts_neither_attempt_nor_wait() -> None:
    """It has been counted when it was granted."""
    call = run()
    before = (call.attempt, call.previous, call.waited)
    assert before == (2, 1.0, 1.0)
    call.still_fits(101.0, 1.0)
    call.still_fits(120.0, 1.0)
    assert (call.attempt, call.previous, call.waited) == before
