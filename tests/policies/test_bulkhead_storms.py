"""The bulkhead in bad weather: threads and loops in one queue, loops that are gone, forks, storms of cancellations."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from resilience.policies.bulkhead import Bulkhead, BulkheadFull
from tests.test_fork import in_child

PATIENCE = 30.0


def counts(bulkhead: Bulkhead) -> tuple[int, int]:
    """In flight, and queued."""
    view = bulkhead.snapshot()
    return view["in_flight"], view["queued"]


def until(predicate: Callable[[], object]) -> None:
    """Wait for other threads until something holds."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.001)):
        if predicate():
            return
        pause.wait(0.001)
    pytest.fail(f"still not so after {PATIENCE} s")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Meter:
    """Counts who is inside, and the most that ever were."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1


# --- one queue --------------------------------------------------------------------------------------------------------


def test_threads_and_loops_stand_in_one_queue() -> None:
    """Nine waiters, by turns a thread, an asyncio task and a trio task, are served in the order in which they came."""
    bulkhead = Bulkhead(1, queue=9)
    order: list[int] = []

    def plain(number: int) -> None:
        with bulkhead.guard():
            order.append(number)

    async def task(number: int) -> None:
        async with bulkhead.guard():
            order.append(number)

    runs: list[Callable[[int], Any]] = [
        plain,
        lambda number: asyncio.run(task(number)),
        lambda number: trio.run(task, number),
    ]
    threads: list[threading.Thread] = []
    with bulkhead.guard():
        for number in range(9):
            threads.append(threading.Thread(target=runs[number % 3], args=(number,), daemon=True))
            threads[-1].start()
            until(lambda number=number: counts(bulkhead) == (1, number + 1))
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(9))
    assert counts(bulkhead) == (0, 0)
    assert bulkhead._lots == {}


def test_waits_end_in_every_runtime_at_once() -> None:
    """A thread, an asyncio task and a trio task that wait in one queue each give up after `max_wait`, in real time."""
    bulkhead = Bulkhead(1, queue=9, max_wait=0.05)
    waited: list[float] = []

    async def task() -> None:
        try:
            async with bulkhead.guard():
                pytest.fail("there is no place")
        except BulkheadFull as full:
            waited.append(full.waited)

    def plain() -> None:
        with pytest.raises(BulkheadFull) as caught:
            bulkhead.call(len, "never")
        waited.append(caught.value.waited)

    with bulkhead.guard():
        threads = [
            threading.Thread(target=run, daemon=True)
            for run in (plain, lambda: asyncio.run(task()), lambda: trio.run(task), plain, plain)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert waited == [0.05] * 5
    assert counts(bulkhead) == (0, 0)
    assert bulkhead._lots == {}


def test_a_waiter_whose_loop_is_closed_is_skipped() -> None:
    """A place that would go to a task of a closed loop goes to the next in the queue, in whatever runtime."""
    bulkhead = Bulkhead(1, queue=9)
    order: list[str] = []

    async def task(name: str) -> None:
        async with bulkhead.guard():
            order.append(name)

    loop = asyncio.new_event_loop()
    lost = [loop.create_task(task("lost")) for _ in range(3)]
    with bulkhead.guard():
        loop.run_until_complete(asyncio.sleep(0))
        assert counts(bulkhead) == (1, 3)
        thread = threading.Thread(target=lambda: asyncio.run(task("found")), daemon=True)
        thread.start()
        until(lambda: counts(bulkhead) == (1, 4))
        loop.close()
    thread.join(PATIENCE)
    assert order == ["found"]
    assert counts(bulkhead) == (0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for orphan in lost:
            orphan._log_destroy_pending = False  # type: ignore[attr-defined]
        del lost, orphan
        gc.collect()
    assert counts(bulkhead) == (0, 0)
    with bulkhead.guard():
        assert counts(bulkhead) == (1, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_has_the_places_of_its_own_thread() -> None:
    """In the child only the forking thread's places are taken and nobody waits; what it gives back comes back once."""
    bulkhead = Bulkhead(3, queue=5)
    stop = threading.Event()

    def hold() -> None:
        with bulkhead.guard():
            stop.wait(PATIENCE)

    threads = [threading.Thread(target=hold, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: counts(bulkhead) == (2, 0))
    with bulkhead.guard() as mine:
        threads.append(threading.Thread(target=hold, daemon=True))
        threads[-1].start()
        until(lambda: counts(bulkhead) == (3, 1))

        def child() -> str:
            before = counts(bulkhead)
            with bulkhead.guard(), bulkhead.guard():
                full = counts(bulkhead)
                mine.__exit__(None, None, None)
                return f"{before} {full} {counts(bulkhead)}"

        answer = in_child(child)
        assert counts(bulkhead) == (3, 1)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answer == "(1, 0) (3, 0) (2, 0)"
    assert counts(bulkhead) == (0, 0)


@pytest.mark.usefixtures("hasty_threads")
def test_threads_never_exceed_the_limit() -> None:
    """Eight threads pass three places 8,000 times at the shortest switch interval: never four inside, none is lost."""
    bulkhead, meter = Bulkhead(3, queue=8), Meter()

    def work() -> None:
        for _ in range(1_000):
            with bulkhead.guard(), meter:
                pass

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (meter.total, meter.now) == (8_000, 0)
    assert meter.most <= 3
    assert counts(bulkhead) == (0, 0)
    assert bulkhead._lots == {}


# --- storms -----------------------------------------------------------------------------------------------------------


class Storm:
    """Thousands of tasks on one loop and some threads, all at one bulkhead; tasks are cancelled at random."""

    def __init__(self, seed: int, tasks: int) -> None:
        self.rng = random.Random(seed)
        self.tasks = tasks
        self.bulkhead = Bulkhead(self.rng.randint(1, 40), queue=3 * tasks)
        self.meter = Meter()
        self.stop = threading.Event()
        self.cancelled = 0

    def thread(self) -> None:
        """Call through the bulkhead, many times, or until the storm is over."""
        for _ in range(3_000):
            if self.stop.is_set():
                break
            with self.bulkhead.guard(), self.meter:
                pass

    def steps(self) -> int:
        """How many turns of the loop something takes."""
        return self.rng.choice((0, 0, 1, 1, 2, 3, 10))

    def run(self, run: Callable[[], object], threads: int) -> None:
        """Let it blow, and see that nothing is left."""
        company = [threading.Thread(target=self.thread, daemon=True) for _ in range(threads)]
        for thread in company:
            thread.start()
        try:
            run()
        finally:
            self.stop.set()
        for thread in company:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in company)
        assert counts(self.bulkhead) == (0, 0)
        assert self.bulkhead._lots == {}
        assert self.meter.now == 0
        assert self.meter.most <= self.bulkhead.snapshot()["limit"]
        with self.bulkhead.guard():
            assert counts(self.bulkhead) == (1, 0)

    async def on_asyncio(self) -> None:
        """The storm on asyncio."""

        async def one(steps: int) -> None:
            async with self.bulkhead.guard():
                with self.meter:
                    for _ in range(steps):
                        await asyncio.sleep(0)

        tasks = [asyncio.create_task(one(self.steps())) for _ in range(self.tasks)]
        victims = self.rng.sample(tasks, len(tasks) * 2 // 3)
        while victims:
            for _ in range(self.steps()):
                await asyncio.sleep(0)
            for victim in victims[-self.rng.randint(1, 400) :]:
                self.cancelled += victim.cancel()
                victims.pop()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def on_trio(self) -> None:
        """The storm on trio."""

        async def one(scope: trio.CancelScope, steps: int) -> None:
            with scope:
                async with self.bulkhead.guard():
                    with self.meter:
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()

        scopes = [trio.CancelScope() for _ in range(self.tasks)]
        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(one, scope, self.steps())
            victims = self.rng.sample(scopes, len(scopes) * 2 // 3)
            while victims:
                for _ in range(self.steps()):
                    await trio.lowlevel.checkpoint()
                for victim in victims[-self.rng.randint(1, 400) :]:
                    victim.cancel()
                    victims.pop()
        self.cancelled = sum(scope.cancelled_caught for scope in scopes)


@pytest.mark.proof
def test_figure_storms() -> None:
    """Twenty storms of 10,000 tasks, cancelled at random, every other one with threads in the queue, leak nothing."""
    passed, cancelled = 0, 0
    for seed in range(20):
        storm = Storm(seed, 10_000)
        storm.run(lambda storm=storm: asyncio.run(storm.on_asyncio()), threads=3 * (seed % 2))
        passed, cancelled = passed + storm.meter.total, cancelled + storm.cancelled
    print(f"\n20 storms of 10,000 tasks: {passed} calls passed, {cancelled} cancelled, 0 places lost")
    assert cancelled > 50_000
    assert passed > 50_000


def test_storms_on_trio() -> None:
    """Four storms of 2,000 trio tasks, two of them with threads, leak nothing."""
    for seed in range(4):
        storm = Storm(seed, 2_000)
        storm.run(lambda storm=storm: trio.run(storm.on_trio), threads=3 * (seed % 2))
        assert storm.cancelled > 100


def test_a_storm_over_two_loops_and_threads() -> None:
    """asyncio, trio and plain threads in one queue at the same time, under cancellations, leak nothing."""
    storm = Storm(99, 1_500)

    def both() -> None:
        other = threading.Thread(target=lambda: trio.run(storm.on_trio), daemon=True)
        other.start()
        asyncio.run(storm.on_asyncio())
        other.join(PATIENCE)

    storm.run(both, threads=2)
