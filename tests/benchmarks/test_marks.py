"""The first marks, as a check that must not fail by luck: the best of several interleaved rounds, tried again before
it fails.

The full table with medians and spreads is `python -m tests.benchmarks`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from resilience import CircuitBreaker, CircuitOpen, Pipeline, Retry, Throttle
from tests.benchmarks.calls import BREAKERS, calling, flaky, rejecting, work, work_async, wrap, wrap_async
from tests.benchmarks.footprint import cyclic_garbage, depth, import_ratio, paths
from tests.benchmarks.measure import async_loop, best_ratio, sync_loop

pytestmark = pytest.mark.benchmark


def best_of(attempts: int, mark: float, measure: Callable[[], float]) -> float:
    """The least ratio seen, measured again while it is above the mark: noise only ever adds."""
    least = measure()
    for _ in range(attempts - 1):
        if least <= mark:
            break
        least = min(least, measure())
    return least


def test_retry_that_succeeds_costs_less_than_an_empty_decorator() -> None:
    """A retry whose first attempt succeeds takes at most 0.75 times a decorator that does nothing."""
    ours, base = calling(Retry(on=ValueError)(work)), calling(wrap(work))
    assert best_of(5, 0.75, lambda: best_ratio(base, ours)) <= 0.75


def test_async_retry_that_succeeds_costs_no_more_than_an_empty_decorator() -> None:
    """A retry of a coroutine function takes no longer than an async decorator that does nothing."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        ours = async_loop(runner, "await call(1)", call=Retry(on=ValueError)(work_async))
        base = async_loop(runner, "await call(1)", call=wrap_async(work_async))
        assert best_of(5, 1.0, lambda: best_ratio(base, ours)) <= 1.0


def test_two_failures_cost_at_most_four_times_the_raw_calls() -> None:
    """Two failures and a success, while nobody listens, take at most 4 times three calls in `try`."""
    base = sync_loop("try:\n    call()\nexcept ConnectionError:\n    pass\n" * 3, call=flaky())
    ours = sync_loop("call()", call=Retry(on=ConnectionError, backoff=0)(flaky()))
    assert best_of(5, 4.0, lambda: best_ratio(base, ours)) <= 4.0


@pytest.mark.parametrize(
    ("kind", "mark"), [("consecutive", 1.25), ("count window", 1.45), ("time window", 2.4), ("slow calls", 2.9)]
)
def test_closed_breaker_costs_about_an_empty_decorator(kind: str, mark: float) -> None:
    """A closed breaker costs about an empty decorator, twice that with one clock reading, three times with two."""
    ours, base = calling(BREAKERS[kind]()(work)), calling(wrap(work))
    assert best_of(5, mark, lambda: best_ratio(base, ours)) <= mark


def test_an_open_breaker_refuses_in_the_time_of_two_errors() -> None:
    """Being refused and catching it takes at most 1.6 times an error through a decorator that does nothing."""

    def fails(x: int) -> int:
        raise ValueError

    breaker = CircuitBreaker(5, cooldown=3600)
    breaker.open()
    ours, base = rejecting(breaker(work), CircuitOpen), rejecting(wrap(fails), ValueError)
    assert best_of(5, 1.6, lambda: best_ratio(base, ours)) <= 1.6


def test_three_policies_cost_three_empty_decorators() -> None:
    """Retry, breaker and throttle in one pipeline take at most 1.1 times three decorators that do nothing."""
    ours = calling(Pipeline(Retry(on=ValueError), CircuitBreaker(5), Throttle("1_000_000_000/s"))(work))
    base = calling(wrap(wrap(wrap(work))))
    assert best_of(5, 1.1, lambda: best_ratio(base, ours)) <= 1.1


def test_granting_costs_a_few_clock_reads() -> None:
    """A throttle's decision takes at most 8 times `time.monotonic()`."""
    ours = sync_loop("decide()", decide=Throttle("1_000_000_000/s").try_acquire)
    base = sync_loop("monotonic()", monotonic=time.monotonic)
    assert best_of(5, 8.0, lambda: best_ratio(base, ours)) <= 8.0


def test_import_costs_a_quarter_of_asyncio() -> None:
    """Importing the package takes at most a quarter of importing asyncio."""
    assert best_of(4, 0.25, lambda: import_ratio(8)) <= 0.25


def test_success_adds_no_frame() -> None:
    """A retry and a breaker put no more frames between caller and callee than an empty decorator does."""
    base = wrap(depth)(1)
    assert Retry(on=ValueError)(depth)(1) <= base
    assert CircuitBreaker(5)(depth)(1) <= base


@pytest.mark.parametrize("path", paths())
def test_no_cyclic_garbage(path: str) -> None:
    """No way out of a call leaves work for the cycle collector."""
    assert cyclic_garbage(paths()[path]) == 0
