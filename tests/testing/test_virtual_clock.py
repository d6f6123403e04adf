"""The virtual clock by itself: when time passes, who wakes, and in which order."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from resilience.testing import VirtualClock, _loops


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


def test_starts_at_zero_or_where_it_is_told() -> None:
    """A clock starts at zero, or at the reading that it is given."""
    assert VirtualClock().now() == 0.0
    assert VirtualClock(1e9).now() == VirtualClock(start=1e9).now() == 1e9


def test_a_blocking_sleep_moves_time_and_returns() -> None:
    """A blocking sleep of a day is over at once, a day later."""
    clock = VirtualClock(10)
    clock.sleep(86_400)
    clock.sleep(0)
    clock.sleep(timedelta(minutes=1))
    assert clock.now() == 86_470
    assert clock.sleeps == [86_400, 0, 60]


def test_advance_moves_time_and_is_no_sleep() -> None:
    """`advance` moves time at once and is not recorded."""
    clock = VirtualClock()
    clock.advance(2.5)
    clock.advance(timedelta(seconds=1))
    clock.advance(0)
    assert clock.now() == 3.5
    assert clock.sleeps == []


@pytest.mark.parametrize("value", [True, "1", None, [1], -1, -0.001, math.nan, math.inf, timedelta(seconds=-1)])
def test_what_is_no_duration(value: Any) -> None:
    """A bool, a string, nothing, a negative number, NaN and infinity are refused, and no time passes."""
    clock = VirtualClock(5)
    with pytest.raises((TypeError, ValueError), match="seconds must be a number of seconds, 0 or more"):
        clock.sleep(value)
    with pytest.raises((TypeError, ValueError), match="seconds must be a number of seconds, 0 or more"):
        clock.advance(value)
    with pytest.raises((TypeError, ValueError), match="seconds must be a number of seconds, 0 or more"):
        asyncio.run(clock.sleep_async(value))
    with pytest.raises((TypeError, ValueError), match="start must be a number, 0 or more"):
        VirtualClock(value)
    assert clock.now() == 5
    assert clock.sleeps == []


def test_it_says_what_it_is() -> None:
    """A clock prints its reading."""
    assert repr(VirtualClock(2)) == "<VirtualClock 2.0 s>"


def test_advances_of_many_threads_add_up() -> None:
    """Eight threads that each advance a thousand times by one second move time by eight thousand."""
    clock = VirtualClock()

    def worker() -> None:
        for _ in range(1000):
            clock.advance(1)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 8000


def test_sleeps_of_threads_never_last_less_than_asked() -> None:
    """However many threads sleep, each finds that at least its own seconds have passed."""
    clock, short = VirtualClock(), []

    def worker(seconds: float) -> None:
        for _ in range(500):
            before = clock.now()
            clock.sleep(seconds)
            if clock.now() - before < seconds:
                short.append(seconds)

    threads = [threading.Thread(target=worker, args=(seconds,)) for seconds in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert short == []
    assert len(clock.sleeps) == 2000


def test_a_cancelled_task_leaves_no_trace_on_asyncio() -> None:
    """A cancelled sleep is not recorded, keeps no time and does not disturb the others."""
    clock = VirtualClock()

    async def main() -> None:
        cancelled = [asyncio.create_task(clock.sleep_async(seconds)) for seconds in (1, 2, 3, 60)]
        kept = asyncio.create_task(clock.sleep_async(10))
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        assert clock.now() == 0
        await kept

    asyncio.run(main())
    assert clock.now() == 10
    assert clock.sleeps == [10]
    assert clock._asleep == {}


def test_a_cancelled_task_leaves_no_trace_on_trio() -> None:
    """The same on trio, with the cancellation before, during and at the end of the sleep."""
    clock = VirtualClock()

    async def main() -> None:
        with trio.CancelScope() as before:
            before.cancel()
            await clock.sleep_async(1)
        async with trio.open_nursery() as nursery:
            for seconds in (1, 2, 3, 60):
                nursery.start_soon(clock.sleep_async, seconds)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert clock.now() == 0
        assert clock.sleeps == []
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(clock.sleep_async, 1)
            await wait_all_tasks_blocked()
            # All three are due now; the second and third have not had their turn when they are cancelled.
            clock.advance(1)
            nursery.cancel_scope.cancel()
        await clock.sleep_async(10)

    trio.run(main)
    assert clock.now() == 11
    assert clock._asleep == {}


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_thousand_cancelled_sleepers_cost_little(name: str) -> None:
    """A thousand sleepers cancelled in the order that suits a heap least are gone, and the last one wakes on time."""
    clock = VirtualClock()

    async def asyncio_main() -> None:
        tasks = [asyncio.create_task(clock.sleep_async(1 + number)) for number in range(1000)]
        await asyncio.sleep(0)
        for task in tasks[:0:-1]:
            task.cancel()
        await asyncio.wait(tasks)

    async def trio_main() -> None:
        scopes = [trio.CancelScope() for _ in range(1000)]

        async def sleeper(number: int) -> None:
            with scopes[number]:
                await clock.sleep_async(1 + number)

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(sleeper, number)
            await wait_all_tasks_blocked()
            for scope in scopes[:0:-1]:
                scope.cancel()

    asyncio.run(asyncio_main()) if name == "asyncio" else trio.run(trio_main)
    assert clock.now() == 1
    assert clock.sleeps == [1]
    assert clock._asleep == {}


def test_whoever_is_gone_with_its_loop_is_not_woken() -> None:
    """Waking a task whose loop is closed, or whose run is over, does nothing."""

    async def bed() -> _loops.Bed:
        return _loops.here().bed()

    for gone in (asyncio.run(bed()), trio.run(bed)):
        gone.wake()
        assert gone is not None


def test_a_trio_test_may_wait_for_the_others() -> None:
    """`wait_all_tasks_blocked` in a test comes before any jump of the clock, as often as it is used."""
    clock = VirtualClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.sleep_async, 5)
            for _ in range(5):
                await wait_all_tasks_blocked()
                assert clock.now() == 0

    trio.run(main)
    assert clock.now() == 5


def test_messages_between_tasks_come_before_time_on_asyncio() -> None:
    """While two tasks talk through a socket, time stands still."""
    clock, log = VirtualClock(), []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)

            async def echo() -> None:
                for _ in range(50):
                    await loop.sock_sendall(right, await loop.sock_recv(right, 1))

            async def talk() -> None:
                for _ in range(50):
                    await loop.sock_sendall(left, b"?")
                    await loop.sock_recv(left, 1)
                log.append(clock.now())

            await asyncio.gather(clock.sleep_async(1), echo(), talk())

    asyncio.run(main())
    assert log == [0]
    assert clock.now() == 1


def test_messages_between_tasks_come_before_time_on_trio() -> None:
    """The same on trio."""
    clock, log = VirtualClock(), []

    async def main() -> None:
        left, right = trio.socket.socketpair()
        with left, right:

            async def echo() -> None:
                for _ in range(50):
                    await right.send(await right.recv(1))

            async def talk() -> None:
                for _ in range(50):
                    await left.send(b"?")
                    await left.recv(1)
                log.append(clock.now())

            await all_of(lambda: clock.sleep_async(1), echo, talk)

    trio.run(main)
    assert log == [0]
    assert clock.now() == 1


def test_a_loop_that_waits_outside_is_idle_once_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop with work in a thread lets time pass when that has been quiet for the grace, and not before."""
    monkeypatch.setattr(_loops, "GRACE", 0.05)
    clock, release = VirtualClock(), threading.Event()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, release.wait)
        before = time.monotonic()
        await clock.sleep_async(1)
        took = time.monotonic() - before
        release.set()
        await work
        return took

    assert asyncio.run(main()) >= 0.05
    assert clock.now() == 1


def test_a_loop_that_shows_nothing_is_idle_after_the_grace() -> None:
    """Of a loop whose queue cannot be seen, only the grace says that it is idle."""

    class Opaque:
        """A loop written in another language."""

    watch = _loops._AsyncioLoop()
    watch._busy_at = time.monotonic()
    assert not watch._is_idle(Opaque())
    watch._busy_at -= 2 * _loops.GRACE
    assert watch._is_idle(Opaque())
