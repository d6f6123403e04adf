"""Of two rates with the same burst the answer named the first one's window, whichever held the caller back."""

from __future__ import annotations

import pytest

from resilience import Throttle, Throttled
from resilience.integrations._arrival import Arrival
from resilience.integrations._server import Limit
from resilience.testing import VirtualClock


@pytest.mark.parametrize("rates", [("1/s burst 2", "2/hour"), ("2/hour", "1/s burst 2")])
def test_the_window_is_that_of_the_rate_that_holds_back(rates: tuple[str, str]) -> None:
    """What is refused for an hour has a window of an hour."""
    limit = Limit(Throttle(*rates, name="two", clock=VirtualClock()))
    for _ in range(2):
        limit.take(Arrival("192.0.2.1"))
    refused = Arrival("192.0.2.1")
    with pytest.raises(Throttled):
        limit.take(refused)
    assert refused.fields() == [("RateLimit-Policy", '"two";q=2;w=3600'), ("RateLimit", '"two";r=0;t=1800')]
