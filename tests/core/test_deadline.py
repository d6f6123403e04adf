"""The arithmetic of deadlines."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from resilience.core.deadline import ends_at, fits

readings = st.floats(min_value=0, max_value=1e9)


def test_a_deadline_is_a_moment() -> None:
    """A bound of some seconds ends that many seconds after the reading at which it began."""
    assert ends_at(100.0, 2.5) == 102.5


def test_without_a_bound_nothing_ends() -> None:
    """No bound is a moment that never comes."""
    assert ends_at(100.0, None) == math.inf


def test_a_wait_that_ends_at_the_deadline_is_too_long() -> None:
    """Work that would begin at its deadline has no time to run."""
    assert fits(0.999, 1.0)
    assert not fits(1.0, 1.0)
    assert not fits(1.001, 1.0)


def test_nothing_fits_when_nothing_is_left() -> None:
    """Not even a wait of no length fits into no time."""
    assert not fits(0.0, 0.0)
    assert not fits(0.0, -1.0)
    assert fits(0.0, 5e-324)


@given(readings, readings)
def test_a_deadline_never_lies_before_its_beginning(now: float, seconds: float) -> None:
    """A bound ends when it begins or later, at any reading of the clock."""
    assert ends_at(now, seconds) >= now
