"""A half-open circuit over four processes: exactly so many calls are made, and the dead give their places back."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitState
from resilience.stores import RedisStore
from tests.stores import trial_workers
from tests.stores.servers import Server

FRESH = multiprocessing.get_context("spawn")


def opened(server: Server, terms: dict[str, float]) -> CircuitBreaker:
    """A breaker on this server that has just opened."""
    breaker = CircuitBreaker(1, store=RedisStore.from_url(server.url, timeout=2.0), name="api", **terms)
    breaker.open()
    return breaker


def four(target: Any, *arguments: Any) -> list[Any]:
    """Four processes that have begun."""
    jobs = [FRESH.Process(target=target, args=arguments) for _ in range(4)]
    for job in jobs:
        job.start()
    return jobs


@pytest.mark.parametrize("trials", [1, pytest.param(3, marks=pytest.mark.proof)])
def test_four_processes_make_so_many_trials_in_all(trials: int, server: Server) -> None:
    """All four ask a thousand times a second, and exactly `trials` calls are made until one of them ends."""
    terms = {"cooldown": 0.1, "trials": trials, "trial_lease": 60}
    start, made = FRESH.Barrier(5), FRESH.Semaphore(0)
    release, stop = FRESH.Event(), FRESH.Event()
    jobs = four(trial_workers.try_often, server.url, terms, start, made, release, stop)
    breaker = opened(server, terms)
    start.wait(60)
    for _ in range(trials):
        assert made.acquire(timeout=30)
    assert not made.acquire(timeout=0.3)
    assert breaker.state is CircuitState.HALF_OPEN
    stop.set()
    time.sleep(0.05)
    release.set()
    for job in jobs:
        job.join(30)
    assert breaker.state is CircuitState.CLOSED


def test_a_prober_that_is_killed_is_replaced_by_one_other(server: Server) -> None:
    """After SIGKILL of the one that made the trial, one of the others makes it when the lease is over, not before."""
    terms = {"cooldown": 0.1, "trial_lease": 0.6}
    start, made = FRESH.Barrier(5), FRESH.Semaphore(0)
    release, stop = FRESH.Event(), FRESH.Event()
    inside, never, told = FRESH.Event(), FRESH.Event(), FRESH.Queue()
    breaker = opened(server, terms)
    time.sleep(0.15)
    dead = FRESH.Process(target=trial_workers.be_late, args=(server.url, terms, inside, never, told))
    jobs = four(trial_workers.try_often, server.url, {**terms, "trial_lease": 60}, start, made, release, stop)
    before = time.monotonic()
    dead.start()
    assert inside.wait(30)
    dead.kill()
    dead.join(30)
    start.wait(60)
    assert made.acquire(timeout=30)
    assert time.monotonic() - before >= 0.6
    assert not made.acquire(timeout=0.3)
    stop.set()
    release.set()
    for job in jobs:
        job.join(30)
    assert breaker.state is CircuitState.CLOSED


def test_a_late_result_of_a_dead_generation_changes_nothing(server: Server) -> None:
    """A trial whose lease is over and whose circuit has closed meanwhile fails: nothing happens but a `LateResult`."""
    terms = {"cooldown": 0.1, "trial_lease": 0.3}
    inside, release, told = FRESH.Event(), FRESH.Event(), FRESH.Queue()
    breaker = opened(server, terms)
    time.sleep(0.15)
    late = FRESH.Process(target=trial_workers.be_late, args=(server.url, terms, inside, release, told))
    late.start()
    assert inside.wait(30)
    time.sleep(0.4)
    assert breaker.call(lambda: "page") == "page"
    assert breaker.state is CircuitState.CLOSED
    release.set()
    assert told.get(timeout=30) == ["FAILURE"]
    late.join(30)
    assert breaker.state is CircuitState.CLOSED
    assert breaker.call(lambda: "page") == "page"
