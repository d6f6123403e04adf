"""The adaptive throttle as a policy: what counts as accepted, who is held back, and what it says."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import pickle
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Pipeline, Retry, Throttled, Timeout
from resilience.events import CallRejected, CallSucceeded, Event
from resilience.policies.adaptive_throttle import AdaptiveThrottle
from resilience.testing import VirtualClock, virtual_time
from tests.colours import FORMS, Colour, async_colours, every_colour
from tests.test_fork import in_child

SURELY, NEVER = 0.0, 0.999


class Dice:
    """Chance that does as it is told."""

    def __init__(self, face: float = NEVER) -> None:
        self.face = face

    def __call__(self) -> float:
        return self.face


def throttle_of(colour: Colour, dice: Callable[[], float], **parameters: Any) -> AdaptiveThrottle:
    """A throttle on the clock of this colour."""
    return AdaptiveThrottle(**{"rng": dice, "clock": colour.clock, **parameters})


def counts(throttle: AdaptiveThrottle) -> tuple[int, int]:
    """Requests and accepts in the window."""
    view = throttle.snapshot()
    return view["requests"], view["accepts"]


async def calls(colour: Colour, policy: Any, outcome: Any, times: int, form: str = "call") -> None:
    """So many calls that end like this."""
    for _ in range(times):
        with contextlib.suppress(BaseException):
            await colour.call(policy, colour.function([outcome]), form=form)


# --- who is held back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_calls_to_a_backend_that_refuses_are_held_back(colour: Colour, form: str) -> None:
    """After twenty refusals, unlucky calls are refused without being made, in every call form, and lucky ones go on."""
    dice = Dice()
    throttle = throttle_of(colour, dice, name="search")
    await calls(colour, throttle, ConnectionError, 20, form)
    assert throttle.rejection == 0.95
    dice.face = SURELY
    with pytest.raises(Throttled, match=r"^search: the other side refuses too much at present$") as held_back:
        await colour.call(throttle, colour.function([]), form=form)
    assert (held_back.value.policy, held_back.value.reason, held_back.value.retry_after) == ("search", "backend", None)
    dice.face = 0.95
    assert await colour.call(throttle, colour.function(["fine"]), form=form) == "fine"


@every_colour
async def test_the_chance_is_the_formula(colour: Colour) -> None:
    """The chance is (requests - k * accepts) / (requests + 1), and 0 on too few calls or where enough is accepted."""
    throttle = throttle_of(colour, Dice(), k=1.5, minimum_calls=10)
    await calls(colour, throttle, OSError, 9)
    assert throttle.rejection == 0.0
    await calls(colour, throttle, "fine", 3)
    assert throttle.rejection == pytest.approx((12 - 1.5 * 3) / 13)
    await calls(colour, throttle, "fine", 15)
    assert throttle.rejection == 0.0


@every_colour
async def test_a_window_later_it_is_forgotten(colour: Colour) -> None:
    """What happened counts for the length of the window."""
    dice = Dice()
    throttle = throttle_of(colour, dice, window=timedelta(seconds=10))
    await calls(colour, throttle, OSError, 20)
    dice.face = SURELY
    await colour.sleep(8.9)
    with pytest.raises(Throttled):
        await colour.call(throttle, colour.function([]))
    await colour.sleep(1.1)
    assert throttle.rejection == 0.0
    assert await colour.call(throttle, colour.function(["fine"])) == "fine"


@every_colour
async def test_there_is_always_a_probe(colour: Colour) -> None:
    """However long nothing is accepted, the share that is refused stays at `max_rejection`."""
    throttle = throttle_of(colour, Dice(), max_rejection=0.5)
    await calls(colour, throttle, OSError, 1000)
    assert throttle.rejection == 0.5


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "outcome", "counted"),
    [
        ({}, "fine", (1, 1)),
        ({}, LookupError, (1, 0)),
        ({}, KeyboardInterrupt, (0, 0)),
        ({}, SystemExit, (0, 0)),
        ({}, GeneratorExit, (0, 0)),
        ({"on": OSError}, ConnectionError, (1, 0)),
        ({"on": OSError}, LookupError, (0, 0)),
        ({"on": (KeyError, OSError), "ignore": ConnectionError}, ConnectionError, (0, 0)),
        ({"on": lambda error: "busy" in str(error)}, RuntimeError("busy"), (1, 0)),
        ({"on": lambda error: 3.0}, RuntimeError("later"), (1, 0)),
        ({"on_result": lambda status: status == 503}, 503, (1, 0)),
        ({"on_result": lambda status: status == 503}, 200, (1, 1)),
        ({"on": OSError}, ExceptionGroup("", [OSError(), LookupError()]), (0, 0)),
    ],
)
@every_colour
async def test_what_is_accepted_and_what_is_not(
    colour: Colour, parameters: dict[str, Any], outcome: Any, counted: tuple[int, int]
) -> None:
    """A result is accepted, an error that `on` names is not, and everything else does not count."""
    throttle = throttle_of(colour, Dice(), **parameters)
    await calls(colour, throttle, outcome, 1)
    assert counts(throttle) == counted


@every_colour
async def test_a_refusal_inside_does_not_count(colour: Colour) -> None:
    """A `Rejected` of a policy inside says nothing about the backend."""
    breaker = CircuitBreaker(5, clock=colour.clock)
    breaker.open()
    throttle = throttle_of(colour, Dice())
    with pytest.raises(CircuitOpen):
        await colour.call(Pipeline(throttle, breaker), colour.function([]))
    assert counts(throttle) == (0, 0)


@every_colour
async def test_its_refusal_is_neutral_outside(colour: Colour) -> None:
    """A breaker outside does not count it; a retry repeats it only when `on` names it."""
    dice = Dice()
    throttle = throttle_of(colour, dice)
    await calls(colour, throttle, OSError, 20)
    dice.face = SURELY
    breaker = CircuitBreaker(1, clock=colour.clock)
    blind = Retry(on=Exception, backoff=0.01, clock=colour.clock)
    named = Retry(on=Throttled, backoff=0.01, attempts=3, clock=colour.clock)
    for outer, sleeps in ((breaker, 0), (blind, 0), (named, 2)):
        with pytest.raises(Throttled):
            await colour.call(Pipeline(outer, throttle), colour.function([]))
        assert len(colour.clock.sleeps) == sleeps
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("say", "counted"), [("fail", (1, 0)), ("ignore", (0, 0)), ("set_result", (1, 1)), (None, (1, 1))]
)
@every_colour
async def test_what_a_block_says(colour: Colour, say: str | None, counted: tuple[int, int]) -> None:
    """A block may be failed or ignored by hand; it has no cost."""
    throttle = throttle_of(colour, Dice())
    async with colour.guard(throttle) as guard:
        if say is not None:
            getattr(guard, say)(*() if say == "ignore" else ("said",))
    assert counts(throttle) == counted
    with pytest.raises(TypeError, match="no cost to settle"):
        async with colour.guard(throttle) as guard:
            guard.settle(3)


@async_colours
async def test_a_cancelled_call_does_not_count_unless_our_timeout_cut_it(colour: Colour) -> None:
    """A caller who goes away says nothing; a call that a `Timeout` has cut was not accepted."""
    throttle = throttle_of(colour, Dice(), minimum_calls=1)

    async def caller() -> None:
        started.append(1)
        await colour.call(throttle, colour.function([(5.0, "late")]))

    started: list[int] = []
    job = colour.start(caller)
    await colour.until(lambda: started)
    job.cancel()
    assert isinstance(await job.outcome(), BaseException)
    assert counts(throttle) == (0, 0)
    with pytest.raises(TimeoutError):
        await colour.call(Pipeline(Timeout(1), throttle), colour.function([(5.0, "late")]))
    assert counts(throttle) == (1, 0)


@every_colour
async def test_a_predicate_that_raises_is_heard_and_counts_nothing(colour: Colour) -> None:
    """The error of a broken predicate reaches the caller."""

    def broken(result: object) -> bool:
        raise ZeroDivisionError

    throttle = throttle_of(colour, Dice(), on_result=broken)
    with pytest.raises(ZeroDivisionError):
        await colour.call(throttle, colour.function(["fine"]))
    assert counts(throttle) == (0, 0)


# --- generators -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_generator_counts_at_its_end(anyio_backend: str) -> None:
    """A generator, plain or async, is accepted when exhausted, and does not count when it is thrown away."""
    throttle = AdaptiveThrottle(rng=Dice())

    @throttle
    def rows(count: int) -> Iterator[int]:
        yield from range(count)
        if count > 2:
            raise LookupError

    @throttle
    async def rows_async(count: int) -> AsyncIterator[int]:
        for row in range(count):
            yield row

    assert list(rows(2)) == [0, 1]
    assert counts(throttle) == (1, 1)
    assert [row async for row in rows_async(2)] == [0, 1]
    assert counts(throttle) == (2, 2)
    with pytest.raises(LookupError):
        list(rows(3))
    assert counts(throttle) == (3, 2)
    begun: Any = rows(2)
    next(begun)
    begun.close()
    begun = rows_async(2)
    await anext(begun)
    await begun.aclose()
    assert counts(throttle) == (3, 2)


def test_a_generator_thrown_away_while_the_lock_is_held_waits_for_nothing() -> None:
    """A generator that is finalised in the middle of a decision is counted, as nothing, by the next call."""
    throttle = AdaptiveThrottle(rng=Dice())

    @throttle
    def rows() -> Iterator[int]:
        yield 1

    begun: Any = rows()
    next(begun)
    with throttle._lock:
        begun.close()
    assert len(throttle._abandoned) == 1
    assert throttle.call(len, "abc") == 3
    assert not throttle._abandoned
    assert counts(throttle) == (1, 1)


# --- what it tells ----------------------------------------------------------------------------------------------------


@every_colour
async def test_events(colour: Colour) -> None:
    """A call that is held back is a `CallRejected` with the reason "backend", an accepted one a `CallSucceeded`."""
    dice = Dice()
    throttle = throttle_of(colour, dice, name="search")
    seen: list[Event] = []
    stop = throttle.listen(seen.append)
    await calls(colour, throttle, "fine", 1)
    await calls(colour, throttle, OSError, 20)
    dice.face = SURELY
    await calls(colour, throttle, "never", 1)
    stop()
    await calls(colour, throttle, "never", 1)
    assert seen == [
        CallSucceeded("search", "adaptive_throttle", 0.0, attempts=1),
        CallRejected("search", "adaptive_throttle", 0.0, reason="backend", retry_after=None),
    ]


def test_a_listener_may_use_the_throttle() -> None:
    """A listener runs outside the lock."""
    throttle = AdaptiveThrottle(rng=Dice())
    seen: list[tuple[int, int]] = []
    throttle.listen(lambda event: seen.append(counts(throttle)))
    throttle.call(len, "abc")
    assert seen == [(1, 1)]


def test_the_error_pickles() -> None:
    """`Throttled` crosses a process boundary with its reason."""
    copy = pickle.loads(pickle.dumps(Throttled("search", None, "backend")))
    assert (str(copy), copy.reason) == ("search: the other side refuses too much at present", "backend")


def test_the_snapshot_is_plain() -> None:
    """A snapshot goes through JSON."""
    throttle = AdaptiveThrottle(name="search")
    throttle.call(len, "abc")
    expected = {"name": "search", "kind": "adaptive_throttle", "rejection": 0.0, "requests": 1, "accepts": 1}
    assert json.loads(json.dumps(throttle.snapshot())) == expected
    assert repr(throttle).startswith("AdaptiveThrottle(k=2.0, window=30.0, minimum_calls=10, max_rejection=0.95,")


def test_replace_gives_a_fresh_one() -> None:
    """`replace` keeps the parameters and nothing of the state; an unknown one is refused."""
    throttle = AdaptiveThrottle(rng=Dice(), minimum_calls=1)
    with contextlib.suppress(OSError), throttle.guard():
        raise OSError
    other = throttle.replace(k=3)
    assert (throttle.rejection, other.rejection) == (0.5, 0.0)
    with pytest.raises(ValueError, match=r"k must be a number, 1 or more, got 0.5"):
        throttle.replace(k=0.5)
    with pytest.raises(TypeError, match="has no parameter 'ratio'"):
        throttle.replace(ratio=3)


def test_chance_by_itself() -> None:
    """Without `rng`, about as many calls are held back as the chance says."""
    throttle = AdaptiveThrottle(clock=VirtualClock(), max_rejection=0.5, minimum_calls=20)
    for _ in range(20):
        with throttle.guard() as guard:
            guard.fail("busy")
    held_back = 0
    for _ in range(1000):
        try:
            with throttle.guard() as guard:
                guard.fail("busy")
        except Throttled:
            held_back += 1
    assert 400 < held_back < 600


def test_a_refusal_leaves_no_cycle() -> None:
    """A thousand calls that are held back leave nothing for the garbage collector."""
    throttle = AdaptiveThrottle(rng=Dice(SURELY), minimum_calls=1)

    def refused() -> None:
        with contextlib.suppress(Throttled):
            throttle.call(len, "never")

    with throttle.guard() as guard:
        guard.fail("busy")
    refused()
    gc.collect()
    gc.disable()
    try:
        for _ in range(1_000):
            refused()
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- time, threads, forks ---------------------------------------------------------------------------------------------


def test_virtual_time_gives_the_state_back() -> None:
    """After a block of virtual time the window is what it was."""
    throttle = AdaptiveThrottle(rng=Dice())
    throttle.call(len, "abc")
    with virtual_time():
        for _ in range(20):
            with throttle.guard() as guard:
                guard.fail("busy")
        assert counts(throttle) == (21, 1)
    assert counts(throttle) == (1, 1)
    assert throttle._at_rest()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_knows_what_its_parent_knew() -> None:
    """The child has the window of its parent and goes on by itself."""
    throttle = AdaptiveThrottle(rng=Dice())
    throttle.call(len, "abc")

    def child() -> str:
        throttle.call(len, "abc")
        return str(counts(throttle))

    assert in_child(child) == "(2, 2)"
    assert counts(throttle) == (1, 1)


def test_threads_lose_no_count() -> None:
    """Eight threads that call as fast as they can are all counted."""
    throttle = AdaptiveThrottle(rng=Dice(), clock=VirtualClock())

    def hammer() -> None:
        for _ in range(200):
            throttle.call(len, "abc")

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(throttle) == (1600, 1600)


# --- wrong use --------------------------------------------------------------------------------------------------------

K, WINDOW = "k must be a number, 1 or more, got", "window must be a number of seconds above 0, got"
COUNT, SHARE = (
    "minimum_calls must be an integer, 1 or more, got",
    "max_rejection must be a number above 0, below 1, so that somebody finds out that the backend is well, got",
)
BAD: list[tuple[dict[str, Any], str]] = [
    *(({"k": value}, f"{K} {value!r}") for value in (0, 0.99, -2, True, math.nan, math.inf, 10**400, "2", None)),
    *(({"window": value}, f"{WINDOW} {value!r}") for value in (0, -1, True, math.nan, math.inf, "30", None)),
    *(({"minimum_calls": value}, f"{COUNT} {value!r}") for value in (0, -1, 1.5, True, math.nan, "10", None)),
    *(({"max_rejection": value}, f"{SHARE} {value!r}") for value in (0, 1, 1.5, -1, True, math.nan, "0.9", None)),
    ({"on": None}, "on must be an exception type, a tuple of them or a predicate, got None"),
    ({"on_result": 3}, "on_result must be a predicate of the result or None, got 3"),
    ({"rng": 0.5}, "rng must be a callable or None, got 0.5"),
    ({"name": ""}, "name must be a string that is not empty, or None, got ''"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    """A wrong parameter is named, with its rule and the value."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        AdaptiveThrottle(**parameters)


def test_wrong_forms_say_what_to_write() -> None:
    """Used bare, as a block, or with a coroutine, it says what to write instead."""
    policy: Any = AdaptiveThrottle

    def fetch() -> None:
        """Do nothing."""

    async def fetch_async() -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=re.escape("write @AdaptiveThrottle(on=ConnectionError)")):
        policy(fetch)
    with pytest.raises(TypeError, match=re.escape("write with policy.guard():")), policy():
        pass
    with pytest.raises(TypeError, match=re.escape("write policy.call(fn, arguments...)")):
        policy().call(fetch_async())
