"""Who waits for which policy, when virtual time stands still: by name, in threads and on both loops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from resilience import Bulkhead
from resilience.testing import _follower, _timeline
from tests.colours import ALL, LOOPS, Colour, every_colour


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standing still is noticed soon."""
    monkeypatch.setattr(_timeline, "PATIENCE", 0.05)
    monkeypatch.setattr(_follower, "PATIENCE", 0.05)
    monkeypatch.setattr(_follower, "TURNS", 1000)


def what_ends_it(colour: Colour, *callers: Callable[[], Coroutine[Any, Any, Any]]) -> str:
    """Run callers at once until virtual time stands still, and return what the error says."""
    ends: list[Any] = []

    async def scenario() -> None:
        ends.extend(await colour.together(*callers))

    if colour.is_async:
        with pytest.raises(RuntimeError) as caught:
            colour.run(scenario)
            pytest.fail(f"everybody went on: {ends}")
        return str(caught.value)
    colour.run(scenario)
    return next(str(end) for end in ends if isinstance(end, RuntimeError))


@pytest.mark.parametrize("name", ALL)
def test_a_deadlock_names_the_policies_and_who_waits(name: str) -> None:
    """Two callers that each hold the place that the other wants are named, with the policy that each waits for."""
    colour = Colour.named(name)
    database = Bulkhead(1, queue=1, name=f"database of {name}", clock=colour.clock)
    cache = Bulkhead(1, queue=1, name=f"cache of {name}", clock=colour.clock)

    async def database_first() -> None:
        async with colour.guard(database):
            await colour.sleep(1)
            async with colour.guard(cache):
                pass

    async def cache_first() -> None:
        async with colour.guard(cache):
            await colour.sleep(1)
            async with colour.guard(database):
                pass

    text = what_ends_it(colour, database_first, cache_first)
    assert text.startswith("virtual time stands still: ")
    waiting = [line for line in text.splitlines() if ", waits in " in line]
    assert {line.split(", waits in ")[1] for line in waiting} == {
        f"bulkhead 'database of {name}'",
        f"bulkhead 'cache of {name}'",
    }
    if not colour.is_async:
        assert {line.split(":")[0] for line in waiting} == {"  caller 1", "  caller 2"}
        assert all("colours.py:" in line for line in waiting)
    assert (database.snapshot()["in_flight"], cache.snapshot()["in_flight"]) == (0, 0)


@pytest.mark.parametrize("name", LOOPS)
def test_a_busy_loop_names_the_policies_that_others_wait_for(name: str) -> None:
    """While one task goes round in circles, the error also says for which policy the one beside it waits."""
    colour = Colour.named(name)
    bulkhead = Bulkhead(1, queue=1, name=f"busy on {name}", clock=colour.clock)

    async def busy() -> None:
        async with colour.guard(bulkhead):
            await colour.until(lambda: False)

    async def beside_it() -> None:
        await colour.until(lambda: bulkhead.snapshot()["in_flight"])
        async with colour.guard(bulkhead):
            pass

    assert f", waits in bulkhead 'busy on {name}'" in what_ends_it(colour, busy, beside_it)


@pytest.mark.parametrize("name", LOOPS)
def test_threads_beside_a_loop_are_named_too(name: str) -> None:
    """A loop that stands still names the threads that wait in a policy, beside its tasks."""
    colour = Colour.named(name)
    bulkhead = Bulkhead(1, queue=1, name=f"shared by {name}", clock=colour.clock)

    def beside_it() -> None:
        with suppress(RuntimeError), bulkhead.guard():
            pass

    thread = threading.Thread(target=beside_it, name="beside the loop", daemon=True)

    async def holder() -> None:
        async with colour.guard(bulkhead):
            thread.start()
            await colour.until(lambda: bulkhead.snapshot()["queued"])
            await colour.gate().wait()

    text = what_ends_it(colour, holder)
    thread.join()
    assert "  beside the loop: " in text
    assert f", waits in bulkhead 'shared by {name}'" in text


@every_colour
async def test_a_place_that_comes_free_is_taken_before_time_passes(colour: Colour) -> None:
    """Who waits for a place, for so long or for ever, has it at the reading at which it came free, and not later."""
    for max_wait in (10.0, float("inf")):
        bulkhead = Bulkhead(1, queue=2, max_wait=max_wait, name=f"handed on {max_wait} {colour}", clock=colour.clock)
        began = colour.clock.now()
        got: list[float] = []

        async def caller(number: int, bulkhead: Bulkhead = bulkhead, began: float = began, got: Any = got) -> None:
            await colour.sleep(0.1 * number)
            async with colour.guard(bulkhead):
                got.append(round(colour.clock.now() - began, 6))
                await colour.sleep(1)

        await colour.together(*[lambda number=number: caller(number) for number in range(3)])
        assert got == [0.0, 1.0, 2.0]


@every_colour
async def test_a_wait_that_is_too_long_ends_when_it_is_due(colour: Colour) -> None:
    """Who has waited its `max_wait` in vain is refused at that reading, while the others wait on."""
    bulkhead = Bulkhead(1, queue=2, max_wait=3, name=f"in vain {colour}", clock=colour.clock)
    ends: list[float] = []

    async def caller(number: int) -> None:
        await colour.sleep(0.25 * number)
        try:
            async with colour.guard(bulkhead):
                await colour.sleep(10)
        finally:
            ends.append(colour.clock.now())

    await colour.together(*[lambda number=number: caller(number) for number in range(3)])
    assert ends == [3.25, 3.5, 10.0]
