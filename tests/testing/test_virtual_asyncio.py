"""Virtual time on an asyncio loop: what is virtual there, in which order tasks wake, and how the loop is left."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from resilience import Retry, clock
from resilience.testing import _driver, _timeline, virtual_time
from resilience.testing.virtual import Block, VirtualTime


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """After every test, the clock of all policies is the machine's."""
    before = clock.default.now, clock.default.sleep, clock.default.sleep_async
    yield
    assert before == (clock.default.now, clock.default.sleep, clock.default.sleep_async)
    assert clock.default.now is time.monotonic


def on_trio(main: Callable[[], Any], **options: float) -> Any:
    """Run an async function on trio with a mock clock."""
    return trio.run(main, clock=MockClock(**options))


class Down(Exception):
    """What the services of these tests fail with."""


def fail() -> None:
    """Fail, as the services of these tests do."""
    raise Down


async def fail_async() -> None:
    """Fail asynchronously."""
    raise Down


def test_everything_on_the_loop_is_virtual() -> None:
    """On the loop that runs, sleeps, timers and timeouts of asyncio itself are virtual too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        log: list[float] = []
        async with virtual_time() as virtual:
            begin = virtual.now()
            await asyncio.sleep(3600)
            assert virtual.now() == loop.time() == pytest.approx(begin + 3600)
            loop.call_later(5, lambda: log.append(loop.time() - begin))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10):
                    await asyncio.sleep(1e9)
            assert log == [pytest.approx(3605)]
            await clock.default.sleep_async(1)
            await virtual.sleep_async(2)
            assert virtual.now() - begin == pytest.approx(3613)
            assert virtual.sleeps == [1, 2]

    asyncio.run(main())


def test_tasks_wake_exactly_when_they_are_due() -> None:
    """Tasks wake in order, and each reads exactly the time it is due."""

    async def main() -> None:
        log = []

        async def sleeper(seconds: float) -> None:
            await asyncio.sleep(seconds)
            log.append(virtual.now())

        with Block(VirtualTime(0.0)) as virtual:
            await asyncio.gather(*map(sleeper, (3, 1, 2, 86_400 * 3)))
        assert log == [1, 2, 3, 259_200]

    asyncio.run(main())


def test_plain_with_drives_the_loop_too() -> None:
    """`with` in a coroutine does the same as `async with`."""

    async def main() -> float:
        with virtual_time() as virtual:
            begin = virtual.now()
            await asyncio.sleep(60)
            return virtual.now() - begin

    assert asyncio.run(main()) == pytest.approx(60)


def test_async_policies_built_before() -> None:
    """An async function wrapped long before waits in virtual time on the loop."""
    wrapped = Retry(on=Down, attempts=3, backoff=600)(fail_async)

    async def main() -> list[float]:
        async with virtual_time() as virtual:
            with pytest.raises(Down):
                await wrapped()
            return virtual.sleeps

    assert asyncio.run(main()) == [600, 600]


@pytest.mark.parametrize("raises", [False, True])
def test_leaves_the_loop_exactly_as_it_was(raises: bool) -> None:
    """After the block no attribute of the loop or of its selector is another than before."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.time = time.monotonic  # as somebody else may have done
        before = vars(loop).copy(), vars(loop._selector).copy()
        try:
            async with virtual_time():
                await asyncio.sleep(10)
                if raises:
                    raise Down
        except Down:
            assert raises
        after = vars(loop).copy(), vars(loop._selector).copy()
        for attributes in (*before, *after):
            for passing in ("_timer_cancelled_count", "_current_handle"):
                attributes.pop(passing, None)
        assert before == after

    asyncio.run(main())


def test_timers_keep_the_time_they_have_left() -> None:
    """A timer that is still set when the block ends has as long to go in real time as it had in virtual time."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.call_later(5000, fail)
        async with virtual_time():
            inside = loop.call_later(3000, fail)
            await asyncio.sleep(1000)
        assert before.when() - loop.time() == pytest.approx(4000, abs=5)
        assert inside.when() - loop.time() == pytest.approx(2000, abs=5)
        before.cancel()
        inside.cancel()

    asyncio.run(main())


def test_a_loop_that_starts_inside_the_block() -> None:
    """A loop that is started inside is taken over where a policy first sleeps, and one after the other may be."""
    with virtual_time() as virtual:
        begin = virtual.now()

        async def main() -> None:
            await clock.default.sleep_async(5)
            await asyncio.sleep(6)

        asyncio.run(main())
        on_trio(lambda: virtual.sleep_async(7))
        on_trio(lambda: virtual.sleep_async(8))
        asyncio.run(main())
        assert virtual.now() - begin == pytest.approx(37)


def test_a_blocking_sleep_on_the_loop_is_time_for_its_tasks() -> None:
    """A blocking sleep on the loop's thread moves time past timers, which then go off in order."""

    async def main() -> list[str]:
        loop, log = asyncio.get_running_loop(), []
        async with virtual_time() as virtual:
            loop.call_later(2, log.append, "two")
            loop.call_later(1, log.append, "one")
            virtual.sleep(10)
            assert log == []
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return log

    assert asyncio.run(main()) == ["one", "two"]


def test_messages_come_before_time() -> None:
    """After a message came through a socket, time waits for the silence before it jumps."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)

            def echo() -> None:
                for _ in range(3):
                    right.send(right.recv(1))

            async with virtual_time(), asyncio.timeout(5):
                answers = b""
                work = asyncio.to_thread(echo)
                echoing = asyncio.create_task(work)
                for _ in range(3):
                    await loop.sock_sendall(left, b"!")
                    answers += await loop.sock_recv(left, 1)
                await echoing
        return answers

    assert asyncio.run(main()) == b"!!!"


def test_silence_is_waited_for_only_after_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket on which nothing happens costs no time; one on which something happened costs one silence."""
    monkeypatch.setattr(_driver, "SILENCE", 0.05)

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            async with virtual_time():
                loop.add_reader(left, lambda: left.recv(1))
                before = time.monotonic()
                for _ in range(20):
                    await asyncio.sleep(1)
                quiet = time.monotonic()
                right.send(b"!")
                await asyncio.sleep(1)
                loud = time.monotonic()
                loop.remove_reader(left)
        return quiet - before, loud - quiet

    quiet, loud = asyncio.run(main())
    assert quiet < 20 * 0.05
    assert loud >= 0.05


def test_a_loop_on_another_thread_gets_its_time_back() -> None:
    """A loop that runs on another thread when the block ends has its own time again afterwards."""
    began, done = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await clock.default.sleep_async(1)
        began.set()
        while not done.is_set():  # noqa: ASYNC110 - it is set on another thread
            await asyncio.sleep(0.001)

    with virtual_time():
        before = vars(loop).keys() - {"_thread_id"}
        thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
        thread.start()
        assert began.wait(10)
        assert "time" in vars(loop)
    assert vars(loop).keys() - {"_thread_id"} == before
    assert "select" not in vars(loop._selector)  # type: ignore[attr-defined]
    done.set()
    thread.join()
    loop.close()


def test_a_loop_that_cannot_be_driven() -> None:
    """A loop that is not asyncio's own is refused by name, and virtual time is off afterwards."""

    class Other(asyncio.BaseEventLoop):
        """A loop of somebody else's."""

    other = Other()
    with pytest.raises(RuntimeError, match="Other is another"):
        _driver.Driver(other, _timeline.Timeline(0.0), None)
    other.close()
