"""What a policy costs per call, as a ratio to the least that anything in its place could cost.

"wrap" is the decorator that does nothing: `functools.wraps` round `*args, **kwargs`. Each row builds its subjects when
it is measured, so that a row alone starts quickly, and a peer that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from resilience import (
    CircuitBreaker,
    CircuitOpen,
    FailureRate,
    Pipeline,
    Retry,
    SlowRate,
    Throttle,
    backoff,
)
from tests.benchmarks import peers, wrongs
from tests.benchmarks.measure import Figure, Loop, async_loop, ratios, sync_loop
from tests.benchmarks.table import Row

__all__ = ["ROWS", "wrap", "wrap_async"]

OURS = "resilience"


def work(x: int) -> int:
    """The call that is protected."""
    return x


async def work_async(x: int) -> int:
    """The same as a coroutine."""
    return x


def wrap(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that does nothing."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def wrap_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that does nothing, for coroutine functions."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return wrapper


@contextmanager
def event_loop() -> Iterator[asyncio.Runner]:
    """One asyncio loop for all samples of a row."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        yield runner


def calling(fn: Callable[..., Any]) -> Loop:
    """A loop that calls a function of one argument."""
    return sync_loop("call(1)", call=fn)


def retry_success(rounds: int) -> dict[str, Figure]:
    """First attempt succeeds, sync."""
    decorators: dict[str, peers.Decorator] = {OURS: Retry(on=ValueError, attempts=3), **peers.decorators_for_retry()}
    return ratios(calling(wrap(work)), {name: calling(d(work)) for name, d in decorators.items()}, rounds=rounds)


def retry_success_async(rounds: int) -> dict[str, Figure]:
    """First attempt succeeds, async."""
    decorators: dict[str, peers.Decorator] = {
        OURS: Retry(on=ValueError, attempts=3),
        **peers.decorators_for_retry(tasks=True),
    }
    with event_loop() as runner:
        loops = {name: async_loop(runner, "await call(1)", call=d(work_async)) for name, d in decorators.items()}
        return ratios(async_loop(runner, "await call(1)", call=wrap_async(work_async)), loops, rounds=rounds)


def flaky() -> Callable[[], int]:
    """A function whose first two of three calls fail as a network does."""
    calls = 0

    def fails_twice() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ConnectionError("connection reset by peer")
        return calls

    return fails_twice


@contextmanager
def busy_retry() -> Iterator[Retry]:
    """Everything that a retry can be told, on one retry, with no delay and with a listener."""
    policy = Retry(
        on=ConnectionError,
        on_result=lambda result: result is None,
        attempts=3,
        within=60,
        backoff=backoff.constant(0, jitter="full"),
    )
    stop = policy.listen(lambda event: None)
    try:
        yield policy
    finally:
        stop()


def two_failures(rounds: int) -> dict[str, Figure]:
    """Two failures, then success, with `within`, jitter, `on_result` and a listener, and no delay."""
    raw = sync_loop("try:\n    call()\nexcept ConnectionError:\n    pass\n" * 3, call=flaky())
    with busy_retry() as ours:
        decorators: dict[str, peers.Decorator] = {OURS: ours, **peers.decorators_for_retry(ConnectionError)}
        return ratios(
            raw, {name: sync_loop("call()", call=d(flaky())) for name, d in decorators.items()}, rounds=rounds
        )


BREAKERS: dict[str, Callable[[], CircuitBreaker]] = {
    "consecutive": lambda: CircuitBreaker(5),
    "count window": lambda: CircuitBreaker(FailureRate(0.5, calls=100)),
    "time window": lambda: CircuitBreaker(FailureRate(0.5, window=30)),
    "slow calls": lambda: CircuitBreaker(SlowRate(0.8, slower_than=1.0, window=30)),
}


def breaker_closed(rounds: int, kind: str) -> dict[str, Figure]:
    """A closed breaker lets a call through; only counting breakers have peers."""
    decorators: dict[str, peers.Decorator] = {OURS: BREAKERS[kind]()}
    if kind == "consecutive":
        decorators |= peers.closed_breaker()
    return ratios(calling(wrap(work)), {name: calling(d(work)) for name, d in decorators.items()}, rounds=rounds)


def rejecting(fn: Callable[..., Any], error: type[BaseException]) -> Loop:
    """A loop that calls, and catches what it is refused with."""
    return sync_loop("try:\n    call(1)\nexcept error:\n    pass", call=fn, error=error)


def breaker_open(rounds: int) -> dict[str, Figure]:
    """An open breaker refuses, and the caller catches it."""

    def refuses(x: int) -> int:
        raise ValueError

    ours = CircuitBreaker(5, cooldown=3600)
    ours.open()
    subjects = {OURS: rejecting(ours(work), CircuitOpen)}
    subjects |= {name: rejecting(fn, error) for name, (fn, error) in peers.open_breaker(work).items()}
    return ratios(rejecting(wrap(refuses), ValueError), subjects, rounds=rounds)


def throttle_granted(rounds: int) -> dict[str, Figure]:
    """One decision that grants, without a key."""
    decisions: dict[str, Callable[..., bool]] = {OURS: Throttle("1_000_000_000/s").try_acquire, **peers.limiter_hit()}
    loops = {name: sync_loop("decide()", decide=decide) for name, decide in decisions.items()}
    return ratios(sync_loop("monotonic()", monotonic=time.monotonic), loops, rounds=rounds)


async def read_clock() -> float:
    """A coroutine that reads the clock."""
    return time.monotonic()


def throttle_granted_async(rounds: int) -> dict[str, Figure]:
    """One decision that grants, awaited."""
    decisions: dict[str, Callable[..., Any]] = {OURS: Throttle("1_000_000_000/s").acquire_async}
    with event_loop() as runner:
        if aiolimiter := peers.load("aiolimiter"):
            decisions["aiolimiter"] = aiolimiter.AsyncLimiter(10**9, 1).acquire
        loops = {name: async_loop(runner, "await decide()", decide=decide) for name, decide in decisions.items()}
        return ratios(async_loop(runner, "await read()", read=read_clock), loops, rounds=rounds)


def listened(rounds: int, policy: Retry | CircuitBreaker) -> dict[str, Figure]:
    """A call that succeeds while one listener is attached."""
    stop = policy.listen(lambda event: None)
    try:
        return ratios(calling(wrap(work)), {OURS: calling(policy(work))}, rounds=rounds)
    finally:
        stop()


def composed(rounds: int) -> dict[str, Figure]:
    """Throttle, breaker and retry round one function, beside three decorators that do nothing."""
    policies = Pipeline(Retry(on=ValueError), CircuitBreaker(5), Throttle("1_000_000_000/s"))
    return ratios(calling(wrap(wrap(wrap(work)))), {OURS: calling(policies(work))}, rounds=rounds)


ROWS = [
    Row("retry, first try succeeds / wrap", "<= 0.60", 0.75, retry_success),
    Row("the same, async / async wrap", "<= 0.80", 1.0, retry_success_async),
    Row("two failures then success, no delay / three raw calls", "<= 3.0", 4.0, two_failures),
    Row(
        "breaker closed, consecutive / wrap",
        "<= 1.25",
        1.25,
        functools.partial(breaker_closed, kind="consecutive"),
        wrong=wrongs.half_open,
    ),
    Row("breaker closed, count window / wrap", "<= 1.45", 1.45, functools.partial(breaker_closed, kind="count window")),
    Row("breaker closed, time window / wrap", "<= 2.2", 2.4, functools.partial(breaker_closed, kind="time window")),
    Row("breaker closed, slow calls / wrap", "<= 2.8", 2.9, functools.partial(breaker_closed, kind="slow calls")),
    Row("breaker open, reject and catch / wrap + raise", "<= 1.5", 1.6, breaker_open),
    Row("throttle granted / time.monotonic()", "<= 3.5", 8.0, throttle_granted, wrong=wrongs.over_admission),
    Row("throttle granted, async / awaiting a clock read", "", None, throttle_granted_async),
    Row("throttle + breaker + retry / three nested wraps", "<= 1.0", 1.1, composed),
    Row("retry with one listener / wrap", "", None, lambda rounds: listened(rounds, Retry(on=ValueError))),
    Row("breaker closed with one listener / wrap", "", None, lambda rounds: listened(rounds, CircuitBreaker(5))),
]
