"""Calls that a breaker watches for slowness without taking its lock: they are counted, and seen to hang, as with it.

The reference is the breaker bound by closures, which takes the lock when a call begins and when it ends. Whatever the
generated wrapper does beside it, on the same circuit or on one of its own, must come to the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import CircuitBreaker, CircuitOpen, FailureRate, SlowRate, _compile
from resilience.core.window import LastSeconds
from resilience.testing import VirtualClock, virtual_time

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there the lock is always taken"
)


@pytest.fixture(autouse=True)
def _generates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compile, "ENABLED", True)


@pytest.fixture
def _switching_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Story:
    """One breaker, and calls to it that begin and end when told to, each on a generator of its own."""

    def __init__(self, trip: Any, generated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = VirtualClock()
        self.breaker = CircuitBreaker(trip, on=ConnectionError, cooldown=5, clock=self.clock, rng=lambda: 0.5)
        monkeypatch.setattr(_compile, "ENABLED", generated)

        async def fetch() -> None:
            if await Signal():
                raise ConnectionError

        self.fetch: Any = self.breaker(fetch)
        assert self.fetch.__code__.co_filename.startswith("<resilience wrapper") == generated
        self.calls: list[Any] = []
        self.told: list[object] = []

    def begin(self) -> None:
        """A call begins, and waits inside."""
        call = self.fetch()
        try:
            call.send(None)
        except CircuitOpen as refusal:
            self.told.append(("refused", refusal.retry_after))
        else:
            self.calls.append(call)

    def end(self, number: int, how: str) -> None:
        """One of those that wait ends."""
        if not self.calls:
            return
        call = self.calls.pop(number % len(self.calls))
        if how == "dropped":
            call.close()
        elif how == "cancelled":
            with suppress(asyncio.CancelledError):
                call.throw(asyncio.CancelledError())
        else:
            with suppress(StopIteration, ConnectionError):
                call.send(how == "failed")

    def look(self) -> None:
        """What can be seen from outside."""
        self.told.append(self.breaker.snapshot())


class Signal:
    """Something to wait for."""

    def __await__(self) -> Generator[None, bool, bool]:
        return (yield)


STEPS = st.one_of(
    st.tuples(st.just("begin")),
    st.tuples(st.just("begin")),
    st.tuples(st.just("end"), st.integers(0, 5), st.sampled_from(["well", "well", "failed", "cancelled", "dropped"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.4, 1.0, 2.0, 2.1, 7.0])),
    st.tuples(st.sampled_from(["look", "reset", "freeze"])),
)
TRIPS = [
    SlowRate(0.6, slower_than=2, window=10, minimum_calls=3),
    SlowRate(0.6, slower_than=2, calls=5, minimum_calls=2),
    (SlowRate(0.6, slower_than=2, window=10, minimum_calls=3), 2),
    (SlowRate(0.6, slower_than=2, calls=5), FailureRate(0.5, calls=4)),
]


@given(steps=st.lists(STEPS, max_size=40))
@pytest.mark.parametrize("trip", TRIPS, ids=str)
def test_every_story_ends_as_it_does_with_the_lock(trip: Any, steps: list[tuple[Any, ...]]) -> None:
    """Whatever begins, ends, hangs and is looked at, and when: both wrappers refuse, count and trip alike."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        stories = [Story(trip, generated, monkeypatch) for generated in (True, False)]
        for story in stories:
            for verb, *given_ in [*steps, ("look",)]:
                if verb == "wait":
                    story.clock.advance(given_[0])
                elif verb == "reset":
                    story.breaker.reset()
                elif verb == "freeze":
                    story.breaker._thaw(story.breaker._freeze())
                else:
                    getattr(story, verb)(*given_)
            for call in story.calls:
                call.close()
            watches = story.breaker._circuit.watches
            assert watches is not None and not watches.under_way
        assert stories[0].told == stories[1].told


def wrapped(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Any:
    """A function behind a breaker, written out."""
    wrapper: Any = breaker(fn)
    assert wrapper.__code__.co_filename.startswith("<resilience wrapper")
    return wrapper


@pytest.mark.parametrize("trip", [SlowRate(slower_than=9, window=1000), SlowRate(slower_than=9, calls=9999)], ids=str)
@pytest.mark.usefixtures("_switching_all_the_time")
def test_no_call_of_many_threads_is_lost(trip: SlowRate) -> None:
    """Eight threads succeed without the lock, fail with it, and look; each call is counted once, and none stays."""
    breaker = CircuitBreaker(trip, clock=VirtualClock())
    inner = threading.local()

    def fetch(number: int) -> None:
        if number % 50 == 49:
            raise ConnectionError
        if number % 7 == 0 and not getattr(inner, "inside", False):
            inner.inside = True
            call(1)
            inner.inside = False

    call = wrapped(breaker, fetch)

    def work() -> None:
        for number in range(350):
            with suppress(ConnectionError):
                call(number)
            if number % 100 == 0:
                breaker.snapshot()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nested = sum(number % 50 != 49 for number in range(0, 350, 7))
    assert breaker.snapshot()["calls"] == 8 * (350 + nested)
    watches = breaker._circuit.watches
    assert watches is not None and not watches.under_way


def test_a_call_takes_the_lock_once_per_bound_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand fast calls in a tenth of a bound ask the circuit at the first and nowhere else."""
    clock = VirtualClock()
    breaker = CircuitBreaker(SlowRate(slower_than=1, window=100), clock=clock)
    call = wrapped(breaker, lambda: clock.advance(1e-4))
    asked: list[float] = []
    monkeypatch.setattr(CircuitBreaker, "_admit", counting(CircuitBreaker._admit, asked))
    monkeypatch.setattr(CircuitBreaker, "_returned", counting(CircuitBreaker._returned, asked))
    for _ in range(1000):
        call()
    assert len(asked) <= 3
    assert breaker.snapshot()["calls"] == 1000


def counting(method: Callable[..., Any], asked: list[float]) -> Callable[..., Any]:
    """A method that notes that it was called."""

    def noted(self: CircuitBreaker, *arguments: Any) -> Any:
        asked.append(self._clock.now())
        return method(self, *arguments)

    return noted


def test_a_call_that_hangs_is_seen_by_those_that_go_the_short_way() -> None:
    """Nobody takes the lock until the oldest call is due; the first call after that finds it and is refused."""
    clock = VirtualClock()
    breaker = CircuitBreaker(SlowRate(1.0, slower_than=2, calls=2, minimum_calls=1), clock=clock)
    seen: list[str] = []

    def hangs() -> None:
        clock.advance(2.0)
        quick()
        clock.advance(0.5)
        with suppress(CircuitOpen):
            quick()
        seen.append(breaker.state)

    quick = wrapped(breaker, lambda: None)
    wrapped(breaker, hangs)()
    assert seen == ["closed"], "one of the two last calls was fast"
    for _ in range(2):
        wrapped(breaker, lambda: clock.advance(2.5))()
    assert breaker.state == "open"


def test_virtual_time_bars_the_short_way_of_before() -> None:
    """A call that began before the block and ends in it changes nothing that the block gives back."""
    breaker = CircuitBreaker(SlowRate(slower_than=2, calls=9))
    wrapped(breaker, lambda: None)()

    def ends_inside() -> None:
        block.__enter__()

    block = virtual_time()
    try:
        wrapped(breaker, ends_inside)()
        wrapped(breaker, lambda: None)()
    finally:
        block.__exit__(None, None, None)
    assert breaker.snapshot()["calls"] == 1
    watches = breaker._circuit.watches
    assert watches is not None and not watches.under_way


def test_a_number_of_before_is_not_given_out_again() -> None:
    """A call that began in virtual time and ends after it is late, and settles nobody else's call."""
    breaker = CircuitBreaker(SlowRate(slower_than=2, calls=9))
    seen: list[int] = []

    async def waits() -> None:
        await Signal()

    call = wrapped(breaker, waits)
    wrapped(breaker, lambda: None)()
    with virtual_time():
        inside = call()
        inside.send(None)
    after = call()
    after.send(None)
    for waiting in (inside, after):
        with suppress(StopIteration):
            waiting.send(True)
        seen.append(breaker.snapshot()["calls"])
    assert seen == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew() -> None:
    """In the child the calls of the parent are forgotten, and those that fail there leave nothing behind."""
    breaker = CircuitBreaker(SlowRate(slower_than=2, calls=9), clock=VirtualClock())

    def fails() -> None:
        raise ConnectionError

    def forks() -> int:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            with suppress(ConnectionError):
                wrapped(breaker, fails)()
            watches = breaker._circuit.watches
            os._exit(len(watches.under_way) if watches else 3)
        finally:
            os._exit(2)

    wrapped(breaker, lambda: None)()
    assert wrapped(breaker, forks)() == 0


@given(st.floats(1e-3, 1e6), st.floats(0, 1e9))
def test_the_end_of_a_slice_is_its_last_reading(window: float, now: float) -> None:
    """No reading up to `ends` is of a later slice, and it is not before the reading that began it."""
    counted = LastSeconds(window)
    counted.add(False, now)
    number = int(now // counted.width)
    assert counted.slice == number and now <= counted.ends
    assert counted.ends // counted.width <= number
