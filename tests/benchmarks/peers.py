"""The other libraries, set up as their own documentation does it, and silenced where they log each retry.

A peer that is not installed gives no loop, and its cell in the table stays empty: the benchmark needs none of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["closed_breaker", "decorators_for_retry", "limiter_hit", "load", "open_breaker"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def load(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def decorators_for_retry(on: type[Exception] = ValueError) -> dict[str, Decorator]:
    """Three attempts on one error without any delay."""
    found: dict[str, Decorator] = {}
    if tenacity := load("tenacity"):
        found["tenacity"] = tenacity.retry(
            retry=tenacity.retry_if_exception_type(on),
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_none(),
            reraise=True,
        )
    if stamina := load("stamina"):
        stamina.instrumentation.set_on_retry_hooks([])
        found["stamina"] = stamina.retry(on=on, attempts=3, wait_initial=0, wait_max=0, wait_jitter=0)
    if backoff := load("backoff"):
        found["backoff"] = backoff.on_exception(backoff.constant, on, max_tries=3, interval=0, jitter=None, logger=None)
    return found


def closed_breaker() -> dict[str, Decorator]:
    """A breaker that opens after five failures in a row, closed and clean."""
    found: dict[str, Decorator] = {}
    if pybreaker := load("pybreaker"):
        found["pybreaker"] = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)
    if circuitbreaker := load("circuitbreaker"):
        found["circuitbreaker"] = circuitbreaker.circuit(failure_threshold=5, recovery_timeout=30)
    return found


def open_breaker(work: Callable[..., Any]) -> dict[str, tuple[Callable[..., Any], type[Exception]]]:
    """`work` behind an open breaker, with the error that refuses it."""
    found: dict[str, tuple[Callable[..., Any], type[Exception]]] = {}
    if pybreaker := load("pybreaker"):
        breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=3600)
        breaker.open()
        found["pybreaker"] = breaker(work), pybreaker.CircuitBreakerError
    if circuitbreaker := load("circuitbreaker"):
        other = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600)

        def fails() -> None:
            raise ValueError

        with contextlib.suppress(ValueError):
            other.call(fails)
        found["circuitbreaker"] = other(work), circuitbreaker.CircuitBreakerError
    return found


def limiter_hit() -> dict[str, Callable[[], bool]]:
    """One decision of a limit that is never reached, without a key."""
    found: dict[str, Callable[[], bool]] = {}
    if limits := load("limits"):
        limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
        item = limits.RateLimitItemPerSecond(10**9)
        found["limits"] = functools.partial(limiter.hit, item, "key")
    return found
