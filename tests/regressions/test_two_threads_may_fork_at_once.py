"""Two threads that forked at once gave back each other's locks: the parent was left with locks that nobody would ever
release, and with a RuntimeError at each fork from then on.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import Any

import pytest

from resilience import CircuitBreaker, Throttle, _fork
from resilience._hub import HUB

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def test_a_fork_inside_a_fork_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second thread whose fork begins and ends within another's leaves that one's locks alone."""
    monkeypatch.setattr(_fork, "_PATIENCE", 0.0)
    breaker = CircuitBreaker(name="forked at once")
    failed: list[BaseException] = []

    def forks() -> None:
        try:
            _fork._before()
            _fork._in_parent()
        except BaseException as error:
            failed.append(error)

    _fork._before()
    try:
        assert breaker._lock.locked()
        other = threading.Thread(target=forks)
        other.start()
        other.join()
        assert not failed
        assert breaker._lock.locked()
    finally:
        _fork._in_parent()
    assert not breaker._lock.locked()
    free: list[bool] = []

    def takes_it() -> None:
        if HUB.lock.acquire(blocking=False):
            HUB.lock.release()
            free.append(True)

    other = threading.Thread(target=takes_it)
    other.start()
    other.join()
    assert free == [True]


def test_threads_that_fork_over_and_over_leave_every_lock_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four threads fork five times each; nothing is reported, every child ends well, and the parent goes on."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    policies = [CircuitBreaker(name="forks"), Throttle("100/s", name="forks")]
    codes: list[int] = []

    def forks() -> None:
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                os._exit(sum(policy._lock.locked() for policy in policies))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    threads = [threading.Thread(target=forks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reported == []
    assert codes == [0] * 20
    assert not any(policy._lock.locked() for policy in policies)
    assert not _fork._under_way
