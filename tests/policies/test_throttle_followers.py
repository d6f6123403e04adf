"""Those who stand in line behind others of their own loop: they go as everybody does, and leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
from math import inf

import pytest

from resilience import Throttle
from resilience.policies import _quick


class Stopped:
    """A clock that stands still until it is moved."""

    def __init__(self, reading: float) -> None:
        self.reading = reading

    def now(self) -> float:
        return self.reading

    def sleep(self, seconds: float) -> None:
        self.reading += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.reading += seconds


def left_by(throttle: Throttle) -> tuple[int, int, object]:
    """Who waits, how many lots there are, and the lot that is asked first."""
    return throttle.snapshot()["waiting"], len(throttle._lots), throttle._near


async def waiting_on(throttle: Throttle, count: int, order: list[int]) -> list[asyncio.Task[None]]:
    """So many tasks that wait, in order."""

    async def waits(number: int) -> None:
        await throttle.acquire_async()
        order.append(number)

    tasks = [asyncio.ensure_future(waits(number)) for number in range(count)]
    await asyncio.sleep(0)
    assert throttle.snapshot()["waiting"] == count
    return tasks


def test_another_thread_lets_all_go_in_order() -> None:
    """Followers that are let go from another thread go in order, and the throttle forgets their loop."""
    throttle, order = Throttle("5/hour", max_wait=inf, name="followers of a thread"), list[int]()
    assert throttle.try_acquire(cost=5)

    async def scenario() -> None:
        tasks = await waiting_on(throttle, 5, order)
        thread = threading.Thread(target=throttle.reset)
        thread.start()
        await asyncio.gather(*tasks)
        thread.join()

    asyncio.run(scenario())
    assert order == [0, 1, 2, 3, 4]
    assert left_by(throttle) == (0, 0, None)


@pytest.mark.parametrize("leaver", [0, 2, 4])
def test_one_that_was_granted_and_is_cancelled_gives_its_place_to_the_next(leaver: int) -> None:
    """A follower that is cancelled in the moment of its grant leaves its token to who comes behind."""
    throttle, order = Throttle("5/hour", max_wait=inf, name="followers cancelled"), list[int]()
    assert throttle.try_acquire(cost=5)

    async def scenario() -> None:
        tasks = await waiting_on(throttle, 6, order)
        throttle.reset()
        tasks[leaver].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
    assert order == [number for number in range(6) if number != leaver]
    assert left_by(throttle) == (0, 0, None)


def test_one_loop_after_the_other_is_served() -> None:
    """A throttle that had waiters on a loop that is gone serves those of the next."""
    throttle, order = Throttle("2/hour", max_wait=inf, name="followers on two loops"), list[int]()

    async def scenario() -> None:
        assert throttle.try_acquire(cost=2)
        tasks = await waiting_on(throttle, 2, order)
        throttle.reset()
        await asyncio.gather(*tasks)
        throttle.reset()

    asyncio.run(scenario())
    asyncio.run(scenario())
    assert order == [0, 1, 0, 1]
    assert left_by(throttle) == (0, 0, None)


RATES = [("10000/s", True), ("10000/s burst 1", False), ("1/s burst 1", True)]


@pytest.mark.parametrize(("rate", "together"), RATES)
def test_a_timer_is_coarse_only_where_no_token_is_lost_by_it(rate: str, together: bool) -> None:
    """Those who are due almost at once go together, unless the bucket would overflow meanwhile."""
    assert (Throttle(rate, name=f"followers at {rate}")._grain > 0.0) is together


@pytest.mark.parametrize("take", [_quick.take_unlocked, _quick.take_locked])
def test_the_short_way_grants_the_burst_and_not_one_more(take: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lock and without, what is granted at one reading is the burst, also after the bucket has filled."""
    monkeypatch.setattr(Throttle, "_take_quickly", take)
    clock = Stopped(1000.25)
    throttle = Throttle("4/s burst 3", name="short way", clock=clock)
    assert [throttle.try_acquire() for _ in range(4)] == [True, True, True, False]
    clock.reading += 0.25
    assert [throttle.try_acquire() for _ in range(2)] == [True, False]
    clock.reading += 10.0
    assert [throttle.try_acquire() for _ in range(4)] == [True, True, True, False]
