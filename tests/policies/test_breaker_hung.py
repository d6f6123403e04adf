"""Calls that hang: a breaker that counts slow ones opens while they still do."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Consecutive, FailureRate, SlowRate
from resilience.events import CallRejected, CircuitOpened, LateResult
from resilience.testing import VirtualClock, virtual_time
from tests.colours import Colour, async_colours, every_colour
from tests.policies.test_breaker import Boom, in_every_form, outcome_of, through, works

SLOW = SlowRate(0.5, slower_than=2, window=60, minimum_calls=4)


@in_every_form
@every_colour
async def test_calls_that_hang_open_it_while_they_hang(colour: Colour, form: str) -> None:
    """In every form: four calls are under way for longer than the bound; the next is refused; then they end late."""
    breaker = CircuitBreaker(SLOW, cooldown=30, clock=colour.clock)
    heard: list[Any] = []
    breaker.listen(heard.append, CircuitOpened, LateResult, CallRejected)
    gate = colour.gate()
    inside: list[int] = []

    async def hangs() -> str:
        inside.append(1)
        await gate.wait()
        return "at last"

    async def caller() -> Any:
        return await through(colour, breaker, form, hangs)

    jobs = [colour.start(caller) for _ in range(4)]
    await colour.until(lambda: len(inside) == 4)
    await colour.sleep(2)
    assert breaker.snapshot()["state"] == "closed"
    await colour.sleep(0.25)
    refused = await outcome_of(through(colour, breaker, form, works))
    assert type(refused) is CircuitOpen and refused.retry_after == pytest.approx(30)
    gate.open()
    assert [await job.outcome() for job in jobs] == ["at last"] * 4
    assert [type(event) for event in heard] == [CircuitOpened, CallRejected] + [LateResult] * 4


@every_colour
async def test_each_call_enters_the_window_once(colour: Colour) -> None:
    """Seen while it ran, it is not counted at its end; not seen, it is; and a failure is one only at its end."""
    breaker = CircuitBreaker(
        (SlowRate(1.0, slower_than=2, calls=50, minimum_calls=50), FailureRate(calls=50, minimum_calls=50)),
        on=Boom,
        clock=colour.clock,
    )
    seen: list[tuple[int, int]] = []

    def tell() -> None:
        view = breaker.snapshot()
        seen.append((view["failures"], view["calls"]))

    async def watched() -> None:
        await colour.sleep(3)
        tell()
        await colour.sleep(3)
        tell()
        raise Boom

    assert isinstance(await outcome_of(through(colour, breaker, "call", watched)), Boom)
    tell()

    async def unwatched() -> None:
        await colour.sleep(3)

    await through(colour, breaker, "call", unwatched)
    tell()
    assert seen == [(1, 1), (1, 1), (1, 1), (2, 2)]
    assert [tally.counts(0.0) for tally in breaker._circuit.tallies] == [(2, 2), (1, 2)]


@async_colours
async def test_a_call_that_was_slow_and_is_cancelled_counts_once(colour: Colour) -> None:
    """Cancelled before the bound it is nothing, after it one slow call, whether or not anybody had looked."""
    for looked in (False, True):
        for seconds, counts in [(1, (0, 0)), (3, (1, 1))]:
            breaker = CircuitBreaker(SLOW, clock=colour.clock)

            async def caller(breaker: CircuitBreaker = breaker) -> None:
                await through(colour, breaker, "call", hangs)

            async def hangs() -> None:
                await colour.gate().wait()

            job = colour.start(caller)
            await colour.until(lambda breaker=breaker: breaker._circuit.serial)
            await colour.sleep(seconds)
            if looked:
                assert breaker.state == "closed"
            job.cancel()
            await colour.until(lambda breaker=breaker: not breaker._circuit.watches.under_way)
            view = breaker.snapshot()
            assert (view["failures"], view["calls"]) == counts


def test_fast_calls_leave_nothing_behind() -> None:
    """After calls that succeeded, failed, were ignored or thrown away, nothing is under way."""
    clock = VirtualClock()
    breaker = CircuitBreaker(SLOW, on=Boom, clock=clock)

    def fails() -> None:
        raise Boom

    def neutral() -> None:
        raise KeyError

    def steps() -> Any:
        yield 1

    breaker.call(int)
    for body, error in [(fails, Boom), (neutral, KeyError)]:
        with pytest.raises(error):
            breaker.call(body)
    with breaker.guard() as g:
        g.ignore()
    generator = breaker(steps)()
    next(generator)
    generator.close()
    watches = breaker._circuit.watches
    assert watches is not None and watches.under_way == set() and breaker._at_rest()
    clock.advance(10)
    assert breaker.snapshot()["failures"] == 0


def test_a_breaker_without_a_slow_rate_watches_nothing() -> None:
    """All calls of a closed generation share its number, as they always did."""
    for trip in (5, FailureRate(), FailureRate(calls=9)):
        breaker = CircuitBreaker(trip)
        with breaker.guard() as one, breaker.guard() as other:
            assert one._permit == other._permit == breaker._circuit.generation
        assert breaker._circuit.watches is None and breaker._permit >= 0


def test_calls_on_threads_are_watched_alike() -> None:
    """A call that hangs on one thread is seen from another; a tuple of trips opens by the slow one."""
    clock, inside, go_on = VirtualClock(), threading.Semaphore(0), threading.Event()
    breaker = CircuitBreaker((Consecutive(5), SlowRate(1.0, slower_than=2, calls=3)), clock=clock)

    def hangs() -> None:
        inside.release()
        go_on.wait(10)

    threads = [threading.Thread(target=breaker.call, args=(hangs,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert all(inside.acquire(timeout=10) for _ in threads)
        clock.advance(2.5)
        assert breaker.state == "open"
    finally:
        go_on.set()
        for thread in threads:
            thread.join(10)
    assert breaker.snapshot()["failures"] == 3


def test_virtual_time_forgets_calls_that_have_come_back_meanwhile() -> None:
    """A call that began before the block and ended in it is not taken for one that hangs."""
    clock = VirtualClock()
    breaker = CircuitBreaker(SlowRate(slower_than=2, calls=1), clock=clock)
    ended, hanging = breaker.guard(), breaker.guard()
    ended.__enter__()
    with virtual_time():
        ended.__exit__(None, None, None)
    clock.advance(5)
    assert breaker.state == "closed"
    breaker.reset()
    hanging.__enter__()
    with virtual_time():
        pass
    clock.advance(5)
    assert breaker.state == "open", "one that still hangs is"
    hanging.__exit__(None, None, None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    """What was under way at a fork never ends in the child, and is not taken for hanging there."""
    clock = VirtualClock()
    breaker = CircuitBreaker(SlowRate(slower_than=2, calls=1), clock=clock)
    with breaker.guard():
        child = os.fork()
        if not child:
            try:
                clock.advance(5)
                os._exit(0 if breaker.state == "closed" and breaker.call(int) == 0 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        clock.advance(5)
        assert breaker.state == "open"
