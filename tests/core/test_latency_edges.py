"""Samples and windows at their edges: a new window, errors that differ, and calls that are added together."""

from __future__ import annotations

import math

import pytest

from resilience.core.latency import Sample, Window


def test_a_new_window_is_empty() -> None:
    """Nothing is out, ended or lost in a new window, it is not full, and it began when it was opened."""
    window = Window(4, 10.0, 3)
    assert (window.out, window.ended, window.lost, window.calls) == (0, 0, 0, 0)
    assert (window.opened, window.peak, window.busy, window.filled) == (10.0, 3, 0.0, None)


def test_calls_may_be_added_together() -> None:
    """Several calls of one latency say the same whether they are added one by one or at once."""
    at_once, single = Window(1, 0.0, 0), Window(1, 0.0, 0)
    for latency, calls in ((0.5, 3), (4.0, 2)):
        at_once.add(latency, calls)
        for _ in range(calls):
            single.add(latency)
    one, other = at_once.sample(), single.sample()
    assert one is not None and other is not None
    assert one.calls == other.calls == 5
    assert one.level == pytest.approx(other.level)
    assert one.variance == pytest.approx(other.variance)
    assert one.mean == pytest.approx(other.mean) == pytest.approx(1.9)


@pytest.mark.parametrize(("mine", "theirs"), [(0.3, 0.4), (0.4, 0.3), (0.0, 0.5), (0.5, 0.0), (0.0, 0.0)])
def test_the_error_of_a_difference(mine: float, theirs: float) -> None:
    """A difference is measured in the root of both squared errors, and of a thousandth that it always has."""
    one, other = Sample(4, 1.0, 4 * mine**2, 1.0), Sample(9, 0.0, 9 * theirs**2, 1.0)
    assert (one.error, other.error) == pytest.approx((mine, theirs))
    assert one.above(other) == pytest.approx(1.0 / math.sqrt(mine**2 + theirs**2 + 0.001))
    assert other.above(one) == -one.above(other)
