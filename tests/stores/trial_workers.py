"""What the processes of `test_half_open` run."""

from __future__ import annotations

import time
from typing import Any

from resilience import CircuitBreaker, CircuitOpen
from resilience.events import LateResult
from resilience.stores import RedisStore


def _breaker(url: str, **terms: float) -> CircuitBreaker:
    return CircuitBreaker(1, store=RedisStore.from_url(url, timeout=2.0), name="api", **terms)


def try_often(url: str, terms: dict[str, float], start: Any, made: Any, release: Any, stop: Any) -> None:
    """Call through a circuit that is open until `stop`; each call that is made is counted and lasts until `release`."""
    breaker = _breaker(url, **terms)

    def call() -> None:
        made.release()
        release.wait(60)

    start.wait(60)
    while not stop.is_set():
        try:
            breaker.call(call)
        except CircuitOpen:
            time.sleep(0.001)
        else:
            return


def be_late(url: str, terms: dict[str, float], inside: Any, release: Any, told: Any) -> None:
    """Make a call that fails when it is released, and report what was told of it."""
    breaker = _breaker(url, **terms)
    late: list[str] = []
    breaker.listen(lambda event: late.append(event.verdict.name), LateResult)

    def call() -> None:
        inside.set()
        release.wait(60)
        raise OSError("down")

    try:
        breaker.call(call)
    except OSError:
        told.put(late)
