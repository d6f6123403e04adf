"""Virtual time for the whole process: what it reaches, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import resilience.testing
from resilience import CircuitBreaker, CircuitState, Retry, clock
from resilience.testing import virtual_time
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
