"""The adaptive throttle before a simulated backend: how much it sends, and how soon it recovers."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from resilience import Throttled
from resilience.policies.adaptive_throttle import AdaptiveThrottle
from tests.simulation import Clock

Backend = Callable[[float], bool]


def half(seed: int) -> Backend:
    """Accepts every second call, by chance."""
    rng = random.Random(seed)
    return lambda now: rng.random() < 0.5


class Capacity:
    """Accepts so many calls a second, and refuses the rest."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.left = 5.0
        self.seen = 0.0

    def __call__(self, now: float) -> bool:
        self.left = min(5.0, self.left + (now - self.seen) * self.rate)
        self.seen = now
        accepted = self.left >= 1.0
        self.left -= accepted
        return accepted


def offered(backend: Backend, rate: float, until: float, seed: int) -> list[tuple[float, str]]:
    """When each of so many calls a second came, and whether it was "accepted", "refused" or "held back"."""
    clock, arrivals = Clock(), random.Random(seed)
    throttle = AdaptiveThrottle(clock=clock, rng=random.Random(seed + 1000).random)
    calls: list[tuple[float, str]] = []
    while clock.time < until:
        clock.time += arrivals.expovariate(rate)
        outcome = "accepted"
        try:
            with throttle.guard():
                if not backend(clock.time):
                    raise ConnectionRefusedError
        except ConnectionRefusedError:
            outcome = "refused"
        except Throttled:
            outcome = "held back"
        calls.append((clock.time, outcome))
    return calls


@pytest.mark.parametrize("seed", range(5))
def test_it_sends_about_twice_what_is_accepted(seed: int) -> None:
    """Before a backend that accepts half, by chance or by capacity, at most 2.2 calls are sent per accepted one."""
    for name, backend, rate in (
        ("half of 100/s", half(seed), 100.0),
        ("50 of 100/s", Capacity(50), 100.0),
        ("50 of 400/s", Capacity(50), 400.0),
    ):
        outcomes = [outcome for _, outcome in offered(backend, rate, 120.0, seed)]
        accepted = outcomes.count("accepted")
        sent = accepted + outcomes.count("refused")
        print(f"\n  {name}: {len(outcomes)} asked for, {sent} sent, {accepted} accepted: {sent / accepted:.3f}")
        assert sent <= 2.2 * accepted
        assert sent >= 1.8 * accepted


@pytest.mark.parametrize("seed", range(5))
def test_it_recovers_within_a_window(seed: int) -> None:
    """After a minute without an answer, nothing is held back any more one window of 30 s after the backend is well."""
    calls = offered(lambda now: not 60 <= now < 120, 100.0, 300.0, seed)
    held_back = [now for now, outcome in calls if outcome == "held back"]
    sent = sum(outcome != "held back" for now, outcome in calls if 100 <= now < 120)
    asked = sum(100 <= now < 120 for now, _ in calls)
    print(f"\n  sent in the outage: {sent / asked:.1%}; the last was held back {max(held_back) - 120:.1f} s after it")
    assert max(held_back) < 150.0
    assert 0.03 < sent / asked < 0.08


def test_a_backend_that_is_well_is_left_alone() -> None:
    """Where a third of the calls fails, none is held back, since half of them may."""
    rng = random.Random(3)
    outcomes = [outcome for _, outcome in offered(lambda now: rng.random() < 0.67, 50.0, 300.0, seed=3)]
    held_back = outcomes.count("held back") / len(outcomes)
    print(f"\n  {outcomes.count('refused') / len(outcomes):.1%} refused, {held_back:.2%} held back")
    assert outcomes.count("refused") > 3000
    assert held_back < 0.005
