"""Orders of policies that cannot work as meant.

Every order is legal, and some are pointless: a retry outside a fallback never sees an error, because the fallback has
replaced it. What is said here is only what is certain, or nearly so, from the configuration alone; a matter of taste is
not a warning.
"""

from __future__ import annotations

from math import inf

from resilience.policies.breaker import CircuitBreaker
from resilience.policies.fallback import Fallback
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["complaints"]

_FAR_ENOUGH = 1000
"""Waits that are added up at most: a retry that goes on for longer is long in any case."""


def complaints(parts: Sequence[Any]) -> list[str]:
    """What cannot work in these policies, outermost first; a sentence each."""
    found: list[str] = []
    for index, outer in enumerate(parts):
        for inner in parts[index + 1 :]:
            found.extend(_about(outer, inner))
    return found


def _about(outer: Any, inner: Any) -> Iterator[str]:
    if isinstance(outer, Retry) and isinstance(inner, Fallback):
        yield (
            f"{outer.name} stands outside {inner.name}, which replaces the errors that it would retry: "
            "put the fallback outside the retry"
        )
    if isinstance(outer, Retry) and isinstance(inner, Retry):
        most = outer._plan.attempts * inner._plan.attempts
        yield (
            f"{outer.name} stands outside {inner.name}: together they make up to {most:g} calls; "
            "retry at one level only"
        )
    if isinstance(outer, Timeout) and isinstance(inner, Retry):
        first = _longest_waits(inner, 1)
        if first >= outer._bound:
            yield (
                f"{outer.name} allows {outer._bound:g} s, and {inner.name} inside it may wait {first:g} s before its "
                "first retry: lengthen the timeout or shorten the backoff"
            )
    if isinstance(outer, CircuitBreaker) and isinstance(inner, Retry):
        whole, lease = _longest_waits(inner, inner._plan.attempts - 1), outer._circuit.lease
        if whole >= lease:
            yield (
                f"{outer.name} stands outside {inner.name}, whose waits may add up to {whole:g} s, while a trial has "
                f"{lease:g} s: put the breaker inside the retry"
            )


def _longest_waits(retry: Retry, retries: float) -> float:
    """Seconds that so many retries may wait in all, by the computed backoff and within the policy's own bound."""
    plan, previous, total = retry._plan, 0.0, 0.0
    bound = inf if plan.within is None else plan.within
    for number in range(1, int(min(retries, plan.attempts - 1, _FAR_ENOUGH)) + 1):
        previous = plan.backoff(number, previous, _ALMOST_ONE)
        total += previous
    return min(total, bound)


_ALMOST_ONE = 1.0 - 2.0**-53
