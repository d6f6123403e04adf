"""What a check has to know of a circuit breaker, and where it learns it."""

from __future__ import annotations

from math import nextafter

from resilience.core.trip import Consecutive, SlowRate
from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._subject import (
    Flight,
    build,
    each_of,
    fact,
    half,
    in_seconds,
    is_ours,
    matching,
    unmatched,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from resilience.testing.conformance._subject import Make

__all__ = ["BreakerFacts", "plain"]

MOST_FAILURES = 200


class BreakerFacts:
    """What the check has to know of the breaker."""

    def __init__(
        self,
        make: Make,
        *,
        cooldown: float | None,
        trials: int | None,
        trial_lease: float | None,
        trip: Any,
        error: Exception | None,
        state: Callable[[Any], Any] | None,
        colour: str,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.colour = colour
        self.loop = loop
        policy = build(make, VirtualClock(), rng=half)
        self.make = make
        self.ours = is_ours(policy)
        self.cooldown = fact(policy, "cooldown", cooldown)
        self.steady = not callable(self.cooldown)
        self.cooldown = float(in_seconds(self.cooldown)) if self.steady else 30.0
        self.trials = int(fact(policy, "trials", trials, 1))
        lease = fact(policy, "trial_lease", trial_lease, None)
        self.lease = None if lease is None and not self.steady else float(in_seconds(lease or self.cooldown))
        given = fact(policy, "trip", trip, None)
        self.trip = _in_a_row(given)
        self.slow = any(isinstance(trip, SlowRate) for trip in each_of(given))
        self.ramp = fact(policy, "ramp", None, None)
        on = fact(policy, "on", None, Exception)
        self.error = matching(on, error)
        self.unmatched = unmatched(on)
        self.cancel_fails = fact(policy, "on_cancel", None, "ignore") == "failure"
        self._read = state or _state
        self.failures = self._failures_to_open(policy)

    def state(self, policy: Any) -> str:
        """The state that a breaker says it has, as a word."""
        return plain(self._read(policy))

    def _failures_to_open(self, policy: Any) -> int:
        """How many failures in a row open it; what opens it is its own affair, and a breaker of slow calls may not."""
        for count in range(MOST_FAILURES):
            if self.state(policy) != "closed":
                return count
            Flight(policy, self.loop).end(self.error)
        return 0

    def times(self) -> list[float]:
        """Seconds to let pass: the boundaries, one ulp beside them, and something in between."""
        spans = {self.cooldown, self.lease or self.cooldown}
        return [*spans, *(nextafter(span, 0.0) for span in spans), *(span / 2 for span in spans), 0.0, 1.0]


def _state(policy: Any) -> Any:
    if not hasattr(policy, "state"):
        raise TypeError(f"{type(policy).__name__} has no state to read: pass state=lambda breaker: ... to the check")
    return policy.state


def plain(state: Any) -> str:
    """A state as a word, however it is spelled: "half_open" for `State.HALF_OPEN`, "half-open" and "Half Open"."""
    return str(getattr(state, "value", state)).lower().replace("-", "_").replace(" ", "_")


def _in_a_row(trip: Any) -> int | None:
    if isinstance(trip, int):
        return trip
    return trip.failures if isinstance(trip, Consecutive) else None
