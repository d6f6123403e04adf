"""The delays that a retry's plan works out beforehand: the backoff's own."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resilience import backoff as backoffs
from resilience.core.retry import RetryPlan


@given(
    st.sampled_from(["none", "full", "equal", 0.3]),
    st.sampled_from([1, 2, 3, 16, 40, math.inf]),
    st.floats(0, 1, exclude_max=True),
)
def test_what_is_known_beforehand_is_what_the_backoff_would_say(jitter: Any, attempts: float, u: float) -> None:
    """A delay out of the plan's list is the backoff's answer to the last bit, and no more are listed than are used."""
    curves: list[Any] = [
        backoffs.exponential(jitter=jitter),
        backoffs.constant(0.7, jitter=jitter),
        backoffs.linear(0.3, jitter=jitter),
        backoffs.fibonacci(jitter=jitter),
        backoffs.schedule([0.1, 0.7], jitter=jitter),
        backoffs.decorrelated(),
    ]
    for backoff in curves:
        plan = RetryPlan(attempts, None, backoff, 60.0)
        assert len(plan.known) <= min(attempts, 16)
        assert bool(plan.known) == (jitter in {"none", "full"} and backoff != backoffs.decorrelated())
        for attempt in range(1, len(plan.known)):
            listed = u * plan.known[attempt] if plan.jittered else plan.known[attempt]
            assert listed == backoff(attempt, 0.0, u)
        assert plan.jittered or backoff(1, 0.0, u) == backoff(1, 0.0, 0.0)
