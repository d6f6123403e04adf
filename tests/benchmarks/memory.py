"""What policies hold in memory: for each of them, for each key, for each who waits; and that calls leave nothing."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from resilience import (
    Bulkhead,
    CircuitBreaker,
    FailureRate,
    Fallback,
    Hedge,
    LoadShedder,
    Pipeline,
    Retry,
    RetryBudget,
    SlowRate,
    Throttle,
    Timeout,
)
from tests.benchmarks import peers
from tests.benchmarks.measure import Figure
from tests.benchmarks.table import Row

__all__ = ["KINDS", "ROWS", "allocated_by", "growth"]

OURS = "resilience"


def allocated_by(fill: Callable[[], object]) -> int:
    """Bytes that are still held after `fill` ran."""
    # What is there already is no concern of the collector meanwhile: going through it again is what would take long.
    gc.freeze()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = fill()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    del kept
    return after - before


def growth(call: Callable[[], object], calls: int = 500) -> int:
    """Bytes that so many calls leave behind, once as many before them have filled what there is to fill."""

    def many() -> None:
        for _ in range(calls):
            with suppress(Exception):
                call()

    many()
    return allocated_by(many)


def bytes_per_key(rounds: int, keys: int = 100_000) -> Mapping[str, Figure]:
    """Memory of one rate over many keys, the keys themselves not counted."""
    names = [f"user-{number}" for number in range(keys)]
    throttle = Throttle("1/hour burst 10", key="user", max_keys=keys)
    limits = peers.load("limits")

    def ours() -> object:
        for name in names:
            throttle.try_acquire(key=name)
        return throttle

    def theirs() -> object:
        limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
        item = limits.RateLimitItemPerHour(10)
        for name in names:
            limiter.hit(item, name)
        return limiter

    figures = {OURS: Figure(allocated_by(ours) / keys)}
    if limits:
        figures["limits"] = Figure(allocated_by(theirs) / keys)
    return figures


KINDS: dict[str, Callable[[], Any]] = {
    "Retry": lambda: Retry(on=ValueError),
    "RetryBudget": lambda: RetryBudget(),
    "CircuitBreaker, consecutive": lambda: CircuitBreaker(5),
    "CircuitBreaker, 100 calls": lambda: CircuitBreaker(FailureRate(0.5, calls=100)),
    "CircuitBreaker, slow calls": lambda: CircuitBreaker(SlowRate(0.8, slower_than=1.0, window=30)),
    "Throttle": lambda: Throttle("100/s"),
    "Throttle, two rates": lambda: Throttle("100/s; 1000/minute"),
    "Bulkhead": lambda: Bulkhead(10),
    "Timeout": lambda: Timeout(1),
    "Fallback": lambda: Fallback(on=ValueError, value=0),
    "Hedge": lambda: Hedge(after=0.1),
    "LoadShedder": lambda: LoadShedder(),
    "Pipeline of three": lambda: Pipeline(Retry(on=ValueError), CircuitBreaker(5), Throttle("100/s")),
}
"""A policy of each kind."""


def bytes_per_policy(rounds: int, kind: str, count: int = 200) -> Mapping[str, Figure]:
    """Memory of one policy, on average over some hundred."""
    build = KINDS[kind]
    build()
    return {OURS: Figure(allocated_by(lambda: [build() for _ in range(count)]) / count)}


async def _held(count: int, wait: Callable[[], Any]) -> float:
    """Bytes that each of so many tasks holds while it waits."""
    tasks: list[asyncio.Task[Any]] = []
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tasks += [asyncio.ensure_future(wait()) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return (after - before) / count


async def _parked() -> None:
    await asyncio.get_running_loop().create_future()


def bytes_per_waiter(rounds: int, count: int = 5_000) -> Mapping[str, Figure]:
    """Memory of an asyncio task that waits for a token, beyond that of one that waits for a bare future."""
    throttle = Throttle("1/hour", max_wait=math.inf)
    throttle.try_acquire()
    bare = asyncio.run(_held(count, _parked))
    return {OURS: Figure(asyncio.run(_held(count, throttle.acquire_async)) - bare)}


ROWS = [
    Row("bytes per key, 100,000 keys, one rate", "<= 64", None, bytes_per_key, unit=" B"),
    Row("bytes per async waiter, beyond a task on a future", "", None, bytes_per_waiter, unit=" B"),
    *(
        Row(f"bytes per policy: {kind}", "", None, functools.partial(bytes_per_policy, kind=kind), unit=" B")
        for kind in KINDS
    ),
]
