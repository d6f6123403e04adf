"""Where the slices of the window begin and end, and what a few refusals are worth."""

from __future__ import annotations

import pytest

from resilience.core.accepts import REFUSED, Accepts
from resilience.core.verdict import FAILURE, SUCCESS


def test_the_slices_begin_with_the_first_call() -> None:
    """The first call counts for the whole window to the last moment, whatever the clock said when it was sent."""
    for began in (0.25, -3.4, 1e6 + 0.7):
        accepts = Accepts(2.0, 10.0, 1, 0.95)
        accepts.settle(accepts.acquire(began, 0.0), SUCCESS)
        assert accepts.counts(began + 9.99) == (1, 1)
        assert accepts.counts(began + 10.0) == (0, 0)


def test_a_window_is_over_at_its_end() -> None:
    """A window whose tenth is no round number in binary ends no slice late."""
    for window in (1.0, 0.1, 3.0, 0.7):
        accepts = Accepts(2.0, window, 1, 0.95)
        accepts.settle(accepts.acquire(0.0, 0.0), SUCCESS)
        assert accepts.counts(window) == (0, 0)


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_refusals_outlive_those_of_an_older_slice(refused: int) -> None:
    """When the refusals of one slice are forgotten, as many in a later slice still hold calls back."""
    accepts = Accepts(2.0, 10.0, 1, 0.95)
    for now in (0.0, 5.0):
        permits = [accepts.acquire(now, 0.99) for _ in range(refused)]
        for permit in permits:
            accepts.settle(permit, FAILURE)
    assert accepts.counts(11.0) == (refused, 0)
    assert accepts.acquire(11.0, 0.0) == REFUSED
    assert accepts.acquire(15.0, 0.0) != REFUSED
