"""The hub went on saying that somebody listens after the only policy that was listened to had died."""

from __future__ import annotations

from resilience import CircuitBreaker
from resilience._hub import HUB, live


def test_what_died_with_its_listeners_is_not_heard() -> None:
    """When a policy dies, so does what its listeners meant to everybody else."""
    others = HUB.listeners or any(policy._channel.listeners for policy in live)
    breaker = CircuitBreaker()
    breaker.listen(print)
    assert HUB.heard
    del breaker
    assert HUB.heard == bool(others)
