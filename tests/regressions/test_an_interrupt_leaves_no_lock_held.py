"""A KeyboardInterrupt inside `threading.Condition.__enter__` left the lock of all workers held for ever."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from resilience import Timeout
from resilience.policies import _mailbox
from resilience.policies._workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable


def _interrupted(call: Callable[[], object]) -> None:
    """Make a call, and interrupt it in the first lock that is taken by Python code of the standard library."""
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != threading.__file__ or frame.f_code.co_name != "__enter__":
            return trace
        if event == "return":
            sys.settrace(before)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        with suppress(KeyboardInterrupt):
            call()
    finally:
        sys.settrace(before)


def _one_worker() -> Workers:
    pool = Workers(most=1)
    begun = threading.Event()
    pool.submit(begun.set)
    assert begun.wait(5.0)
    return pool


def _serves(pool: Workers) -> bool:
    served = threading.Event()
    threading.Thread(target=pool.submit, args=(served.set,), daemon=True).start()
    return served.wait(5.0)


def test_the_pool_survives_an_interrupt_of_whoever_submits() -> None:
    """After an interrupt while a job is handed over, others can still hand over theirs."""
    pool = _one_worker()
    _interrupted(lambda: pool.submit(int))
    assert _serves(pool)


def test_a_worker_survives_an_interrupt_of_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt while a caller waits for its answer, the worker that brings it is free for the next job."""
    pool = _one_worker()
    monkeypatch.setattr(_mailbox, "pool_here", lambda: pool)
    may_end = threading.Event()
    policy = Timeout(0.05, thread=True)

    def wait_for_it() -> None:
        with suppress(TimeoutError):
            policy.call(may_end.wait, 5.0)

    _interrupted(wait_for_it)
    may_end.set()
    assert _serves(pool)
