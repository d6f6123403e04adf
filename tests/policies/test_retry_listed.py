"""The short way from a failed attempt to the next keeps the same books as the plan's own run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import Retry, backoff
from resilience.core.retry import RetryRun
from resilience.testing import VirtualClock

_BOOKS = ("attempt", "previous", "waited", "latest", "limit", "started", "ended_by")


@given(
    st.sampled_from([backoff.exponential(1.0), backoff.constant(2.0), backoff.linear(0.5, jitter="equal")]),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1, exclude_max=True)), min_size=4, max_size=4),
)
def test_both_ways_write_the_same_books(wait: Any, steps: list[tuple[float, float]]) -> None:
    """After each failure, every number of a call is what the run of its plan, asked directly, would have."""
    clock, chances = VirtualClock(), iter([u for _, u in steps])
    retry = Retry(on=OSError, attempts=4, within=8, backoff=wait, rng=lambda: next(chances), clock=clock)
    call = retry._begin(cuts=False)
    run = RetryRun(retry._plan, clock.now())
    for passes, u in steps:
        clock.advance(passes)
        assert call.failed(OSError()) is (run.next_delay(clock.now(), u) is not None)
        assert [getattr(call, name) for name in _BOOKS] == [getattr(run, name) for name in _BOOKS]
        if run.ended_by is not None:
            break


@pytest.mark.parametrize("chance", [-1.0, float("nan"), float("inf")])
def test_a_chance_that_makes_no_delay_is_refused(chance: float) -> None:
    """What an `rng` gives outside of [0, 1) never becomes a wait that is no number of seconds, 0 or more."""
    retry = Retry(on=OSError, within=60, rng=lambda: chance)
    with pytest.raises(ValueError, match=r"must answer a number of seconds, 0 or more, got "):
        retry.call(_fails)


def _fails() -> None:
    raise OSError
