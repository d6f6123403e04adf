"""A bound of time, written out: one readable function round the call, that cuts and refuses as the closure does."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import CircuitBreaker, DeadlineExceeded, Pipeline, Retry, Throttle, TimedOut, Timeout, _compile
from resilience.context import remaining
from resilience.events import CallSucceeded, DeadlineMissed
from tests.colours import Colour, async_colours, every_colour


def is_written_out(fn: Any) -> bool:
    """Whether a wrapper is one generated function."""
    return bool(fn.__code__.co_filename.startswith("<resilience wrapper") and fn.__wrapped__.__name__ == "fetch")


@pytest.fixture(autouse=True)
def _generates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compile, "ENABLED", True)


@async_colours
async def test_a_coroutine_is_cut_from_within_one_function(colour: Colour) -> None:
    """Breaker, throttle and timeout are one wrapper; the cut is a failure to the breaker, and the permit comes back."""
    breaker = CircuitBreaker(1, on=TimedOut, clock=colour.clock)
    pipeline = Pipeline(breaker, Throttle("9/s", clock=colour.clock), Timeout(2, clock=colour.clock))

    @pipeline
    async def fetch(seconds: float) -> float:
        await colour.sleep(seconds)
        left = remaining()
        assert left is not None
        return left

    assert is_written_out(fetch)
    assert await fetch(0.5) == 1.5
    with pytest.raises(TimedOut):
        await fetch(3)
    assert breaker.state == "open" and remaining() is None


@every_colour
async def test_what_is_heard_of_a_bound_that_is_written_out(colour: Colour) -> None:
    """A success is told; where nothing cuts, so is a bound that was missed."""
    timeout = Timeout(2, thread=False, clock=colour.clock)
    heard: list[type] = []
    timeout.listen(lambda event: heard.append(type(event)))
    fetch = timeout(colour.function([..., "late"]))
    await colour.invoke(fetch)
    assert heard == [CallSucceeded]

    @timeout
    def plain() -> None:
        colour.clock.advance(3)

    if colour.name == "sync":
        plain()
        assert heard == [CallSucceeded, DeadlineMissed]


def test_plain_functions_are_refused_as_before() -> None:
    """Without `thread` a plain function is refused where it is decorated, alone and in a pipeline."""

    def fetch() -> None: ...

    for policy in (Timeout(2), Pipeline(CircuitBreaker(5), Timeout(2))):
        with pytest.raises(TypeError, match="thread=True"):
            policy(fetch)


def test_a_worker_is_left_to_the_closure() -> None:
    """With `thread=True` a plain function is not written out, a coroutine function is."""
    timeout = Timeout(2, thread=True)

    def fetch() -> int:
        return 1

    async def fetch_async() -> int:
        return 1

    assert "a closure, not written out" in timeout.explain(fetch)
    assert "with _timeout1._cut_scope():" in timeout.explain(fetch_async)
    assert timeout(fetch)() == 1


@every_colour
async def test_a_retry_with_a_deadline_is_one_loop(colour: Colour) -> None:
    """Attempts, waits and the bound of all of them are as the closure makes them, round a breaker and a timeout."""
    pipeline = Pipeline(
        Retry(on=OSError, attempts=4, within=10, backoff=4, clock=colour.clock),
        CircuitBreaker(9, on=OSError, clock=colour.clock),
        Timeout(2, thread=False, clock=colour.clock),
    )
    fetch = colour.function([OSError("first"), OSError("second"), "page", OSError("third"), ..., ...])
    fetching = pipeline(fetch)
    assert "while True:" in pipeline.explain(fetch) and "a closure" not in pipeline.explain(fetch)
    assert await colour.invoke(fetching) == "page"
    assert colour.clock.sleeps == [4.0, 4.0]

    always = colour.function([OSError(str(number)) for number in range(9)])
    with pytest.raises((OSError, DeadlineExceeded)) as caught:
        await colour.invoke(pipeline(always))
    assert str(caught.value) == "2" and len(always.calls) == 3
