"""Virtual time that stands still on asyncio: what it says, how the block ends, and what is still waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from resilience import clock
from resilience.testing import _driver, _follower, _timeline, virtual_time


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


async def for_ever_on_asyncio() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


def test_a_deadlock_on_asyncio_names_the_waiters() -> None:
    """When nothing can run and no timer is set, the block ends with an error that names every task that waits."""

    async def main() -> int:
        waiter = asyncio.create_task(for_ever_on_asyncio(), name="waiter")
        with pytest.raises(RuntimeError, match="nothing can run and no timer is set") as caught:
            async with virtual_time():
                await asyncio.sleep(5)
                await for_ever_on_asyncio()
        assert "  waiter: for_ever_on_asyncio at " in str(caught.value)
        assert "test_virtual_still.py:" in str(caught.value)
        assert caught.value.__cause__ is None
        waiter.cancel()
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_a_busy_loop_on_asyncio_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that turns and turns at one instant ends the block with an error; it is not taken for work."""
    monkeypatch.setattr(_driver, "TURNS", 1000)

    async def main() -> None:
        async with virtual_time():
            for _ in range(900):
                await asyncio.sleep(0)
            await asyncio.sleep(1)
            for _ in range(900):
                await asyncio.sleep(0)
            await asyncio.sleep(1)
            with pytest.raises(asyncio.CancelledError):
                while True:  # noqa: ASYNC110 - nothing but turns
                    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match=r"1,000 turns at one instant\. Waiting:\n  Task-\d+: "):
        asyncio.run(main())


def test_the_number_of_turns_is_the_documented_one() -> None:
    """A busy loop is one of a hundred thousand turns."""
    assert _driver.TURNS == _follower.TURNS == 100_000


def test_an_error_of_the_body_comes_before_ours() -> None:
    """When the body answers the end of a deadlock with an error of its own, that one leaves the block."""

    async def main() -> None:
        async with virtual_time():
            try:
                await for_ever_on_asyncio()
            finally:
                raise Down

    with pytest.raises(Down):
        asyncio.run(main())


def test_a_body_that_will_not_end_is_ended_from_outside() -> None:
    """When the body waits on for what never comes, the error leaves the loop itself."""

    async def main() -> None:
        async with virtual_time():
            while True:
                try:
                    await for_ever_on_asyncio()
                except asyncio.CancelledError:
                    if asyncio.current_task().cancelling() > 1:  # type: ignore[union-attr]
                        raise

    with pytest.raises(RuntimeError, match="nothing can run and no timer is set"):
        asyncio.run(main())


def test_a_cancellation_from_outside_stays_one() -> None:
    """A task that is cancelled inside the block for a reason of somebody else's is cancelled, without our error."""

    async def body() -> None:
        async with virtual_time():
            await asyncio.sleep(100)

    async def main() -> bool:
        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_a_deadlock_of_a_loop_taken_over_leaves_the_loop() -> None:
    """On a loop that was taken over inside the block, the error leaves the run."""

    async def main() -> None:
        await clock.default.sleep_async(1)
        await for_ever_on_asyncio()

    with virtual_time(), pytest.raises(RuntimeError, match="nothing can run"):
        asyncio.run(main())


def test_a_message_from_outside_may_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as another thread is there to send one, a loop without timers waits for a message, in real time."""
    monkeypatch.setattr(_timeline, "PATIENCE", 30)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        news: asyncio.Future[str] = loop.create_future()

        def send() -> None:
            threading.Event().wait(0.05)
            loop.call_soon_threadsafe(news.set_result, "news")

        async with virtual_time():
            thread = threading.Thread(target=send)
            thread.start()
            result = await news
            thread.join()
        return result

    assert asyncio.run(main()) == "news"


def test_news_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that does not come in time, though somebody is there to send one, is an error after all."""
    monkeypatch.setattr(_timeline, "PATIENCE", 0.05)
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()

    async def main() -> None:
        async with virtual_time():
            await for_ever_on_asyncio()

    try:
        with pytest.raises(RuntimeError, match="nothing can run"):
            asyncio.run(main())
    finally:
        release.set()
        thread.join()
