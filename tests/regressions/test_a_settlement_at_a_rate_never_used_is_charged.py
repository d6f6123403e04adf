"""A call that took nothing from an unused bucket, and cost something there in the end, was not charged for it."""

from __future__ import annotations

import pytest

from resilience import Throttle, Throttled
from resilience.core.bucket import Bucket
from resilience.core.ledger import Claim, Ledger
from resilience.testing import VirtualClock


def test_what_a_call_really_cost_is_charged_to_a_bucket_that_nobody_has_used() -> None:
    """Settled at 900 tokens each, the third call of a burst of 1000 finds the bucket in debt."""

    def cost(first: bool) -> dict[str, float]:
        return {"calls": 1} if first else {"calls": 1, "tokens": 1}

    throttle = Throttle(
        "100 calls/s; 10 tokens/minute burst 1000",
        cost=cost,
        settle=lambda tokens: {"calls": 1, "tokens": tokens},
        name="settle-untouched-rate",
        clock=VirtualClock(),
    )
    call = throttle(lambda first: 900)
    assert call(True) == 900
    assert throttle.snapshot()["rates"][1]["remaining"] == 100.0
    assert call(False) == 900
    with pytest.raises(Throttled):
        call(False)


def test_what_was_forgotten_is_charged_as_of_when_it_was_taken_and_the_rest_as_of_now() -> None:
    """Of two rates only one was touched; after the charge both states are numbers."""
    ledger = Ledger([Bucket(1.0, 1.0, 10.0), Bucket(1.0, 1.0, 10.0)], [(0.0, 0.0)], 10)
    claim = Claim("a", (2.0, 0.0), 0)
    taken = ledger.taken_by(claim, 100.0)
    assert taken is not None
    ledger.grant(claim, taken)
    ledger.settle(claim, (2.0, 3.0), 101.0)
    levels = [bucket.level(state, 101.0) for bucket, state in zip(ledger.buckets, ledger.load("a"), strict=True)]
    assert levels == [9.0, 7.0]
