"""A cut kept to its own seconds alone, also where a plain `with context.deadline(...)` around it allowed less."""

from __future__ import annotations

import pytest

from resilience import DeadlineExceeded, Retry, TimedOut, Timeout, context
from tests.colours import Colour, async_colours

BOUNDS = {"timeout": lambda: Timeout(2), "within": lambda: Retry(on=ValueError, within=2)}


@pytest.mark.parametrize("kind", BOUNDS)
@async_colours
async def test_a_cut_is_made_at_the_tightest_deadline_around_it(colour: Colour, kind: str) -> None:
    """Inside a plain deadline of 0.5 s, a bound of 2 s cuts after 0.5 s and says whose deadline it was."""
    with context.deadline(0.5), pytest.raises(DeadlineExceeded) as caught:
        await colour.call(BOUNDS[kind](), colour.function([(10, "late")]))
    assert (colour.clock.now(), caught.value.seconds) == (0.5, 0.5)


@async_colours
async def test_a_looser_deadline_around_it_changes_nothing(colour: Colour) -> None:
    """Inside a plain deadline of 5 s, a timeout of 2 s cuts after 2 s and says that it was its own."""
    with context.deadline(5), pytest.raises(TimedOut) as caught:
        await colour.call(Timeout(2), colour.function([(10, "late")]))
    assert (colour.clock.now(), caught.value.seconds) == (2, 2)
    assert not isinstance(caught.value, DeadlineExceeded)
