"""Keep a service alive when what it calls is slow, failing or overloaded."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience import backoff, context, events
    from resilience._hub import listen, registry
    from resilience.clock import Clock
    from resilience.context import Priority
    from resilience.core.breaker import CircuitState
    from resilience.core.limits import AIMD, Gradient, Vegas
    from resilience.core.trip import Consecutive, FailureRate, SlowRate
    from resilience.errors import (
        BlockingWarning,
        BulkheadFull,
        CircuitOpen,
        DeadlineExceeded,
        LimitExceeded,
        LoadShed,
        PipelineWarning,
        Rejected,
        ResilienceError,
        ResultNotAccepted,
        StoreUnavailable,
        Throttled,
        TimedOut,
    )
    from resilience.pipeline import Pipeline
    from resilience.policies._base import Policy
    from resilience.policies.adaptive import AdaptiveLimit
    from resilience.policies.adaptive_throttle import AdaptiveThrottle
    from resilience.policies.breaker import CircuitBreaker
    from resilience.policies.budget import RetryBudget
    from resilience.policies.bulkhead import Bulkhead
    from resilience.policies.fallback import Fallback
    from resilience.policies.hedge import Hedge
    from resilience.policies.keyed import Keyed
    from resilience.policies.retry import Retry
    from resilience.policies.shed import LoadShedder
    from resilience.policies.throttle import Reservation, Throttle
    from resilience.policies.timeout import Timeout
    from resilience.rates import Quota, Rate

_HOMES = {
    "AIMD": "resilience.core.limits",
    "AdaptiveLimit": "resilience.policies.adaptive",
    "AdaptiveThrottle": "resilience.policies.adaptive_throttle",
    "BlockingWarning": "resilience.errors",
    "Bulkhead": "resilience.policies.bulkhead",
    "BulkheadFull": "resilience.errors",
    "CircuitBreaker": "resilience.policies.breaker",
    "CircuitOpen": "resilience.errors",
    "CircuitState": "resilience.core.breaker",
    "Clock": "resilience.clock",
    "Consecutive": "resilience.core.trip",
    "DeadlineExceeded": "resilience.errors",
    "FailureRate": "resilience.core.trip",
    "Fallback": "resilience.policies.fallback",
    "Gradient": "resilience.core.limits",
    "Hedge": "resilience.policies.hedge",
    "Keyed": "resilience.policies.keyed",
    "LimitExceeded": "resilience.errors",
    "LoadShed": "resilience.errors",
    "LoadShedder": "resilience.policies.shed",
    "Pipeline": "resilience.pipeline",
    "PipelineWarning": "resilience.errors",
    "Policy": "resilience.policies._base",
    "Priority": "resilience.context",
    "Quota": "resilience.rates",
    "Rate": "resilience.rates",
    "Rejected": "resilience.errors",
    "Reservation": "resilience.policies.throttle",
    "ResilienceError": "resilience.errors",
    "ResultNotAccepted": "resilience.errors",
    "Retry": "resilience.policies.retry",
    "RetryBudget": "resilience.policies.budget",
    "SlowRate": "resilience.core.trip",
    "StoreUnavailable": "resilience.errors",
    "Throttle": "resilience.policies.throttle",
    "Throttled": "resilience.errors",
    "TimedOut": "resilience.errors",
    "Timeout": "resilience.policies.timeout",
    "Vegas": "resilience.core.limits",
    "listen": "resilience._hub",
    "registry": "resilience._hub",
}
_MODULES = ("backoff", "context", "events")

__all__ = [
    "AIMD",
    "AdaptiveLimit",
    "AdaptiveThrottle",
    "BlockingWarning",
    "Bulkhead",
    "BulkheadFull",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitState",
    "Clock",
    "Consecutive",
    "DeadlineExceeded",
    "FailureRate",
    "Fallback",
    "Gradient",
    "Hedge",
    "Keyed",
    "LimitExceeded",
    "LoadShed",
    "LoadShedder",
    "Pipeline",
    "PipelineWarning",
    "Policy",
    "Priority",
    "Quota",
    "Rate",
    "Rejected",
    "Reservation",
    "ResilienceError",
    "ResultNotAccepted",
    "Retry",
    "RetryBudget",
    "SlowRate",
    "StoreUnavailable",
    "Throttle",
    "Throttled",
    "TimedOut",
    "Timeout",
    "Vegas",
    "backoff",
    "context",
    "events",
    "listen",
    "registry",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"resilience.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'resilience' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
