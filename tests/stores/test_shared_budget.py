"""A retry budget whose tokens are in a store."""

from __future__ import annotations

import pytest

from resilience import Retry, RetryBudget
from resilience.events import BudgetExhausted
from resilience.stores import MemoryStore
from tests.colours import Colour, every_colour
from tests.stores.doubles import Moody


async def withdrawn(colour: Colour, budget: RetryBudget) -> bool:
    return await budget.withdraw_async() if colour.is_async else budget.withdraw()


async def deposited(colour: Colour, budget: RetryBudget) -> None:
    if colour.is_async:
        await budget.deposit_async()
    else:
        budget.deposit()


@every_colour
async def test_two_budgets_of_one_name_share_their_tokens(colour: Colour) -> None:
    """What one withdraws the other does not have; deposits of one pay for the other within a second."""
    store = MemoryStore(clock=colour.clock.now)
    one, two = (RetryBudget(0.5, per_second=0, capacity=3, store=store, name="db") for _ in range(2))
    heard: list[BudgetExhausted] = []
    two.listen(heard.append, BudgetExhausted)
    assert [await withdrawn(colour, budget) for budget in (one, two, one, two)] == [True, True, True, False]
    assert len(heard) == 1
    for _ in range(3):
        await colour.sleep(1.0)
        await deposited(colour, one)
    assert await withdrawn(colour, two)
    assert not await withdrawn(colour, two)


@every_colour
async def test_deposits_do_not_ask_each_time(colour: Colour) -> None:
    """A thousand successes in a second are one question, and all of them count."""
    store = Moody(colour.clock.now)
    budget = RetryBudget(0.01, per_second=0, capacity=5, store=store, name="db")
    for _ in range(5):
        assert await withdrawn(colour, budget)
    asked = store.asked
    for _ in range(300):
        await deposited(colour, budget)
    assert store.asked - asked <= 1
    assert [await withdrawn(colour, budget) for _ in range(4)] == [True, True, True, False]


@every_colour
async def test_local_tokens_stand_in(colour: Colour) -> None:
    """Without the store the tokens of this process are spent, and deposits are kept for later."""
    store = Moody(colour.clock.now)
    budget = RetryBudget(1.0, per_second=0, capacity=2, store=store, name="db")
    other = RetryBudget(1.0, per_second=0, capacity=2, store=store, name="db")
    assert await withdrawn(colour, budget)
    store.down = True
    assert [await withdrawn(colour, budget), await withdrawn(colour, budget)] == [True, False]
    await deposited(colour, budget)
    store.down = False
    await colour.sleep(1.0)
    assert [await withdrawn(colour, budget) for _ in range(3)] == [True, True, False]
    assert not await withdrawn(colour, other)


@every_colour
@pytest.mark.parametrize("way", ["allow", "deny"])
async def test_allow_and_deny(colour: Colour, way: str) -> None:
    """Without the store, "allow" grants every extra call and "deny" none."""
    store = Moody(colour.clock.now)
    budget = RetryBudget(capacity=1, store=store, name="db", on_store_error=way)
    store.down = True
    assert [await withdrawn(colour, budget) for _ in range(3)] == [way == "allow"] * 3


@every_colour
async def test_a_retry_pays_from_the_shared_budget(colour: Colour) -> None:
    """Retries of two policies with two budgets of one name are bounded together."""
    store = MemoryStore(clock=colour.clock.now)
    retries = [
        Retry(
            on=OSError,
            attempts=4,
            backoff=0,
            budget=RetryBudget(0, per_second=0, capacity=3, store=store, name="db"),
        )
        for _ in range(2)
    ]
    calls = 0
    for retry in retries:
        fetch = colour.function([OSError("down"), ...])
        with pytest.raises(OSError, match="down"):
            await colour.call(retry, fetch)
        calls += len(fetch.calls)
    assert calls == 2 + 3


def test_a_store_needs_a_name() -> None:
    """A shared budget without a name is refused; `replace` may take the store away."""
    with pytest.raises(TypeError, match="needs name="):
        RetryBudget(store=MemoryStore())
    assert type(RetryBudget(store=MemoryStore(), name="db").replace(store=None)) is RetryBudget
