"""The adaptive limit as a policy: who is let in, what each end says, and that every place comes back."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import pickle
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Pipeline, Rejected, Retry, Timeout, listen
from resilience.core.limits import AIMD, Gradient, Vegas
from resilience.errors import LimitExceeded
from resilience.events import CallRejected, CallSucceeded, Event, LimitChanged
from resilience.policies.adaptive import AdaptiveLimit
from resilience.testing import VirtualClock, virtual_time
from tests.colours import FORMS, Colour, async_colours, every_colour
from tests.test_fork import in_child

INITIAL = 4


def in_flight(limit: AdaptiveLimit) -> int:
    """How many calls it believes to be under way."""
    count: int = limit.snapshot()["in_flight"]
    return count


def limit_of(colour: Colour, **parameters: Any) -> AdaptiveLimit:
    """A small limit on the clock of this colour."""
    return AdaptiveLimit(**{"initial": INITIAL, "clock": colour.clock, **parameters})


def learnt(limit: AdaptiveLimit) -> str:
    """What it has made of the calls so far: that they were samples of latency, or signs of overload, or nothing."""
    if limit.limit < INITIAL:
        return "overload"
    return "nothing" if limit.snapshot()["least"] is None else "samples"


async def many(colour: Colour, policy: Any, outcome: Any, form: str = "call") -> None:
    """A window of calls, one after the other, each of which ends like this after a tenth of a second."""
    call = colour.function([(0.1, outcome), ...])
    for _ in range(101):
        with contextlib.suppress(BaseException):
            await colour.call(policy, call, form=form)


# --- places -----------------------------------------------------------------------------------------------------------


@every_colour
async def test_at_most_the_limit_run_at_once(colour: Colour) -> None:
    """Of twenty callers at once exactly four run; the others are refused at once, and say why."""
    limit = limit_of(colour, name="search")
    gate = colour.gate()
    refused: list[LimitExceeded] = []
    inside, lock = [0, 0], threading.Lock()

    async def caller() -> None:
        try:
            async with colour.guard(limit):
                with lock:
                    inside[0] += 1
                    inside[1] = max(inside)
                await gate.wait()
                with lock:
                    inside[0] -= 1
        except LimitExceeded as full:
            with lock:
                refused.append(full)
                if len(refused) == 16:
                    gate.open()

    await colour.together(*[caller] * 20)
    assert (inside[1], len(refused), in_flight(limit)) == (4, 16, 0)
    assert str(refused[0]) == "search: 4 in flight is the limit that it has learnt"
    assert (refused[0].policy, refused[0].limit, refused[0].retry_after) == ("search", 4, None)


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_the_place_comes_back_from_every_form(colour: Colour, form: str) -> None:
    """After a result, an error and an interrupt the place is free again, in every call form."""
    limit = limit_of(colour, initial=1)
    for outcome in ("fine", LookupError, TimeoutError, KeyboardInterrupt, SystemExit, "fine"):
        call = colour.call(limit, colour.function([outcome]), form=form)
        if isinstance(outcome, str):
            assert await call == "fine"
        else:
            with pytest.raises(outcome):
                await call
        assert in_flight(limit) == 0


@every_colour
async def test_a_refusal_inside_is_no_sample(colour: Colour) -> None:
    """A `Rejected` of a policy inside gives the place back and says nothing, even where `on` is `Exception`."""
    breaker = CircuitBreaker(5, clock=colour.clock)
    breaker.open()
    limit = limit_of(colour, on=Exception)
    for _ in range(150):
        colour.clock.advance(0.01)
        with pytest.raises(CircuitOpen):
            await colour.call(Pipeline(limit, breaker), colour.function(["never"]))
    assert (in_flight(limit), learnt(limit)) == (0, "nothing")


@every_colour
async def test_its_refusal_is_neutral_outside(colour: Colour) -> None:
    """A breaker outside does not count `LimitExceeded`; a retry repeats it only when `on` names it."""
    limit = limit_of(colour, initial=1)
    breaker = CircuitBreaker(1, clock=colour.clock)
    blind = Retry(on=Exception, backoff=1, clock=colour.clock)
    named = Retry(on=LimitExceeded, backoff=1, attempts=3, clock=colour.clock)
    async with colour.guard(limit):
        for outer, sleeps in ((breaker, 0), (blind, 0), (named, 2)):
            with pytest.raises(LimitExceeded):
                await colour.call(Pipeline(outer, limit), colour.function(["never"]))
            assert len(colour.clock.sleeps) == sleeps
    assert breaker.state == "closed"


@async_colours
async def test_a_coroutine_that_is_never_awaited_takes_nothing(colour: Colour) -> None:
    """Nothing is acquired before the first step of a coroutine, nor kept by one that is closed."""
    limit = limit_of(colour)
    pending = limit(colour.function(["never"]))()
    assert in_flight(limit) == 0
    pending.close()
    assert in_flight(limit) == 0


# --- what the end of a call says --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_a_result_is_a_sample(colour: Colour, form: str) -> None:
    """Calls that return show what they take, in every call form."""
    limit = limit_of(colour)
    await many(colour, limit, "fine", form)
    assert learnt(limit) == "samples"
    assert limit.snapshot()["least"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (TimeoutError, "overload"),
        (LookupError, "nothing"),
        (ExceptionGroup("", [TimeoutError()]), "overload"),
        (ExceptionGroup("", [TimeoutError(), LookupError()]), "nothing"),
        (KeyboardInterrupt, "nothing"),
        (SystemExit, "nothing"),
        (GeneratorExit, "nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "group"),
)
@every_colour
async def test_what_an_error_says(colour: Colour, outcome: Any, says: str) -> None:
    """By default a timeout is a sign of overload, and every other error says nothing."""
    limit = limit_of(colour)
    await many(colour, limit, outcome)
    assert (learnt(limit), in_flight(limit)) == (says, 0)


@pytest.mark.parametrize(
    ("parameters", "outcome", "says"),
    [
        ({"on": OSError}, ConnectionError, "overload"),
        ({"on": (KeyError, OSError)}, ConnectionError, "overload"),
        ({"on": OSError, "ignore": ConnectionError}, ConnectionError, "nothing"),
        ({"on": lambda error: "busy" in str(error)}, RuntimeError("busy"), "overload"),
        ({"on": lambda error: "busy" in str(error)}, RuntimeError("wrong"), "nothing"),
        ({"on": None}, TimeoutError, "nothing"),
        ({"on_result": lambda status: status == 429}, 429, "overload"),
        ({"on_result": lambda status: status == 429}, 200, "samples"),
    ],
)
@every_colour
async def test_on_ignore_and_on_result(colour: Colour, parameters: dict[str, Any], outcome: Any, says: str) -> None:
    """`on`, `ignore` and `on_result` choose what counts as a sign of overload."""
    limit = limit_of(colour, **parameters)
    await many(colour, limit, outcome)
    assert learnt(limit) == says


@every_colour
async def test_a_predicate_that_raises_is_heard_and_counts_nothing(colour: Colour) -> None:
    """The error of a broken predicate reaches the caller, and the place is free."""

    def broken(result: object) -> bool:
        raise ZeroDivisionError

    limit = limit_of(colour, on_result=broken)
    with pytest.raises(ZeroDivisionError):
        await colour.call(limit, colour.function(["fine"]))
    assert (in_flight(limit), learnt(limit)) == (0, "nothing")


@pytest.mark.parametrize(("say", "says"), [("fail", "overload"), ("ignore", "nothing"), ("set_result", "samples")])
@every_colour
async def test_what_a_block_says(colour: Colour, say: str, says: str) -> None:
    """A block may be failed or ignored by hand; it has no cost."""
    limit = limit_of(colour)
    for _ in range(101):
        async with colour.guard(limit) as guard:
            await colour.sleep(0.1)
            getattr(guard, say)(*() if say == "ignore" else ("said",))
    assert learnt(limit) == says
    with pytest.raises(TypeError, match="no cost to settle"):
        async with colour.guard(limit) as guard:
            guard.settle(3)
    assert in_flight(limit) == 0


@async_colours
async def test_a_cancelled_call_is_no_sample(colour: Colour) -> None:
    """A caller who goes away gives the place back, and nothing is learnt from that."""
    limit = limit_of(colour, on=BaseException)

    async def caller() -> None:
        await colour.call(limit, colour.function([(0.1, "fine"), ...]))

    for _ in range(150):
        job = colour.start(caller)
        await colour.until(lambda: in_flight(limit) == 1)
        job.cancel()
        assert isinstance(await job.outcome(), BaseException)
        assert in_flight(limit) == 0
        colour.clock.advance(0.05)
    assert learnt(limit) == "nothing"


@pytest.mark.parametrize("inside", [True, False], ids=["timeout inside", "timeout outside"])
@async_colours
async def test_a_call_that_our_timeout_cuts_is_a_sign_of_overload(colour: Colour, inside: bool) -> None:
    """A call that was too slow for a `Timeout`, inside the limit or around it, counts against the limit."""
    limit = limit_of(colour)
    timeout = Timeout(0.1)
    await many(colour, Pipeline(limit, timeout) if inside else Pipeline(timeout, limit), None)
    assert learnt(limit) in {"samples", "overload"}
    slow = limit_of(colour)
    pipeline = Pipeline(slow, timeout) if inside else Pipeline(timeout, slow)
    call = colour.function([(1.0, "late"), ...])
    for _ in range(101):
        with pytest.raises(TimeoutError):
            await colour.call(pipeline, call)
    assert (learnt(slow), in_flight(slow)) == ("overload", 0)


# --- generators -------------------------------------------------------------------------------------------------------


def test_a_generator_holds_its_place_to_the_end() -> None:
    """A generator takes its place at the first `next` and gives it back when exhausted, closed, or failed."""
    limit = AdaptiveLimit(initial=1, clock=VirtualClock())

    @limit
    def rows(count: int) -> Iterator[int]:
        yield from range(count)
        if count > 2:
            raise LookupError

    idle = rows(2)
    assert in_flight(limit) == 0
    assert list(rows(2)) == [0, 1]
    assert next(idle) == 0
    assert in_flight(limit) == 1
    with pytest.raises(LimitExceeded):
        next(rows(1))
    idle.close()
    assert in_flight(limit) == 0
    with pytest.raises(LookupError):
        list(rows(3))
    assert in_flight(limit) == 0


def test_a_generator_thrown_away_while_the_lock_is_held_is_not_forgotten() -> None:
    """A generator that is finalised in the middle of a decision gives its place back when the next call comes."""
    limit = AdaptiveLimit(initial=1, clock=VirtualClock())

    @limit
    def rows() -> Iterator[int]:
        yield 1

    begun = rows()
    next(begun)
    with limit._lock:
        begun.close()
        assert limit._core.in_flight == 1
    assert limit.call(len, "abc") == 3
    begun = rows()
    next(begun)
    block = AdaptiveLimit.guard(limit)
    with limit._lock:
        begun.close()
    with block:
        assert in_flight(limit) == 1
    assert in_flight(limit) == 0


@pytest.mark.anyio
async def test_an_async_generator_holds_its_place_to_the_end(anyio_backend: str) -> None:
    """So does an async generator."""
    limit = AdaptiveLimit(initial=1)

    @limit
    async def rows(count: int) -> AsyncIterator[int]:
        for row in range(count):
            yield row

    assert [row async for row in rows(3)] == [0, 1, 2]
    async with contextlib.AsyncExitStack() as stack:
        begun: Any = rows(3)
        stack.push_async_callback(begun.aclose)
        assert await anext(begun) == 0
        assert in_flight(limit) == 1
    assert in_flight(limit) == 0


# --- what it tells ----------------------------------------------------------------------------------------------------


@every_colour
async def test_events(colour: Colour) -> None:
    """A refusal is a `CallRejected`, a result a `CallSucceeded`, and each move of the limit a `LimitChanged`."""
    limit = limit_of(colour, name="search")
    seen: list[Event] = []
    stop = limit.listen(seen.append)
    assert await colour.call(limit, colour.function(["fine"])) == "fine"
    with pytest.raises(LookupError):
        await colour.call(limit, colour.function([LookupError]))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(INITIAL):
            await stack.enter_async_context(colour.guard(limit))
        with pytest.raises(LimitExceeded):
            await colour.call(limit, colour.function(["never"]))
        stop()
    assert seen == [
        CallSucceeded("search", "adaptive_limit", 0.0, attempts=1),
        CallRejected("search", "adaptive_limit", 0.0, reason="limit", retry_after=None),
    ]
    moves: list[Any] = []
    stop = listen(moves.append, LimitChanged)
    await many(colour, limit, TimeoutError)
    stop()
    assert [move.previous for move in moves] == [INITIAL, *(move.limit for move in moves[:-1])]
    assert moves[-1].limit == limit.limit < INITIAL
    assert (moves[0].policy, moves[0].kind) == ("search", "adaptive_limit")


def test_a_listener_may_use_the_limit() -> None:
    """A listener runs outside the lock and after the place has come back, also as the limit moves."""
    clock = VirtualClock()
    limit = AdaptiveLimit(initial=INITIAL, clock=clock)
    seen: list[tuple[int, int]] = []
    limit.listen(lambda event: seen.append((in_flight(limit), limit.call(lambda: limit.limit))), LimitChanged)
    for _ in range(101):
        with contextlib.suppress(TimeoutError), limit.guard():
            clock.advance(0.1)
            raise TimeoutError
    assert seen
    assert all(view == (0, limit.limit) for view in seen[-1:])


def test_the_error_pickles() -> None:
    """`LimitExceeded` crosses a process boundary with everything that it says."""
    error = LimitExceeded("search", None, 7)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.policy, copy.limit) == (str(error), "search", 7)
    assert isinstance(copy, Rejected)


def test_the_snapshot_is_plain() -> None:
    """A snapshot goes through JSON, and `limit` and `repr` say the same and how it was built."""
    limit = AdaptiveLimit(Vegas(), initial=5, name="search")
    expected = {"name": "search", "kind": "adaptive_limit", "limit": 5, "in_flight": 0, "probing": False, "least": None}
    assert json.loads(json.dumps(limit.snapshot())) == expected
    assert limit.limit == 5
    assert repr(limit).startswith("AdaptiveLimit(algorithm=Vegas(low=0.04, high=0.1), initial=5,")


def test_replace_gives_a_fresh_one() -> None:
    """`replace` keeps the parameters and nothing of the state; an unknown one is refused."""
    clock = VirtualClock()
    limit = AdaptiveLimit(AIMD(), initial=2, maximum=9, clock=clock)
    with limit.guard():
        other = limit.replace(initial=3)
        assert (other.limit, in_flight(other), in_flight(limit)) == (3, 0, 1)
    with pytest.raises(ValueError, match="initial must be between minimum=1 and maximum=9, got 10"):
        limit.replace(initial=10)
    with pytest.raises(TypeError, match="has no parameter 'limit'"):
        limit.replace(limit=3)


@every_colour
async def test_it_takes_the_name_of_what_it_decorates(colour: Colour) -> None:
    """Without a name it is called after the first function, which gets it as `.policy`."""
    limit = limit_of(colour)
    assert limit.name == "adaptive_limit"
    decorated = limit(colour.function(["fine"]))
    assert decorated.policy is limit
    assert limit.name == "scripted"


def test_a_refusal_leaves_no_cycle() -> None:
    """A thousand refused and failed calls leave nothing for the garbage collector."""
    limit = AdaptiveLimit(initial=1)

    def refused() -> None:
        with contextlib.suppress(LimitExceeded):
            limit.call(len, "never")

    def failed() -> None:
        with contextlib.suppress(LookupError), limit.guard():
            raise LookupError

    failed()
    with limit.guard():
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
    """After a block of virtual time the limit is what it was, and calls that were inside still are, and can end."""
    limit = AdaptiveLimit(initial=INITIAL)
    with limit.guard():
        with virtual_time() as virtual:
            for _ in range(101):
                with contextlib.suppress(TimeoutError), limit.guard():
                    virtual.advance(0.1)
                    raise TimeoutError
            # The window waits for the call from outside, but not for ever.
            virtual.advance(100)
            limit.call(len, "abc")
            assert limit.limit < INITIAL
            still = limit.guard()
            still.__enter__()
        assert (limit.limit, in_flight(limit)) == (INITIAL, 2)
        still.__exit__(None, None, None)
        assert in_flight(limit) == 1
    assert in_flight(limit) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_in_a_forked_child_nothing_is_in_flight() -> None:
    """The child starts with every place free, and the end of a call from before the fork frees none twice."""
    limit = AdaptiveLimit(initial=2)
    block = limit.guard()
    with block:

        def child() -> str:
            before = in_flight(limit)
            with limit.guard():
                block.__exit__(None, None, None)
                return f"{before} {in_flight(limit)} {limit.limit}"

        assert in_child(child) == "0 1 2"
        assert in_flight(limit) == 1
    assert in_flight(limit) == 0


def test_threads_leak_no_place() -> None:
    """Eight threads that come and go as fast as they can never exceed the limit, and leave it empty."""
    limit = AdaptiveLimit(initial=3, maximum=3)
    inside: list[int] = []
    most: list[int] = []

    def hammer() -> None:
        for number in range(400):
            with contextlib.suppress(LimitExceeded, LookupError), limit.guard():
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                if number % 3 == 0:
                    raise LookupError

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert max(most) <= 3
    assert in_flight(limit) == 0


# --- wrong use --------------------------------------------------------------------------------------------------------

INTEGER = "must be an integer, 1 or more, got"
BAD: list[tuple[dict[str, Any], str]] = [
    ({"algorithm": Gradient}, f"algorithm must be Gradient(), Vegas() or AIMD(), got {Gradient!r}"),
    ({"algorithm": "gradient"}, "algorithm must be Gradient(), Vegas() or AIMD(), got 'gradient'"),
    ({"algorithm": None}, "algorithm must be Gradient(), Vegas() or AIMD(), got None"),
    ({"algorithm": 20}, "algorithm must be Gradient(), Vegas() or AIMD(), got 20"),
    *(
        ({parameter: value}, f"{parameter} {INTEGER} {value!r}")
        for parameter in ("initial", "minimum", "maximum")
        for value in (0, -1, 1.5, True, math.nan, math.inf, "10", None)
    ),
    ({"initial": 1001}, "initial must be between minimum=1 and maximum=1000, got 1001"),
    ({"initial": 4, "minimum": 5}, "initial must be between minimum=5 and maximum=1000, got 4"),
    ({"minimum": 30, "maximum": 20}, "minimum must be at most maximum=20, got 30"),
    ({"on_result": 3}, "on_result must be a predicate of the result or None, got 3"),
    ({"name": ""}, "name must be a string that is not empty, or None, got ''"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    """A wrong parameter is named, with its rule and the value."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        AdaptiveLimit(**parameters)


def test_wrong_forms_say_what_to_write() -> None:
    """Used bare, as a block, or with a coroutine, it says what to write instead."""
    policy: Any = AdaptiveLimit

    def fetch() -> None:
        """Do nothing."""

    async def fetch_async() -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=re.escape("write @AdaptiveLimit(initial=20)")):
        policy(fetch)
    with pytest.raises(TypeError, match=re.escape("write with policy.guard():")), policy():
        pass
    with pytest.raises(TypeError, match=re.escape("write policy.call(fn, arguments...)")):
        policy().call(fetch_async())
