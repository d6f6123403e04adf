"""A budget from which nothing was ever taken, and one that is full again."""

from __future__ import annotations

import pytest

from resilience.core.budget import Budget


@pytest.mark.parametrize("now", [-1e9, 0.0, 1e9])
def test_an_untouched_budget_is_full_by_every_clock(now: float) -> None:
    """Before the first withdrawal a look shows the capacity, also where the clock begins far below zero."""
    assert Budget(0.1, 1.0, 5).level(now) == 5.0


@pytest.mark.parametrize(("ratio", "deposits"), [(1.0, 1), (0.5, 2), (0.25, 4)])
def test_a_deposit_counts_until_the_bucket_is_full(ratio: float, deposits: int) -> None:
    """`short` is a bool: False at first, True from a withdrawal on, and False with the deposit that makes it good."""
    budget = Budget(ratio, 0.0, 5)
    seen = [budget.short]
    assert budget.withdraw(0.0)
    for _ in range(deposits):
        seen.append(budget.short)
        budget.deposit()
    assert [*seen, budget.short] == [False, *[True] * deposits, False]
    assert type(seen[0]) is bool


def test_a_budget_that_is_full_again_is_as_good_as_new() -> None:
    """Filled to the brim, it counts from there as one does from which nothing was taken, to the last place."""
    used, new = Budget(0.1, 0.0, 1), Budget(0.1, 0.0, 1)
    assert used.withdraw(0.0)
    for _ in range(10):
        used.deposit()
    assert used.level(0.0) == 1.0
    assert used.withdraw(0.0) and new.withdraw(0.0)
    for _ in range(9):
        used.deposit()
        new.deposit()
        assert used.level(0.0) == new.level(0.0) < 1.0
