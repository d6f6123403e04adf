"""Blocks: what they mean is said from inside, and what they took comes back on every way out."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Fallback, Pipeline, Retry, SlowRate, TimedOut, Timeout
from resilience.events import CallSucceeded, LateResult
from resilience.policies._gate import GatePolicy
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours, every_colour
from tests.policies.test_breaker import Boom, half_open

Counts = tuple[int, int]


def counts(breaker: CircuitBreaker) -> Counts:
    """(failures, calls)."""
    snapshot = breaker.snapshot()
    return snapshot["failures"], snapshot["calls"]


@every_colour
async def test_a_block_that_ends_is_a_success_and_one_that_raises_is_judged(colour: Colour) -> None:
    """As a call would be; the error leaves the block unchanged."""
    breaker = CircuitBreaker(5, on=Boom, clock=colour.clock)
    error = Boom()
    for raised, then in [(error, (1, 1)), (KeyError(), (1, 1)), (None, (0, 0))]:
        try:
            async with colour.guard(breaker):
                if raised is not None:
                    raise raised
        except (Boom, KeyError) as left:
            assert left is raised
        assert counts(breaker) == then


@every_colour
async def test_a_block_can_be_failed_without_an_error(colour: Colour) -> None:
    """`g.fail(reason)` counts, is the last error, and the block ends quietly."""
    breaker = CircuitBreaker(1, clock=colour.clock)
    async with colour.guard(breaker) as g:
        g.fail("no row came back")
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen) as refused:
        async with colour.guard(breaker):
            pytest.fail("entered")
    assert refused.value.last_error == ("fail", "no row came back")
    breaker.reset()
    async with colour.guard(breaker) as g:
        g.fail("x" * 1000)
    assert breaker.snapshot()["last_error"] == ["fail", "x" * 200]


@every_colour
async def test_what_a_block_says_goes_before_how_it_ends(colour: Colour) -> None:
    """Ignored or failed, as said last, whether it raises or not."""
    for says, raises, then in [
        (["ignore"], None, (1, 1)),
        (["ignore"], Boom(), (1, 1)),
        (["fail"], KeyError(), (2, 2)),
        (["fail"], None, (2, 2)),
        (["fail", "ignore"], None, (1, 1)),
        (["ignore", "fail"], None, (2, 2)),
        (["set_result"], None, (0, 0)),
        (["set_result"], Boom(), (2, 2)),
        (["set_result", "ignore"], None, (1, 1)),
    ]:
        breaker = CircuitBreaker(5, on=Boom, clock=colour.clock)
        with pytest.raises(Boom), breaker.guard():
            raise Boom
        try:
            async with colour.guard(breaker) as g:
                for word in says:
                    getattr(g, word)(*[] if word == "ignore" else ["so"])
                if raises is not None:
                    raise raises
        except (Boom, KeyError) as left:
            assert left is raises
        assert counts(breaker) == then, (says, raises)


@every_colour
async def test_where_results_are_judged_a_block_must_say_what_it_made(colour: Colour) -> None:
    """With `on_result`, `g.set_result(x)` is judged; forgetting it is an error, unless the block says otherwise."""
    breaker = CircuitBreaker(5, on_result=lambda status: status >= 500, clock=colour.clock)
    for status, then in [(503, (1, 1)), (503, (2, 2)), (200, (0, 0))]:
        async with colour.guard(breaker) as g:
            g.set_result(status)
        assert counts(breaker) == then
    async with colour.guard(breaker) as g:
        g.set_result(200)
        g.set_result(503)
    assert counts(breaker) == (1, 1)
    with pytest.raises(
        RuntimeError, match=r"circuit_breaker has on_result, so the block must say .* g\.set_result\(x\)$"
    ):
        async with colour.guard(breaker):
            pass
    for word in ("fail", "ignore"):
        async with colour.guard(breaker) as g:
            getattr(g, word)(*["so"][: word == "fail"])
    with pytest.raises(KeyError):
        async with colour.guard(breaker):
            raise KeyError
    assert counts(breaker) == (3, 3)


@every_colour
async def test_a_block_that_forgets_its_result_gives_its_place_back(colour: Colour) -> None:
    """The mistake costs no trial and decides nothing."""
    breaker = CircuitBreaker(on_result=lambda _: False, clock=colour.clock)
    breaker.open()
    colour.clock.advance(30)
    with pytest.raises(RuntimeError):
        async with colour.guard(breaker):
            assert breaker.snapshot()["trials"] == 1
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


@every_colour
async def test_a_predicate_that_raises_in_a_block_is_heard_and_counts_nothing(colour: Colour) -> None:
    """As in a call."""
    breaker = CircuitBreaker(on_result=lambda _: 1 / 0 > 0, clock=colour.clock)
    breaker.open()
    colour.clock.advance(30)
    with pytest.raises(ZeroDivisionError):
        async with colour.guard(breaker) as g:
            g.set_result(1)
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


@every_colour
async def test_a_block_takes_its_time_into_account(colour: Colour) -> None:
    """With a `SlowRate`: the time in the block, also when it is failed by hand; ignored by hand, it has none."""
    breaker = CircuitBreaker(SlowRate(1.0, slower_than=2, calls=50), clock=colour.clock)
    for seconds, word, then in [(3, None, (1, 1)), (1, None, (1, 2)), (3, "fail", (2, 3)), (3, "ignore", (2, 3))]:
        async with colour.guard(breaker) as g:
            await colour.sleep(seconds)
            if word is not None:
                getattr(g, word)(*["so"][: word == "fail"])
        assert counts(breaker) == then


@every_colour
async def test_a_guard_serves_one_block(colour: Colour) -> None:
    """Entering it again is an error that says what to do, and takes nothing."""
    breaker = half_open(colour.clock)
    guard = breaker.guard()
    with pytest.raises(Boom), guard:
        raise Boom
    breaker.open()
    colour.clock.advance(30)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"^a guard serves one block: call policy\.guard\(\) again for the next$"
        ):
            if colour.is_async:
                async with guard:
                    pytest.fail("entered")
            else:
                with guard:
                    pytest.fail("entered")
    assert breaker.snapshot()["trials"] == 0


def test_a_guard_that_was_refused_settles_nothing() -> None:
    """Leaving what was never entered is no ending of anything."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, clock=clock)
    breaker.open()
    heard: list[Any] = []
    breaker.listen(heard.append, LateResult, CallSucceeded)
    guard = breaker.guard()
    with pytest.raises(CircuitOpen):
        guard.__enter__()
    guard.__exit__(None, None, None)
    assert heard == []


def test_leaving_a_block_twice_settles_once() -> None:
    """The permit goes back with the first."""
    breaker = CircuitBreaker(5, on=Boom)
    guard = breaker.guard()
    guard.__enter__()
    guard.__exit__(Boom, Boom(), None)
    guard.__exit__(Boom, Boom(), None)
    assert counts(breaker) == (1, 1)


def test_blocks_nest_and_overlap() -> None:
    """Each holds its own permit, whichever ends first."""
    breaker = half_open(VirtualClock(), trials=3)
    one, other, third = (breaker.guard() for _ in range(3))
    one.__enter__(), other.__enter__()
    one.__exit__(None, None, None)
    third.__enter__()
    assert breaker.snapshot()["trials"] == 2
    with pytest.raises(CircuitOpen), breaker.guard():
        pytest.fail("entered")
    third.__exit__(None, None, None), other.__exit__(None, None, None)
    assert breaker.state == "closed"


@async_colours
async def test_a_plain_block_in_a_coroutine_is_a_block_too(colour: Colour) -> None:
    """`with breaker.guard():` works around awaits, and a cancellation gives the place back."""
    breaker = half_open(colour.clock)
    inside = []

    async def caller() -> None:
        with breaker.guard():
            inside.append(1)
            await colour.gate().wait()

    job = colour.start(caller)
    await colour.until(lambda: inside)
    assert breaker.snapshot()["trials"] == 1
    job.cancel()
    await job.outcome()
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


def test_a_block_entered_as_the_circuit_opens_is_admitted_or_refused_never_neither() -> None:
    """The permit is read once: if the circuit opens at that very moment, the block has the old permit, or asks."""

    class Opening(CircuitBreaker):
        """Opens at the first look at its permit."""

        __slots__ = ("looks",)

        @property
        def _permit(self) -> int:
            self.looks = getattr(self, "looks", 0) + 1
            return 0 if self.looks == 1 else -1

        @_permit.setter
        def _permit(self, value: int) -> None: ...

    async def enter(guard: Any) -> int:
        await guard.__aenter__()
        return guard._permit

    breaker = Opening()
    guard = breaker.guard()
    guard.__enter__()
    assert guard._permit == 0
    assert asyncio.run(enter(Opening().guard())) == 0


def test_a_cost_belongs_to_a_throttle() -> None:
    """`g.settle(n)` in a breaker's or a timeout's block is an error that says so."""
    with (
        CircuitBreaker().guard() as g,
        pytest.raises(TypeError, match=r"^CircuitBreaker has no cost to settle: g\.settle\(n\) belongs to a Throttle$"),
    ):
        g.settle(3)
    with (
        Timeout(1, thread=False).guard() as scope,
        pytest.raises(TypeError, match=r"^this policy has no cost to settle: g\.settle\(n\) belongs to a Throttle$"),
    ):
        scope.settle(3)


def test_a_gate_of_your_own_must_say_whom_it_admits() -> None:
    """A subclass without `_admit` says what it lacks, in a call and in a block."""

    class Mine(GatePolicy):
        _permit = -1
        _clean = -2
        _timed = False

        def __init__(self) -> None:
            self._setup(None, None, {})

    with pytest.raises(TypeError, match=r"^Mine does not say whom it admits: define _admit$"):
        Mine().call(int)
    with pytest.raises(TypeError, match="define _admit"), Mine().guard():
        pytest.fail("entered")


def test_policies_that_cannot_guard_say_why() -> None:
    """A retry and a fallback cannot run a block again; a pipeline that holds one neither."""
    retry, fallback = Retry(on=Boom), Fallback(on=Boom, value=None)
    for policy, reason in [
        (retry, "runs once"),
        (Pipeline(CircuitBreaker(), retry), "runs once"),
        (fallback, "block"),
        (Pipeline(fallback), "block"),
    ]:
        with pytest.raises(TypeError, match=reason):
            policy.guard()


# --- scopes -----------------------------------------------------------------------------------------------------------


@async_colours
async def test_a_block_under_a_timeout_is_cut(colour: Colour) -> None:
    """`async with timeout.guard():` raises `TimedOut` at the bound; one that ends in time is left alone."""
    timeout = Timeout(2)
    async with timeout.guard():
        await colour.sleep(1)
    started = colour.clock.now()
    with pytest.raises(TimedOut):
        async with timeout.guard():
            await colour.sleep(10)
    assert colour.clock.now() - started == pytest.approx(2.0)


@every_colour
async def test_a_scope_serves_one_block_and_hears_what_others_do(colour: Colour) -> None:
    """It is single use too, and takes the words that mean nothing to it without complaint."""
    timeout = Timeout(2, thread=False, clock=colour.clock)
    guard = timeout.guard()
    async with colour.guard(timeout) as g:
        g.set_result(1)
        g.fail("so")
        g.ignore()
    with guard:
        pass
    with pytest.raises(RuntimeError, match="a guard serves one block"), guard:
        pytest.fail("entered")


def test_leaving_a_scope_that_was_never_entered_is_nothing() -> None:
    """Nor is a bound opened by it."""
    guard = Timeout(2, thread=False).guard()
    assert guard.__exit__(None, None, None) is None


# --- several at once --------------------------------------------------------------------------------------------------


@every_colour
async def test_a_block_under_a_pipeline_is_told_to_each_breaker_in_it(colour: Colour) -> None:
    """What is said is said to all, inner places come back, and an inner refusal is neutral to the outer."""
    outer = CircuitBreaker(2, on_result=lambda x: x < 0, clock=colour.clock)
    inner = CircuitBreaker(2, clock=colour.clock)
    pipeline = Pipeline(outer, inner)
    async with colour.guard(pipeline) as g:
        g.set_result(-1)
    assert (counts(outer), counts(inner)) == ((1, 1), (0, 0))
    async with colour.guard(pipeline) as g:
        g.fail("so")
    assert (outer.state, counts(inner)) == ("open", (1, 1))
    with pytest.raises(CircuitOpen) as refused:
        async with colour.guard(pipeline):
            pytest.fail("entered")
    assert refused.value.last_error == ("fail", "so")
    outer.reset()
    inner.open()
    with pytest.raises(CircuitOpen):
        async with colour.guard(pipeline):
            pytest.fail("entered")
    assert counts(outer) == (0, 0)


def test_guards_of_one_breaker_on_many_threads_share_nothing() -> None:
    """Each thread's guard is its own; what one says, no other hears."""
    breaker = CircuitBreaker(10**6, on=Boom)
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            with breaker.guard() as g:
                barrier.wait(10)
                if n < 4:
                    g.fail(str(n))
                barrier.wait(10)
                if n >= 4:
                    g.ignore()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not errors and counts(breaker) == (4, 4)
