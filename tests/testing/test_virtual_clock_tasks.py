"""The virtual clock and tasks: who wakes when, and in which order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from resilience.testing import VirtualClock


def on_asyncio(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function on asyncio."""
    return asyncio.run(main())  # type: ignore[arg-type]


def on_trio(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function on trio."""
    return trio.run(main)


def on_trio_with_mock_clock(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function on trio with a clock that jumps too."""
    return trio.run(main, clock=MockClock(autojump_threshold=0))


async def all_of(*mains: Callable[[], Awaitable[Any]]) -> None:
    """Run async functions at once, on whichever loop runs here, started in their order."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        async with trio.open_nursery() as nursery:
            for main in mains:
                nursery.start_soon(main)
                await trio.lowlevel.checkpoint()
    else:
        await asyncio.gather(*(main() for main in mains))


async def turn() -> None:
    """Let the others have a turn."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


loops = pytest.mark.parametrize("run", [on_asyncio, on_trio, on_trio_with_mock_clock])


def test_sleeping_needs_a_loop() -> None:
    """`sleep_async` outside an event loop is an error that names both loops."""
    with pytest.raises(RuntimeError, match=r"asyncio .* trio"):
        VirtualClock().sleep_async(1).send(None)


@loops
def test_tasks_wake_at_their_due_times(run: Any) -> None:
    """Tasks wake in the order of their due times, and each reads exactly its own."""
    clock, log = VirtualClock(), []

    def sleeper(*naps: float) -> Callable[[], Awaitable[None]]:
        async def sleep() -> None:
            for seconds in naps:
                await clock.sleep_async(seconds)
                log.append((seconds, clock.now()))

        return sleep

    run(lambda: all_of(sleeper(5, 3), sleeper(3, 3), sleeper(3600), sleeper(7)))
    assert log == [(3, 3), (5, 5), (3, 6), (7, 7), (3, 8), (3600, 3600)]
    assert clock.sleeps == [3, 5, 3, 7, 3, 3600]


@loops
def test_tasks_that_are_due_together_wake_in_turn(run: Any) -> None:
    """Of tasks that are due at one time, the one that went to sleep first wakes first."""
    clock, log = VirtualClock(), []

    def sleeper(number: int) -> Callable[[], Awaitable[None]]:
        async def sleep() -> None:
            await clock.sleep_async(1)
            log.append(number)

        return sleep

    run(lambda: all_of(*(sleeper(number) for number in range(50))))
    assert log == list(range(50))
    assert clock.now() == 1


@loops
def test_time_stands_still_while_a_task_is_busy(run: Any) -> None:
    """As long as one task of the loop goes on by itself, nobody's time passes."""
    clock, log = VirtualClock(), []

    async def busy() -> None:
        for _ in range(200):
            await turn()
        log.append(clock.now())

    async def sleeper() -> None:
        await clock.sleep_async(1)
        log.append(clock.now())

    run(lambda: all_of(sleeper, busy))
    assert log == [0, 1]


@loops
def test_a_sleep_of_zero_is_a_turn(run: Any) -> None:
    """Sleeping for no time lets the others have a turn, while they are busy too, and is recorded."""
    clock, log = VirtualClock(1e9), []

    def talker(word: str) -> Callable[[], Awaitable[None]]:
        async def talk() -> None:
            for _ in range(3):
                log.append(word)
                await clock.sleep_async(0)

        return talk

    run(lambda: all_of(talker("a"), talker("b")))
    assert sorted(log) == ["a"] * 3 + ["b"] * 3
    assert log != sorted(log)
    assert clock.sleeps == [0.0] * 6
    assert clock.now() == 1e9


@loops
def test_a_sleep_too_short_to_move_the_reading_ends(run: Any) -> None:
    """A nanosecond at a reading of ten to the sixteenth does not move a float, and does not last for ever."""
    clock = VirtualClock(1e16)
    run(lambda: clock.sleep_async(1e-9))
    assert clock.now() == 1e16


@loops
def test_advance_wakes_whoever_is_due_in_order(run: Any) -> None:
    """`advance` wakes, in order, those who are due by then, at its new reading; the others sleep on to their time."""
    clock, log = VirtualClock(), []

    def sleeper(seconds: float) -> Callable[[], Awaitable[None]]:
        async def sleep() -> None:
            await clock.sleep_async(seconds)
            log.append((seconds, clock.now()))

        return sleep

    async def mover() -> None:
        for _ in range(5):
            await turn()
        clock.advance(2.5)
        log.append(("moved", clock.now()))

    run(lambda: all_of(sleeper(3), sleeper(2), sleeper(1), sleeper(2), mover))
    assert log == [("moved", 2.5), (1, 2.5), (2, 2.5), (2, 2.5), (3, 3)]


@loops
def test_a_blocking_sleep_wakes_whoever_is_due(run: Any) -> None:
    """A blocking sleep in a task is time for everybody."""
    clock, log = VirtualClock(), []

    async def sleeper() -> None:
        await clock.sleep_async(1)
        log.append(clock.now())

    async def blocker() -> None:
        await turn()
        clock.sleep(5)

    run(lambda: all_of(sleeper, blocker))
    assert log == [5]
    assert clock.sleeps == [5, 1]


@loops
def test_advance_from_another_thread(run: Any) -> None:
    """Another thread can move time, and who is due wakes in its own loop."""
    clock = VirtualClock()
    home: list[int] = []
    there = threading.Event()

    async def sleeper() -> None:
        await clock.sleep_async(1)
        home.append(threading.get_ident())

    async def busy() -> None:
        await turn()
        thread = threading.Thread(target=lambda: (clock.advance(10), there.set()))
        thread.start()
        while not (there.is_set() and home):
            await turn()
        thread.join()

    run(lambda: all_of(sleeper, busy))
    assert home == [threading.get_ident()]
    assert clock.now() == 10


def test_two_clocks_on_one_loop() -> None:
    """Two clocks pass each at its own pace, and neither keeps the other from passing."""
    one, two = VirtualClock(), VirtualClock(100)

    async def main() -> None:
        await asyncio.gather(one.sleep_async(3), two.sleep_async(5), one.sleep_async(1))

    asyncio.run(main())
    assert (one.now(), two.now()) == (3, 105)


def test_one_clock_on_two_loops() -> None:
    """Tasks of two loops on two threads sleep on one clock, and each wakes when it is due or later."""
    clock, early = VirtualClock(), []

    async def sleeper() -> None:
        for _ in range(200):
            before = clock.now()
            await clock.sleep_async(1)
            if clock.now() < before + 1:
                early.append(before)

    other = threading.Thread(target=lambda: trio.run(sleeper))
    other.start()
    asyncio.run(sleeper())
    other.join()
    assert early == []
    assert len(clock.sleeps) == 400


def test_a_loop_that_runs_in_parts() -> None:
    """A loop that is stopped and started again goes on with the clock where it was."""
    clock = VirtualClock()
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(clock.sleep_async(5))
        loop.run_until_complete(asyncio.sleep(0))
        assert not task.done()
        loop.run_until_complete(clock.sleep_async(1))
        assert clock.now() == 1
        loop.run_until_complete(task)
    finally:
        loop.close()
    assert clock.now() == 5
