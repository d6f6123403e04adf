"""Virtual time on trio: it follows a mock clock, and says when that stands still."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from resilience import Retry, clock
from resilience.testing import _follower, virtual_time


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
        assert "test_virtual_trio.py:" in str(caught.value)

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
