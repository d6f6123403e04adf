"""A task that went on through cancellations kept the whole process in virtual time after its loop had ended."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from resilience import clock
from resilience.testing import virtual_time

kept: list[object] = []


def test_a_task_that_cannot_be_cancelled_does_not_keep_virtual_time_on() -> None:
    """After a busy loop that swallows its cancellation, the clock is the machine's, and a new block begins."""

    async def stubborn() -> None:
        async with virtual_time():
            kept.append(asyncio.current_task())
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="turns at one instant"):
        asyncio.run(stubborn())
    try:
        assert clock.default.now() == pytest.approx(time.monotonic(), abs=5)
        with virtual_time() as virtual:
            virtual.sleep(60)
    finally:
        kept.clear()
