"""`disabled` and gates: whoever was refused passes, and what passed leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    FailureRate,
    LimitExceeded,
    LoadShed,
    LoadShedder,
    SlowRate,
    Throttle,
    Throttled,
    _compile,
)
from resilience._hub import live
from resilience.core.shed import Shedding
from resilience.events import Event
from resilience.testing.disabled_block import disabled
from resilience.testing.disabled_shadows import real_class
from tests.colours import FORMS, Colour, every_colour


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """After every test, no policy is disabled and the register is the ordinary one."""
    yield
    assert [policy for policy in live if type(policy) is not real_class(policy)] == []
    assert type(live).__name__ == "_Live"


@pytest.fixture(params=["generated", "closures"], autouse=True)
def wrappers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with generated wrappers and with closures."""
    monkeypatch.setattr(_compile, "ENABLED", request.param == "generated")


def down(*_: object) -> None:
    """Fail as a service does."""
    raise ConnectionError("connection refused")


def use(fn: Callable[..., Any], *args: object, times: int = 1) -> None:
    """Call a function that fails."""
    for _ in range(times):
        with pytest.raises(ConnectionError):
            fn(*args)


def isolated() -> CircuitBreaker:
    """A breaker that refuses everybody."""
    breaker = CircuitBreaker()
    breaker.isolate("deploy")
    return breaker


def timed() -> CircuitBreaker:
    """A breaker that measures, open."""
    breaker = CircuitBreaker(SlowRate(0.5, slower_than=1))
    breaker.open()
    return breaker


def ajar() -> CircuitBreaker:
    """An open breaker that counts calls."""
    breaker = CircuitBreaker(FailureRate(0.5, calls=10, minimum_calls=2), on=ConnectionError)
    breaker.open()
    return breaker


def opened() -> CircuitBreaker:
    """An open breaker."""
    breaker = CircuitBreaker(1, on=ConnectionError)
    breaker.open()
    return breaker


def by_the_clock() -> CircuitBreaker:
    """An open breaker that counts by the clock."""
    breaker = CircuitBreaker(FailureRate(0.5, window=10, minimum_calls=2), on=ConnectionError)
    breaker.open()
    return breaker


def empty() -> Throttle:
    """A throttle without a token."""
    throttle = Throttle("1/hour")
    assert throttle.try_acquire()
    return throttle


def settling() -> Throttle:
    """A throttle without a token that corrects the cost by the result."""
    throttle = Throttle("1/hour", settle=len)
    assert throttle.try_acquire()
    return throttle


def full() -> Bulkhead:
    """A bulkhead whose only place is taken."""
    bulkhead = Bulkhead(1)
    bulkhead._claim()
    return bulkhead


def at_its_limit() -> AdaptiveLimit:
    """A limit that has been reached."""
    limit = AdaptiveLimit(initial=1)
    limit._claim()
    return limit


def holding_back() -> AdaptiveThrottle:
    """An adaptive throttle that holds back what it can."""
    throttle = AdaptiveThrottle(1, on=ConnectionError, minimum_calls=1, rng=lambda: 0.0)
    use(throttle.call, down)
    return throttle


def shedding() -> LoadShedder:
    """A shedder that sheds everybody."""

    class Closed(Shedding):
        def acquire(self, *_: object) -> int:
            return -1

    shedder = LoadShedder()
    shedder._core = Closed(0.3)
    return shedder


GATES: dict[Callable[[], Any], type[Exception]] = {
    opened: CircuitOpen,
    ajar: CircuitOpen,
    by_the_clock: CircuitOpen,
    isolated: CircuitOpen,
    timed: CircuitOpen,
    empty: Throttled,
    settling: Throttled,
    full: BulkheadFull,
    at_its_limit: LimitExceeded,
    holding_back: Throttled,
    shedding: LoadShed,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", GATES, ids=lambda make: make.__name__)
@every_colour
async def test_a_gate_lets_everybody_pass(colour: Colour, make: Callable[[], Any], form: str) -> None:
    """A gate that refuses calls passes them while disabled, takes no notice of how they end, and refuses them after."""
    gate = make()
    fetch = colour.function(["page", OSError("late"), "page"])
    before = gate.snapshot()
    async with disabled(gate):
        assert await colour.call(gate, fetch, form=form) == (None if form == "guard" else "page") or form == "guard"
        with pytest.raises(OSError, match="late"):
            await colour.call(gate, fetch, form=form)
        assert len(fetch.calls) == 2
        assert gate.snapshot().keys() == before.keys()
    with pytest.raises(GATES[make]):
        await colour.call(gate, fetch, form=form)
    assert len(fetch.calls) == 2
    for counted in ("failures", "calls", "in_flight", "accepts"):
        assert gate.snapshot().get(counted) == before.get(counted)


@every_colour
async def test_a_call_under_way_is_settled(colour: Colour) -> None:
    """A call let in before the block gives its place back inside it, and its failure counts."""
    bulkhead, breaker = Bulkhead(1), CircuitBreaker(1, on=OSError)
    with pytest.raises(OSError, match="late"):
        async with colour.guard(bulkhead), colour.guard(breaker):
            with disabled():
                raise OSError("late")
    assert bulkhead.snapshot()["in_flight"] == 0
    block = disabled()
    with pytest.raises(OSError, match="later"):
        async with block, colour.guard(bulkhead):
            raise OSError("later")
    assert bulkhead.snapshot()["in_flight"] == 0
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("make", GATES, ids=lambda make: make.__name__)
@every_colour
async def test_a_call_that_outlives_the_block_leaves_no_trace(colour: Colour, make: Callable[[], Any]) -> None:
    """A call that began inside and ends after the block gives back no place that it never had."""
    gate = make()
    block = disabled(gate)
    heard: list[Event] = []

    def leave(*_: object) -> str:
        block.__exit__(None, None, None)
        return "page"

    async def leave_async(*_: object) -> str:
        return leave()

    before = gate.snapshot()
    block.__enter__()
    stop = gate.listen(heard.append)
    assert await colour.call(gate, leave_async if colour.is_async else leave) == "page"
    stop()
    for counted in ("failures", "calls", "in_flight", "accepts"):
        assert gate.snapshot().get(counted) == before.get(counted)


@pytest.mark.parametrize(
    "trip", [2, FailureRate(0.5, calls=9), FailureRate(0.5, window=9), SlowRate(0.5, slower_than=1)]
)
@every_colour
async def test_a_closed_circuit_counts_nothing(colour: Colour, trip: Any) -> None:
    """Successes and failures that pass a closed circuit are in none of its counts."""
    breaker = CircuitBreaker(trip, on=OSError)
    fetch = colour.function(["page", OSError("down"), *["page"] * 3, OSError("down"), ...])
    fetching = breaker(fetch)
    assert await colour.invoke(fetching) == "page"
    with pytest.raises(OSError, match="down"):
        await colour.invoke(fetching)
    before = breaker.snapshot()
    with disabled(breaker):
        for _ in range(3):
            assert await colour.invoke(fetching) == "page"
        for _ in range(5):
            with pytest.raises(OSError, match="down"):
                await colour.invoke(fetching)
    assert breaker.snapshot() == before
