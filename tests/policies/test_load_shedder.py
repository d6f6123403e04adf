"""The load shedder as a policy: who gives way to whom, whose call it is, and that every place comes back."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import pickle
import re
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Pipeline, Priority, Rejected, Retry, Timeout, context
from resilience.core.shed import rank_of
from resilience.errors import LoadShed
from resilience.events import CallRejected, CallSucceeded, Event
from resilience.policies.shed import LoadShedder
from resilience.testing import VirtualClock, virtual_time
from tests.colours import FORMS, Colour, async_colours, every_colour
from tests.test_fork import in_child

CRITICAL, DEFAULT, SHEDDABLE = Priority.CRITICAL, Priority.DEFAULT, Priority.SHEDDABLE
CALM, BUSY, FULL = 0.0, 0.1, 0.2
"""Waits of nothing, of more than SHEDDABLE calls are let in at (0.09), and of more than DEFAULT calls are (0.18)."""


def in_flight(shedder: LoadShedder) -> int:
    """How many calls it believes to be under way."""
    count: int = shedder.snapshot()["in_flight"]
    return count


def report(shedder: LoadShedder, clock: Any, delay: float, calls: int = 40) -> None:
    """Two seconds of CRITICAL traffic in which requests have waited so long before they came."""
    for _ in range(8):
        for _ in range(calls):
            with context.priority(CRITICAL), shedder.guard():
                clock.advance(0.25 / calls)
        shedder.report(delay)


def shedder_of(colour: Colour, delay: float = CALM, **parameters: Any) -> LoadShedder:
    """A shedder on the clock of this colour, before which calls wait so long."""
    shedder = LoadShedder(**{"clock": colour.clock, **parameters})
    report(shedder, colour.clock, delay)
    return shedder


# --- who gives way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("delay", "admitted"), [(CALM, {CRITICAL, DEFAULT, SHEDDABLE}), (BUSY, {CRITICAL, DEFAULT}), (FULL, {CRITICAL})]
)
@every_colour
async def test_what_matters_least_gives_way_first(
    colour: Colour, delay: float, admitted: set[Priority], form: str
) -> None:
    """As calls wait longer, SHEDDABLE ones are turned away, then DEFAULT ones, in every call form."""
    shedder = shedder_of(colour, delay, name="door")
    for priority in Priority:
        with context.priority(priority):
            if priority in admitted:
                assert await colour.call(shedder, colour.function(["fine"]), form=form) == "fine"
                continue
            message = rf"^door: a call of priority {priority.name} gives way, since calls wait {delay:g} s$"
            with pytest.raises(LoadShed, match=message) as shed:
                await colour.call(shedder, colour.function([]), form=form)
            assert (shed.value.priority, shed.value.delay) == (priority, pytest.approx(delay))
            assert (shed.value.policy, shed.value.retry_after) == ("door", None)


@every_colour
async def test_without_a_priority_a_call_is_default(colour: Colour) -> None:
    """A call of which nothing is said is turned away where DEFAULT calls are."""
    call = colour.function(["fine"])
    assert await colour.call(shedder_of(colour, BUSY), call) == "fine"
    with pytest.raises(LoadShed):
        await colour.call(shedder_of(colour, FULL), call)


@every_colour
async def test_the_target_is_the_measure(colour: Colour) -> None:
    """With twice the target, calls may wait twice as long; a `timedelta` is as good as seconds."""
    shedder = shedder_of(colour, FULL, target_delay=timedelta(milliseconds=600))
    assert await colour.call(shedder, colour.function(["fine"])) == "fine"
    with context.priority(SHEDDABLE), pytest.raises(LoadShed):
        await colour.call(shedder, colour.function([]))


@every_colour
async def test_it_ends_when_nobody_waits_any_more(colour: Colour) -> None:
    """When the wait is gone, everybody is admitted again."""
    shedder = shedder_of(colour, FULL)
    report(shedder, colour.clock, CALM)
    with context.priority(SHEDDABLE):
        assert await colour.call(shedder, colour.function(["fine"])) == "fine"
    assert not shedder.snapshot()["shedding"]


@every_colour
async def test_nothing_is_shed_before_there_are_completions(colour: Colour) -> None:
    """However many calls are in flight, nobody is turned away as long as none has ended."""
    shedder = LoadShedder(clock=colour.clock)
    async with contextlib.AsyncExitStack() as stack:
        with context.priority(SHEDDABLE):
            for _ in range(300):
                await stack.enter_async_context(colour.guard(shedder))
                colour.clock.advance(0.05)
        assert in_flight(shedder) == 300
    assert in_flight(shedder) == 0


# --- whose call it is -------------------------------------------------------------------------------------------------

FIRST, LAST = sorted((f"user-{number}" for number in range(1000)), key=rank_of)[::999]


def half_cut(colour: Colour, **parameters: Any) -> LoadShedder:
    """A shedder before twice as many DEFAULT calls as can be done: about half of the users are turned away."""
    shedder = LoadShedder(clock=colour.clock, **parameters)
    shedder._core.cut = DEFAULT + 0.5
    return shedder


@pytest.mark.parametrize("user", ["user", lambda request, user="": user], ids=["by name", "by callable"])
@every_colour
async def test_users_are_turned_away_in_the_order_of_their_hash(colour: Colour, user: Any) -> None:
    """Of two users of one priority it is always the same one that goes first, wherever the name stands in the call."""
    shedder = half_cut(colour, user=user)
    work = colour.function(["fine", ...])

    async def visit_async(request: str, user: str = "") -> Any:
        return await work()

    def visit(request: str, user: str = "") -> Any:
        return work()

    decorated: Any = shedder(visit_async if colour.is_async else visit)
    for _ in range(3):
        assert await colour.invoke(decorated, "/", LAST) == "fine"
        assert await colour.invoke(decorated, "/", user=LAST) == "fine"
        with pytest.raises(LoadShed):
            await colour.invoke(decorated, "/", FIRST)
        with pytest.raises(LoadShed):
            await colour.invoke(decorated, "/", user=FIRST)


@every_colour
async def test_a_block_says_whose_it_is(colour: Colour) -> None:
    """`guard(user=...)` does for a block what `user` does for a function."""
    shedder = half_cut(colour)
    for _ in range(3):
        async with colour.guard(shedder, user=LAST):
            assert in_flight(shedder) == 1
        with pytest.raises(LoadShed):
            async with colour.guard(shedder, user=FIRST):
                pytest.fail("let in")


@every_colour
async def test_without_users_calls_are_turned_away_evenly(colour: Colour) -> None:
    """Calls of nobody in particular, or of a user None, are turned away as often as the cut says."""
    nameless = half_cut(colour)
    nobody = half_cut(colour, user=lambda *_: None)
    for shedder in (nameless, nobody):
        admitted = 0
        for _ in range(100):
            with contextlib.suppress(LoadShed):
                admitted += await colour.call(shedder, colour.function(["fine"])) == "fine"
        assert 48 <= admitted <= 52


def test_a_user_that_is_no_parameter_is_an_error_at_once() -> None:
    """A name that the function does not have is refused when decorating, and what it has is listed."""

    def visit(request: str, who: str) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=r"user names the parameter 'user', which .* has: request, who$"):
        LoadShedder(user="user")(visit)


@every_colour
async def test_a_callable_that_raises_is_heard_and_takes_nothing(colour: Colour) -> None:
    """The error of a broken `user` reaches the caller, and nothing is in flight."""

    def broken(*args: object) -> str:
        raise ZeroDivisionError

    shedder = LoadShedder(user=broken, clock=colour.clock)
    with pytest.raises(ZeroDivisionError):
        await colour.call(shedder, colour.function([]))
    assert in_flight(shedder) == 0


# --- places, and what the end of a call says --------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_the_place_comes_back_from_every_form(colour: Colour, form: str) -> None:
    """After a result, an error and an interrupt nothing is in flight, in every call form."""
    shedder = LoadShedder(clock=colour.clock)
    for outcome in ("fine", LookupError, KeyboardInterrupt, SystemExit, "fine"):
        call = colour.call(shedder, colour.function([outcome]), form=form)
        if isinstance(outcome, str):
            assert await call == "fine"
        else:
            with pytest.raises(outcome):
                await call
        assert in_flight(shedder) == 0


@pytest.mark.parametrize(
    ("outcome", "least"), [("fine", 0.1), (LookupError, 0.1), (KeyboardInterrupt, None), (GeneratorExit, None)]
)
@every_colour
async def test_results_and_errors_are_work_done(colour: Colour, outcome: Any, least: float | None) -> None:
    """What a call takes is learnt from results and from errors, and not from calls that were broken off."""
    shedder = LoadShedder(clock=colour.clock)
    for _ in range(8):
        with contextlib.suppress(BaseException):
            await colour.call(shedder, colour.function([(0.1, outcome)]))
    learnt = shedder.snapshot()["least"]
    assert learnt == (None if least is None else pytest.approx(least))


@every_colour
async def test_a_refusal_inside_is_no_work_done(colour: Colour) -> None:
    """A `Rejected` of a policy inside says nothing about what a call takes."""
    breaker = CircuitBreaker(5, clock=colour.clock)
    breaker.open()
    shedder = LoadShedder(clock=colour.clock)
    for _ in range(50):
        with pytest.raises(CircuitOpen):
            await colour.call(Pipeline(shedder, breaker), colour.function([]))
    assert (in_flight(shedder), shedder.snapshot()["least"]) == (0, None)


@every_colour
async def test_its_refusal_is_neutral_outside(colour: Colour) -> None:
    """A breaker outside does not count `LoadShed`; a retry repeats it only when `on` names it."""
    shedder = shedder_of(colour, FULL)
    breaker = CircuitBreaker(1, clock=colour.clock)
    blind = Retry(on=Exception, backoff=0.01, clock=colour.clock)
    named = Retry(on=LoadShed, backoff=0.01, attempts=3, clock=colour.clock)
    for outer, sleeps in ((breaker, 0), (blind, 0), (named, 2)):
        with pytest.raises(LoadShed):
            await colour.call(Pipeline(outer, shedder), colour.function([]))
        assert len(colour.clock.sleeps) == sleeps
    assert breaker.state == "closed"


@pytest.mark.parametrize("say", ["fail", "ignore", "set_result"])
@every_colour
async def test_what_a_block_says(colour: Colour, say: str) -> None:
    """A block that fails, or sets a result, is work done; one that is ignored is not; it has no cost."""
    shedder = LoadShedder(clock=colour.clock)
    for _ in range(8):
        async with colour.guard(shedder) as guard:
            await colour.sleep(0.1)
            getattr(guard, say)(*() if say == "ignore" else ("said",))
    assert (shedder.snapshot()["least"] is None) == (say == "ignore")
    with pytest.raises(TypeError, match="no cost to settle"):
        async with colour.guard(shedder) as guard:
            guard.settle(3)
    assert in_flight(shedder) == 0


@async_colours
async def test_a_cancelled_call_gives_its_place_back(colour: Colour) -> None:
    """A caller who goes away, or is cut by a `Timeout`, is not in flight any more."""
    shedder = LoadShedder(clock=colour.clock)

    async def caller() -> None:
        await colour.call(shedder, colour.function([(5.0, "late")]))

    job = colour.start(caller)
    await colour.until(lambda: in_flight(shedder) == 1)
    job.cancel()
    assert isinstance(await job.outcome(), BaseException)
    assert in_flight(shedder) == 0
    with pytest.raises(TimeoutError):
        await colour.call(Pipeline(Timeout(1), shedder), colour.function([(5.0, "late")]))
    assert in_flight(shedder) == 0


@async_colours
async def test_a_coroutine_that_is_never_awaited_takes_nothing(colour: Colour) -> None:
    """Nothing is acquired before the first step of a coroutine."""
    shedder = LoadShedder(clock=colour.clock)
    pending = shedder(colour.function([]))()
    assert in_flight(shedder) == 0
    pending.close()
    assert in_flight(shedder) == 0


@pytest.mark.parametrize("user", [None, "count"])
@pytest.mark.anyio
async def test_a_generator_is_in_flight_to_its_end(anyio_backend: str, user: str | None) -> None:
    """A generator, plain or async, is in flight from the first `next` until exhausted, closed, or failed."""
    shedder = LoadShedder(user=user)

    @shedder
    def rows(count: int) -> Iterator[int]:
        yield from range(count)
        if count > 2:
            raise LookupError

    @shedder
    async def rows_async(count: int) -> AsyncIterator[int]:
        for row in range(count):
            yield row

    begun: Any = rows(2)
    assert in_flight(shedder) == 0
    assert next(begun) == 0
    assert in_flight(shedder) == 1
    with shedder._lock:
        begun.close()
    assert list(rows(2)) == [0, 1]
    with pytest.raises(LookupError):
        list(rows(3))
    assert in_flight(shedder) == 0
    assert [row async for row in rows_async(2)] == [0, 1]
    begun = rows_async(2)
    assert await anext(begun) == 0
    assert in_flight(shedder) == 1
    await begun.aclose()
    assert in_flight(shedder) == 0


# --- what it tells ----------------------------------------------------------------------------------------------------


@every_colour
async def test_events(colour: Colour) -> None:
    """A call that is turned away is a `CallRejected` with its priority as the reason, a result a `CallSucceeded`."""
    shedder = shedder_of(colour, BUSY, name="door")
    now = colour.clock.now()
    seen: list[Event] = []
    stop = shedder.listen(seen.append)
    await colour.call(shedder, colour.function(["fine"]))
    with pytest.raises(LookupError):
        await colour.call(shedder, colour.function([LookupError]))
    with context.priority(SHEDDABLE), pytest.raises(LoadShed):
        await colour.call(shedder, colour.function([]))
    stop()
    await colour.call(shedder, colour.function(["fine"]))
    assert seen == [
        CallSucceeded("door", "load_shedder", now, attempts=1),
        CallRejected("door", "load_shedder", now, reason="sheddable", retry_after=None),
    ]


def test_a_listener_may_use_the_shedder() -> None:
    """A listener runs outside the lock and after the place has come back."""
    shedder = LoadShedder()
    seen: list[int] = []
    shedder.listen(lambda event: seen.append(in_flight(shedder)))
    shedder.call(len, "abc")
    assert seen == [0]


def test_the_error_pickles() -> None:
    """`LoadShed` crosses a process boundary with everything that it says."""
    error = LoadShed("door", None, SHEDDABLE, 0.25)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.priority, copy.delay) == (str(error), SHEDDABLE, 0.25)
    assert isinstance(copy, Rejected)


def test_the_snapshot_is_plain() -> None:
    """A snapshot goes through JSON, and `repr` says how it was built."""
    shedder = LoadShedder(name="door", user="who")
    assert json.loads(json.dumps(shedder.snapshot())) == {
        "name": "door",
        "kind": "load_shedder",
        "in_flight": 0,
        "delay": 0.0,
        "least": None,
        "shedding": False,
        "cut": 0.0,
    }
    assert repr(shedder) == "LoadShedder(target_delay=0.3, user='who', name='door')"


def test_replace_gives_a_fresh_one() -> None:
    """`replace` keeps the parameters and nothing of the state; an unknown one is refused."""
    clock = VirtualClock()
    shedder = LoadShedder(clock=clock)
    report(shedder, clock, FULL)
    other = shedder.replace(target_delay=1)
    assert (shedder.snapshot()["shedding"], other.snapshot()["shedding"]) == (True, False)
    with pytest.raises(ValueError, match="target_delay must be a number of seconds above 0, got 0"):
        shedder.replace(target_delay=0)
    with pytest.raises(TypeError, match="has no parameter 'target'"):
        shedder.replace(target=1)


def test_a_refusal_leaves_no_cycle() -> None:
    """A thousand calls that are turned away leave nothing for the garbage collector."""
    clock = VirtualClock()
    shedder = LoadShedder(clock=clock)
    report(shedder, clock, FULL)

    def refused() -> None:
        with contextlib.suppress(LoadShed):
            shedder.call(len, "never")

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


def test_virtual_time_gives_the_state_back_and_keeps_who_is_inside() -> None:
    """After a block of virtual time the shedder is what it was, and calls that were inside still are, and can end."""
    shedder = LoadShedder()
    with shedder.guard():
        with virtual_time() as virtual:
            report(shedder, virtual, FULL)
            assert shedder.snapshot()["shedding"]
            assert not shedder._at_rest()
            with context.priority(CRITICAL):
                still = shedder.guard()
                still.__enter__()
        assert (shedder.snapshot()["shedding"], in_flight(shedder)) == (False, 2)
        still.__exit__(None, None, None)
        assert in_flight(shedder) == 1
    assert in_flight(shedder) == 0
    assert shedder._at_rest()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_in_a_forked_child_nothing_is_in_flight() -> None:
    """The child starts empty, and the end of a call from before the fork is not counted there."""
    shedder = LoadShedder()
    block = shedder.guard()
    with block:

        def child() -> str:
            before = in_flight(shedder)
            with shedder.guard():
                block.__exit__(None, None, None)
                return f"{before} {in_flight(shedder)}"

        assert in_child(child) == "0 1"
        assert in_flight(shedder) == 1
    assert in_flight(shedder) == 0


def test_threads_leak_no_place() -> None:
    """Eight threads that come and go as fast as they can leave nothing in flight."""
    shedder = LoadShedder(user=str)

    def hammer() -> None:
        for number in range(200):
            with contextlib.suppress(LoadShed):
                shedder.call(str, number)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_flight(shedder) == 0


# --- wrong use --------------------------------------------------------------------------------------------------------

TARGET = "target_delay must be a number of seconds above 0, got"
USER = "user must be the name of a parameter, a callable of the call's arguments or None, got"
BAD: list[tuple[dict[str, Any], str]] = [
    *(({"target_delay": value}, f"{TARGET} {value!r}") for value in (0, -1, True, math.nan, math.inf, "0.3", None)),
    *(({"user": value}, f"{USER} {value!r}") for value in (3, True, ("a",))),
    ({"user": ""}, "user must be a string that is not empty, or None, got ''"),
    ({"name": ""}, "name must be a string that is not empty, or None, got ''"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    """A wrong parameter is named, with its rule and the value."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        LoadShedder(**parameters)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, True, "1", None])
def test_a_bad_report_is_refused(delay: Any) -> None:
    """What is reported is a duration, 0 or more."""
    shedder = LoadShedder()
    with pytest.raises((TypeError, ValueError), match=r"^delay must be a number of seconds, 0 or more, got"):
        shedder.report(delay)
    shedder.report(timedelta(0))
    assert shedder.snapshot()["delay"] == 0.0


def test_wrong_forms_say_what_to_write() -> None:
    """Used bare, as a block, or with a coroutine, it says what to write instead."""
    policy: Any = LoadShedder

    def fetch() -> None:
        """Do nothing."""

    async def fetch_async() -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=re.escape("write @LoadShedder(user='user_id')")):
        policy(fetch)
    with pytest.raises(TypeError, match=re.escape("write with policy.guard():")), policy():
        pass
    with pytest.raises(TypeError, match=re.escape("write policy.call(fn, arguments...)")):
        policy().call(fetch_async())
