"""A throttle whose state two floats hold was given back by virtual time, while the short way had been open inside: from
then on every call ended in a TypeError about a tuple.
"""

from __future__ import annotations

from typing import Any

import pytest

from resilience import Throttle
from resilience.testing import VirtualClock


def simple(throttle: Throttle) -> None:
    """Leave a throttle in a state that the short way knows."""
    throttle.reset()
    assert throttle.try_acquire()
    assert throttle._desk.ledger.at_hand


@pytest.mark.parametrize("way", ["try_acquire", "call", "acquire"])
def test_every_way_through_a_restored_throttle_goes_on(way: str) -> None:
    """What virtual time gives back is asked about at the desk, whatever was simple inside."""
    throttle = Throttle("4/s burst 8", clock=VirtualClock(1000.0))
    for _ in range(3):
        assert throttle.try_acquire(cost=0.1)
    assert isinstance(throttle._desk.ledger.sole, tuple)
    left = throttle.peek().remaining
    frozen = throttle._freeze()
    simple(throttle)
    throttle._thaw(frozen)
    ways: dict[str, Any] = {"call": lambda: throttle(str)(), "acquire": throttle.acquire}
    ways.get(way, throttle.try_acquire)()
    assert throttle.peek().remaining == left - 1.0
