"""Which peers do not do what they are measured at. Being fast is easy for whoever is wrong.

Two promises are tried, each under the conditions that break it soonest. A limit is asked by eight threads at once,
with threads switched every microsecond. A breaker that has been open long enough is called by eight threads at once,
while one call is enough to know whether the other side is back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resilience import CircuitBreaker, Throttle
from tests.benchmarks import peers
from tests.benchmarks.measure import Figure

__all__ = ["half_open", "over_admission", "over_admitted"]

OURS = "resilience"
THREADS = 8
BURST = 4_000


@contextlib.contextmanager
def switching_fast() -> Iterator[None]:
    """Threads that are switched as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(work: Callable[[], None]) -> None:
    """Have that many threads do the same at the same time."""
    barrier = threading.Barrier(THREADS)

    def worker() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=worker) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def granted(decide: Callable[[], bool], burst: int) -> int:
    """How many of twice the burst are let through."""
    counts: list[int] = []

    def ask() -> None:
        counts.append(sum(bool(decide()) for _ in range(2 * burst // THREADS)))

    with switching_fast():
        together(ask)
    return sum(counts)


def over_admitted(rounds: int = 40, burst: int = BURST) -> Mapping[str, Figure]:
    """Calls let through beyond the limit, the worst of a few tries; less than 0 for too few."""
    worst: dict[str, int] = {}
    for _ in range(max(2, rounds // 10)):
        for name, decide in {OURS: Throttle(f"{burst}/day").try_acquire, **peers.limiters(burst, 86_400)}.items():
            over = granted(decide, burst) - burst
            worst[name] = max(over, worst.get(name, over), key=abs)
    return {name: Figure(float(over)) for name, over in worst.items()}


@functools.cache
def over_admission() -> Mapping[str, str]:
    """Limiters that let more or less through than their limit."""
    return {
        name: f"{THREADS} threads made {BURST + figure.value:,.0f} calls within a limit of {BURST:,}"
        for name, figure in over_admitted(20).items()
        if figure.value and name != OURS
    }


def short_breakers() -> dict[str, peers.Decorator]:
    """Breakers that open at the first failures and try again after a moment."""
    found: dict[str, peers.Decorator] = {OURS: CircuitBreaker(1, cooldown=0.05)}
    if pybreaker := peers.load("pybreaker"):
        found["pybreaker"] = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=0.05)
    if circuitbreaker := peers.load("circuitbreaker"):
        found["circuitbreaker"] = circuitbreaker.circuit(failure_threshold=1, recovery_timeout=0.05)
    if interlock := peers.load("interlock"):
        config = interlock.Config(minimum_number_of_calls=1, window_size=1, wait_duration_in_open=0.05)
        found["interlock-cb"] = interlock.CircuitBreaker(name="trial", config=config)
    if redress := peers.load("redress"):
        trips = set(redress.ErrorClass)
        breaker = redress.CircuitBreaker(failure_threshold=1, recovery_timeout_s=0.05, trip_on=trips)
        policy = redress.Policy(circuit_breaker=breaker)
        found["redress"] = lambda fn: lambda: policy.call(fn)
    if peers.load("pyresilience"):
        pyresilience: Any = importlib.import_module("pyresilience")
        terms = pyresilience.CircuitBreakerConfig(failure_threshold=1, recovery_timeout=0.05)
        found["pyresilience"] = pyresilience.resilient(circuit_breaker=terms)
    return found


def trials(decorate: peers.Decorator) -> int:
    """How many callers are inside at once when an open breaker tries again, while the other side is still down."""
    inside, most, failing = 0, 0, True
    lock = threading.Lock()

    def down() -> None:
        nonlocal inside, most
        if failing:
            raise ConnectionError
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1
        raise ConnectionError

    fn = decorate(down)

    def call() -> None:
        with contextlib.suppress(Exception):
            fn()

    call()
    failing = False
    time.sleep(0.1)
    together(call)
    return most


@functools.cache
def half_open() -> Mapping[str, str]:
    """Breakers that let a crowd in to find out whether the other side is back, or nobody at all."""
    seen = {name: trials(decorate) for name, decorate in short_breakers().items() if name != OURS}
    return {
        name: f"when it tried again, {count} of {THREADS} callers were in at once" if count else "it did not try again"
        for name, count in seen.items()
        if count != 1
    }
