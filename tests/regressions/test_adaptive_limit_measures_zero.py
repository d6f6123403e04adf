"""On a clock too coarse for its calls, a probe of an `AdaptiveLimit` divided by a latency of zero, into the caller."""

from __future__ import annotations

import pytest

from resilience import AIMD, AdaptiveLimit, Gradient, Vegas
from resilience.testing import VirtualClock


@pytest.mark.parametrize("algorithm", [Gradient(), Vegas(), AIMD()], ids=repr)
def test_calls_that_take_no_measurable_time_end_a_probe(algorithm: Gradient | Vegas | AIMD) -> None:
    """A probe in which all calls seem to take no time at all ends like any other, and calls are admitted after it."""
    clock = VirtualClock()
    limit = AdaptiveLimit(algorithm, initial=4, maximum=4, clock=clock)
    while not limit.snapshot()["probing"]:
        assert clock.now() < 600.0
        blocks = [limit.guard() for _ in range(limit.limit)]
        for block in blocks:
            block.__enter__()
        clock.advance(0.1)
        for block in blocks:
            block.__exit__(None, None, None)
    for _ in range(3):
        for _ in range(100):
            limit.call(int)
        clock.advance(0.5)
    assert limit.call(int) == 0
    assert not limit.snapshot()["probing"]
