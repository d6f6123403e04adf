"""The fixture `virtual_clock`, for pytest.

Whoever has this library installed loads this module with every run of pytest, so it imports nothing until a test asks
for the fixture.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    from resilience.testing.virtual import VirtualTime

__all__ = ["pytest_runtest_call", "virtual_clock"]


@pytest.fixture
def virtual_clock() -> Iterator[VirtualTime]:
    """All time is virtual in the test, as in `with virtual_time() as clock:`, and policies are as they were built.

    Every policy is reset before the test and after it. On an asyncio loop, the whole test runs in virtual time, timers
    of the loop included; a trio test needs trio's own mock clock.
    """
    from resilience.testing.reset import reset_all
    from resilience.testing.virtual import virtual_time

    reset_all()
    try:
        with virtual_time() as clock:
            yield clock
    finally:
        reset_all()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Have the loop of a coroutine test driven from its first step, where the test uses the fixture.

    The fixture is there before the loop is, so it cannot do that itself.
    """
    if "virtual_clock" in getattr(item, "fixturenames", ()):
        from resilience.testing.plugin_loops import drive

        drive(item)
    return (yield)
