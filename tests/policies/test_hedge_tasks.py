"""A hedge on an event loop: cancelled losers, cancelled callers, and nothing left over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import trio

from resilience import Bulkhead, CircuitBreaker, DeadlineExceeded, Hedge, Pipeline, TimedOut, Timeout, context
from tests.colours import Colour, Job, async_colours
from tests.garbage import counted, nothing_for_the_collector

CANCELLED = (asyncio.CancelledError, trio.Cancelled)


def hedge(**changes: Any) -> Hedge:
    """A hedge that sends a copy after a second, of every call if need be."""
    return Hedge(**{"after": 1, "max_extra_load": 1.0, "name": "hedge", **changes})


class Service:
    """A service whose first call takes long, and that notes how each of its calls ended."""

    def __init__(self, colour: Colour, *, cleanup: float = 0.0, bitter: BaseException | None = None) -> None:
        self.colour = colour
        self.cleanup = cleanup
        self.bitter = bitter
        self.begun = 0
        self.ended: list[tuple[int, float, str]] = []

    async def read(self) -> str:
        """The first call takes 100 seconds, each further one half a second."""
        number, self.begun = self.begun, self.begun + 1
        how = "returned"
        try:
            await self.colour.sleep(0.5 if number else 100)
        except CANCELLED:
            how = "cancelled"
            if self.cleanup:
                await shielded(self.colour, self.cleanup)
            if self.bitter is not None:
                raise self.bitter from None
            raise
        finally:
            self.ended.append((number, self.colour.clock.now(), how))
        return f"call {number}"


async def shielded(colour: Colour, seconds: float) -> None:
    """Go on for a while in spite of a cancellation."""
    if colour.name == "trio":
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
    else:
        until = colour.clock.now() + seconds
        while (left := until - colour.clock.now()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)


# --- losers -----------------------------------------------------------------------------------------------------------


@async_colours
async def test_losers_have_ended_before_it_returns(colour: Colour) -> None:
    """The call that lost is cancelled and has run its `finally` when the answer is there."""
    service = Service(colour)
    assert await hedge().call_async(service.read) == "call 1"
    assert service.ended == [(1, 1.5, "returned"), (0, 1.5, "cancelled")]
    assert colour.clock.now() == 1.5


@async_colours
async def test_a_loser_that_takes_its_time_is_waited_for(colour: Colour) -> None:
    """Cleaning up belongs to the call: the answer comes when it is done."""
    service = Service(colour, cleanup=7)
    assert await hedge().call_async(service.read) == "call 1"
    assert service.ended == [(1, 1.5, "returned"), (0, 8.5, "cancelled")]
    assert colour.clock.now() == 8.5


@pytest.mark.parametrize("bitter", [OSError("cleanup"), ExceptionGroup("cleanup", [OSError()])], ids=repr)
@async_colours
async def test_a_loser_that_fails_in_its_cleanup_is_nobodys_business(colour: Colour, bitter: Exception) -> None:
    """There is an answer, and how a loser failed afterwards does not spoil it, in no group either."""
    assert await hedge().call_async(Service(colour, bitter=bitter).read) == "call 1"
    await colour.sleep(1)


@async_colours
async def test_an_interrupt_in_a_losers_cleanup_is_not_lost(colour: Colour) -> None:
    """KeyboardInterrupt is raised wherever it comes up, an answer or not."""
    interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        await hedge().call_async(Service(colour, bitter=interrupt).read)
    assert caught.value is interrupt


@async_colours
async def test_a_loser_that_answers_in_spite_of_its_cancellation_has_lost(colour: Colour) -> None:
    """A call that swallows its cancellation and returns is too late."""
    begun: list[int] = []

    async def stubborn() -> int:
        begun.append(len(begun))
        number = begun[-1]
        with contextlib.suppress(*CANCELLED):
            await colour.sleep(0.5 if number else 100)
        return number

    assert await hedge().call_async(stubborn) == 1


@async_colours
async def test_losers_settle_their_gates(colour: Colour) -> None:
    """The place and the trial that a loser held are given back, and its cancellation counts for nothing."""
    bulkhead, breaker = Bulkhead(2), CircuitBreaker(1, on=Exception)
    assert await Pipeline(hedge(), breaker, bulkhead).call_async(Service(colour).read) == "call 1"
    assert bulkhead.snapshot()["in_flight"] == 0
    assert breaker.state == "closed"
    assert breaker.snapshot()["failures"] == 0


@async_colours
async def test_a_nursery_inside_a_loser_fails_quietly(colour: Colour) -> None:
    """Neither does a loser that is a group of tasks itself, one of which fails when it is cancelled."""
    begun: list[int] = []

    async def child(*, bitter: bool) -> None:
        try:
            await colour.sleep(100)
        finally:
            if bitter:
                raise OSError

    async def work() -> str:
        begun.append(1)
        if len(begun) > 1:
            return "copy"
        if colour.name == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: child(bitter=True))
                nursery.start_soon(lambda: child(bitter=False))
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(child(bitter=True))
                group.create_task(child(bitter=False))
        return "call"

    assert await hedge().call_async(work) == "copy"


# --- cancelled callers ------------------------------------------------------------------------------------------------


@async_colours
async def test_a_cancelled_caller_leaves_nothing_running(colour: Colour) -> None:
    """Cancelling a hedged call cancels all of its copies, and they have ended when it has."""
    service = Service(colour)
    slow = hedge(after=1)
    service.begun = 0

    async def read() -> str:
        try:
            await colour.sleep(100)
        finally:
            service.ended.append((0, colour.clock.now(), "ended"))
        return "never"

    job = colour.start(slow(read))
    await colour.sleep(3)
    assert service.ended == []
    job.cancel()
    error = await job.outcome()
    assert isinstance(error, CANCELLED), error
    assert service.ended == [(0, 3.0, "ended")] * 2


@async_colours
async def test_a_caller_who_is_cancelled_while_losers_clean_up_is_cancelled(colour: Colour) -> None:
    """There is an answer already, but nobody who waits for it."""
    service = Service(colour, cleanup=10)
    job = colour.start(hedge()(service.read))
    await colour.sleep(5)
    job.cancel()
    outcome = await job.outcome()
    assert service.ended[-1] == (0, 11.5, "cancelled")
    if colour.name == "asyncio":
        assert isinstance(outcome, asyncio.CancelledError)


@async_colours
async def test_cancelled_in_the_tick_in_which_a_copy_wins(colour: Colour) -> None:
    """The call either returns its answer or is cancelled, and in both cases everything has ended."""
    for order in ("cancel first", "answer first"):
        service = Service(colour)
        started = colour.clock.now()
        jobs: list[Job] = []

        async def canceller(jobs: list[Job] = jobs) -> None:
            await colour.sleep(1.5)
            jobs[0].cancel()

        if order == "cancel first":
            colour.start(canceller)
            await colour.until(lambda: True)
        job = colour.start(hedge()(service.read))
        jobs.append(job)
        if order == "answer first":
            colour.start(canceller)
        outcome = await job.outcome()
        assert outcome == "call 1" or isinstance(outcome, CANCELLED)
        assert colour.clock.now() == started + 1.5
        assert sorted(number for number, _, _ in service.ended) == [0, 1]


@async_colours
async def test_a_scope_around_cuts_all_copies(colour: Colour) -> None:
    """A timeout or a deadline outside ends every copy, and raises its own error and no group."""
    for error, around in ((TimedOut, Timeout(3)), (DeadlineExceeded, None)):
        service = Service(colour)
        service.begun = -1  # the copy takes long, too

        async def read(service: Service = service) -> str:
            service.begun = 0
            return await service.read()

        with pytest.raises(error) as caught:
            if around is not None:
                await Pipeline(around, hedge()).call_async(read)
            else:
                async with context.deadline(3):
                    await hedge().call_async(read)
        assert type(caught.value) is error
        assert [how for _, _, how in service.ended] == ["cancelled", "cancelled"]
        assert not isinstance(caught.value.__cause__, BaseExceptionGroup)


@async_colours
async def test_a_timeout_inside_cuts_one_copy(colour: Colour) -> None:
    """Each copy has a bound of its own, whose error is a failed attempt like any other."""
    service = Service(colour)
    assert await Pipeline(hedge(on=TimedOut), Timeout(3)).call_async(service.read) == "call 1"
    with pytest.raises(TimedOut):
        await Pipeline(hedge(on=TimedOut), Timeout(3)).call_async(colour.function([(9, "late"), ...]))


def test_a_copy_that_raises_a_cancellation_of_its_own_asyncio() -> None:
    """A `CancelledError` that nobody asked for is raised like any other end, and hangs nobody."""

    async def scenario(colour: Colour) -> None:
        async def odd() -> None:
            raise asyncio.CancelledError("own")

        with pytest.raises(asyncio.CancelledError, match="own"):
            await hedge().call_async(odd)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


def test_the_callers_cancellations_are_counted_as_without_a_hedge_asyncio() -> None:
    """`asyncio.timeout` around a hedged call tells its own cancellation, so it becomes a `TimeoutError`."""

    async def scenario(colour: Colour) -> None:
        service = Service(colour, cleanup=2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await hedge().call_async(service.read)
        assert colour.clock.now() == 2.5
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


def test_a_scope_of_trios_own_around() -> None:
    """`trio.move_on_after` around a hedged call absorbs its own cancellation, also while a loser cleans up."""

    async def scenario(colour: Colour) -> None:
        for cleanup in (0.0, 2.0):
            with trio.move_on_after(0.5) as scope:
                await hedge().call_async(Service(colour, cleanup=cleanup).read)
            assert scope.cancelled_caught
        with trio.move_on_after(3) as scope:
            await hedge().call_async(Service(colour, cleanup=5).read)
        await trio.sleep(1)

    colour = Colour.named("trio")
    colour.run(lambda: scenario(colour))


def test_a_cancelled_caller_hears_cancelled_and_no_group_trio() -> None:
    """What an `except trio.Cancelled` around a hedged call is written for, arrives there."""

    async def scenario(colour: Colour) -> None:
        seen: list[BaseException] = []
        with trio.move_on_after(2):
            try:
                await hedge().call_async(colour.function([(100, "late"), ...]))
            except BaseException as error:
                seen.append(error)
                raise
        assert [type(error) for error in seen] == [trio.Cancelled]

    colour = Colour.named("trio")
    colour.run(lambda: scenario(colour))


def test_a_call_that_is_thrown_away_asyncio() -> None:
    """A hedged call that is closed in the middle cancels its copies, with the loop running or not."""

    async def scenario(colour: Colour) -> None:
        service = Service(colour)
        coroutine = hedge()(service.read)()
        coroutine.send(None)
        await asyncio.sleep(0)
        coroutine.close()
        await asyncio.sleep(1)
        assert service.ended == [(0, 0.0, "cancelled")]

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


@async_colours
async def test_a_clock_that_fails_is_heard_of(colour: Colour) -> None:
    """An error of the clock is raised, and the call that was under way is cancelled."""

    class Broken:
        def now(self) -> float:
            return 0.0

        def sleep(self, seconds: float) -> None:
            raise OSError("no time")

        async def sleep_async(self, seconds: float) -> None:
            raise OSError("no time")

    service = Service(colour)
    with pytest.raises(OSError, match="no time"):
        await hedge(clock=Broken()).call_async(service.read)
    assert [how for _, _, how in service.ended] == ["cancelled"]


@async_colours
async def test_one_that_is_never_awaited_costs_nothing(colour: Colour) -> None:
    """Nothing is counted before the first step of the coroutine."""
    policy = hedge()
    policy(colour.function([]))().close()
    assert policy.snapshot()["credit"] == 0.0


# --- garbage ----------------------------------------------------------------------------------------------------------


SCRIPTS: dict[str, list[Any]] = {
    "first answers": [(0.5, "call")],
    "copy answers": [(50, "call"), (0.5, "copy")],
    "copy after a failure": [(0.5, OSError()), (0.5, "copy")],
    "all fail": [OSError, OSError],
    "not named": [(50, "call"), (0.5, ZeroDivisionError)],
    "interrupted": [(50, "call"), (0.5, KeyboardInterrupt)],
    "cut": [(50, "call"), ...],
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_no_path_leaves_cyclic_garbage_asyncio(case: str) -> None:
    """Whatever becomes of a hedged call, reference counting frees all of it."""

    async def scenario(colour: Colour) -> None:
        policy = Pipeline(Timeout(5), hedge(on=OSError))

        async def once() -> None:
            with contextlib.suppress(OSError, ZeroDivisionError, KeyboardInterrupt):
                await policy.call_async(colour.function(SCRIPTS[case]))

        await once()
        await asyncio.sleep(1)
        with nothing_for_the_collector():
            await once()
            await asyncio.sleep(1)

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


@pytest.mark.parametrize("case", SCRIPTS)
def test_no_path_leaves_cyclic_garbage_trio(case: str) -> None:
    """Whatever becomes of a hedged call, it leaves no more than the same tasks in a bare nursery do."""

    async def scenario(colour: Colour) -> None:
        policy = Pipeline(Timeout(5), hedge(on=OSError))

        async def once() -> None:
            with contextlib.suppress(OSError, ZeroDivisionError, KeyboardInterrupt):
                await policy.call_async(colour.function(SCRIPTS[case]))

        async def bare() -> None:
            with trio.move_on_after(0.5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 50)
                    nursery.start_soon(trio.sleep, 50)
                    nursery.start_soon(trio.sleep, 50)

        left: dict[str, int] = {}
        for name, run in (("bare", bare), ("hedged", once)):
            await run()
            await trio.sleep(1)
            with counted() as garbage:
                await run()
                await trio.sleep(1)
            left[name] = garbage()
        assert left["hedged"] <= left["bare"]

    colour = Colour.named("trio")
    colour.run(lambda: scenario(colour))
