"""Retries that are paid from a budget: who pays, when, and what all of them come to."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from resilience import Pipeline, Rejected, Retry, RetryBudget
from resilience.events import AttemptFailed, BudgetExhausted, RetryGaveUp, RetryScheduled
from resilience.testing import VirtualClock
from tests.colours import FORMS, Colour, every_colour

DOWN = ConnectionError


def level(budget: RetryBudget) -> float:
    """The tokens in a budget."""
    return float(budget.snapshot()["level"])


def spent(budget: RetryBudget, tokens: int) -> RetryBudget:
    """The same budget after so many withdrawals."""
    for _ in range(tokens):
        assert budget.withdraw()
    return budget


@every_colour
async def test_each_retry_costs_one(colour: Colour) -> None:
    """A call that needs two retries takes two tokens, and its success deposits once: per call, not per attempt."""
    budget = RetryBudget(0.5, per_second=0, capacity=10, clock=colour.clock)
    retry = Retry(on=DOWN, attempts=5, backoff=0, budget=budget, clock=colour.clock)
    assert await colour.call(retry, colour.function([DOWN(), DOWN(), "page"])) == "page"
    assert level(budget) == 10 - 2 + 0.5


@pytest.mark.parametrize("form", [form for form in FORMS if form != "guard"])
@every_colour
async def test_a_first_success_deposits(colour: Colour, form: str) -> None:
    """A call that succeeds at once deposits once, in every form."""
    budget = spent(RetryBudget(0.5, per_second=0, capacity=10, clock=colour.clock), 3)
    retry = Retry(on=DOWN, budget=budget, clock=colour.clock)
    fetch = colour.function(["page", ...])
    for _ in range(4):
        assert await colour.call(retry, fetch, form=form) == "page"
    assert level(budget) == 10 - 3 + 4 * 0.5


@every_colour
async def test_a_success_deposits_when_somebody_listens(colour: Colour) -> None:
    """With a listener, or with `on_result`, the deposit is the same."""
    budget = spent(RetryBudget(1, per_second=0, capacity=10, clock=colour.clock), 4)
    judged = Retry(on=DOWN, on_result=lambda result: result is None, budget=budget, clock=colour.clock)
    await colour.call(judged, colour.function(["page"]))
    assert level(budget) == 7
    heard = Retry(on=DOWN, budget=budget, clock=colour.clock)
    heard.listen(lambda event: None)
    await colour.call(heard, colour.function(["page"]))
    assert level(budget) == 8


@every_colour
async def test_without_a_token_the_real_error_is_raised_at_once(colour: Colour) -> None:
    """When the budget is empty the last error is raised, the same object, without a sleep, and the note says why."""
    budget = RetryBudget(0, per_second=0, capacity=1, clock=colour.clock)
    retry = Retry(on=DOWN, attempts=5, backoff=2, budget=budget, clock=colour.clock)
    first, second = DOWN("first"), DOWN("second")
    with pytest.raises(DOWN) as caught:
        await colour.call(retry, colour.function([first, second]))
    assert caught.value is second
    assert caught.value.__notes__ == ["resilience: gave up after 2 attempts and 2 s of waiting, ended by budget"]
    assert colour.clock.sleeps == [2.0]
    third = DOWN("third")
    with pytest.raises(DOWN) as caught:
        await colour.call(retry, colour.function([third]))
    assert caught.value is third
    assert not hasattr(third, "__notes__")
    assert colour.clock.sleeps == [2.0]


@every_colour
async def test_the_token_is_asked_for_last(colour: Colour) -> None:
    """A retry that another bound refuses takes no token: the last attempt, no time left, a hint that is too long."""
    budget = RetryBudget(0, per_second=0, capacity=10, clock=colour.clock)
    hint = DOWN()
    hint.retry_after = 3600  # type: ignore[attr-defined]
    for bounded in (
        Retry(on=DOWN, attempts=1, budget=budget, clock=colour.clock),
        Retry(on=DOWN, within=1, backoff=2, budget=budget, clock=colour.clock),
        Retry(on=DOWN, max_retry_after=60, budget=budget, clock=colour.clock),
    ):
        with pytest.raises(DOWN):
            await colour.call(bounded, colour.function([hint]))
    with pytest.raises(LookupError):
        await colour.call(Retry(on=DOWN, budget=budget, clock=colour.clock), colour.function([LookupError()]))
    assert level(budget) == 10


@every_colour
async def test_only_a_success_deposits(colour: Colour) -> None:
    """Neither an error, matching or not, nor a result that was never accepted deposits anything."""
    budget = spent(RetryBudget(1, per_second=0, capacity=10, clock=colour.clock), 5)
    errors = Retry(on=DOWN, attempts=1, budget=budget, clock=colour.clock)
    for error in (DOWN, LookupError):
        with pytest.raises(error):
            await colour.call(errors, colour.function([error()]))
    results = Retry(
        on_result=lambda result: result is None, attempts=1, on_exhausted="return", budget=budget, clock=colour.clock
    )
    assert await colour.call(results, colour.function([None])) is None
    assert level(budget) == 5


class Refused(Rejected):
    """A refusal that is worth another try."""


@every_colour
async def test_retrying_a_rejection_costs_one_and_deposits_nothing(colour: Colour) -> None:
    """A `Rejected` that is retried is paid like any other retry; a call that ends in one deposits nothing."""
    budget = RetryBudget(0.25, per_second=0, capacity=10, clock=colour.clock)
    retry = Retry(on=Refused, attempts=3, backoff=0, budget=budget, clock=colour.clock)
    with pytest.raises(Refused):
        await colour.call(retry, colour.function([Refused("inner"), ...]))
    assert level(budget) == 8
    bystander = Retry(on=DOWN, attempts=3, backoff=0, budget=budget, clock=colour.clock)
    with pytest.raises(Refused):
        await colour.call(bystander, colour.function([Refused("inner")]))
    assert level(budget) == 8


@every_colour
async def test_a_refusal_is_told_by_both(colour: Colour) -> None:
    """The budget says `BudgetExhausted`, the retry `RetryGaveUp` with the reason "budget"; no attempt is scheduled."""
    budget = RetryBudget(0, per_second=0, capacity=1, name="shared", clock=colour.clock)
    retry = Retry(on=DOWN, attempts=5, backoff=1, budget=budget, name="shop", clock=colour.clock)
    seen: list[Any] = []
    budget.listen(seen.append)
    retry.listen(seen.append)
    with pytest.raises(DOWN):
        await colour.call(retry, colour.function([DOWN(), ...]))
    assert [type(event) for event in seen] == [
        AttemptFailed,
        RetryScheduled,
        AttemptFailed,
        BudgetExhausted,
        RetryGaveUp,
    ]
    assert (seen[3].policy, seen[3].kind, seen[3].at) == ("shared", "retry_budget", 1.0)
    assert (seen[4].policy, seen[4].reason, seen[4].attempts, seen[4].waited) == ("shop", "budget", 2, 1.0)


@every_colour
async def test_one_budget_serves_many(colour: Colour) -> None:
    """Policies that share a budget draw on the same tokens, and successes of one pay for retries of another."""
    budget = RetryBudget(1, per_second=0, capacity=2, clock=colour.clock)
    reads = Retry(on=DOWN, attempts=3, backoff=0, budget=budget, clock=colour.clock)
    writes = Retry(on=DOWN, attempts=3, backoff=0, budget=budget, clock=colour.clock)
    broken = colour.function([DOWN(), ...])
    for expected in (3, 4):
        with pytest.raises(DOWN):
            await colour.call(reads, broken)
        assert len(broken.calls) == expected
    await colour.call(writes, colour.function(["written"]))
    with pytest.raises(DOWN):
        await colour.call(reads, broken)
    assert len(broken.calls) == 6


@every_colour
async def test_a_block_is_paid_like_a_call(colour: Colour) -> None:
    """`attempts()` draws on the budget for each further round, and deposits once when a round succeeds."""
    budget = RetryBudget(0.5, per_second=0, capacity=10, clock=colour.clock)
    retry = Retry(on=DOWN, attempts=5, backoff=0, budget=budget, clock=colour.clock)
    if colour.is_async:
        async for attempt in retry.attempts():
            with attempt:
                if attempt.number < 3:
                    raise DOWN
    else:
        for attempt in retry.attempts():
            with attempt:
                if attempt.number < 3:
                    raise DOWN
    assert level(budget) == 8.5


@every_colour
async def test_an_idle_client_can_still_retry(colour: Colour) -> None:
    """A client that makes one call a minute, after an outage that took every token, has its retry."""
    budget = spent(RetryBudget(clock=colour.clock), 100)
    retry = Retry(on=DOWN, attempts=2, backoff=0, budget=budget, clock=colour.clock)
    with pytest.raises(DOWN):
        await colour.call(retry, colour.function([DOWN()]))
    for _ in range(10):
        await colour.sleep(60)
        assert await colour.call(retry, colour.function([DOWN(), "page"])) == "page"


@pytest.mark.parametrize(
    ("given", "form"),
    [(0.1, "RetryBudget(0.1)"), (10, "RetryBudget(10)"), (RetryBudget, "RetryBudget()"), ("x", "RetryBudget()")],
)
def test_a_budget_is_a_retry_budget(given: Any, form: str) -> None:
    """Anything else as `budget` is a TypeError that shows what to write."""
    expected = f"budget must be a RetryBudget or None: write budget={form}, got {given!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        Retry(on=DOWN, budget=given)


def test_replace_keeps_the_budget() -> None:
    """A budget is shared by sharing the object, also with what `replace` makes."""
    budget = RetryBudget()
    retry = Retry(on=DOWN, budget=budget)
    assert retry.replace(attempts=5)._budget is budget
    assert Pipeline(retry).replace().policies[0]._budget is budget  # type: ignore[attr-defined]


# --- the figures ------------------------------------------------------------------------------------------------------


class Traffic:
    """Calls at a steady rate, in virtual time."""

    def __init__(self, per_second: float) -> None:
        self.clock = VirtualClock()
        self.per_second = per_second
        self.calls = 0

    def run(self, call: Callable[[], object], seconds: float) -> None:
        """Make calls for so long, whatever they come to."""
        for _ in range(round(seconds * self.per_second)):
            self.calls += 1
            with contextlib.suppress(DOWN):
                call()
            self.clock.advance(1 / self.per_second)


class Backend:
    """What fails at a given share of its calls, and counts them."""

    def __init__(self, failing: float, seed: int = 1) -> None:
        self.failing = failing
        self.rng = random.Random(seed)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.rng.random() < self.failing:
            raise DOWN
        return "page"


def test_figure_total_failure() -> None:
    """Sustained 100 % failure: at most 1.10 x the offered load once the capacity is spent, at any load from 10/s."""
    figures = {}
    for load in (10, 20, 50, 200, 1_000):
        traffic, backend = Traffic(load), Backend(failing=1.0)
        budget = RetryBudget(clock=traffic.clock)
        retried = Retry(on=DOWN, attempts=4, backoff=0, budget=budget, clock=traffic.clock)(backend)
        traffic.run(retried, seconds=20_000 / load)
        figures[load] = (backend.calls - 100) / traffic.calls
    print("\noffered load/s: amplification at 100 % failure, asked <= 1.10:", figures)
    assert max(figures.values()) <= 1.10
    assert figures[1_000] <= 1.0011


def test_figure_total_failure_without_a_trickle() -> None:
    """With `per_second=0` and nothing that succeeds, there is not one retry beyond the capacity, at any load."""
    traffic, backend = Traffic(2), Backend(failing=1.0)
    budget = RetryBudget(per_second=0, clock=traffic.clock)
    retried = Retry(on=DOWN, attempts=4, backoff=0, budget=budget, clock=traffic.clock)(backend)
    traffic.run(retried, seconds=1_000)
    assert backend.calls == traffic.calls + 100


def test_figure_partial_failure() -> None:
    """Whatever share of calls fails: retries are at most a tenth of the successes, plus the trickle."""
    figures = {}
    for failing in (0.05, 0.2, 0.5, 0.8, 0.95):
        traffic, backend = Traffic(500), Backend(failing)
        budget = RetryBudget(clock=traffic.clock)
        retried = Retry(on=DOWN, attempts=4, backoff=0, budget=budget, clock=traffic.clock)(backend)
        traffic.run(retried, seconds=40)
        figures[failing] = (backend.calls - 100) / traffic.calls
    print("\nshare failing: amplification at 500/s, asked <= 1.102:", figures)
    assert max(figures.values()) <= 1.102


def nested(clock: VirtualClock, backend: Backend, *, budgets: bool) -> tuple[Callable[[], object], list[int]]:
    """Three services, each of which calls the next with retries of its own; how often each was called."""
    counts = [0, 0, 0]
    call: Callable[[], object] = backend
    for hop in (2, 1, 0):
        budget = RetryBudget(clock=clock) if budgets else None
        retried = Retry(on=DOWN, attempts=3, backoff=0, budget=budget, clock=clock)(call)

        def service(hop: int = hop, retried: Callable[[], object] = retried) -> object:
            counts[hop] += 1
            return retried()

        call = service
    return call, counts


def test_figure_three_nested_services() -> None:
    """Three services in a row, each with retries and the default budget: at most 1.102 x per hop."""
    figures = {}
    for failing in (0.2, 0.5, 0.8, 1.0):
        traffic, backend = Traffic(500), Backend(failing)
        call, counts = nested(traffic.clock, backend, budgets=True)
        backend.failing = 1.0
        traffic.run(call, 2)  # spends what the budgets hold at first
        backend.failing = failing
        before = [*counts, backend.calls]
        traffic.run(call, 30)
        seen = [after - first for after, first in zip([*counts, backend.calls], before, strict=True)]
        figures[failing] = [round(seen[hop + 1] / seen[hop], 4) for hop in range(3)]
    print("\nshare failing: amplification of each of three hops, asked <= 1.102:", figures)
    assert max(max(hops) for hops in figures.values()) <= 1.102


def test_three_nested_services_without_budgets() -> None:
    """The same services without budgets make 27 calls of one when the last is down: what the budget is for."""
    traffic, backend = Traffic(500), Backend(failing=1.0)
    call, _ = nested(traffic.clock, backend, budgets=False)
    traffic.run(call, 1)
    assert backend.calls == 27 * traffic.calls
