"""Orders that cannot work are said when a pipeline is built."""

from __future__ import annotations

import math
import warnings

import pytest

from resilience import CircuitBreaker, Fallback, Pipeline, PipelineWarning, Retry, Throttle, Timeout, backoff

RETRY = Retry(on=OSError, name="retry")
FALLBACK = Fallback(on=OSError, value=None, name="fallback")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((RETRY, FALLBACK), "put the fallback outside the retry"),
        ((RETRY, CircuitBreaker(), FALLBACK), "put the fallback outside the retry"),
        ((RETRY, Retry(on=OSError, attempts=4, name="inner")), "up to 12 calls"),
        ((RETRY, Retry(on=OSError, attempts=math.inf, name="inner")), "up to inf calls"),
        ((Timeout(1), Retry(on=OSError, backoff=5)), "lengthen the timeout or shorten the backoff"),
        ((Timeout(1), Retry(on=OSError, backoff=1)), "lengthen the timeout or shorten the backoff"),
        ((CircuitBreaker(cooldown=10), Retry(on=OSError, attempts=3, backoff=5)), "put the breaker inside the retry"),
        ((CircuitBreaker(trial_lease=1), Retry(on=OSError, attempts=math.inf)), "put the breaker inside the retry"),
        ((Pipeline(RETRY), Pipeline(FALLBACK)), "put the fallback outside the retry"),
    ],
)
def test_an_order_that_cannot_work_is_a_warning(parts, said) -> None:
    """The warning names both policies and says what to do; check() says the same afterwards."""
    with pytest.warns(PipelineWarning, match=said):
        built = Pipeline(*parts)
    assert [said in complaint for complaint in built.check()] == [True]


@pytest.mark.parametrize(
    "parts",
    [
        (FALLBACK, Timeout(30), RETRY, CircuitBreaker(), Throttle("100/s"), Timeout(2)),
        (Timeout(1), Retry(on=OSError)),
        (Timeout(1), Retry(on=OSError, attempts=1, backoff=5)),
        (CircuitBreaker(cooldown=30), Retry(on=OSError, attempts=3, backoff=5)),
        (CircuitBreaker(cooldown=10), Retry(on=OSError, attempts=math.inf, within=5, backoff=5)),
        (CircuitBreaker(), Throttle("1/s"), CircuitBreaker()),
    ],
)
def test_an_order_that_works_is_no_warning(parts) -> None:
    """The order that is taught, and others that make sense, are built in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pipeline(*parts).check() == []


def test_describe_lists_the_policies_outermost_first() -> None:
    """A pipeline within a pipeline is listed in its place."""
    inner = Pipeline(Retry(on=OSError, attempts=2, backoff=backoff.constant(1)), CircuitBreaker(5))
    lines = Pipeline(Timeout(30), inner, Timeout(2), name="auth0").describe().splitlines()
    assert lines[0] == "auth0, outermost first:"
    assert [line.split(".", 1)[0].strip() for line in lines[1:]] == ["1", "2", "3", "4"]
    assert "auth0.timeout: Timeout(seconds=30)" in lines[1]
    assert "attempts=2" in lines[2]
    assert "auth0.timeout_2" in lines[4]
