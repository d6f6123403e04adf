"""A breaker was given its state back in two steps, and a call that began between the two got a number that was drawn
once more afterwards: its end was taken for that of somebody else's call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest

from resilience import CircuitBreaker, SlowRate, _compile
from resilience.testing import VirtualClock


class Signal:
    """Something to wait for."""

    def __await__(self) -> Generator[None, bool, bool]:
        return (yield)


class Lock:
    """A lock beside which something happens as soon as it is free."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.then: Callable[[], object] | None = None

    def locked(self) -> bool:
        return bool(self.lock.locked())

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        then, self.then = self.then, None
        if then is not None:
            then()


@pytest.mark.parametrize("earlier", range(3))
def test_a_call_that_begins_while_state_is_restored_is_nobody_else(
    earlier: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure comes late, or is counted as its own; the call that began after it is counted once, as a success."""
    breaker = CircuitBreaker((SlowRate(slower_than=9, calls=9), 3), clock=VirtualClock())
    monkeypatch.setattr(_compile, "ENABLED", True)
    lock: Any = Lock(breaker._lock)
    breaker._lock = lock

    @breaker
    async def waits() -> None:
        if await Signal():
            raise ConnectionError

    begun: list[Any] = []

    def begin() -> None:
        call = waits()
        call.send(None)
        begun.append(call)

    frozen = breaker._freeze()
    lock.then = begin
    breaker._thaw(frozen)
    for _ in range(earlier + 1):
        begin()
    with suppress(ConnectionError):
        begun[0].send(True)
    after = breaker.snapshot()
    for call in begun[1:]:
        with suppress(StopIteration):
            call.send(False)
    assert breaker.snapshot()["calls"] - after["calls"] == earlier + 1
