"""A coroutine that waited at a throttle with a clock of its own, and was closed there, ended in "coroutine ignored
GeneratorExit", and its place in the line stayed taken.
"""

from __future__ import annotations

import asyncio

import pytest

from resilience import Bulkhead, Throttle
from resilience.testing import VirtualClock


@pytest.mark.parametrize("kind", ["throttle", "bulkhead"])
def test_a_waiter_that_is_closed_leaves_its_line(kind: str) -> None:
    """Closing a coroutine that waits raises nothing, and whoever comes next waits as if it had never been there."""
    clock = VirtualClock()
    waits: list[float] = []

    async def main() -> None:
        if kind == "throttle":
            throttle = Throttle("1/s", max_wait=9, clock=clock)
            await throttle.acquire_async()
            thrown_away = throttle.acquire_async()
            thrown_away.send(None)
            thrown_away.close()
            await throttle.acquire_async()
            assert throttle.snapshot()["waiting"] == 0
        else:
            bulkhead = Bulkhead(1, queue=1, max_wait=9, clock=clock)
            before = bulkhead.snapshot()
            async with bulkhead.guard():
                call = bulkhead.call_async(asyncio.sleep, 0)
                call.send(None)
                call.close()
            await bulkhead.call_async(asyncio.sleep, 0)
            assert bulkhead.snapshot() == before
        waits.append(clock.now())
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert waits == [1.0 if kind == "throttle" else 0.0]
