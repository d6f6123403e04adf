"""B6: a snapshot that is taken while another thread is at work is of one moment."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import resilience
from resilience import Clock
from resilience.testing import conformance
from resilience.testing.conformance import Violation
from tests.testing import broken


class Told(broken.Breaker):
    """A breaker that tells what it is, under its lock."""

    def __init__(self, trip: int, *, cooldown: float, clock: Clock) -> None:
        super().__init__(trip, cooldown=cooldown, clock=clock)
        self._lock = threading.RLock()

    def admit(self) -> int:
        with self._lock:
            return super().admit()

    def settle(self, permit: int, good: bool | None) -> None:
        with self._lock:
            super().settle(permit, good)

    def snapshot(self) -> dict[str, Any]:
        with self._lock:
            return {"state": self._now.value, "failures": self._failures, "opened": self._opened}


class Torn(Told):
    """Reads one thing after the other, without the lock."""

    def snapshot(self) -> dict[str, Any]:
        state, failures = self._now.value, self._failures
        return {"state": state, "failures": failures, "opened": self._opened}


class Yesterdays(Told):
    """Tells what it told before the last time."""

    def __init__(self, trip: int, *, cooldown: float, clock: Clock) -> None:
        super().__init__(trip, cooldown=cooldown, clock=clock)
        self._told: list[dict[str, Any]] = []

    def snapshot(self) -> dict[str, Any]:
        self._told.append(super().snapshot())
        return self._told[-2] if len(self._told) == 3 else self._told[-1]


def check(kind: type[Told], seed: int = 0) -> None:
    conformance.breaker(lambda clock: kind(2, cooldown=30.0, clock=clock), seed=seed, colours=["sync"], examples=300)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 20))])
def test_a_torn_snapshot_is_caught(seed: int) -> None:
    """A breaker that reads its parts one after the other is caught, whatever the seed, and B6 is named."""
    with pytest.raises(Violation, match="B6") as caught:
        check(Torn, seed)
    assert "snapshot" in caught.value.seen
    assert any("snapshot()" in line for line in caught.value.script)


def test_snapshots_under_a_lock_pass() -> None:
    """The same breaker passes where it tells all of one moment."""
    check(Told)


@pytest.mark.parametrize("trip", [2, resilience.FailureRate(0.5, calls=4, minimum_calls=2)], ids=str)
def test_our_snapshots_are_of_one_moment(trip: Any) -> None:
    """The circuit breaker keeps B6."""
    conformance.breaker(
        lambda clock, rng: resilience.CircuitBreaker(trip, cooldown=30, clock=clock, rng=rng),
        colours=["sync"],
        examples=100,
    )
