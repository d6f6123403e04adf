"""A `Keyed` forgot a hedge whose own budget had been drawn on, and made it anew with a full one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

import pytest

from resilience import Hedge, Keyed, Pipeline, Policy, RetryBudget, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable


class _Down(Exception):
    pass


def _fail() -> None:
    raise _Down


def _hedge(key: object) -> Policy[Never]:
    return Hedge(max_extra_load=1, budget=RetryBudget(0, per_second=0, capacity=1))


def _pipeline(key: object) -> Policy[Never]:
    return Pipeline(_hedge(key), Timeout(1, thread=False))


@pytest.mark.parametrize("factory", [_hedge, _pipeline])
def test_a_hedge_that_owes_its_budget_stays(factory: Callable[[object], Policy[Never]]) -> None:
    """Newcomers do not make the table forget a hedge that has spent from its budget, alone or in a pipeline."""
    hosts = Keyed(factory, max_keys=2)
    before = hosts["a"]
    with pytest.raises(_Down):
        before.call(_fail)
    for key in "bcdefg":
        hosts[key].call(int)
    assert "a" in hosts
    assert hosts["a"] is before
