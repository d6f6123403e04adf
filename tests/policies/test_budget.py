"""The retry budget by itself: its promises to whoever draws on it."""

from __future__ import annotations

import json
import math
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilience import listen, registry
from resilience._hub import live
from resilience.policies import budget as module
from resilience.policies.budget import BudgetExhausted, RetryBudget
from resilience.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """A clock of its own for each test."""
    return VirtualClock(100.0)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def granted(budget: RetryBudget) -> int:
    """How many withdrawals succeed now."""
    count = 0
    while budget.withdraw():
        count += 1
    return count


def in_threads(count: int, work: Any) -> None:
    """Run `work` on many threads at once."""
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_defaults(clock: VirtualClock) -> None:
    """By default it holds 100 retries, gains a tenth per success and one a second."""
    budget = RetryBudget(clock=clock)
    assert granted(budget) == 100
    for _ in range(10):
        budget.deposit()
    clock.advance(2)
    assert granted(budget) == 3


def test_an_idle_client_can_retry(clock: VirtualClock) -> None:
    """However dry the bucket was, after a second without traffic there is a retry, and after a while all of them."""
    budget = RetryBudget(clock=clock)
    granted(budget)
    clock.advance(1)
    assert granted(budget) == 1
    clock.advance(3600)
    assert granted(budget) == 100


def test_a_clock_that_stands_still_mints_nothing(clock: VirtualClock) -> None:
    """Without time and without successes there are no tokens, however often they are asked for."""
    budget = RetryBudget(clock=clock)
    granted(budget)
    assert not any(budget.withdraw() for _ in range(10_000))


@pytest.mark.anyio
async def test_the_async_twins_do_the_same(clock: VirtualClock, anyio_backend: str) -> None:
    """`deposit_async` and `withdraw_async` act on the same bucket."""
    budget = RetryBudget(0.5, per_second=0, capacity=1, clock=clock)
    assert await budget.withdraw_async()
    assert not await budget.withdraw_async()
    await budget.deposit_async()
    assert not budget.withdraw()
    await budget.deposit_async()
    assert budget.withdraw()


def test_each_refusal_is_told(clock: VirtualClock) -> None:
    """Every withdrawal that is refused is one `BudgetExhausted`, one that is granted is none."""
    budget = RetryBudget(0, per_second=0, capacity=2, name="shop", clock=clock)
    seen: list[Any] = []
    stop = budget.listen(seen.append)
    assert [budget.withdraw() for _ in range(4)] == [True, True, False, False]
    assert seen == [BudgetExhausted("shop", "retry_budget", 100.0)] * 2
    stop()
    budget.withdraw()
    assert len(seen) == 2
    assert pickle.loads(pickle.dumps(seen[0])) == seen[0]


def test_listeners_to_all_hear_it(clock: VirtualClock) -> None:
    """`resilience.listen` hears a budget like any policy."""
    budget = RetryBudget(capacity=1, clock=clock)
    seen: list[Any] = []
    stop = listen(seen.append, BudgetExhausted)
    budget.withdraw()
    budget.withdraw()
    stop()
    assert [event.policy for event in seen] == ["retry_budget"]


def test_the_snapshot_is_plain(clock: VirtualClock) -> None:
    """A snapshot is ready for JSON and shows the level of the moment."""
    budget = RetryBudget(0.5, per_second=0.25, capacity=4, name="shop", clock=clock)
    budget.withdraw()
    budget.withdraw()
    budget.deposit()
    clock.advance(1)
    view = json.loads(json.dumps(budget.snapshot()))
    assert view == {"name": "shop", "kind": "retry_budget", "level": 2.75, "capacity": 4.0}


def test_it_is_in_the_registry_by_its_name() -> None:
    """A named budget is listed, one without a name is not."""
    named, nameless = RetryBudget(name="shop"), RetryBudget()
    assert named in registry()
    assert nameless not in registry()
    assert nameless in live


def test_replace_gives_a_fresh_one(clock: VirtualClock) -> None:
    """`replace` changes parameters and starts full."""
    budget = RetryBudget(capacity=5, clock=clock)
    granted(budget)
    assert granted(budget.replace(capacity=7)) == 7
    assert granted(budget) == 0


def test_its_state_can_be_put_back(clock: VirtualClock) -> None:
    """What is frozen and thawed again, as virtual time does, is the state of that moment."""
    budget = RetryBudget(0.5, per_second=0, capacity=3, clock=clock)
    budget.withdraw()
    frozen = budget._freeze()
    granted(budget)
    budget._thaw(frozen)
    budget.deposit()
    assert budget.snapshot()["level"] == 2.5


@pytest.mark.usefixtures("hasty_threads")
def test_no_deposit_is_lost(clock: VirtualClock) -> None:
    """Eight threads deposit 160,000 times in all, while others look and withdraw: each counts exactly once."""
    budget = RetryBudget(0.5, per_second=0, capacity=100_000, clock=clock)
    assert granted(budget) == 100_000
    taken: list[bool] = []

    def work() -> None:
        for step in range(20_000):
            budget.deposit()
            if step % 64 == 0:
                taken.append(budget.withdraw())
                budget.snapshot()

    in_threads(8, work)
    assert taken.count(True) + granted(budget) == 80_000


@pytest.mark.usefixtures("hasty_threads")
def test_no_token_is_taken_twice(clock: VirtualClock) -> None:
    """Eight threads that withdraw at once get exactly the capacity."""
    budget = RetryBudget(0, per_second=0, capacity=5_000, clock=clock)
    taken: list[bool] = []
    in_threads(8, lambda: taken.extend(budget.withdraw() for _ in range(1_000)))
    assert taken.count(True) == 5_000


@pytest.mark.usefixtures("hasty_threads")
def test_the_locked_form_is_exact_too(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form of `deposit` for interpreters without the GIL loses nothing either."""
    import importlib.util

    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    spec = importlib.util.find_spec("resilience.policies.budget")
    assert spec is not None
    assert spec.loader is not None
    locked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(locked)
    assert locked.RetryBudget.deposit.__code__.co_code != RetryBudget.deposit.__code__.co_code
    budget = locked.RetryBudget(0.5, per_second=0, capacity=20_000, clock=clock)
    assert granted(budget) == 20_000
    in_threads(8, lambda: [budget.deposit() for _ in range(5_000)])
    assert granted(budget) == 20_000


def test_a_listener_may_use_the_budget(clock: VirtualClock) -> None:
    """A listener runs outside the lock: it may deposit and withdraw."""
    budget = RetryBudget(1, per_second=0, capacity=1, clock=clock)
    budget.listen(lambda event: budget.deposit())
    assert budget.withdraw()
    assert not budget.withdraw()
    assert budget.withdraw()


# --- wrong use --------------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str]] = [
    ({"ratio": -0.1}, "ratio must be a number, 0 or more, got -0.1"),
    ({"ratio": True}, "ratio must be a number, 0 or more, got True"),
    ({"ratio": "0.1"}, "ratio must be a number, 0 or more, got '0.1'"),
    ({"ratio": math.nan}, "ratio must be a number, 0 or more, got nan"),
    ({"ratio": math.inf}, "ratio must be a number, 0 or more, got inf"),
    ({"ratio": None}, "ratio must be a number, 0 or more, got None"),
    ({"per_second": -1}, "per_second must be a number, 0 or more, got -1"),
    ({"per_second": False}, "per_second must be a number, 0 or more, got False"),
    ({"per_second": math.inf}, "per_second must be a number, 0 or more, got inf"),
    ({"capacity": 0}, "capacity must be a number, 1 or more, got 0"),
    ({"capacity": 0.9}, "capacity must be a number, 1 or more, got 0.9"),
    ({"capacity": -5}, "capacity must be a number, 1 or more, got -5"),
    ({"capacity": math.inf}, "capacity must be a number, 1 or more, got inf"),
    ({"capacity": math.nan}, "capacity must be a number, 1 or more, got nan"),
    ({"capacity": 10**400}, f"capacity must be a number, 1 or more, got {10**400}"),
    ({"capacity": "100"}, "capacity must be a number, 1 or more, got '100'"),
    ({"capacity": True}, "capacity must be a number, 1 or more, got True"),
    ({"name": ""}, "name must be a string that is not empty, or None, got ''"),
    ({"clock": 1.0}, "clock must have now(), sleep(s) and sleep_async(s); 1.0 has no now"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_refused(given: dict[str, Any], message: str) -> None:
    """A wrong parameter is named, with its rule and the value."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        RetryBudget(**given)


def test_zero_is_allowed_for_both_earnings(clock: VirtualClock) -> None:
    """`ratio` and `per_second` may be 0: then the capacity is all."""
    budget = RetryBudget(0, per_second=0, capacity=1, clock=clock)
    assert granted(budget) == 1
    budget.deposit()
    clock.advance(1e6)
    assert granted(budget) == 0


async def nothing() -> None:
    """A coroutine function to misuse."""


@pytest.mark.parametrize(
    "misuse",
    [
        lambda budget: budget(len),
        lambda budget: budget(nothing),
        lambda budget: budget.call(len, "abc"),
        lambda budget: budget.bind(len),
        lambda budget: budget.guard(),
        lambda budget: budget.__enter__(),
        lambda budget: budget.__aenter__(),
    ],
)
def test_it_wraps_nothing_and_says_what_to_write(misuse: Any) -> None:
    """A budget used as a decorator, a caller or a block is a TypeError that shows `Retry(..., budget=budget)`."""
    with pytest.raises(TypeError, match=re.escape("write Retry(on=ConnectionError, budget=budget)")):
        misuse(RetryBudget())


def test_bare_decoration_says_what_a_ratio_is() -> None:
    """`@RetryBudget` without parentheses is a TypeError about the ratio."""
    with pytest.raises(TypeError, match="ratio must be a number, 0 or more, got <built-in function len>"):
        RetryBudget(len)  # type: ignore[arg-type]


def test_the_gil_decides_the_form() -> None:
    """Where threads take turns, `deposit` takes no lock."""
    assert ("_lock" in RetryBudget.deposit.__code__.co_names) is not module._ONE_AT_A_TIME
