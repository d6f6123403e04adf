"""A queue full of callers that nobody can wake any more."""

from __future__ import annotations

import asyncio

from resilience import Bulkhead


def test_thousands_of_waiters_of_a_closed_loop_are_skipped_at_once() -> None:
    """When a place becomes free behind 3,000 waiters of a closed loop, all are skipped, and the place is free."""
    bulkhead = Bulkhead(1, queue=5_000)

    async def task() -> None:
        async with bulkhead.guard():
            """Hold a place for no time."""

    loop = asyncio.new_event_loop()
    lost = [loop.create_task(task()) for _ in range(3_000)]
    with bulkhead.guard():
        loop.run_until_complete(asyncio.sleep(0))
        assert bulkhead.snapshot()["queued"] == 3_000
        loop.close()
    view = bulkhead.snapshot()
    assert (view["in_flight"], view["queued"]) == (0, 0)
    assert bulkhead._lots == {}
    for orphan in lost:
        orphan._log_destroy_pending = False  # type: ignore[attr-defined]
