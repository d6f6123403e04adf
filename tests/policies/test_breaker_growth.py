"""A cooldown that grows, what extends it, and whose code it runs where."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, SlowRate, backoff
from resilience.events import CallRejected, CircuitClosed, CircuitHalfOpened, CircuitOpened, LeaseTooShort
from resilience.testing import VirtualClock, virtual_time
from tests.colours import Colour, every_colour
from tests.policies.test_breaker import Boom, after, fails, half_open, in_every_form, outcome_of, through, works


class Asks(Boom):
    """A failure that says when to come back."""

    def __init__(self, retry_after: object = None, header: str | None = None) -> None:
        super().__init__("busy")
        self.retry_after = retry_after
        self.response = None if header is None else SimpleNamespace(headers={"Retry-After": header})


def trip(breaker: CircuitBreaker, error: Exception | None = None) -> float:
    """Let one call fail, and return for how long the circuit is open."""
    after(breaker, error or Boom("down"))
    wait = breaker.snapshot()["retry_after"]
    assert breaker.state == "open" and isinstance(wait, float)
    return wait


@in_every_form
@every_colour
async def test_the_cooldown_grows_until_it_closes(colour: Colour, form: str) -> None:
    """In every form: each failed trial doubles it to the cap, and a close begins anew."""
    growth = backoff.exponential(1, cap=5, jitter="none")
    breaker = CircuitBreaker(1, on=Boom, cooldown=growth, clock=colour.clock)
    for lengths in ([1, 2, 4, 5, 5], [1, 2]):
        for length in lengths:
            assert isinstance(await outcome_of(through(colour, breaker, form, fails)), Boom)
            refused = await outcome_of(through(colour, breaker, form, works))
            assert type(refused) is CircuitOpen and refused.retry_after == length
            await colour.sleep(length)
        assert await through(colour, breaker, form, works) == "fine"
        assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("cooldown", "lengths"),
    [
        (7, [7, 7, 7]),
        (timedelta(seconds=7), [7, 7, 7]),
        ([1, 5, timedelta(seconds=20)], [1, 5, 20, 20]),
        ((2, 3), [2, 3, 3]),
        (backoff.constant(4), [4, 4]),
        (backoff.linear(2, cap=5, jitter="none"), [2, 4, 5, 5]),
        (backoff.fibonacci(1, jitter="none"), [1, 1, 2, 3, 5]),
        (lambda opening, before, u: 10 * opening + before, [10, 30, 60]),
    ],
    ids=repr,
)
def test_whatever_may_be_written_for_a_cooldown(cooldown: Any, lengths: list[float]) -> None:
    """A number, a timedelta, a sequence of them, a backoff, or a function of your own."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=cooldown, clock=clock)
    seen = []
    for _ in lengths:
        seen.append(trip(breaker))
        clock.advance(seen[-1])
    assert seen == lengths
    assert trip(breaker.replace()) == lengths[0]


def test_chance_is_drawn_once_for_each_opening() -> None:
    """Not for a look, a call, a refusal or a close; and the draw decides."""
    clock, draws = VirtualClock(), iter([0.25, 0.5, 0.75])
    full = backoff.exponential(8, cap=100)
    breaker = CircuitBreaker(1, on=Boom, cooldown=full, rng=lambda: next(draws), clock=clock)
    seen = []
    for _ in range(3):
        seen.append(trip(breaker))
        assert breaker.snapshot()["retry_after"] == seen[-1]
        with pytest.raises(CircuitOpen):
            breaker.call(int)
        clock.advance(seen[-1])
    assert seen == [2.0, 8.0, 24.0]
    assert breaker.call(lambda: "fine") == "fine"
    assert next(draws, "all drawn") == "all drawn"


def test_many_breakers_do_not_come_back_together() -> None:
    """With jitter and the default generator, a hundred circuits that opened together are spread out."""
    clock = VirtualClock()
    spread = backoff.constant(30, jitter=0.5)
    ends = {trip(CircuitBreaker(1, on=Boom, cooldown=spread, clock=clock)) for _ in range(100)}
    assert len(ends) > 90 and min(ends) >= 15 and max(ends) <= 45 and max(ends) - min(ends) > 10


def test_events_are_as_ever() -> None:
    """B3: one event for each transition, in order, with what led to it; refusals name the grown time."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=[1, 5], clock=clock)
    heard: list[Any] = []
    breaker.listen(heard.append, CircuitOpened, CircuitHalfOpened, CircuitClosed, CallRejected)
    for length in (1, 5):
        after(breaker, Boom("down"))
        with contextlib.suppress(CircuitOpen):
            breaker.call(int)
        clock.advance(length)
    breaker.call(int)
    kinds = [CircuitOpened, CallRejected, CircuitHalfOpened, CircuitOpened, CallRejected, CircuitHalfOpened]
    assert [type(event) for event in heard] == [*kinds, CircuitClosed]
    assert [event.retry_after for event in heard if isinstance(event, CallRejected)] == [1, 5]
    assert heard[3].previous == "half_open" and heard[3].last_error == ("Boom", "down")


# --- others' code -----------------------------------------------------------------------------------------------------


def test_what_it_runs_of_others_runs_without_the_lock() -> None:
    """The backoff and the random numbers are asked with the lock free, so they may use the breaker themselves."""
    clock, locked = VirtualClock(), list[bool]()

    def draw() -> float:
        locked.append(breaker._lock.locked())
        breaker.listen(print)()
        return 0.5

    def double(opening: int, previous: float, u: float) -> float:
        if opening > 1:
            locked.append(breaker._lock.locked())
        return 8 * opening * u

    breaker = CircuitBreaker(1, on=Boom, cooldown=double, rng=draw, clock=clock)
    clock.advance(trip(breaker))
    assert trip(breaker) == 8.0 and locked == [False] * 3


def test_a_backoff_that_fails_is_heard_and_wedges_nothing() -> None:
    """Whoever opened the circuit hears its error; the cooldown is the one before, or the first there may be."""
    clock, answers = VirtualClock(), iter([3.0, LookupError(), 4.0, -1.0])

    def strange(opening: int, previous: float, u: float) -> float:
        if clock.now() == 0 and not started:
            return 7.0
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    started: list[int] = []
    breaker = CircuitBreaker(1, on=Boom, cooldown=strange, clock=clock)
    heard: list[Any] = []
    breaker.listen(heard.append, CircuitOpened)
    started.append(1)
    assert trip(breaker) == 3.0
    clock.advance(3)
    with pytest.raises(LookupError):
        breaker.call(raises)
    assert len(heard) == 2 and breaker.snapshot()["retry_after"] == 3.0
    clock.advance(3)
    assert trip(breaker) == 4.0
    breaker.close()
    with pytest.raises(ValueError, match="must answer a number of seconds, 0 or more, got -1"):
        breaker.call(raises)
    assert breaker.snapshot()["retry_after"] == 7.0 and not breaker._lock.locked()
    clock.advance(7)
    assert breaker.call(lambda: "fine") == "fine"


def raises() -> None:
    """Raise."""
    raise Boom("down")


def test_whoever_comes_before_the_length_is_known_finds_it_out() -> None:
    """While one caller is still asking the backoff, others are refused with a real time and see a whole snapshot."""
    clock, asked, go_on = VirtualClock(), threading.Event(), threading.Event()

    def slow_rng() -> float:
        if threading.current_thread() is opener:
            asked.set()
            go_on.wait(10)
        return 0.5

    breaker = CircuitBreaker(1, on=Boom, cooldown=backoff.exponential(8), rng=slow_rng, clock=clock)
    opener = threading.Thread(target=after, args=(breaker, Boom("down")))
    opener.start()
    try:
        assert asked.wait(10)
        assert breaker._circuit.unmeasured is not None
        view = breaker.snapshot()
        with pytest.raises(CircuitOpen) as refused:
            breaker.call(int)
        assert view["state"] == "open" and view["retry_after"] == refused.value.retry_after == 4.0
    finally:
        go_on.set()
        opener.join(10)
    assert breaker.snapshot()["retry_after"] == 4.0


def test_no_snapshot_is_torn_while_threads_open_and_close() -> None:
    """B6: whoever looks, an open circuit has a time that its backoff could have said."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=backoff.exponential(1, cap=64), trial_lease=3, clock=clock)
    done = threading.Event()
    wrong: list[dict[str, Any]] = []

    def look() -> None:
        while not done.is_set():
            view = breaker.snapshot()
            wait = view["retry_after"]
            if view["state"] == "open" and not (isinstance(wait, float) and 0 <= wait <= 64):
                wrong.append(view)

    def act(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(400):
            with contextlib.suppress(Boom, CircuitOpen), breaker.guard():
                if chance.random() < 0.6:
                    raise Boom
            clock.advance(chance.random())

    reader = threading.Thread(target=look)
    actors = [threading.Thread(target=act, args=(seed,)) for seed in range(3)]
    for thread in (reader, *actors):
        thread.start()
    for thread in actors:
        thread.join(30)
    done.set()
    reader.join(30)
    assert wrong == []


# --- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        (Boom(), 10),
        (Asks(45), 45),
        (Asks(timedelta(minutes=2)), 120),
        (Asks(header="90"), 90),
        (Asks(20, header="90"), 90),
        (Asks(5), 10),
        (Asks(10**9), 3600),
        (Asks(float("inf")), 3600),
        (Asks(float("nan")), 10),
        (Asks(-5), 10),
        (Asks("soon"), 10),
        (ExceptionGroup("both", [Asks(30), Asks(60)]), 60),
    ],
)
@pytest.mark.parametrize("cooldown", [10, [10, 20]])
def test_an_error_may_extend_the_cooldown_it_causes(error: Exception, lasts: float, cooldown: Any) -> None:
    """`retry_after` or a Retry-After header, the larger; never shorter than the cooldown, never beyond an hour."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=cooldown, clock=clock)
    assert trip(breaker, error) == lasts
    clock.advance(lasts)
    assert trip(breaker) == (10 if cooldown == 10 else 20), "the next one knows nothing of it"


def test_a_predicate_may_hint() -> None:
    """A number from `on` or `on_result` means: a failure, and not sooner than that."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=lambda error: 33, cooldown=10, clock=clock)
    assert trip(breaker) == 33
    assert trip(breaker.replace(), Asks(44)) == 44
    judging = CircuitBreaker(1, on_result=lambda result: 55 if result == "busy" else None, cooldown=10, clock=clock)
    judging.call(lambda: "fine")
    judging.call(lambda: "busy")
    assert judging.snapshot()["retry_after"] == 55


def test_only_what_opens_the_circuit_is_asked() -> None:
    """Failures before it, neutral errors, and late ones change no cooldown."""
    clock = VirtualClock()
    breaker = CircuitBreaker(2, on=Boom, ignore=lambda error: str(error) == "no", cooldown=10, clock=clock)
    after(breaker, Asks(99))
    assert trip(breaker) == 10
    clock.advance(10)
    assert trip(breaker, Asks(70)) == 70

    late = half_open(clock, cooldown=10, trial_lease=1)
    guard = late.guard()
    guard.__enter__()
    clock.advance(1)
    after(late, Boom())
    error = Asks(99)
    guard.__exit__(Asks, error, None)
    assert late.snapshot()["retry_after"] == 10


# --- the lease --------------------------------------------------------------------------------------------------------


def test_the_lease_is_the_present_cooldown() -> None:
    """Without `trial_lease`, a trial may take as long as the cooldown before it, and at least as the first may."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=[10, 4, 60], clock=clock)
    leases = []
    for _ in range(3):
        clock.advance(trip(breaker))
        guard = breaker.guard()
        guard.__enter__()
        with pytest.raises(CircuitOpen) as refused:
            breaker.call(int)
        leases.append(refused.value.retry_after)
        guard.ignore()
        guard.__exit__(None, None, None)
    assert leases == [10, 10, 60]


def test_lapses_tell_the_lease_that_was_too_short() -> None:
    """`LeaseTooShort` names the lease of the time."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=[2, 6], clock=clock)
    heard: list[LeaseTooShort] = []
    breaker.listen(heard.append, LeaseTooShort)
    for _ in range(2):
        clock.advance(trip(breaker))
    for _ in range(2):
        breaker.guard().__enter__()
        clock.advance(6)
    assert breaker.state == "half_open" and [event.lease for event in heard] == [6.0]


# --- state ------------------------------------------------------------------------------------------------------------


def test_virtual_time_gives_the_growth_back() -> None:
    """On exit the number of openings is what it was on entry."""
    outer = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=[1, 2, 4], clock=outer)
    outer.advance(trip(breaker))
    with virtual_time():
        outer.advance(trip(breaker))
        assert trip(breaker) == 4
    assert trip(breaker) == 2
    assert json.loads(json.dumps(breaker.snapshot()))["retry_after"] == 2.0


def test_a_hung_call_opens_a_breaker_whose_cooldown_grows() -> None:
    """Whoever finds it says for how long: a look, a call that is refused for it, or the snapshot itself."""
    for access in ("state", "call", "snapshot"):
        clock = VirtualClock()
        breaker = CircuitBreaker(SlowRate(slower_than=1, calls=1), cooldown=[5, 9], clock=clock)
        with contextlib.suppress(CircuitOpen), breaker.guard():
            clock.advance(2)
            if access == "snapshot":
                assert breaker.snapshot()["retry_after"] == 5
            elif access == "call":
                with pytest.raises(CircuitOpen) as refused:
                    breaker.call(int)
                assert refused.value.retry_after == 5
            else:
                assert breaker.state == "open"
        assert breaker.snapshot()["retry_after"] == 5
