"""After virtual time nothing has happened, however the block ended: every kind of policy, the clock and the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import repeat
from math import isclose
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Keyed,
    LoadShedder,
    Policy,
    Rejected,
    RetryBudget,
    Throttle,
    clock,
)
from resilience.testing import virtual_time


class Down(Exception):
    """What the services of these tests fail with."""


def with_a_past() -> list[Policy[Any]]:
    """One policy of each kind that learns from calls, each with something that it remembers."""
    opened, counting = CircuitBreaker(1, on=Down, cooldown=1e6), CircuitBreaker(3, on=Down)
    throttle, budget = Throttle("5/day"), RetryBudget(0.1, per_second=0, capacity=10)
    keyed = Keyed(lambda host: CircuitBreaker(2, on=Down, name=f"host {host}"))
    policies: list[Policy[Any]] = [opened, counting, throttle, AdaptiveThrottle(), LoadShedder(), budget, keyed]
    budget.withdraw()
    keyed["known"].call(int)
    for policy in policies:
        for fails in (False, True):
            disturb(policy, fails)
    return policies


def disturb(policy: Policy[Any], fails: bool) -> None:
    """Use a policy once, for better or worse."""

    def work() -> None:
        if fails:
            raise Down

    try:
        if isinstance(policy, RetryBudget):
            policy.withdraw()
        elif isinstance(policy, Keyed):
            policy["known"].call(work)
        else:
            policy.call(work)
    except (Down, Rejected):
        pass


def flat(policies: list[Policy[Any]]) -> dict[str, Any]:
    """All that snapshots tell, by path."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict | list):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in pairs:
                yield from walk(inner, f"{path}.{key}")
        else:
            yield path, value

    return {
        path: value
        for number, policy in enumerate(policies)
        for path, value in walk(policy.snapshot(), f"{number} {policy.name}")
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """Where two differ by more than what time does while a test runs, in which buckets fill and cooldowns shrink."""

    def same(value: Any, there: Any) -> bool:
        if isinstance(value, float) and isinstance(there, float):
            return isclose(value, there, rel_tol=1e-4, abs_tol=1e-3)
        return bool(value == there)

    return {path for path in one.keys() | other.keys() if not same(one.get(path), other.get(path))}


async def ends() -> None:
    """End, like a body that has nothing to say."""


async def raises() -> None:
    """Raise, as a failed assertion does."""
    raise Down


async def deadlock() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


async def busy() -> None:
    """Turn and turn."""
    for _ in repeat(None):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("ending", "error"), [(ends, None), (raises, Down), (deadlock, RuntimeError), (busy, RuntimeError)]
)
def test_afterwards_nothing_has_happened(ending: Callable[[], Any], error: type[Exception] | None) -> None:
    """However a block ends, all kinds of policy, the clock and the loop are afterwards as they were before."""
    gates = [Bulkhead(3), AdaptiveLimit(initial=10)]
    policies, hedge = [*gates, *with_a_past()], Hedge()
    functions = clock.default.now, clock.default.sleep, clock.default.sleep_async

    async def body() -> None:
        async with virtual_time():
            for _ in range(30):
                await asyncio.sleep(3600)
                await hedge.call_async(asyncio.sleep, 1)
                for index, policy in enumerate(policies):
                    disturb(policy, fails=index % 2 == 0)
            with ExitStack() as places:
                for gate in gates:
                    places.enter_context(gate.guard())
                inside.update(flat([*policies, hedge]))
            await ending()

    async def main() -> tuple[set[str], float]:
        for gate in gates:
            held.enter_context(gate.guard())
        await hedge.call_async(asyncio.sleep, 0)
        before.update(flat([*policies, hedge]))
        loop = asyncio.get_running_loop()
        attributes, skew = set(vars(loop)), loop.time() - time.monotonic()
        with nullcontext() if error is None else pytest.raises(error):
            await body()
        after.update(flat([*policies, hedge]))
        return attributes ^ set(vars(loop)), loop.time() - time.monotonic() - skew

    before: dict[str, Any] = {}
    inside: dict[str, Any] = {}
    after: dict[str, Any] = {}
    with ExitStack() as held:
        changed, shift = asyncio.run(main())
    assert changed == set()
    assert shift == pytest.approx(0, abs=1)
    assert (clock.default.now, clock.default.sleep, clock.default.sleep_async) == functions
    assert differing(before, after) == set()
    assert {path.partition(" ")[0] for path in differing(before, inside)} == set(map(str, range(len(policies) + 1)))
