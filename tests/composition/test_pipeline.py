"""Several policies as one: order, names, guards, and parts from elsewhere."""

from __future__ import annotations

import pytest

from resilience import (
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Pipeline,
    ResultNotAccepted,
    Retry,
    Throttle,
    TimedOut,
    Timeout,
    registry,
)
from tests.colours import Colour, async_colours, every_colour


@every_colour
async def test_the_first_policy_is_the_outermost(colour: Colour) -> None:
    """A retry outside a breaker asks it before each attempt; inside, it shows the breaker one call."""
    outside = CircuitBreaker(2, on=OSError, clock=colour.clock)
    retry = Retry(on=OSError, attempts=5, backoff=0, clock=colour.clock)
    with pytest.raises(CircuitOpen):
        await colour.call(Pipeline(retry, outside), colour.function([OSError(), OSError()]))
    inside = CircuitBreaker(2, on=OSError, clock=colour.clock)
    with pytest.raises(OSError):
        await colour.call(Pipeline(inside, retry), colour.function([OSError(), ...]))
    assert inside.snapshot()["failures"] == 1


@every_colour
async def test_a_fallback_outermost_hides_every_refusal(colour: Colour) -> None:
    """An open circuit behind a fallback answers with the fallback's value."""
    breaker = CircuitBreaker(1, clock=colour.clock)
    breaker.open()
    whole = Pipeline(Fallback(on=CircuitOpen, value="yesterday's page"), Retry(on=OSError), breaker)
    assert await colour.call(whole, colour.function(["never"])) == "yesterday's page"


@async_colours
async def test_a_timeout_for_the_whole_bounds_every_attempt_and_wait(colour: Colour) -> None:
    """A timeout outside a retry cuts the third of three slow attempts."""
    whole = Pipeline(Timeout(5), Retry(on=TimedOut, attempts=5, backoff=0, clock=colour.clock), Timeout(2))
    fetch = colour.function([(10, "late"), ...])
    with pytest.raises(TimedOut) as caught:
        await colour.call(whole, fetch)
    assert caught.value.seconds == 5
    assert len(fetch.calls) == 3
    assert colour.clock.now() == 5


def test_parts_are_named_after_the_pipeline() -> None:
    """Parts without a name get the pipeline's and their kind, a second of the same kind a number; names given stay."""
    whole = Pipeline(Timeout(5), Retry(on=OSError), CircuitBreaker(name="own"), Timeout(1), name="auth0")
    assert [part.name for part in whole.policies] == ["auth0.timeout", "auth0.retry", "own", "auth0.timeout_2"]
    assert set(whole.policies) <= set(registry())


def test_a_pipeline_without_a_name_takes_that_of_the_first_function() -> None:
    """Decorating names the pipeline, and with it its parts."""
    whole = Pipeline(Retry(on=OSError), CircuitBreaker())

    @whole
    def userinfo() -> None: ...

    @whole
    def second() -> None: ...

    assert whole.name == "userinfo"
    assert [part.name for part in whole.policies] == ["userinfo.retry", "userinfo.circuit_breaker"]


def test_replace_gives_every_part_fresh_state() -> None:
    """A replaced pipeline shares no state with the one it came from."""
    whole = Pipeline(CircuitBreaker(1), Throttle("1/hour"), name="first")
    whole.call(int)
    whole.policies[0].open()
    fresh = whole.replace(name="second")
    assert fresh.call(int) == 0
    assert [part.name for part in fresh.policies] == ["second.circuit_breaker", "second.throttle"]


def test_a_policy_from_elsewhere_needs_only_bind() -> None:
    """Anything that wraps a function is a part, also another pipeline."""

    class Twice:
        def bind(self, fn):
            return lambda *args, **kwargs: (fn(*args, **kwargs), fn(*args, **kwargs))

    whole = Pipeline(Twice(), Pipeline(Retry(on=OSError), CircuitBreaker()))
    assert whole.call(lambda: 1) == (1, 1)


@pytest.mark.parametrize("wrong", [3, Retry, "retry", None])
def test_what_cannot_wrap_a_function_is_refused(wrong) -> None:
    """A part without bind is named in the error."""
    with pytest.raises(TypeError, match=r"holds policies, or objects with bind\(fn\)"):
        Pipeline(wrong)
    with pytest.raises(TypeError, match="at least one policy"):
        Pipeline()


@every_colour
async def test_a_guard_holds_every_part_and_tells_each(colour: Colour) -> None:
    """A block under two breakers fails both, succeeds for both, or is ignored by both."""
    first = CircuitBreaker(1, clock=colour.clock)
    second = CircuitBreaker(1, on_result=lambda x: x is None, clock=colour.clock)
    both = Pipeline(first, second)
    async with colour.guard(both) as g:
        g.set_result("page")
    async with colour.guard(both) as g:
        g.ignore()
    assert [part.state for part in both.policies] == ["closed", "closed"]
    async with colour.guard(both) as g:
        g.set_result(None)
    assert [part.state for part in both.policies] == ["closed", "open"]
    second.close()
    async with colour.guard(both) as g:
        g.fail("the answer was empty")
    assert [part.state for part in both.policies] == ["open", "open"]


@every_colour
async def test_a_guard_that_is_refused_inside_lets_go_of_what_it_holds(colour: Colour) -> None:
    """When an inner part refuses the block, the outer parts have their places back."""
    outer = CircuitBreaker(1, cooldown=5, clock=colour.clock)
    outer.open()
    colour.clock.advance(5)
    inner = CircuitBreaker(1, clock=colour.clock)
    inner.open()
    with pytest.raises(CircuitOpen):
        async with colour.guard(Pipeline(outer, inner)):
            raise AssertionError("the block must not run")
    assert (outer.state, outer.snapshot()["trials"]) == ("half_open", 0)


@every_colour
async def test_a_guard_settles_with_the_part_that_has_a_cost(colour: Colour) -> None:
    """What a block really cost goes to the throttle, wherever it stands."""
    throttle = Throttle("10/s", clock=colour.clock)
    async with colour.guard(Pipeline(CircuitBreaker(), throttle)) as g:
        assert g.settle(5)
        assert not g.settle(5)
    assert throttle.peek().remaining == 5
    with pytest.raises(TypeError, match="no cost to settle"):
        async with colour.guard(Pipeline(CircuitBreaker(), CircuitBreaker())) as g:
            g.settle(5)


def test_a_pipeline_with_a_retry_cannot_guard_a_block() -> None:
    """The refusal of a part says why."""
    with pytest.raises(TypeError, match="attempts"):
        Pipeline(Retry(on=OSError), CircuitBreaker()).guard()
    with pytest.raises(TypeError, match="no result to replace"):
        Pipeline(Fallback(on=OSError, value=1), CircuitBreaker()).guard()


def test_a_snapshot_shows_each_part() -> None:
    """The state of a pipeline is the states of its parts, outermost first, ready for JSON."""
    import json

    shown = json.loads(json.dumps(Pipeline(Retry(on=OSError), CircuitBreaker(), Throttle("1/s"), name="x").snapshot()))
    assert [part["kind"] for part in shown["policies"]] == ["retry", "circuit_breaker", "throttle"]


@every_colour
async def test_results_pass_judgement_at_every_level(colour: Colour) -> None:
    """A retry that runs out of acceptable results is what an outer fallback replaces."""
    whole = Pipeline(
        Fallback(on=ResultNotAccepted, value="none"),
        Retry(on_result=lambda x: x is None, attempts=3, backoff=0, clock=colour.clock),
    )
    assert await colour.call(whole, colour.function([None, ...])) == "none"
