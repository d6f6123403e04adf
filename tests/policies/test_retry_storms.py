"""Cancellation from outside at any point: nothing is left behind in the task, in the loop or in the context."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from typing import Any

import anyio
import pytest
import trio

from resilience import DeadlineExceeded, Fallback, Pipeline, Retry, TimedOut, Timeout, context
from resilience._attempt import current_attempt
from tests.colours import Colour, async_colours, every_colour

CANCELLED = (asyncio.CancelledError, trio.Cancelled)


async def storm(colour: Colour, tasks: int, seed: int) -> list[Any]:
    """So many calls that fail, hang, are cut and are cancelled at random; the outcome of each."""
    chance = random.Random(seed)
    policy = Pipeline(
        Fallback(on=KeyError, value="instead"),
        Timeout(20),
        Retry(on=OSError, attempts=5, within=12, backoff=lambda retry, previous, u: u * 4, rng=chance.random),
        Timeout(4),
    )

    async def work() -> str:
        await colour.sleep(chance.choice([0, 0, 1, 3, 6]))
        if chance.random() < 0.6:
            raise chance.choice([OSError, KeyError, LookupError])
        return "done"

    async def caller() -> Any:
        before = dict(contextvars.copy_context())
        try:
            return await policy.call_async(work)
        finally:
            assert context.remaining() is None
            assert current_attempt() is None
            assert dict(contextvars.copy_context()) == before

    jobs = [colour.start(caller) for _ in range(tasks)]
    doomed = [job for job in jobs if chance.random() < 0.7]
    for job in chance.sample(doomed, len(doomed)):
        if chance.random() < 0.1:
            await colour.sleep(chance.choice([0.5, 1, 2]))
        job.cancel()
    return [await job.outcome() for job in jobs]


async def check_storm(colour: Colour, tasks: int, seed: int) -> None:
    """Run a storm and see that it has passed without a trace."""
    outcomes = await storm(colour, tasks, seed)
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds <= {str, TimedOut, DeadlineExceeded, OSError, LookupError, *CANCELLED}
    assert {"done", "instead"} <= {outcome for outcome in outcomes if isinstance(outcome, str)}
    assert any(isinstance(outcome, CANCELLED) for outcome in outcomes)
    assert any(isinstance(outcome, TimedOut) for outcome in outcomes)
    if colour.name == "asyncio":
        loop: Any = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


@pytest.mark.parametrize("seed", range(3))
@async_colours
async def test_a_storm_of_cancellations_leaves_nothing(colour: Colour, seed: int) -> None:
    """Calls that are cancelled at random points end as what they are, and leave no timer, deadline or attempt."""
    await check_storm(colour, 400, seed)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(20))
@async_colours
async def test_ten_thousand_tasks_in_a_storm(colour: Colour, seed: int) -> None:
    """The same with ten thousand tasks and twenty seeds."""
    await check_storm(colour, 10_000, seed)


@every_colour
async def test_no_thread_is_started(colour: Colour) -> None:
    """Retry, timeout and fallback run everything on the caller's own thread."""
    before = threading.active_count()
    seen: list[Any] = []

    def work() -> None:
        seen.append(threading.current_thread())
        if len(seen) < 3:
            raise OSError

    async def work_async() -> None:
        work()

    bound = Timeout(60) if colour.is_async else Timeout(60, thread=False)
    policy = Pipeline(Fallback(on=KeyError, value=None), Retry(on=OSError, backoff=1, within=100), bound)
    await colour.call(policy, work_async if colour.is_async else work)
    assert seen == [threading.current_thread()] * 3
    assert threading.active_count() == before


@async_colours
async def test_a_coroutine_that_is_never_awaited_costs_nothing(colour: Colour) -> None:
    """Before its first step a bounded call has set no timer and opened no deadline."""

    async def work() -> None: ...

    for policy in (Timeout(5), Retry(on=OSError, within=5), Fallback(on=OSError, value=None)):
        coroutine = policy(work)()
        assert context.remaining() is None
        if colour.name == "asyncio":
            loop: Any = asyncio.get_running_loop()
            assert loop._scheduled == []
        coroutine.close()


@pytest.mark.parametrize(("ours", "theirs"), [(2, 5), (5, 2)])
@async_colours
async def test_beside_anyios_cancel_scopes(colour: Colour, ours: float, theirs: float) -> None:
    """A timeout of anyio's, inside or outside of ours, knows its own cancellation and leaves us ours."""
    late = colour.function([(100, "late"), ...])
    with pytest.raises(TimeoutError) as outside, anyio.fail_after(theirs):
        await Timeout(ours).call_async(late)
    assert isinstance(outside.value, TimedOut) == (ours < theirs)

    async def inside() -> None:
        with anyio.fail_after(theirs):
            await late()

    with pytest.raises(TimeoutError) as caught:
        await Timeout(ours).call_async(inside)
    assert isinstance(caught.value, TimedOut) == (ours < theirs)
    await colour.sleep(1)


@pytest.mark.parametrize("bitter", [False, True])
@async_colours
async def test_a_task_group_in_an_attempt_that_is_cut(colour: Colour, bitter: bool) -> None:
    """An attempt with tasks of its own is cut as a whole at `within`; what they raise meanwhile is not retried."""
    begun: list[int] = []

    async def child(name: int) -> None:
        try:
            await colour.sleep(100)
        finally:
            if bitter and name == 1:
                raise OSError(name)

    async def group() -> None:
        begun.append(1)
        async with anyio.create_task_group() as tasks:
            for name in range(3):
                tasks.start_soon(child, name)

    with pytest.raises((TimedOut, ExceptionGroup)) as caught:
        await Retry(on=(OSError, ExceptionGroup), backoff=0, attempts=9, within=3).call_async(group)
    assert isinstance(caught.value, ExceptionGroup if bitter else TimedOut)
    if bitter:
        assert caught.group_contains(OSError)
        assert not caught.group_contains(CANCELLED)
    assert begun == [1]
    await colour.sleep(1)
