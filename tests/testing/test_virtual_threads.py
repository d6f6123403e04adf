"""Virtual time and threads: whose sleeps overlap, who wakes when, and who is waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import clock
from resilience.testing import _timeline, virtual_time
from resilience.testing.virtual import Block, VirtualTime


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """After every test, the clock of all policies is the machine's."""
    before = clock.default.now, clock.default.sleep, clock.default.sleep_async
    yield
    assert before == (clock.default.now, clock.default.sleep, clock.default.sleep_async)
    assert clock.default.now is time.monotonic


class Down(Exception):
    """What the services of these tests fail with."""


def fail() -> None:
    """Fail, as the services of these tests do."""
    raise Down


def run_threads(*naps: list[float]) -> list[tuple[float, int]]:
    """Let one thread for each list sleep through it; the reading and the number of the thread at each end of a nap."""
    log: list[tuple[float, int]] = []
    virtual = VirtualTime(0.0)

    def worker(number: int) -> None:
        for seconds in naps[number]:
            clock.default.sleep(seconds)
            log.append((virtual.now(), number))

    with Block(virtual):
        threads = [threading.Thread(target=worker, args=(number,)) for number in range(len(naps))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return log


def test_sleeps_of_threads_overlap() -> None:
    """Ten seconds in one nap, in four and in ten, on three threads, are ten seconds together."""
    log = run_threads([10], [2.5] * 4, [1] * 10)
    assert max(log)[0] == 10


def test_a_thread_reads_its_due_time_when_it_wakes() -> None:
    """Threads wake in the order of their due times, and each reads exactly its own."""
    assert run_threads([3, 3], [5], [4, 1.5]) == [(3, 0), (4, 2), (5, 1), (5.5, 2), (6, 0)]


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(0, 5).map(float), max_size=4), min_size=1, max_size=3))
def test_threads_against_a_model(naps: list[list[float]]) -> None:
    """However long threads sleep, each wakes at the sum of its naps, and nobody wakes before an earlier due time."""
    due = [(sum(own[: index + 1]), number) for number, own in enumerate(naps) for index in range(len(own))]
    log = run_threads(*naps)
    assert sorted(log) == sorted(due)
    assert [when for when, _ in log] == sorted(when for when, _ in log)


def test_a_thread_that_neither_sleeps_nor_ends_does_not_stop_time() -> None:
    """A thread that waits for something else is waited for a moment, once, and time passes without it."""
    release = threading.Event()
    with virtual_time() as virtual:
        thread = threading.Thread(target=release.wait)
        thread.start()
        begin = virtual.now()
        before = time.monotonic()
        for _ in range(100):
            clock.default.sleep(1)
        took = time.monotonic() - before
        assert virtual.now() - begin == pytest.approx(100)
        release.set()
        thread.join()
    assert took < 100 * _timeline.LOOKS * _timeline.GLANCE


def test_leaving_lets_sleeping_threads_go() -> None:
    """Whoever still sleeps when the block ends is let go, and time does not jump for him."""
    ended = threading.Event()
    slept = threading.Event()

    def worker() -> None:
        slept.set()
        clock.default.sleep(3600)
        ended.set()

    thread = threading.Thread(target=worker)
    with virtual_time() as virtual:
        thread.start()
        slept.wait(10)
        end = virtual.now()
    assert ended.wait(10)
    thread.join()
    assert virtual.now() - end in {0.0, 3600.0}


def test_advance_lets_threads_go() -> None:
    """`advance` wakes threads that are due, while the one that advances does not sleep itself."""
    log = []
    virtual = VirtualTime(0.0)

    def worker() -> None:
        clock.default.sleep(5)
        log.append(virtual.now())

    with pytest.MonkeyPatch.context() as patch, Block(virtual):
        patch.setattr(_timeline, "LOOKS", 10_000)  # as long as this thread is there, nothing jumps
        thread = threading.Thread(target=worker)
        thread.start()
        while not virtual._timeline._resting:
            threading.Event().wait(0.001)
        virtual.advance(2)
        assert log == []
        virtual.advance(5)
        thread.join(10)
    assert log == [7]


def test_threads_and_tasks_share_one_time() -> None:
    """A thread of the loop's pool sleeps beside the tasks, and each wakes when it is due."""

    async def main() -> list[tuple[str, float]]:
        log: list[tuple[str, float]] = []

        def worker(seconds: float) -> None:
            clock.default.sleep(seconds)
            log.append(("thread", virtual.now()))

        async def task(seconds: float) -> None:
            await asyncio.sleep(seconds)
            log.append(("task", virtual.now()))

        with Block(VirtualTime(0.0)) as virtual:
            await asyncio.gather(task(1), asyncio.to_thread(worker, 2), task(3), asyncio.to_thread(worker, 4))
            await asyncio.gather(task(3), asyncio.to_thread(worker, 2))
        return log

    assert asyncio.run(main()) == [
        ("task", 1),
        ("thread", 2),
        ("task", 3),
        ("thread", 4),
        ("thread", 6),
        ("task", 7),
    ]


def test_work_in_a_thread_comes_before_time() -> None:
    """Real work that the loop has handed to a thread is waited for, and no timeout goes off meanwhile."""

    async def main() -> str:
        async with virtual_time(), asyncio.timeout(5):
            return await asyncio.to_thread(lambda: threading.Event().wait(0.05) or "done")

    assert asyncio.run(main()) == "done"


def test_work_that_never_ends_does_not_stop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a thread that takes for ever is waited for once, and time passes without it."""
    monkeypatch.setattr(_timeline, "MANY_LOOKS", 50)
    release = threading.Event()

    async def main() -> float:
        async with virtual_time() as virtual:
            work = asyncio.get_running_loop().run_in_executor(None, release.wait)
            begin = virtual.now()
            for _ in range(100):
                await asyncio.sleep(1)
            release.set()
            await work
            return virtual.now() - begin

    before = time.monotonic()
    assert asyncio.run(main()) == pytest.approx(100)
    assert time.monotonic() - before < 100 * 0.05


def test_an_executor_that_takes_no_work() -> None:
    """Work that a pool refuses, or that another kind of pool takes, leaves nothing for virtual time to wait for."""

    class Inline(Executor):
        """Does the work at once, on the caller's thread."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    async def main() -> None:
        loop = asyncio.get_running_loop()
        closed = ThreadPoolExecutor(1)
        closed.shutdown()
        async with virtual_time() as virtual:
            with pytest.raises(RuntimeError, match="after shutdown"):
                await loop.run_in_executor(closed, fail)
            assert await loop.run_in_executor(Inline(), lambda: "inline") == "inline"
            assert virtual._timeline._jobs == {}

    asyncio.run(main())
