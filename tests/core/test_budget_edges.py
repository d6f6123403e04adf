"""A budget from which nothing was ever taken."""

from __future__ import annotations

import pytest

from resilience.core.budget import Budget


@pytest.mark.parametrize("now", [-1e9, 0.0, 1e9])
def test_an_untouched_budget_is_full_by_every_clock(now: float) -> None:
    """Before the first withdrawal a look shows the capacity, also where the clock begins far below zero."""
    assert Budget(0.1, 1.0, 5).level(now) == 5.0
