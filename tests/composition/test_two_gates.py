"""Gates around gates: places come back, tokens are spent, and an inner refusal says nothing to an outer gate."""

from __future__ import annotations

import itertools

import pytest

from resilience import CircuitBreaker, CircuitOpen, CircuitState, Pipeline, Rejected, Throttle, Throttled
from tests.colours import FORMS, Colour, every_colour

by_form = pytest.mark.parametrize("form", FORMS)


def half_open(colour: Colour, **options) -> CircuitBreaker:
    """A breaker that is half-open, with one place for a trial."""
    breaker = CircuitBreaker(1, on=OSError, cooldown=5, trial_lease=1000, clock=colour.clock, **options)
    breaker.open()
    colour.clock.advance(5)
    assert breaker.state is CircuitState.HALF_OPEN
    return breaker


@by_form
@every_colour
async def test_a_trial_place_comes_back_when_an_inner_throttle_refuses(colour: Colour, form: str) -> None:
    """A trial that an inner throttle refuses gives its place back and counts neither way."""
    breaker, throttle = half_open(colour), Throttle("1/s", clock=colour.clock)
    throttle.acquire()
    both = Pipeline(breaker, throttle)
    for _ in range(3):
        with pytest.raises(Throttled):
            await colour.call(both, colour.function(["never"]), form=form)
        assert breaker.snapshot()["trials"] == 0
        assert breaker.state is CircuitState.HALF_OPEN
    colour.clock.advance(1)
    await colour.call(both, colour.function(["page"]), form=form)
    assert breaker.state is CircuitState.CLOSED


@by_form
@every_colour
async def test_a_token_is_spent_when_an_inner_breaker_refuses(colour: Colour, form: str) -> None:
    """What an outer throttle granted is spent, whatever becomes of the call."""
    breaker = CircuitBreaker(1, clock=colour.clock)
    throttle = Throttle("1/hour", burst=2, clock=colour.clock)
    breaker.open()
    both = Pipeline(throttle, breaker)
    for refusal in (CircuitOpen, CircuitOpen, Throttled):
        with pytest.raises(refusal):
            await colour.call(both, colour.function(["never"]), form=form)


@by_form
@every_colour
async def test_an_outer_breaker_does_not_count_an_inner_refusal(colour: Colour, form: str) -> None:
    """A breaker that counts every Exception stays closed while an inner gate refuses, also in between failures."""
    outer = CircuitBreaker(2, clock=colour.clock)
    inner = CircuitBreaker(100, clock=colour.clock)
    both = Pipeline(outer, inner)
    with pytest.raises(OSError, match="down"):
        await colour.call(both, colour.function([OSError("down")]), form=form)
    inner.open()
    for _ in range(5):
        with pytest.raises(CircuitOpen):
            await colour.call(both, colour.function(["never"]), form=form)
    assert outer.state is CircuitState.CLOSED
    # Neutral also means that it did not reset the count: one more failure is the second in a row.
    inner.close()
    with pytest.raises(OSError, match="down"):
        await colour.call(both, colour.function([OSError("down")]), form=form)
    assert outer.state is CircuitState.OPEN


GATES = {
    "breaker": lambda clock: CircuitBreaker(2, on=OSError, cooldown=5, clock=clock),
    "throttle": lambda clock: Throttle("1000/s", clock=clock),
    "keyless throttle that waits": lambda clock: Throttle("1000/s", max_wait=1, clock=clock),
    "breaker by rate": lambda clock: CircuitBreaker((3, 2), on=OSError, cooldown=5, trials=2, clock=clock),
}


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(GATES, GATES)))
@every_colour
async def test_in_every_order_a_call_goes_through_and_its_outcome_reaches_both(
    colour: Colour, outer: str, inner: str
) -> None:
    """Results come back unchanged, errors are the same object, and every breaker on the way has seen them."""
    gates = [GATES[outer](colour.clock), GATES[inner](colour.clock)]
    both = Pipeline(*gates)
    assert await colour.call(both, colour.function(["page"])) == "page"
    error = OSError("down")
    breakers = [gate for gate in gates if isinstance(gate, CircuitBreaker)]
    for _ in range(2):
        with pytest.raises(OSError, match="down") as caught:
            await colour.call(both, colour.function([error]))
        assert caught.value is error
    assert [breaker.state for breaker in breakers] == ["open"] * len(breakers)
    if breakers:
        with pytest.raises(Rejected):
            await colour.call(both, colour.function(["never"]))
        colour.clock.advance(5)
        for _ in range(2):
            await colour.call(both, colour.function(["page"]))
        assert [breaker.state for breaker in breakers] == ["closed"] * len(breakers)
