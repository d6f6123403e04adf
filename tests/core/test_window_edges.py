"""Good calls that are counted by adding 1, and up to when that may be done."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from resilience.core.window import LastCalls, LastSeconds


def test_no_reading_lets_a_call_be_counted_directly_before_the_first() -> None:
    """A window that has seen no time has no present slice to count in."""
    assert LastSeconds(10.0).ends == -math.inf


@given(
    st.sampled_from([0.001, 0.3, 1.0, 7.0, 10.0, 86_400.0]),
    st.floats(-1e6, 1e9),
    st.lists(st.floats(0.0, 3.0), max_size=5),
)
def test_a_slice_ends_at_the_last_reading_that_is_not_of_a_later_one(
    window: float, now: float, steps: list[float]
) -> None:
    """Up to `ends` a reading is of the present slice, and hardly above it no more."""
    it = LastSeconds(window)
    for step in (0.0, *steps):
        now += step * window
        it.add(False, now)
        assert it.slice == now // it.width
        assert it.ends // it.width == it.slice
        assert (it.ends + it.width * 1e-3 + 2 * math.ulp(it.ends)) // it.width > it.slice


def test_calls_counted_directly_are_good_calls_like_any_others() -> None:
    """Told by adding 1 or by `add`, they count for as long, and leave the window without a trace."""
    directly, told = LastSeconds(10.0), LastSeconds(10.0)
    for it in (directly, told):
        it.add(True, 0.0)
    for _ in range(3):
        directly.ticks += 1
        told.add(False, 0.5)
    for it in (directly, told):
        it.add(False, 5.0)
    for now in (5.0, 9.9, 10.0, 14.9, 15.0, 40.0):
        assert directly.counts(now) == told.counts(now)
    assert told.counts(40.0) == directly.counts(40.0) == (0, 0)


def test_of_the_last_calls_one_may_be_counted_directly_at_any_time() -> None:
    """They have no end, and bad ones leave as others are added."""
    it = LastCalls(3)
    it.add(True, 0.0)
    assert it.ends == math.inf
    it.ticks += 2
    assert it.counts(0.0) == (1, 3)
    it.ticks += 1
    assert it.counts(0.0) == (0, 3)
