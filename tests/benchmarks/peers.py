"""The other libraries, set up as their own documentation does it, and silenced where they log each retry.

A peer that is not installed gives no loop, and its cell in the table stays empty: the benchmark needs none of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = [
    "PEERS",
    "absent",
    "closed_breaker",
    "decorators_for_retry",
    "limiter_hit",
    "limiters",
    "load",
    "open_breaker",
]

PEERS = {
    "tenacity": "tenacity",
    "backoff": "backoff",
    "stamina": "stamina",
    "pybreaker": "pybreaker",
    "circuitbreaker": "circuitbreaker",
    "interlock-cb": "interlock",
    "redress": "redress",
    "pyresilience": "pyresilience",
    "limits": "limits",
    "token-bucket": "token_bucket",
    "aiolimiter": "aiolimiter",
    "pyrate-limiter": "pyrate_limiter",
    "httpx-retries": "httpx_retries",
    "hyx": "hyx",
}
"""Every library that has one of the features, by its name on PyPI, and the module that it installs."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def load(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def absent() -> list[str]:
    """The names of those that are not installed."""
    return [name for name, module in PEERS.items() if load(module) is None]


def decorators_for_retry(on: type[Exception] = ValueError, *, tasks: bool = False) -> dict[str, Decorator]:
    """Three attempts on one error without any delay; with `tasks`, also those that know nothing but coroutines."""
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
    if redress := load("redress"):
        found["redress"] = redress.retry(max_attempts=3, max_unknown_attempts=3, strategy=lambda context: 0.0)
    if pyresilience := load("pyresilience"):
        terms = pyresilience.RetryConfig(max_attempts=3, delay=0, jitter=False, retry_on=(on,))
        found["pyresilience"] = pyresilience.resilient(retry=terms)
    if tasks and load("hyx"):
        found["hyx"] = importlib.import_module("hyx.retry").retry(on=on, attempts=3, backoff=0)
    return found


def closed_breaker() -> dict[str, Decorator]:
    """A breaker that opens after five failures in a row, closed and clean."""
    found: dict[str, Decorator] = {}
    if pybreaker := load("pybreaker"):
        found["pybreaker"] = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)
    if circuitbreaker := load("circuitbreaker"):
        found["circuitbreaker"] = circuitbreaker.circuit(failure_threshold=5, recovery_timeout=30)
    if interlock := load("interlock"):
        found["interlock-cb"] = interlock.CircuitBreaker(name="benchmark")
    if redress := load("redress"):
        policy = redress.Policy(circuit_breaker=redress.CircuitBreaker(failure_threshold=5))
        found["redress"] = lambda fn: lambda *args: policy.call(lambda: fn(*args))
    if pyresilience := load("pyresilience"):
        terms = pyresilience.CircuitBreakerConfig(failure_threshold=5, recovery_timeout=30)
        found["pyresilience"] = pyresilience.resilient(circuit_breaker=terms)
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


def limiters(most: int, seconds: int = 1) -> dict[str, Callable[[], bool]]:
    """One decision, without a key, of a limit of so many per so many seconds."""
    found: dict[str, Callable[[], bool]] = {}
    if limits := load("limits"):
        limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
        found["limits"] = functools.partial(limiter.hit, limits.RateLimitItemPerSecond(most, seconds), "key")
    if token_bucket := load("token_bucket"):
        bucket = token_bucket.Limiter(most / seconds, most, token_bucket.MemoryStorage())
        found["token-bucket"] = functools.partial(bucket.consume, "key")
    if pyresilience := load("pyresilience"):
        terms = pyresilience.RateLimiterConfig(max_calls=most, period=seconds)
        found["pyresilience"] = pyresilience.RateLimiter(terms).acquire
    if pyrate := load("pyrate_limiter"):
        rate = pyrate.Rate(most, 1000 * seconds)
        found["pyrate-limiter"] = functools.partial(pyrate.Limiter(rate).try_acquire, "key", blocking=False)
    return found


def limiter_hit() -> dict[str, Callable[[], bool]]:
    """One decision of a limit that is never reached."""
    return limiters(10**9)
