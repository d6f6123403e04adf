"""Clocks that are set, stand still, or step back: none of them opens, closes or admits anything by itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, FailureRate, SlowRate
from resilience.testing import VirtualClock
from tests.policies.test_breaker import Boom, after, by_hand, works


class WillfulClock:
    """A clock that reads what it is told to."""

    def __init__(self, reading: float = 0.0) -> None:
        self.reading = reading

    def now(self) -> float:
        return self.reading

    def sleep(self, seconds: float, /) -> None:
        pytest.fail("a breaker never sleeps")

    async def sleep_async(self, seconds: float, /) -> None:
        pytest.fail("a breaker never sleeps")


DAY = 86_400.0


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_wall_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Point 8: a day forward or back on the wall, in any state, and the breaker is as it was; it never even asks."""
    wall = time.time
    for name in ("time", "time_ns", "gmtime", "localtime"):
        monkeypatch.setattr(time, name, lambda *_: pytest.fail("the wall clock was read"))
    breaker = CircuitBreaker(FailureRate(0.5, window=60, minimum_calls=2), on=Boom, cooldown=1000)
    after(breaker, Boom())
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert breaker.snapshot()["failures"] == 1
    after(breaker, Boom())
    assert breaker.state == "open"
    monkeypatch.setattr(time, "time", wall)
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(int)
    assert 990 < refused.value.retry_after <= 1000


def test_the_machines_clock_is_the_default() -> None:
    """Without `clock=` a breaker's time is `time.monotonic`, in seconds."""
    breaker = CircuitBreaker()
    before = time.monotonic()
    breaker.open()
    assert before <= breaker.snapshot()["since"] <= time.monotonic()


def test_a_clock_that_stands_still_mints_nothing() -> None:
    """Point 8: an open circuit stays open, a lease does not end, a window does not move, however often it is asked."""
    clock = WillfulClock(50.0)
    breaker = CircuitBreaker((1, FailureRate(window=10)), on=Boom, cooldown=1e-6, trial_lease=1e-6, clock=clock)
    after(breaker, Boom())
    for _ in range(1000):
        with pytest.raises(CircuitOpen):
            breaker.call(int)
    clock.reading += 1e-6
    guard = breaker.guard()
    guard.__enter__()
    for _ in range(1000):
        with pytest.raises(CircuitOpen):
            breaker.call(int)
    guard.__exit__(None, None, None)
    assert breaker.state == "closed"


def test_a_clock_that_steps_back_mints_nothing() -> None:
    """Point 8: the circuit keeps the newest time it has seen: nothing is undone, and nothing comes early."""
    clock = WillfulClock(100.0)
    breaker = CircuitBreaker(1, on=Boom, cooldown=10, trials=2, trial_lease=5, clock=clock)
    heard: list[Any] = []
    breaker.listen(heard.append)
    after(breaker, Boom())
    clock.reading = 0.0
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(int)
    assert refused.value.retry_after == 10.0
    clock.reading = 110.0
    assert breaker.state == "half_open"
    clock.reading = 105.0
    assert breaker.state == "half_open"
    breaker.guard().__enter__()
    assert breaker.snapshot()["retry_after"] == 0.0
    breaker.guard().__enter__()
    assert breaker.snapshot()["retry_after"] == 5.0
    clock.reading = 115.0
    assert breaker.snapshot()["trials"] == 0
    assert [event.at for event in heard] == sorted(event.at for event in heard)
    assert heard[0].at == heard[1].at == 100.0


def test_a_clock_that_steps_back_makes_no_call_slow() -> None:
    """A call that took less than nothing took no longer than the bound."""
    clock = WillfulClock(100.0)
    breaker = CircuitBreaker(SlowRate(1.0, slower_than=1, calls=1), clock=clock)

    def steps_back() -> None:
        clock.reading -= 50.0

    breaker.call(steps_back)
    assert (breaker.state, breaker.snapshot()["failures"], breaker.snapshot()["calls"]) == ("closed", 0, 1)


def test_every_breaker_reads_the_clock_it_was_given() -> None:
    """Two breakers on two clocks know nothing of each other's time."""
    slow, fast = VirtualClock(), VirtualClock(1e9)
    breakers = [CircuitBreaker(1, on=Boom, cooldown=10, clock=clock) for clock in (slow, fast)]
    for breaker in breakers:
        after(breaker, Boom())
    fast.advance(10)
    assert [str(breaker.state) for breaker in breakers] == ["open", "half_open"]


def test_a_success_of_a_clean_breaker_reads_no_clock() -> None:
    """On the way without the lock two attributes are read, and no clock, by a call and by a block alike."""
    clock = WillfulClock()
    breaker = CircuitBreaker(5, clock=clock)
    fn = breaker(lambda: "fine")
    clock.now = lambda: pytest.fail("the clock was read")  # type: ignore[method-assign]
    assert fn() == breaker.call(lambda: "fine") == "fine"
    with breaker.guard():
        pass

    async def on_a_loop() -> str:
        async with breaker.guard():
            return await breaker.call(works)

    assert by_hand(on_a_loop()) == "fine"


@pytest.mark.parametrize("opened_at", [0.1, 1.9, 6.3, 1e6 + 0.7, 1e9 + 0.1, 4e9])
@pytest.mark.parametrize("cooldown", [0.1, 0.3, 21.6, 29.8, 1e-6])
def test_waiting_as_long_as_told_is_always_enough(opened_at: float, cooldown: float) -> None:
    """Sleeping exactly `retry_after` makes the next call a trial, whatever floats do, at 4e9 seconds too."""
    for part in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        clock = VirtualClock(opened_at)
        breaker = CircuitBreaker(1, on=Boom, cooldown=cooldown, clock=clock)
        after(breaker, Boom())
        clock.advance(cooldown * part)
        if breaker.state == "half_open":
            continue
        with pytest.raises(CircuitOpen) as refused:
            breaker.call(int)
        clock.advance(refused.value.retry_after)
        assert breaker.call(lambda: "fine") == "fine"
