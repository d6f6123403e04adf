"""Virtual time for the whole process: what it reaches, what it leaves behind, and what it says when it stands still."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import resilience.testing
from resilience import CircuitBreaker, CircuitState, Retry, clock
from resilience.testing import _driver, _follower, _timeline, virtual_time
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


# --- plain code -----------------------------------------------------------------------------------------------------


def test_starts_at_the_real_reading() -> None:
    """Virtual time begins at what the machine's clock shows."""
    before = time.monotonic()
    with virtual_time() as virtual:
        assert before <= virtual.now() <= time.monotonic()
        assert clock.default.now() == virtual.now()


def test_sleeps_jump() -> None:
    """An hour's sleep of whoever uses the shared clock is over at once, and is recorded."""
    with virtual_time() as virtual:
        begin = virtual.now()
        clock.default.sleep(3600)
        virtual.sleep(60)
        virtual.advance(4)
        assert virtual.now() - begin == pytest.approx(3664)
        assert virtual.sleeps == [3600, 60]
    assert virtual.now() - begin == pytest.approx(3664)


def test_reaches_policies_built_before() -> None:
    """A policy built long before the block waits in virtual time inside it, function already wrapped included."""
    wrapped = Retry(on=Down, attempts=3, backoff=600)(fail)
    with virtual_time() as virtual:
        with pytest.raises(Down):
            wrapped()
        assert virtual.sleeps == [600, 600]


@pytest.mark.parametrize("value", [True, "1", None, -1, math.nan, math.inf])
def test_what_is_no_duration(value: Any) -> None:
    """What is no duration is refused, and no time passes."""
    with virtual_time() as virtual:
        begin = virtual.now()
        for use in (virtual.sleep, virtual.advance, lambda value: asyncio.run(virtual.sleep_async(value))):
            with pytest.raises((TypeError, ValueError), match="seconds must be a number of seconds, 0 or more"):
                use(value)
        assert virtual.now() == begin
        assert virtual.sleeps == []


def test_does_not_nest() -> None:
    """A second block inside the first is an error, on any thread, and leaves the first as it was."""
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            virtual_time().__enter__()
        except RuntimeError as error:
            caught.append(error)

    with virtual_time() as virtual:
        with pytest.raises(RuntimeError, match="does not nest"):
            virtual_time().__enter__()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert "does not nest" in str(caught[0])
        assert clock.default.now == virtual.now
    with virtual_time():
        clock.default.sleep(1)


def test_a_block_that_was_never_entered() -> None:
    """Leaving what was never entered, or leaving twice, is an error and releases nothing."""
    block = virtual_time()
    with block:
        with pytest.raises(RuntimeError, match="never entered"):
            virtual_time().__exit__(None, None, None)
        clock.default.sleep(1)
    with virtual_time(), pytest.raises(RuntimeError, match="or left already"):
        block.__exit__(None, None, None)


def test_leaves_the_clock_as_it_found_it_when_the_body_raises() -> None:
    """An error in the body leaves the block unchanged, and the clock is the machine's again."""
    error = Down()
    with pytest.raises(Down) as caught, virtual_time():
        clock.default.sleep(5)
        raise error
    assert caught.value is error
    assert clock.default.sleep is time.sleep


# --- the state of policies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [False, True])
def test_policies_get_back_their_state(raises: bool) -> None:
    """What happened to a policy inside the block has not happened to it afterwards, also when the body raised."""
    opened, closed = CircuitBreaker(1, cooldown=1e6), CircuitBreaker(1, cooldown=1e6)
    with pytest.raises(Down):
        opened.call(fail)
    try:
        with virtual_time() as virtual:
            with pytest.raises(Down):
                closed.call(fail)
            virtual.advance(2e6)
            assert opened.call(lambda: "up") == "up"
            assert (opened.state, closed.state) == (CircuitState.CLOSED, CircuitState.HALF_OPEN)
            if raises:
                raise Down
    except Down:
        assert raises
    assert (opened.state, closed.state) == (CircuitState.OPEN, CircuitState.CLOSED)


def test_policies_that_come_and_go_inside() -> None:
    """A policy built inside keeps its state, and one that is dropped inside is let go."""
    before = CircuitBreaker(1, name="dropped inside")
    with virtual_time():
        inside = CircuitBreaker(1)
        with pytest.raises(Down):
            inside.call(fail)
        del before
        gc.collect()
        assert "dropped inside" not in [policy.name for policy in resilience.registry()]
    assert inside.state is CircuitState.OPEN


def test_a_harness_may_look_after_policies_itself() -> None:
    """A block with a clock of the harness's starts where that one stands and leaves policies alone."""
    breaker = CircuitBreaker(1)
    with Block(VirtualTime(0.0), keep=False) as virtual:
        with pytest.raises(Down):
            breaker.call(fail)
        clock.default.sleep(2)
        assert virtual.now() == 2.0
    assert breaker.state is not CircuitState.CLOSED


# --- threads --------------------------------------------------------------------------------------------------------


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


# --- asyncio --------------------------------------------------------------------------------------------------------


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


# --- standing still -------------------------------------------------------------------------------------------------


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
        assert "test_virtual_time.py:" in str(caught.value)
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


# --- trio -----------------------------------------------------------------------------------------------------------


def test_trio_follows_its_mock_clock() -> None:
    """On trio, every wait is virtual, and the reading goes on with the run's own."""

    async def main() -> None:
        async with virtual_time() as virtual:
            begin, own = virtual.now(), trio.current_time()
            await trio.sleep(3600)
            await clock.default.sleep_async(5)
            with trio.move_on_after(10) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
            virtual.advance(20)
            virtual.sleep(1)
            assert virtual.now() - begin == pytest.approx(trio.current_time() - own) == pytest.approx(3636)
            assert virtual.sleeps == [5, 1]

    on_trio(main)


def test_trio_policies_built_before() -> None:
    """An async function wrapped long before waits in virtual time on trio."""
    wrapped = Retry(on=Down, attempts=3, backoff=600)(fail_async)

    async def main() -> list[float]:
        with virtual_time() as virtual:
            with pytest.raises(Down):
                await wrapped()
            return virtual.sleeps

    assert on_trio(main) == [600, 600]


def test_trio_needs_a_mock_clock() -> None:
    """On a trio run with the machine's clock, the error says what to write, and virtual time is off afterwards."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"trio\.run\(main, clock=trio\.testing\.MockClock\(\)\)"):
            async with virtual_time():
                pass

    trio.run(main)
    with virtual_time():
        clock.default.sleep(1)


@pytest.mark.parametrize("threshold", [math.inf, 0.0, 0.001])
def test_trio_is_left_as_it_was(threshold: float) -> None:
    """After the block the mock clock jumps no more and no less than before, and nothing of ours watches the run."""

    async def main() -> None:
        mock = trio.lowlevel.current_clock()
        async with virtual_time():
            await trio.sleep(5)
        assert isinstance(mock, MockClock)
        assert mock.autojump_threshold == threshold
        for instrument in _instruments():
            assert type(instrument).__module__.split(".")[0] != "resilience"

    on_trio(main, autojump_threshold=threshold)


def _instruments() -> list[object]:
    from trio._core._run import GLOBAL_RUN_CONTEXT

    return [one for many in GLOBAL_RUN_CONTEXT.runner.instruments.values() for one in many]


def test_threads_beside_trio() -> None:
    """A thread that sleeps beside a trio run moves its time."""

    async def main() -> float:
        async with virtual_time() as virtual:
            begin = virtual.now()
            await trio.to_thread.run_sync(clock.default.sleep, 9)
            return virtual.now() - begin

    assert on_trio(main) == pytest.approx(9)


@pytest.mark.parametrize("threshold", [math.inf, 0.001])
def test_a_deadlock_on_trio_names_the_waiters(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On trio too, standing still for good ends the block with an error that names the tasks that wait."""
    monkeypatch.setattr(_follower, "TURNS", 1000)
    monkeypatch.setattr(_follower, "PATIENCE", 0.1)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="nothing can run and no timer is set") as caught:
            async with virtual_time():
                await trio.sleep(5)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(for_ever_on_trio)
        assert "for_ever_on_trio at " in str(caught.value)
        assert "test_virtual_time.py:" in str(caught.value)

    on_trio(main, autojump_threshold=threshold)


async def for_ever_on_trio() -> None:
    """Wait for what never comes."""
    await trio.Event().wait()


def test_a_busy_loop_on_trio_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that turns and turns at one instant ends the block with an error."""
    monkeypatch.setattr(_follower, "TURNS", 1000)
    monkeypatch.setattr(_follower, "PATIENCE", 0.1)

    async def main() -> None:
        async with virtual_time():
            for _ in range(900):
                await trio.lowlevel.checkpoint()
            await trio.sleep(1)
            while True:
                await trio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match="1,000 turns at one instant"):
        on_trio(main)


def test_a_deadlock_of_a_trio_run_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was taken over inside the block is ended as a whole, with the error as the cause."""
    monkeypatch.setattr(_follower, "TURNS", 1000)
    monkeypatch.setattr(_follower, "PATIENCE", 0.1)

    async def main() -> None:
        await clock.default.sleep_async(1)
        await for_ever_on_trio()

    with virtual_time(), pytest.raises(trio.TrioInternalError) as caught:
        on_trio(main)
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    matched, others = group.split(lambda error: "nothing can run" in str(error))
    assert matched is not None
    assert others is None


def test_a_trio_cancellation_from_outside_stays_one() -> None:
    """A scope around the block that is cancelled ends the block without our error."""

    async def main() -> bool:
        with trio.move_on_after(5) as scope:
            async with virtual_time():
                await trio.sleep(100)
        return scope.cancelled_caught

    assert on_trio(main)


# --- the package ----------------------------------------------------------------------------------------------------


def test_the_package_imports_its_parts_when_they_are_used() -> None:
    """Importing the testing kit imports none of its parts, no loop and nothing from outside the standard library."""
    code = (
        "import sys, resilience.testing as kit; before = set(sys.modules); print(sorted(dir(kit)) == sorted("
        "{*dir(kit), *kit.__all__}), [name for name in ('asyncio', 'trio', 'hypothesis') if name in before], "
        "[name for name in before if name.startswith('resilience.testing.')]); kit.VirtualClock(); kit.virtual_time()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True [] []"
    with pytest.raises(AttributeError, match="has no attribute 'Virtual'"):
        resilience.testing.Virtual  # noqa: B018


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
