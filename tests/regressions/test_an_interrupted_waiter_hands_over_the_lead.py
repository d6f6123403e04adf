"""A thread that was interrupted just after its wait at a throttle had ended stayed the one that keeps the time for all,
so that every thread that came to wait after it slept for ever.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilience import Throttle
from resilience.policies._desk_gate import DeskGate
from resilience.testing import VirtualClock


def interrupt_the_first_parting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first `_part` be interrupted at its first instruction."""
    part: Any = DeskGate._part
    partings: list[object] = []

    def parting(self: DeskGate, waiter: Any, *, undo: bool) -> None:
        partings.append(waiter)
        if len(partings) == 1:
            raise KeyboardInterrupt
        part(self, waiter, undo=undo)

    monkeypatch.setattr(DeskGate, "_part", parting)


def test_a_thread_that_comes_after_an_interrupted_one_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupted thread gives back its token and its lead; the next one waits as long as it has to."""
    clock = VirtualClock(10.0)
    throttle = Throttle("1/s", max_wait=9, clock=clock)
    throttle.acquire()
    interrupt_the_first_parting(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        throttle.acquire()
    assert not throttle._lots
    assert throttle.peek().remaining == 1.0
    throttle.acquire()
    served = threading.Thread(target=throttle.acquire, daemon=True)
    served.start()
    served.join(5.0)
    assert not served.is_alive()


def test_a_task_that_comes_after_an_interrupted_one_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for tasks, whose loop an interrupt ends."""
    clock = VirtualClock(10.0)
    throttle = Throttle("1/s", max_wait=9, clock=clock)
    throttle.acquire()
    interrupt_the_first_parting(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(throttle.acquire_async())
    assert not throttle._lots
    assert throttle.peek().remaining == 1.0
