"""A retry and a hedge that hold one budget: a call deposits once."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import CircuitBreaker, Hedge, Pipeline, Retry, RetryBudget
from tests.colours import Colour, every_colour


def drained() -> RetryBudget:
    """A budget that can take a deposit, and has tokens."""
    budget = RetryBudget(ratio=0.25, per_second=0, capacity=10)
    for _ in range(5):
        budget.withdraw()
    return budget


@pytest.mark.parametrize("nested", [False, True])
@every_colour
async def test_a_call_through_both_is_one_deposit(colour: Colour, nested: bool) -> None:
    """In the taught order the retry deposits and the hedge inside does not, in a pipeline or one around the other."""
    budget = drained()
    retry, hedge = Retry(on=OSError, backoff=0, budget=budget), Hedge(budget=budget)
    fetch = colour.function(["page", ...])
    policy: Any = Pipeline(retry, Pipeline(hedge)) if nested else Pipeline(retry, hedge)
    await colour.call(policy, fetch)
    assert budget.snapshot()["level"] == 5.25
    await colour.invoke(retry(hedge(fetch)))
    assert budget.snapshot()["level"] == 5.5


@every_colour
async def test_the_hedged_function_by_itself_still_deposits(colour: Colour) -> None:
    """That a retry stands around it elsewhere changes nothing where it does not."""
    budget = drained()
    hedged = Hedge(budget=budget)(colour.function(["page", ...]))
    Retry(on=OSError, budget=budget)(hedged)
    await colour.invoke(hedged)
    assert budget.snapshot()["level"] == 5.25


@every_colour
async def test_two_budgets_each_get_theirs(colour: Colour) -> None:
    """A retry and a hedge with budgets of their own both deposit, each in its own."""
    ours, theirs = drained(), drained()
    await colour.call(Pipeline(Retry(on=OSError, budget=ours), Hedge(budget=theirs)), colour.function(["page"]))
    assert (ours.snapshot()["level"], theirs.snapshot()["level"]) == (5.25, 5.25)


@every_colour
async def test_what_stands_between_is_not_left_out(colour: Colour) -> None:
    """A policy that wraps the hedged function is called, whatever the retry around it knows."""
    budget, breaker = drained(), CircuitBreaker(1, on=OSError)
    guarded = breaker(Hedge(budget=budget)(colour.function([OSError, "page"])))
    with pytest.raises(OSError):
        await colour.call(Retry(on=OSError, attempts=1, budget=budget), guarded)
    assert breaker.state == "open"
