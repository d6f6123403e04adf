"""A call that is cancelled: too slow, which is a failure, or no longer wanted, which says nothing.

Everything here is about whose cancellation it was. Ours, from a `Timeout`, a deadline or a retry's `within` around the
breaker, means that the callee took too long. Any other is the caller's, and neutral.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import pytest
import trio

from resilience import (
    CircuitBreaker,
    DeadlineExceeded,
    FailureRate,
    Pipeline,
    Retry,
    SlowRate,
    TimedOut,
    Timeout,
    context,
)
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours, every_colour
from tests.policies.test_breaker import Boom, by_hand, fails, half_open, in_every_form, through, works


async def sleeps(colour: Colour, seconds: float) -> None:
    """Sleep as code does that knows nothing of us."""
    if colour.name == "trio":
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def counted(breaker: CircuitBreaker) -> tuple[int, int]:
    """(failures, calls)."""
    snapshot = breaker.snapshot()
    return snapshot["failures"], snapshot["calls"]


def rate(**parameters: Any) -> CircuitBreaker:
    """A breaker that counts every finished call and does not open."""
    return CircuitBreaker(FailureRate(1.0, calls=100), **parameters)


# --- ours -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def timeout_of_two():
    async with Timeout(2).guard():
        yield


@asynccontextmanager
async def retry_within_two():
    async for attempt in Retry(on=Boom, within=2).attempts():
        with attempt:
            yield


OURS: dict[str, tuple[Callable[[], AbstractAsyncContextManager[Any]], type[TimedOut]]] = {
    "Timeout": (timeout_of_two, TimedOut),
    "deadline": (lambda: context.deadline(2), DeadlineExceeded),
    "within": (retry_within_two, DeadlineExceeded),
}
by_ours = pytest.mark.parametrize("ours", OURS)


@by_ours
@in_every_form
@async_colours
async def test_a_call_that_we_cut_is_a_failure(colour: Colour, form: str, ours: str) -> None:
    """Point 5: a breaker inside an outer timeout, deadline or `within` of ours counts what is cut as failed."""
    breaker = rate()
    around, kind = OURS[ours]
    for n in (1, 2, 3):
        with pytest.raises(kind):
            async with around():
                await through(colour, breaker, form, lambda: sleeps(colour, 10))
        assert counted(breaker) == (n, n)
    assert breaker.snapshot()["last_error"][0] in {"CancelledError", "Cancelled"}


@by_ours
@async_colours
async def test_a_trial_that_we_cut_opens_the_circuit_again(colour: Colour, ours: str) -> None:
    """A hung dependency is found out by the timeout around the trial, and the breaker stays open."""
    breaker = CircuitBreaker(1, cooldown=10)
    breaker.open()
    await sleeps(colour, 10)
    around, kind = OURS[ours]
    with pytest.raises(kind):
        async with around():
            await through(colour, breaker, "call", lambda: sleeps(colour, 10))
    assert (breaker.state, breaker.snapshot()["retry_after"]) == ("open", 10.0)


@async_colours
async def test_the_taught_order_counts_each_timeout_once(colour: Colour) -> None:
    """Whole timeout, breaker, attempt timeout: the inner one is an error to the breaker, the outer one a cut."""
    for whole, attempt, error in [(9, 2, "TimedOut"), (2, 9, "Cancel")]:
        breaker = rate()
        pipeline = Pipeline(Timeout(whole), breaker, Timeout(attempt))
        with pytest.raises(TimedOut):
            await colour.call(pipeline, lambda_async(colour, 10))
        assert counted(breaker) == (1, 1)
        assert breaker.snapshot()["last_error"][0].startswith(error)


def lambda_async(colour: Colour, seconds: float) -> Any:
    """An async function that sleeps."""

    async def fn() -> None:
        await sleeps(colour, seconds)

    return fn


@every_colour
async def test_our_own_timeout_inside_is_an_error_like_any_other(colour: Colour) -> None:
    """`TimedOut` from within matches `Exception` and `OSError`, as it is one, and not what is none."""
    for on, n in [(Exception, 1), (OSError, 1), (TimeoutError, 1), (TimedOut, 1), (ConnectionError, 0)]:
        breaker = rate(on=on)
        with pytest.raises(TimedOut):
            await colour.call(breaker, colour.function([TimedOut("timeout", 2.0)]))
        assert counted(breaker) == (n, n)


@async_colours
async def test_a_cut_of_ours_wins_over_a_cancellation_in_the_same_turn(colour: Colour) -> None:
    """The mark is set before the cut, so whoever else cancels meanwhile does not hide that the call was too slow."""
    breaker = rate()

    async def slow_to_go() -> None:
        try:
            await sleeps(colour, 10)
        finally:
            job.cancel()

    async def caller() -> None:
        async with Timeout(2).guard():
            await through(colour, breaker, "call", slow_to_go)

    job = colour.start(caller)
    await job.outcome()
    assert counted(breaker) == (1, 1)


# --- the caller's -----------------------------------------------------------------------------------------------------


async def asyncio_cancel(call: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(call())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])


async def asyncio_timeout(call: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await call()


async def asyncio_wait_for(call: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 1)


async def asyncio_sibling(call: Callable[[], Any]) -> None:
    async def sibling() -> None:
        await asyncio.sleep(1)
        raise KeyError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(call())
            group.create_task(sibling())


async def trio_cancel(call: Callable[[], Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def trio_move_on(call: Callable[[], Any]) -> None:
    with trio.move_on_after(1):
        await call()


async def trio_fail_after(call: Callable[[], Any]) -> None:
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):
        await call()


async def trio_sibling(call: Callable[[], Any]) -> None:
    async def sibling() -> None:
        await trio.sleep(1)
        raise KeyError

    with pytest.raises(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(sibling)


THEIRS = {
    name: way
    for name, way in globals().items()
    if name.startswith(("asyncio_", "trio_")) and name != "asynccontextmanager"
}
by_theirs = pytest.mark.parametrize("theirs", THEIRS)


def run_with(theirs: str, scenario: Callable[[Colour], Any]) -> None:
    """Run a scenario on the loop that this way of cancelling belongs to."""
    colour = Colour.named(theirs.partition("_")[0])
    colour.run(lambda: scenario(colour))


@by_theirs
@in_every_form
def test_a_cancellation_by_the_caller_is_neutral(theirs: str, form: str) -> None:
    """Point 5, B4: whichever way a caller goes away, nothing is counted, nothing reset, nothing kept."""

    async def scenario(colour: Colour) -> None:
        breaker = CircuitBreaker(2, on=Boom)
        with pytest.raises(Boom):
            await through(colour, breaker, form, fails)
        await THEIRS[theirs](lambda: through(colour, breaker, form, lambda: sleeps(colour, 10)))
        assert counted(breaker) == (1, 1)
        with pytest.raises(Boom):
            await through(colour, breaker, form, fails)
        assert breaker.state == "open"

    run_with(theirs, scenario)


@by_theirs
def test_a_cancelled_trial_leaves_the_circuit_half_open(theirs: str) -> None:
    """B4: the place comes back, and the next trial decides."""

    async def scenario(colour: Colour) -> None:
        breaker = CircuitBreaker(1, cooldown=10)
        breaker.open()
        await sleeps(colour, 10)
        await THEIRS[theirs](lambda: through(colour, breaker, "call", lambda: sleeps(colour, 10)))
        assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)
        await through(colour, breaker, "call", works)
        assert breaker.state == "closed"

    run_with(theirs, scenario)


@by_theirs
def test_a_cancellation_by_the_caller_inside_a_bound_of_ours_is_still_the_callers(theirs: str) -> None:
    """Point 5: with time left on every deadline around it, a cancelled call says nothing."""

    async def scenario(colour: Colour) -> None:
        breaker = rate()

        async def call() -> None:
            async with context.deadline(30), Timeout(20).guard():
                await through(colour, breaker, "call", lambda: sleeps(colour, 10))

        await THEIRS[theirs](call)
        assert counted(breaker) == (0, 0)

    run_with(theirs, scenario)


@by_theirs
def test_on_cancel_failure_counts_the_caller_too(theirs: str) -> None:
    """Where cancelling is how slowness shows, `on_cancel="failure"` makes every cancellation one."""

    async def scenario(colour: Colour) -> None:
        breaker = rate(on_cancel="failure")
        await THEIRS[theirs](lambda: through(colour, breaker, "call", lambda: sleeps(colour, 10)))
        assert counted(breaker) == (1, 1)

    run_with(theirs, scenario)


@by_theirs
@pytest.mark.parametrize(("slower_than", "failures"), [(0.5, 1), (1.0, 0), (2.0, 0)])
def test_a_cancelled_call_is_slow_if_it_was_by_then(theirs: str, slower_than: float, failures: int) -> None:
    """With a `SlowRate`, a call given up after more than the bound was slow; one given up before says nothing."""

    async def scenario(colour: Colour) -> None:
        breaker = CircuitBreaker(SlowRate(1.0, slower_than=slower_than, calls=100))
        await THEIRS[theirs](lambda: through(colour, breaker, "call", lambda: sleeps(colour, 10)))
        assert counted(breaker) == (failures, failures)

    run_with(theirs, scenario)


@by_theirs
def test_a_caller_that_goes_away_after_the_deadline_tells_of_a_failure(theirs: str) -> None:
    """Once the current deadline has passed, a cancelled call was too slow, whoever cancels it."""

    async def scenario(colour: Colour) -> None:
        breaker, clock = rate(), VirtualClock()

        async def call() -> None:
            # A plain deadline cuts nothing, and its own clock says that it is over.
            with context.deadline(5, clock=clock):
                clock.advance(5)
                await through(colour, breaker, "call", lambda: sleeps(colour, 10))

        await THEIRS[theirs](call)
        assert counted(breaker) == (1, 1)

    run_with(theirs, scenario)


# --- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_cancel", "n"), [("ignore", 0), ("failure", 1)])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_group_that_holds_a_cancellation_is_a_cancellation(loop: str, on_cancel: Any, n: int) -> None:
    """What a nursery may raise when it is cancelled while a child fails is no failure of its own."""

    async def scenario(colour: Colour) -> None:
        breaker = rate(on_cancel=on_cancel)

        async def fn() -> None:
            try:
                await sleeps(colour, 10)
            except BaseException as cancelled:
                raise BaseExceptionGroup("", [Boom(), BaseExceptionGroup("", [cancelled])]) from None

        await (asyncio_cancel if loop == "asyncio" else trio_cancel)(lambda: outcome_in_peace(breaker, fn))
        assert counted(breaker) == (n, n)

    async def outcome_in_peace(breaker: CircuitBreaker, fn: Any) -> None:
        with pytest.raises(BaseExceptionGroup):
            await breaker.call(fn)

    run_with(loop, scenario)


def test_a_group_that_holds_a_way_out_of_the_program_is_neither() -> None:
    """A `KeyboardInterrupt` beside a cancellation is never counted, not even by `on_cancel="failure"`."""
    breaker = rate(on_cancel="failure")
    for exit_ in (KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        with pytest.raises(BaseExceptionGroup), breaker.guard():
            raise BaseExceptionGroup("", [asyncio.CancelledError(), BaseExceptionGroup("", [exit_])])
        with pytest.raises(type(exit_)), breaker.guard():
            raise exit_
    assert counted(breaker) == (0, 0)


@async_colours
async def test_the_errors_of_a_nursery_are_judged_as_a_group(colour: Colour) -> None:
    """An `ExceptionGroup` of failures is a failure; one that holds anything `on` does not name is not."""
    for errors, n in [([Boom(), Boom()], 1), ([Boom(), KeyError()], 0)]:
        breaker = rate(on=Boom)

        async def child(error: Exception) -> None:
            raise error

        async def fn(errors: list[Exception] = errors) -> None:
            if colour.name == "trio":
                async with trio.open_nursery() as nursery:
                    for error in errors:
                        nursery.start_soon(child, error)
            else:
                async with asyncio.TaskGroup() as group:
                    for error in errors:
                        group.create_task(child(error))

        with pytest.raises(ExceptionGroup):
            await breaker.call(fn)
        assert counted(breaker) == (n, n)


# --- without a loop, and beside one -----------------------------------------------------------------------------------


def test_a_cancellation_in_plain_code_is_judged_alike() -> None:
    """Sync code between a loop and its callee may see one pass by; it is a cancellation there as well."""
    clock = VirtualClock()
    breaker = rate(clock=clock)
    with pytest.raises(asyncio.CancelledError), breaker.guard():
        raise asyncio.CancelledError
    assert counted(breaker) == (0, 0)
    with pytest.raises(asyncio.CancelledError), context.deadline(1, clock=clock), breaker.guard():
        clock.advance(1)
        raise asyncio.CancelledError
    assert counted(breaker) == (1, 1)


def test_without_any_loop_imported_nothing_is_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The breaker asks `sys.modules`, and imports neither loop to find out."""
    import sys

    monkeypatch.delitem(sys.modules, "asyncio")
    monkeypatch.delitem(sys.modules, "trio")
    breaker = rate(on_cancel="failure")
    with pytest.raises(asyncio.CancelledError), breaker.guard():
        raise asyncio.CancelledError
    assert counted(breaker) == (0, 0)
    assert "asyncio" not in sys.modules


def test_a_cancellation_that_reaches_a_worker_thread_is_the_callers() -> None:
    """A plain call in a worker thread, cancelled through the loop, ends as that cancellation and is neutral."""
    breaker = rate()

    def plain() -> None:
        trio.from_thread.run(trio.sleep, 10)

    async def main() -> bool:
        async with context.deadline(30):
            with trio.move_on_after(1) as scope:
                await trio.to_thread.run_sync(breaker.call, plain)
        return scope.cancelled_caught

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert counted(breaker) == (0, 0)


@async_colours
async def test_awaiting_a_task_that_somebody_else_cancelled_is_neutral(colour: Colour) -> None:
    """The call's own task goes on; what it waited for was cancelled, which says nothing of the callee."""
    if colour.name == "trio":
        return
    breaker = rate()
    victim = asyncio.ensure_future(asyncio.Event().wait())

    async def fn() -> None:
        victim.cancel()
        await victim

    with pytest.raises(asyncio.CancelledError):
        await breaker.call(fn)
    assert counted(breaker) == (0, 0)


@async_colours
async def test_a_trial_stopped_before_its_first_step_takes_nothing(colour: Colour) -> None:
    """A task cancelled before it ran never was a call."""
    breaker = half_open(colour.clock)
    job = colour.start(lambda: through(colour, breaker, "call", works))
    job.cancel()
    await job.outcome()
    assert breaker.snapshot()["trials"] == 0


def test_a_coroutine_closed_in_the_middle_is_neutral() -> None:
    """A `GeneratorExit` gives the place back and counts nothing."""
    breaker = half_open(VirtualClock())

    class Suspends:
        def __await__(self):
            yield

    async def fn() -> None:
        await Suspends()

    call = breaker.call(fn)
    call.send(None)
    assert breaker.snapshot()["trials"] == 1
    call.close()
    assert (breaker.state, breaker.snapshot()["trials"], breaker.snapshot()["calls"]) == ("half_open", 0, 0)
    with nullcontext():
        by_hand(breaker.call(works))
    assert breaker.state == "closed"
