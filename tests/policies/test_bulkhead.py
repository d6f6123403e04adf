"""The bulkhead: who gets a place, who waits, and that every place comes back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import pickle
import re
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import trio

from resilience import (
    BlockingWarning,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Rejected,
    Retry,
    TimedOut,
    Timeout,
    context,
)
from resilience.events import CallRejected, CallSucceeded
from resilience.policies.bulkhead import Bulkhead, BulkheadFull
from resilience.testing import VirtualClock
from tests.colours import FORMS, Colour, async_colours, every_colour


def counts(bulkhead: Bulkhead) -> tuple[int, int]:
    """In flight, and queued."""
    view = bulkhead.snapshot()
    return view["in_flight"], view["queued"]


class Guests:
    """Callers that hold a place until they are let go, one by one."""

    def __init__(self, colour: Colour, bulkhead: Bulkhead) -> None:
        self.colour = colour
        self.bulkhead = bulkhead
        self.inside: list[Any] = []
        self.gates: dict[Any, Any] = {}
        self.jobs: dict[Any, Any] = {}

    async def _visit(self, name: Any) -> Any:
        async with self.colour.guard(self.bulkhead):
            self.inside.append(name)
            await self.gates[name].wait()
        return name

    async def comes(self, name: Any) -> None:
        """A guest comes, and goes in, waits or is refused before anything else happens."""
        before = counts(self.bulkhead)
        self.gates[name] = self.colour.gate()
        self.jobs[name] = job = self.colour.start(self._visit, name)
        await self.colour.until(lambda: counts(self.bulkhead) != before or job._outcome.error)

    async def goes(self, name: Any) -> None:
        """A guest that is inside goes, and has gone."""
        self.gates[name].open()
        assert await self.jobs[name].outcome() == name

    async def refused(self, name: Any) -> BulkheadFull:
        """The error with which a guest was refused."""
        error = await self.jobs[name].outcome()
        assert isinstance(error, BulkheadFull)
        return error


# --- places -----------------------------------------------------------------------------------------------------------


@every_colour
async def test_at_most_limit_run_at_once(colour: Colour) -> None:
    """Of twenty callers at once exactly three run; the others are refused at once, and say why."""
    bulkhead = Bulkhead(3, name="db", clock=colour.clock)
    gate = colour.gate()
    refused: list[BulkheadFull] = []
    inside, lock = [0, 0], threading.Lock()

    async def caller() -> None:
        try:
            async with colour.guard(bulkhead):
                with lock:
                    inside[0] += 1
                    inside[1] = max(inside)
                await gate.wait()
                with lock:
                    inside[0] -= 1
        except BulkheadFull as full:
            with lock:
                refused.append(full)
                if len(refused) == 17:
                    gate.open()

    await colour.together(*[caller] * 20)
    assert (inside[1], len(refused), counts(bulkhead)) == (3, 17, (0, 0))
    assert str(refused[0]) == "db: all 3 places are taken"
    assert (refused[0].limit, refused[0].queue, refused[0].waited, refused[0].retry_after) == (3, 0, 0.0, None)


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_the_place_comes_back_from_every_form(colour: Colour, form: str) -> None:
    """After a result, an error and an interrupt the place is free again, in every call form."""
    bulkhead = Bulkhead(1, clock=colour.clock)
    for outcome in ("fine", LookupError, KeyboardInterrupt, SystemExit, "fine"):
        call = colour.call(bulkhead, colour.function([outcome]), form=form)
        if isinstance(outcome, str):
            assert await call == "fine"
        else:
            with pytest.raises(outcome):
                await call
        assert counts(bulkhead) == (0, 0)


@every_colour
async def test_what_a_block_says_changes_nothing(colour: Colour) -> None:
    """A block that fails, ignores or sets a result gives its place back all the same."""
    bulkhead = Bulkhead(1, clock=colour.clock)
    for said in ("fail", "ignore", "set_result", None):
        async with colour.guard(bulkhead) as guard:
            assert counts(bulkhead) == (1, 0)
            if said is not None:
                getattr(guard, said)(*() if said == "ignore" else ("x",))
        assert counts(bulkhead) == (0, 0)
    with pytest.raises(TypeError, match="no cost to settle"):
        async with colour.guard(bulkhead) as guard:
            guard.settle(3)
    assert counts(bulkhead) == (0, 0)


@every_colour
async def test_a_call_inside_itself_is_refused_not_stuck(colour: Colour) -> None:
    """With one place and no queue, a call that calls itself gets `BulkheadFull` and does not wait for itself."""
    bulkhead = Bulkhead(1, clock=colour.clock)
    async with colour.guard(bulkhead):
        with pytest.raises(BulkheadFull, match=r"bulkhead: the one place is taken$"):
            await colour.call(bulkhead, colour.function(["never"]))
    assert counts(bulkhead) == (0, 0)


@every_colour
async def test_a_refusal_inside_gives_the_place_back(colour: Colour) -> None:
    """A `Rejected` of a policy inside frees the place like any other end."""
    breaker = CircuitBreaker(5, clock=colour.clock)
    breaker.open()
    bulkhead = Bulkhead(1, clock=colour.clock)
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await colour.call(Pipeline(bulkhead, breaker), colour.function(["never"]))
    assert counts(bulkhead) == (0, 0)


@every_colour
async def test_its_refusal_is_neutral_outside(colour: Colour) -> None:
    """A breaker outside does not count `BulkheadFull`; a retry repeats it only when `on` names it."""
    bulkhead = Bulkhead(1, clock=colour.clock)
    breaker = CircuitBreaker(1, clock=colour.clock)
    blind = Retry(on=Exception, backoff=1, clock=colour.clock)
    named = Retry(on=BulkheadFull, backoff=1, attempts=3, clock=colour.clock)
    async with colour.guard(bulkhead):
        for outer, sleeps in ((breaker, 0), (blind, 0), (named, 2)):
            with pytest.raises(BulkheadFull):
                await colour.call(Pipeline(outer, bulkhead), colour.function(["never"]))
            assert len(colour.clock.sleeps) == sleeps
    assert breaker.state == "closed"


# --- the queue --------------------------------------------------------------------------------------------------------


@every_colour
async def test_waiters_are_served_in_order(colour: Colour) -> None:
    """Callers wait in the order in which they came, and a newcomer never overtakes them."""
    bulkhead = Bulkhead(2, queue=10, clock=colour.clock)
    guests = Guests(colour, bulkhead)
    for name in range(8):
        await guests.comes(name)
    assert counts(bulkhead) == (2, 6)
    for name in range(8):
        await guests.goes(name)
        if name < 2:
            await guests.comes(8 + name)
        await colour.until(lambda name=name: len(guests.inside) == min(10, name + 3))
    for name in (8, 9):
        await guests.goes(name)
    assert guests.inside == list(range(10))
    assert counts(bulkhead) == (0, 0)


@every_colour
async def test_the_queue_is_bounded(colour: Colour) -> None:
    """With the queue full a caller is refused at once, and told so; who waits is not disturbed."""
    bulkhead = Bulkhead(1, queue=2, name="db", clock=colour.clock)
    guests = Guests(colour, bulkhead)
    for name in range(4):
        await guests.comes(name)
    full = await guests.refused(3)
    assert str(full) == "db: the one place is taken, and the queue of 2 is full"
    assert (full.limit, full.queue, full.waited) == (1, 2, 0.0)
    assert counts(bulkhead) == (1, 2)
    for name in range(3):
        await guests.goes(name)
    assert guests.inside == [0, 1, 2]


@every_colour
async def test_max_wait_is_kept_to_the_tick(colour: Colour) -> None:
    """A caller without a place after `max_wait` seconds is refused at that very reading, not before and not after."""
    bulkhead = Bulkhead(1, queue=5, max_wait=timedelta(seconds=2.5), name="db", clock=colour.clock)
    async with colour.guard(bulkhead):
        await colour.sleep(1)
        with pytest.raises(BulkheadFull) as caught:
            await colour.call(bulkhead, colour.function(["never"]))
        assert colour.clock.now() == 3.5
    assert str(caught.value) == "db: the one place is taken, and none became free in 2.5 s"
    assert caught.value.waited == 2.5
    assert counts(bulkhead) == (0, 0)


@every_colour
async def test_zero_does_not_wait(colour: Colour) -> None:
    """With `max_wait=0`, or without a queue, nobody waits at all."""
    for bulkhead in (Bulkhead(1, queue=5, max_wait=0, clock=colour.clock), Bulkhead(1, max_wait=9, clock=colour.clock)):
        async with colour.guard(bulkhead):
            with pytest.raises(BulkheadFull):
                await colour.call(bulkhead, colour.function(["never"]))
    assert colour.clock.now() == 0.0


@async_colours
async def test_each_waiter_has_its_own_time(colour: Colour) -> None:
    """Waiters give up each at its own reading, those who get a place in time do not, and the queue is free again."""
    bulkhead = Bulkhead(1, queue=5, max_wait=3, clock=colour.clock)
    ended: list[tuple[str, int, float]] = []

    async def caller(number: int) -> None:
        await colour.sleep(number * 0.5)
        try:
            async with colour.guard(bulkhead):
                ended.append(("in", number, colour.clock.now()))
                await colour.sleep(2)
        except BulkheadFull:
            ended.append(("full", number, colour.clock.now()))

    async def one(number: int) -> None:
        await caller(number)

    await colour.together(*[lambda number=number: one(number) for number in range(5)])
    assert ended == [
        ("in", 0, 0.0),
        ("in", 1, 2.0),
        ("in", 2, 4.0),
        ("full", 3, 4.5),
        ("full", 4, 5.0),
    ]
    assert counts(bulkhead) == (0, 0)


@every_colour
async def test_without_a_bound_a_caller_waits_as_long_as_it_takes(colour: Colour) -> None:
    """By default `max_wait` is infinite: a caller in the queue waits until there is a place."""
    bulkhead = Bulkhead(1, queue=1, clock=colour.clock)
    guests = Guests(colour, bulkhead)
    await guests.comes("first")
    await guests.comes("second")
    colour.clock.advance(1e9)
    await guests.goes("first")
    await guests.goes("second")
    assert guests.inside == ["first", "second"]


# --- cancellation -----------------------------------------------------------------------------------------------------


@async_colours
async def test_a_waiter_that_is_cancelled_leaves_no_trace(colour: Colour) -> None:
    """A cancelled waiter frees its place in the queue, and the place goes to the one behind it."""
    bulkhead = Bulkhead(1, queue=2, clock=colour.clock)
    guests = Guests(colour, bulkhead)
    for name in ("holds", "leaves", "stays"):
        await guests.comes(name)
    guests.jobs["leaves"].cancel()
    assert isinstance(await guests.jobs["leaves"].outcome(), asyncio.CancelledError | trio.Cancelled)
    assert counts(bulkhead) == (1, 1)
    await guests.comes("new")
    for name in ("holds", "stays", "new"):
        await guests.goes(name)
    assert guests.inside == ["holds", "stays", "new"]
    assert counts(bulkhead) == (0, 0)


@pytest.mark.parametrize("release_first", [True, False])
@async_colours
async def test_a_place_granted_in_the_tick_of_a_cancellation_is_passed_on(colour: Colour, release_first: bool) -> None:
    """When a place is given and its waiter cancelled in the same tick, in either order, the next waiter gets it."""
    bulkhead = Bulkhead(1, queue=5, clock=colour.clock)
    guests = Guests(colour, bulkhead)
    async with colour.guard(bulkhead):
        for name in ("cancelled", "next", "last"):
            await guests.comes(name)
        if not release_first:
            guests.jobs["cancelled"].cancel()
    # No other task has run since the block was left.
    if release_first:
        guests.jobs["cancelled"].cancel()
    assert isinstance(await guests.jobs["cancelled"].outcome(), asyncio.CancelledError | trio.Cancelled)
    await colour.until(lambda: "next" in guests.inside)
    assert counts(bulkhead) == (1, 1)
    await guests.goes("next")
    await guests.goes("last")
    # In trio a task that was woken goes on to its next checkpoint, which is inside; in asyncio it does not get there.
    assert [name for name in guests.inside if name != "cancelled"] == ["next", "last"]
    assert ("cancelled" in guests.inside) == (release_first and colour.name == "trio")
    assert counts(bulkhead) == (0, 0)


@async_colours
async def test_a_holder_that_is_cancelled_gives_its_place_back(colour: Colour) -> None:
    """A call that is cancelled while it runs frees its place for the next."""
    bulkhead = Bulkhead(1, queue=1, clock=colour.clock)
    guests = Guests(colour, bulkhead)
    await guests.comes("holds")
    await guests.comes("waits")
    guests.jobs["holds"].cancel()
    await colour.until(lambda: "waits" in guests.inside)
    await guests.goes("waits")
    assert counts(bulkhead) == (0, 0)


@async_colours
async def test_a_timeout_cuts_a_wait(colour: Colour) -> None:
    """An outer timeout ends the wait for a place with its own error, and the queue is empty again."""
    bulkhead = Bulkhead(1, queue=1)
    cut = Pipeline(Timeout(0.01), bulkhead)
    async with colour.guard(bulkhead):
        with pytest.raises(TimedOut):
            await colour.call(cut, colour.function(["never"]))
        assert counts(bulkhead) == (1, 0)
    assert counts(bulkhead) == (0, 0)


def test_a_blocking_wait_ends_at_the_deadline() -> None:
    """A thread waits no longer than its deadline allows, whatever `max_wait` is, and not at all when it has passed."""
    clock = VirtualClock()
    bulkhead = Bulkhead(1, queue=1, clock=clock)
    with bulkhead.guard(), context.deadline(2, clock=clock):
        with pytest.raises(BulkheadFull, match="none became free in 2 s"):
            bulkhead.call(len, "never")
        assert clock.now() == 2
        with pytest.raises(BulkheadFull):
            bulkhead.call(len, "never")
        assert clock.now() == 2
    assert counts(bulkhead) == (0, 0)


def test_a_coroutine_that_is_closed_while_it_waits_leaves() -> None:
    """A waiter whose coroutine is closed, or dropped, leaves the queue; one that was granted passes its place on."""
    bulkhead = Bulkhead(1, queue=5)

    async def call() -> None:
        async with bulkhead.guard():
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with bulkhead.guard():
            waiting = [call() for _ in range(2)]
            for coroutine in waiting:
                coroutine.send(None)
            assert counts(bulkhead) == (1, 2)
            waiting[0].close()
            assert counts(bulkhead) == (1, 1)
        assert counts(bulkhead) == (1, 0)  # granted, and not gone on with
        task = loop.create_task(call())
        await asyncio.sleep(0)
        assert counts(bulkhead) == (1, 1)
        del waiting, coroutine
        gc.collect()
        await task
        assert counts(bulkhead) == (0, 0)

    asyncio.run(main())


def test_a_waiter_finalised_while_the_lock_is_held_is_not_forgotten() -> None:
    """A waiter that is finalised in the middle of a decision is let go when the next call comes or ends."""
    bulkhead = Bulkhead(1, queue=5)

    async def call() -> None:
        async with bulkhead.guard():
            """Hold a place for no time."""

    async def granted_and_dropped() -> None:
        async with bulkhead.guard():
            waiter = call()
            waiter.send(None)
        with bulkhead._lock:
            waiter.close()
        assert counts(bulkhead) == (1, 0)

    async def main() -> None:
        await granted_and_dropped()
        await call()
        assert counts(bulkhead) == (0, 0)
        async with bulkhead.guard():
            waiter = call()
            waiter.send(None)
            with bulkhead._lock:
                waiter.close()
            assert counts(bulkhead) == (1, 1)
        assert counts(bulkhead) == (0, 0)

    asyncio.run(main())


def test_a_coroutine_that_is_never_awaited_takes_nothing() -> None:
    """Nothing is acquired before the first step of a coroutine."""
    bulkhead = Bulkhead(1)

    @bulkhead
    async def call() -> None:
        """Do nothing."""

    pending = call()
    assert counts(bulkhead) == (0, 0)
    pending.close()
    assert counts(bulkhead) == (0, 0)


# --- generators -------------------------------------------------------------------------------------------------------


def test_a_generator_holds_its_place_to_the_end() -> None:
    """A generator takes its place at the first `next` and gives it back when exhausted, closed, or failed."""
    bulkhead = Bulkhead(1)

    @bulkhead
    def rows(count: int) -> Iterator[int]:
        yield from range(count)
        if count > 2:
            raise LookupError

    idle = rows(2)
    assert counts(bulkhead) == (0, 0)
    assert list(rows(2)) == [0, 1]
    assert next(idle) == 0
    assert counts(bulkhead) == (1, 0)
    with pytest.raises(BulkheadFull):
        next(rows(1))
    idle.close()
    assert counts(bulkhead) == (0, 0)
    with pytest.raises(LookupError):
        list(rows(3))
    assert counts(bulkhead) == (0, 0)


@pytest.mark.anyio
async def test_an_async_generator_holds_its_place_to_the_end(anyio_backend: str) -> None:
    """So does an async generator."""
    bulkhead = Bulkhead(1)

    @bulkhead
    async def rows(count: int) -> AsyncIterator[int]:
        for row in range(count):
            yield row

    assert [row async for row in rows(3)] == [0, 1, 2]
    assert counts(bulkhead) == (0, 0)
    begun = rows(3)
    assert await anext(begun) == 0
    assert counts(bulkhead) == (1, 0)
    await begun.aclose()  # type: ignore[attr-defined]
    assert counts(bulkhead) == (0, 0)


# --- what it tells ----------------------------------------------------------------------------------------------------


@every_colour
async def test_events(colour: Colour) -> None:
    """Each refusal is a `CallRejected` that says whether the caller had waited; each good result a `CallSucceeded`."""
    bulkhead = Bulkhead(1, queue=1, max_wait=2, name="db", clock=colour.clock)
    seen: list[Any] = []
    stop = bulkhead.listen(seen.append)
    assert await colour.call(bulkhead, colour.function(["fine"])) == "fine"
    with pytest.raises(LookupError):
        await colour.call(bulkhead, colour.function([LookupError]))
    none = Bulkhead(1, name="none", clock=colour.clock)
    none.listen(seen.append)
    for full in (bulkhead, none):
        async with colour.guard(full):
            with pytest.raises(BulkheadFull):
                await colour.call(full, colour.function(["never"]))
    stop()
    await colour.call(bulkhead, colour.function(["fine"]))
    assert seen == [
        CallSucceeded("db", "bulkhead", 0.0, attempts=1),
        CallRejected("db", "bulkhead", 2.0, reason="max_wait", retry_after=None),
        CallSucceeded("db", "bulkhead", 2.0, attempts=1),
        CallRejected("none", "bulkhead", 2.0, reason="full", retry_after=None),
        CallSucceeded("none", "bulkhead", 2.0, attempts=1),
    ]


def test_a_listener_may_use_the_bulkhead() -> None:
    """A listener runs outside the lock and after the place has come back."""
    bulkhead = Bulkhead(1)
    seen: list[tuple[int, int]] = []
    bulkhead.listen(lambda event: seen.append(counts(bulkhead)))
    bulkhead.call(len, "abc")
    assert seen == [(0, 0)]


def test_the_error_pickles() -> None:
    """`BulkheadFull` crosses a process boundary whole, and is a `Rejected`."""
    error = BulkheadFull("db", None, 10, 5, 1.5)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, Rejected)
    assert str(again) == str(error) == "db: all 10 places are taken, and none became free in 1.5 s"
    assert vars(again) == vars(error)


def test_the_snapshot_is_plain() -> None:
    """A snapshot is ready for JSON and shows the counts of the moment."""
    bulkhead = Bulkhead(3, queue=7, name="db")
    with bulkhead.guard():
        view = json.loads(json.dumps(bulkhead.snapshot()))
    assert view == {"name": "db", "kind": "bulkhead", "limit": 3, "queue": 7, "in_flight": 1, "queued": 0}


def test_replace_gives_a_fresh_one() -> None:
    """`replace` changes parameters, and its places are free."""
    bulkhead = Bulkhead(1, queue=3)
    with bulkhead.guard():
        wider = bulkhead.replace(limit=2)
        assert wider.snapshot() == {**bulkhead.snapshot(), "limit": 2, "in_flight": 0}


def test_a_refusal_leaves_no_cycle() -> None:
    """A thousand refusals leave nothing for the garbage collector."""
    bulkhead = Bulkhead(1, queue=1, max_wait=1, clock=VirtualClock())

    @bulkhead
    def call() -> None:
        """Do nothing."""

    def refused() -> None:
        with contextlib.suppress(BulkheadFull):
            call()

    with bulkhead.guard():
        refused()
        gc.collect()
        gc.disable()
        try:
            for _ in range(1_000):
                refused()
            assert gc.collect() == 0
        finally:
            gc.enable()


# --- wrong use --------------------------------------------------------------------------------------------------------

BAD: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((0,), {}, "limit must be an integer, 1 or more, got 0"),
    ((-1,), {}, "limit must be an integer, 1 or more, got -1"),
    ((1.5,), {}, "limit must be an integer, 1 or more, got 1.5"),
    ((True,), {}, "limit must be an integer, 1 or more, got True"),
    ((math.inf,), {}, "limit must be an integer, 1 or more, got inf"),
    (("10",), {}, "limit must be an integer, 1 or more, got '10'"),
    ((None,), {}, "limit must be an integer, 1 or more, got None"),
    ((1,), {"queue": -1}, "queue must be an integer, 0 or more, got -1"),
    ((1,), {"queue": True}, "queue must be an integer, 0 or more, got True"),
    ((1,), {"queue": 1.0}, "queue must be an integer, 0 or more, got 1.0"),
    ((1,), {"queue": math.inf}, "queue must be an integer, 0 or more, got inf"),
    ((1,), {"queue": None}, "queue must be an integer, 0 or more, got None"),
    ((1,), {"max_wait": -1}, "max_wait must be a number of seconds, 0 or more, or math.inf, got -1"),
    ((1,), {"max_wait": math.nan}, "max_wait must be a number of seconds, 0 or more, or math.inf, got nan"),
    ((1,), {"max_wait": "1"}, "max_wait must be a number of seconds, 0 or more, or math.inf, got '1'"),
    ((1,), {"max_wait": None}, "max_wait must be a number of seconds, 0 or more, or math.inf, got None"),
    ((1,), {"max_wait": False}, "max_wait must be a number of seconds, 0 or more, or math.inf, got False"),
    ((1,), {"name": ""}, "name must be a string that is not empty, or None, got ''"),
]


@pytest.mark.parametrize(("args", "kwargs", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_refused(args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
    """A wrong parameter is named, with its rule and the value."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        Bulkhead(*args, **kwargs)


def test_wrong_forms_say_what_to_write() -> None:
    """Used bare, as a block, or with a coroutine, it says what to write instead."""

    def fetch() -> None:
        """Do nothing."""

    async def fetch_async() -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=re.escape("write @Bulkhead(10)")):
        Bulkhead(fetch)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=re.escape("write with policy.guard():")), Bulkhead(1):
        pass
    with pytest.raises(TypeError, match=re.escape("write policy.call(fn, arguments...)")):
        Bulkhead(1).call(fetch_async())  # type: ignore[call-overload]


def test_a_blocking_wait_on_a_loop_warns_once() -> None:
    """A blocking wait on a thread that runs an event loop warns, once for each policy."""
    bulkhead = Bulkhead(1, queue=1, max_wait=1, name="db", clock=VirtualClock())

    async def main() -> None:
        with bulkhead.guard():
            warned = pytest.warns(BlockingWarning, match="db waits on a thread that runs an event loop")
            with warned, pytest.raises(BulkheadFull):
                bulkhead.call(len, "never")
            with pytest.raises(BulkheadFull):
                bulkhead.call(len, "never")

    asyncio.run(main())
