"""A virtual day at full size: a million sleeps, and programs that stand still in their policies.

What virtual time does, case by case, is in the other `test_virtual_*.py`. Here whole programs run in it, of many tasks
and of many threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from itertools import repeat
from math import inf
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    Retry,
    clock,
)
from resilience.testing import _timeline, virtual_time
from resilience.testing._timeline import Timeline

DAY = 86_400.0


MOST_SECONDS = 30.0


CLOSE = 2e-9  # asyncio lets go together what is due within its clock's resolution of a nanosecond


SLEEPS = [20_000, pytest.param(1_000_000, marks=pytest.mark.proof)]


class Down(Exception):
    """What the services of these tests fail with."""


def shares(sleeps: int, among: int) -> list[tuple[int, float]]:
    """How often each of some sleepers sleeps and for how long, no two alike, so that each ends on the same day."""
    each = sleeps // among
    counts = [each - among // 2 + number for number in range(among)]
    counts[-1] += sleeps - sum(counts)
    return [(count, DAY / count) for count in counts]


class Stopwatch:
    """Judges how long a day took: in real time, or in this process's own where others had the processors meanwhile."""

    def __init__(self) -> None:
        self._real, self._own = time.perf_counter(), time.process_time()

    def judge(self, kind: str, sleeps: int) -> None:
        """Print what a day took, and fail if that is too long."""
        real, own = time.perf_counter() - self._real, time.process_time() - self._own
        print(f"\n{kind}: {sleeps:,} sleeps of a virtual day in {real:.2f} s, of which {own:.2f} s on a processor")
        assert own < MOST_SECONDS
        shared = os.getloadavg()[0] > (os.cpu_count() or 1)
        assert real < MOST_SECONDS or shared


@pytest.mark.parametrize("sleeps", SLEEPS)
def test_a_day_of_tasks(sleeps: int) -> None:
    """A day in which a hundred tasks sleep a million times is over in under 30 s, and each wakes when it is due."""
    late = 0

    async def sleeper(count: int, nap: float, sleep: Callable[[float], Any]) -> None:
        nonlocal late
        now = clock.default.now()
        for _ in range(count):
            due = now + nap
            await sleep(nap)
            now = clock.default.now()
            late += abs(now - due) > CLOSE

    async def main() -> tuple[float, int]:
        async with virtual_time() as virtual:
            before = virtual.now()
            ways = (asyncio.sleep, clock.default.sleep_async)
            naps = shares(sleeps, 100)
            await asyncio.gather(*(sleeper(count, nap, ways[index % 2]) for index, (count, nap) in enumerate(naps)))
            return virtual.now() - before, len(virtual.sleeps)

    watch = Stopwatch()
    passed, recorded = asyncio.run(main())
    watch.judge("asyncio", sleeps)
    assert passed == pytest.approx(DAY)
    assert recorded == sum(count for count, _ in shares(sleeps, 100)[1::2])
    assert late == 0


@pytest.mark.parametrize("sleeps", SLEEPS)
def test_a_day_of_threads(sleeps: int) -> None:
    """A day in which ten threads sleep a million times is over in under 30 s; they wake in order, when they are due."""
    late: list[int] = []
    woken: list[float] = []

    def sleeper(count: int, nap: float) -> None:
        missed = 0
        together.wait()
        now = virtual.now()
        for _ in range(count):
            due = now + nap
            clock.default.sleep(nap)
            now = virtual.now()
            woken.append(now)
            missed += now != due
        late.append(missed)

    watch = Stopwatch()
    with virtual_time() as virtual:
        start = virtual.now()
        # They begin at one instant, though a thread is only started after another.
        together = threading.Barrier(10)
        threads = [threading.Thread(target=sleeper, args=naps) for naps in shares(sleeps, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed, recorded = virtual.now() - start, len(virtual.sleeps)
    watch.judge("threads", sleeps)
    assert passed == pytest.approx(DAY)
    assert recorded == len(woken) == sleeps
    assert woken == sorted(woken)
    assert late == [0] * 10


def test_a_deadlock_in_policies_names_the_waiters() -> None:
    """Tasks that hold a place each and wait for that of the other are named, with the line where each waits."""
    database, cache = Bulkhead(1, queue=1), Bulkhead(1, queue=1)

    async def both(first: Bulkhead, second: Bulkhead) -> None:
        async with first.guard():
            await clock.default.sleep_async(1)
            async with second.guard():
                raise AssertionError("nobody can have both")

    async def main() -> None:
        async with virtual_time(), asyncio.TaskGroup() as group:
            group.create_task(both(database, cache), name="database first")
            group.create_task(both(cache, database), name="cache first")

    with pytest.raises(RuntimeError, match="nothing can run and no timer is set") as caught:
        asyncio.run(main())
    for name in ("database first", "cache first"):
        assert f"  {name}: " in str(caught.value)
    assert "test_virtual_day.py:" in str(caught.value)
    assert (database.snapshot()["in_flight"], cache.snapshot()["in_flight"]) == (0, 0)


def test_a_busy_retry_names_the_waiters() -> None:
    """A retry without end and without a wait is an error after 100,000 turns, which also names who waits beside it."""

    @Retry(on=Down, attempts=inf, backoff=0)
    async def never_up() -> None:
        await asyncio.sleep(0)
        raise Down

    async def main() -> None:
        async with virtual_time(), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60), name="beside it")
            group.create_task(never_up(), name="busy")

    with pytest.raises(RuntimeError, match="100,000 turns at one instant") as caught:
        asyncio.run(main())
    assert "  beside it: sleep at " in str(caught.value)
    assert "  busy: " in str(caught.value)


def waiting(timeline: Timeline, lock: threading.Lock) -> bool | None:
    """Wait for a lock, in virtual time."""
    return timeline.wait(lambda longest: lock.acquire(timeout=longest))


def test_threads_that_wait_for_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that each hold what the other wants, one ends with an error that names both; the other goes on."""
    monkeypatch.setattr(_timeline, "PATIENCE", 0.05)
    timeline, ends = Timeline(0.0), []
    locks = threading.Lock(), threading.Lock()

    def both(first: threading.Lock, second: threading.Lock) -> None:
        with first:
            timeline.sleep(10)
            try:
                waiting(timeline, second)
            except RuntimeError as error:
                ends.append(str(error))
            else:
                ends.append("has both")
                second.release()

    threads = [
        threading.Thread(target=both, args=order, name=name)
        for order, name in ((locks, "one way"), (locks[::-1], "the other way"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends[1] == "has both"
    assert ends[0].startswith("virtual time stands still: nothing can run. Waiting:\n")
    for name in ("one way", "the other way"):
        assert f"  {name}: " in ends[0]
    assert "test_virtual_day.py:" in ends[0]


@pytest.mark.parametrize("helper", ["works", "sleeps", "leaves"])
def test_a_thread_that_may_still_be_helped_waits_on(helper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread works or sleeps, nobody is said to be stuck; when virtual time is over, the wait ends."""
    monkeypatch.setattr(_timeline, "PATIENCE", 0.05)
    timeline, got = Timeline(0.0), []
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lambda: got.append(waiting(timeline, lock)))
    thread.start()
    if helper == "works":
        began = time.perf_counter()
        while time.perf_counter() - began < 0.3:
            sum(range(1000))
        lock.release()
    elif helper == "sleeps":
        timeline.sleep(1e6)
        lock.release()
    else:
        timeline.close()
    thread.join()
    assert got == [None if helper == "leaves" else True]


async def ends() -> None:
    """End, like a body that has nothing to say."""


async def raises() -> None:
    """Raise, as a failed assertion does."""
    raise Down


async def busy() -> None:
    """Turn and turn."""
    for _ in repeat(None):
        await asyncio.sleep(0)
