"""Successes that are counted without the lock: none is lost, none is counted twice, and none hides a trip.

The forms with and without the lock are the same breaker, decorated by generated code or by closures, so each scenario
runs both. What a thread switch could break is looked for with the shortest switch interval there is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import CircuitBreaker, Consecutive, FailureRate, SlowRate, Throttle, Throttled, _compile
from resilience.core.trip import steady_window
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.core.window import LastCalls, LastSeconds
from resilience.testing import VirtualClock

BOTH = pytest.mark.parametrize("generated", [True, False], ids=["generated", "closures"])


@pytest.fixture
def _switching_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def decorated(breaker: CircuitBreaker, generated: bool, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A function under a breaker that fails when told to, by the one kind of wrapper or the other."""

    def fetch(fails: bool) -> None:
        if fails:
            raise ConnectionError

    monkeypatch.setattr(_compile, "ENABLED", generated)
    wrapper: Any = breaker(fetch)
    assert wrapper.__code__.co_filename.startswith("<resilience wrapper") == generated

    def call(fails: bool) -> None:
        with suppress(ConnectionError):
            wrapper(fails)

    return call


TRIPS: dict[str, Any] = {
    "calls": FailureRate(1.0, calls=100_000, minimum_calls=1),
    "seconds": FailureRate(1.0, window=1000, minimum_calls=1),
    "with a row": (FailureRate(1.0, calls=100_000, minimum_calls=1), Consecutive(100_000)),
}


@BOTH
@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.usefixtures("_switching_all_the_time")
def test_no_call_of_many_threads_is_lost(trip: str, generated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads make as many calls as are counted, successes without the lock and failures with it."""
    breaker = CircuitBreaker(TRIPS[trip], clock=VirtualClock())
    call = decorated(breaker, generated, monkeypatch)
    call(False)

    def work() -> None:
        for number in range(400):
            call(number % 50 == 49)
            if number % 100 == 0:
                breaker.snapshot()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trip != "with a row":
        assert {key: breaker.snapshot()[key] for key in ("calls", "failures")} == {"calls": 3201, "failures": 64}
    assert breaker._circuit.tallies[0].counts(0.0) == (64, 3201)


@BOTH
@given(story=st.lists(st.sampled_from(["good", "bad", "look", "tick", "turn", "back"]), max_size=60))
@pytest.mark.parametrize(
    "trip",
    [FailureRate(0.4, calls=5), FailureRate(0.4, calls=9, minimum_calls=4), FailureRate(0.4, window=10)],
    ids=str,
)
def test_every_story_ends_as_it_does_with_the_lock(trip: FailureRate, generated: bool, story: list[str]) -> None:
    """Whatever succeeds, fails and is looked at, and when, generated code and closures count and trip alike."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        seen: list[list[object]] = []
        for kind in (generated, not generated):
            clock = VirtualClock()
            breaker = CircuitBreaker(trip, on=ConnectionError, cooldown=1000, clock=clock)
            call = decorated(breaker, kind, monkeypatch)
            views: list[object] = []
            for step in story:
                if breaker.state != "closed":
                    views.append("open")
                    break
                if step in {"good", "bad"}:
                    call(step == "bad")
                elif step in {"tick", "turn", "back"}:
                    clock.advance({"tick": 0.3, "turn": 1.0, "back": 9.5}[step])
                else:
                    views.append((breaker.snapshot(), breaker._at_rest()))
            views.append(breaker.snapshot())
            seen.append(views)
        assert seen[0] == seen[1]


@BOTH
def test_a_success_that_makes_enough_calls_trips(generated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that completes the least number of calls may be a success, and opens the circuit then."""
    breaker = CircuitBreaker(FailureRate(0.5, calls=10, minimum_calls=4), clock=VirtualClock())
    call = decorated(breaker, generated, monkeypatch)
    for fails in (True, True, False):
        call(fails)
    assert breaker.state == "closed"
    call(False)
    assert breaker.state == "open"


@BOTH
def test_a_look_in_a_later_slice_takes_the_short_way_back(generated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """When calls have left a time window, too few may be left, and the success that makes up for them trips."""
    clock = VirtualClock()
    breaker = CircuitBreaker(FailureRate(0.5, window=10, minimum_calls=4), clock=clock)
    call = decorated(breaker, generated, monkeypatch)
    for _ in range(3):
        call(False)
    clock.advance(9.0)
    for _ in range(2):
        call(True)
    clock.advance(1.5)
    assert breaker.snapshot()["calls"] == 2
    call(False)
    assert breaker.state == "closed"
    call(False)
    assert breaker.state == "open"


@BOTH
def test_a_late_success_counts_nowhere(generated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A success that was admitted before a reset enters no window after it."""
    breaker = CircuitBreaker(FailureRate(calls=10), clock=VirtualClock())
    monkeypatch.setattr(_compile, "ENABLED", generated)

    @breaker
    def fetch() -> None:
        breaker.reset()

    fetch()
    assert breaker.snapshot()["calls"] == 0


@pytest.mark.parametrize("trip", [FailureRate(calls=10), FailureRate(window=10)], ids=str)
def test_a_listener_hears_every_success(trip: FailureRate) -> None:
    """While somebody listens, successes are told, and counted once all the same."""
    breaker = CircuitBreaker(trip, clock=VirtualClock())
    heard: list[str] = []

    @breaker
    def fetch() -> None: ...

    fetch()
    stop = breaker.listen(lambda event: heard.append(type(event).__name__))
    fetch()
    stop()
    fetch()
    assert heard == ["CallSucceeded"]
    assert breaker.snapshot()["calls"] == 3


@BOTH
@pytest.mark.usefixtures("_switching_all_the_time")
def test_many_threads_get_exactly_the_burst(generated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a clock that stands still, eight threads take every token of a throttle and not one more."""
    monkeypatch.setattr(_compile, "ENABLED", generated)
    granted: list[int] = []
    take: Any = Throttle("1000/hour", clock=VirtualClock())(granted.append)

    def work() -> None:
        for number in range(300):
            with suppress(Throttled):
                take(number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1000


def test_when_a_window_may_be_counted_in() -> None:
    """A window is steady while one more success can only lower the share: not with failures and too few calls."""
    share = FailureRate(0.5, calls=4, minimum_calls=3).start()
    window = steady_window([share])
    assert isinstance(window, LastCalls)
    share.record(FAILURE, 0.0, 0.0)
    assert steady_window([share]) is None
    share.record(SUCCESS, 0.0, 0.0)
    assert steady_window([share]) is None
    share.record(IGNORED, 0.0, 0.0)
    assert steady_window([share]) is None
    share.record(SUCCESS, 0.0, 0.0)
    assert steady_window([share]) is window
    window.ticks += 3
    assert share.counts(0.0) == (0, 4)


def test_what_may_stand_beside_a_window() -> None:
    """Beside a steady window others must have nothing to count: a row that is broken, a second window, slow calls."""
    share, row = FailureRate(calls=4).start(), Consecutive(3).start()
    assert isinstance(steady_window([row, share]), LastCalls)
    row.record(FAILURE, 0.0, 0.0)
    assert steady_window([row, share]) is None
    assert steady_window([share, FailureRate(window=1).start()]) is None
    assert steady_window([share, SlowRate(slower_than=1).start()]) is None
    assert isinstance(steady_window([SlowRate(slower_than=1, calls=9).start()]), LastCalls)
    assert steady_window([Consecutive(3).start()]) is None


def test_a_slice_takes_in_its_fresh_calls_before_the_next_begins() -> None:
    """Good calls that were counted from outside belong to the slice they were made in, and leave with it."""
    window = LastSeconds(10.0)
    window.add(True, 0.5)
    assert window.slice == 0
    window.ticks += 2
    assert window.counts(0.9) == (1, 3)
    window.ticks += 1
    window.add(False, 5.5)
    assert window.counts(9.99) == (1, 5)
    assert window.counts(10.0) == (0, 1)
    assert window.ticks == 0
