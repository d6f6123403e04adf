"""Nothing grows with calls made. This runs by default: it counts bytes, and no machine is too busy for that."""

from __future__ import annotations

import pytest

from tests.benchmarks.footprint import paths
from tests.benchmarks.memory import growth

CALLS = 300
LEAST = 4 * CALLS
"""Fewer bytes than these are no growth: a list of the calls would take twice as many."""


@pytest.mark.parametrize("path", paths())
def test_calls_leave_nothing_behind(path: str) -> None:
    """After some calls have filled what there is to fill, as many more leave next to nothing."""
    call = paths()[path]
    assert any(growth(call, CALLS) < LEAST for _ in range(3))


def test_what_keeps_a_list_of_its_calls_is_found_out() -> None:
    """The count sees eight bytes a call."""
    kept: list[None] = []
    assert growth(lambda: kept.append(None), CALLS) > LEAST
