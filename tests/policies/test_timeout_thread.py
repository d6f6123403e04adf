"""`Timeout(thread=True)`: a plain call on a worker, whose caller waits no longer than the bound."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import (
    BlockingWarning,
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    context,
)
from resilience.events import CallSucceeded, Event
from resilience.testing import VirtualClock, virtual_time
from tests.colours import Colour, async_colours

PATIENCE = 10.0


def in_plain_colour(test: Callable[[Colour], Any]) -> Callable[[], None]:
    """Run a test of plain functions in virtual time."""

    def run() -> None:
        colour = Colour.named("sync")
        colour.run(lambda: test(colour))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def bound(seconds: float = 2, **kwargs: Any) -> Timeout:
    """A timeout that leaves its worker behind."""
    return Timeout(seconds, thread=True, name="query", **kwargs)


@pytest.mark.parametrize("form", ["call", "decorator"])
def test_a_call_that_ends_in_time_is_left_alone(form: str) -> None:
    """A result or an error that comes in time passes unchanged, with the arguments as given."""

    async def scenario(colour: Colour) -> None:
        error = OSError()
        work = colour.function([(1, "done"), (1, error), (1, KeyboardInterrupt)])
        assert await colour.call(bound(), work, 5, form=form) == "done"
        with pytest.raises(OSError) as caught:
            await colour.call(bound(), work, 5, form=form)
        assert caught.value is error
        assert caught.traceback[-1].name == "_do"
        assert (error.__cause__, error.__context__) == (None, None)
        with pytest.raises(KeyboardInterrupt):
            await colour.call(bound(), work, 5, form=form)
        assert work.calls == [(5,)] * 3
        assert colour.clock.now() == 3.0

    colour = Colour.named("sync")
    colour.run(lambda: scenario(colour))


@in_plain_colour
async def test_the_caller_is_answered_at_the_bound(colour: Colour) -> None:
    """At the bound the caller gets `TimedOut`; the worker is left behind, and its late end changes nothing."""
    policy = bound()
    told: list[Event] = []
    policy.listen(told.append)
    ended: list[float] = []

    def work() -> str:
        colour.clock.sleep(9)
        ended.append(colour.clock.now())
        return "late"

    with pytest.raises(TimedOut) as caught:
        policy.call(work)
    assert colour.clock.now() == 2.0
    assert (type(caught.value), caught.value.policy, caught.value.seconds) == (TimedOut, "query", 2.0)
    assert str(caught.value) == "query: no answer within 2 s"
    assert ended == []
    await colour.sleep(10)
    await colour.until(lambda: ended)
    assert ended == [9.0]
    assert told == []


@in_plain_colour
async def test_an_end_in_the_moment_of_the_bound_is_late(colour: Colour) -> None:
    """As for every bound, no time left is too late, whichever thread is first to notice."""
    for _ in range(20):
        with pytest.raises(TimedOut):
            bound(2).call(colour.function([(2, "just")]))
        await colour.sleep(1)


@in_plain_colour
async def test_success_is_told(colour: Colour) -> None:
    """A call that ends in time is a `CallSucceeded`; one that fails is no event of the timeout's."""
    policy = bound()
    told: list[Event] = []
    policy.listen(told.append)
    policy.call(colour.function([(1, "done")]))
    with pytest.raises(OSError):
        policy.call(colour.function([OSError()]))
    assert told == [CallSucceeded("query", "timeout", 1.0, attempts=1)]


@in_plain_colour
async def test_an_outer_deadline_that_is_nearer_answers_first(colour: Colour) -> None:
    """The caller waits for the tightest bound around it, and gets that bound's own error."""
    late = colour.function([(100, "late"), ...])
    with context.deadline(1), pytest.raises(DeadlineExceeded) as caught:
        bound().call(late)
    assert caught.value.seconds == 1.0
    assert colour.clock.now() == 1.0
    with Timeout(1, thread=False, name="outer").guard(), pytest.raises(TimedOut) as refused:
        bound().call(late)
    assert (type(refused.value), refused.value.policy) == (TimedOut, "outer")
    with context.deadline(50), pytest.raises(TimedOut) as own:
        bound().call(late)
    assert type(own.value) is TimedOut
    with pytest.raises(TimedOut) as inner:
        Pipeline(Timeout(5, thread=True, name="outer"), Timeout(3, thread=True, name="inner")).call(late)
    assert inner.value.policy == "inner"
    assert colour.clock.now() == 7.0


@in_plain_colour
async def test_nothing_is_begun_with_no_time_left(colour: Colour) -> None:
    """When an outer bound has passed, the call is not made."""
    with context.deadline(3):
        await colour.sleep(3)
        with pytest.raises(DeadlineExceeded):
            bound().call(colour.function([]))


@in_plain_colour
async def test_inside_there_is_a_deadline(colour: Colour) -> None:
    """The worker sees what is left, before and after its caller has gone, and the caller's context does not."""
    left: list[float | None] = []

    def work() -> None:
        left.append(context.remaining())
        colour.clock.sleep(3)
        left.append(context.remaining())

    with pytest.raises(TimedOut):
        bound().call(work)
    assert context.remaining() is None
    await colour.sleep(5)
    await colour.until(lambda: len(left) == 2)
    assert left == [2.0, 0.0]


WHO = contextvars.ContextVar("WHO", default="nobody")


def test_context_variables_reach_the_worker() -> None:
    """The call runs in a copy of its caller's context, and what it sets stays there."""

    def work() -> str:
        who = WHO.get()
        WHO.set("changed")
        return who

    WHO.set("alice")
    assert bound(PATIENCE).call(work) == "alice"
    assert WHO.get() == "alice"


@in_plain_colour
async def test_a_retry_around_tries_again_at_the_bound(colour: Colour) -> None:
    """Each attempt has a worker and a bound of its own; the fallback and the breaker around see `TimedOut`."""
    work = colour.function([(100, "late"), (100, "late"), (1, "done")])
    breaker = CircuitBreaker(5)
    policy = Pipeline(Retry(on=TimedOut, backoff=0), breaker, bound())
    assert policy.call(work) == "done"
    assert work.times == [0.0, 2.0, 4.0]
    assert breaker.state == "closed"
    assert Pipeline(Fallback(on=TimedOut, value="stale"), bound()).call(colour.function([(9, "late")])) == "stale"


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_on_a_clock_of_its_own_a_call_that_lets_too_much_time_pass_is_late() -> None:
    """With `clock=VirtualClock()` time passes when somebody sleeps: in the call, or in its caller's stead."""
    clock = VirtualClock()
    policy = bound(clock=clock)
    assert policy.call(lambda: "done") == "done"
    assert clock.now() == 0.0
    assert policy.call(lambda: clock.sleep(1) or "done") == "done"
    with pytest.raises(TimedOut):
        policy.call(lambda: clock.sleep(9) or "late")
    assert clock.now() == 10.0
    gate = threading.Event()
    with pytest.raises(TimedOut):
        policy.call(gate.wait, PATIENCE)
    assert clock.now() == 12.0
    gate.set()


def test_on_a_clock_that_stands_still_a_hung_call_is_left_all_the_same() -> None:
    """A clock whose sleep returns and whose reading never moves ends the wait, too."""

    class Frozen:
        def now(self) -> float:
            return 7.0

        def sleep(self, seconds: float) -> None:
            slept.append(seconds)

        async def sleep_async(self, seconds: float) -> None:
            slept.append(seconds)

    slept: list[float] = []
    gate = threading.Event()
    with pytest.raises(TimedOut):
        bound(clock=Frozen()).call(gate.wait, PATIENCE)
    assert slept == [2.0]
    gate.set()


def test_on_a_clock_that_runs_by_itself_the_wait_follows_its_reading() -> None:
    """A clock of somebody's own that runs a thousand times as fast is followed, without a sleep on it."""

    class Fast:
        def now(self) -> float:
            return time.monotonic() * 1000

        def sleep(self, seconds: float) -> None:
            raise AssertionError("nobody sleeps on this clock")

        async def sleep_async(self, seconds: float) -> None:
            raise AssertionError("nobody sleeps on this clock")

    gate = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimedOut):
        bound(30, clock=Fast()).call(gate.wait, PATIENCE)
    assert 0.03 <= time.monotonic() - started < PATIENCE / 2
    gate.set()


def test_in_virtual_time() -> None:
    """`virtual_time` reaches the wait of a policy that was built before it, to the moment."""
    policy = bound(3600)
    with virtual_time() as clock:
        started = clock.now()
        with pytest.raises(TimedOut):
            policy.call(clock.sleep, 86_400)
        assert clock.now() == pytest.approx(started + 3600)
        assert policy.call(lambda: clock.sleep(60) or "done") == "done"
        assert clock.now() == pytest.approx(started + 3660)


def test_on_the_machines_clock() -> None:
    """A call that hangs for ever is answered after the bound, and not long after."""
    gate = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimedOut):
        bound(0.05).call(gate.wait)
    assert 0.05 <= time.monotonic() - started < PATIENCE / 2
    gate.set()


def test_a_bound_that_no_lock_can_wait_for() -> None:
    """A bound of a thousand years is no error."""
    assert bound(3e10).call(lambda: "done") == "done"


# --- interrupts, warnings, loops --------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="sends itself a signal")
def test_a_caller_that_is_interrupted_leaves_at_once() -> None:
    """KeyboardInterrupt reaches a caller that waits, and leaves nothing of the call behind but its worker."""
    gate = threading.Event()

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        gate.wait(PATIENCE)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bound(PATIENCE).call(work)
    assert time.monotonic() - started < PATIENCE / 2
    assert context.remaining() is None
    gate.set()


def test_waiting_on_a_loops_thread_is_warned_of_once() -> None:
    """A plain call that waits for its worker holds up the loop of its thread, which is said once, at the caller."""

    async def main() -> int:
        policy = bound(PATIENCE)
        with pytest.warns(
            BlockingWarning, match="query waits for a worker on a thread that runs an event loop"
        ) as seen:
            policy.call(int)
        assert seen[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return policy.call(int)

    assert asyncio.run(main()) == 0


@async_colours
async def test_async_functions_are_cut_as_ever(colour: Colour) -> None:
    """`thread=True` is about plain functions; a coroutine is cancelled at the bound, on its own loop."""
    ended: list[tuple[float, str]] = []

    async def work() -> None:
        try:
            await colour.sleep(9)
        finally:
            ended.append((colour.clock.now(), threading.current_thread().name))

    with pytest.raises(TimedOut):
        await bound().call_async(work)
    assert ended == [(2.0, threading.current_thread().name)]


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_it_guards_no_block() -> None:
    """A block runs on its caller's thread, so a guard is refused with the reason, in pipelines, too."""
    reason = r"Timeout\(thread=True\) cannot guard a block, .* decorate a function or use call"
    for policy in (bound(), Pipeline(bound())):
        with pytest.raises(TypeError, match=reason):
            policy.guard()


def test_it_wraps_no_generator() -> None:
    """A generator runs in pieces, between which its caller's time passes."""

    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="Timeout cannot wrap a generator"):
        bound()(generator)


def test_replace_and_repr() -> None:
    """One kind of timeout can be made from another."""
    policy = Timeout(2, thread=False).replace(thread=True)
    assert repr(policy) == "Timeout(seconds=2, thread=True)"
    assert policy.call(lambda: threading.current_thread()) is not threading.current_thread()


# --- garbage ----------------------------------------------------------------------------------------------------------


def test_no_path_leaves_cyclic_garbage() -> None:
    """In time, failed, too late, and failed too late: reference counting frees all of it."""

    def fail() -> None:
        raise OSError

    def fail_late(gate: threading.Event) -> None:
        gate.wait(PATIENCE)
        raise OSError

    def run() -> None:
        with contextlib.suppress(OSError):
            bound(PATIENCE).call(fail)
        bound(PATIENCE).call(int)
        for work in (lambda gate: gate.wait(PATIENCE), fail_late):
            gate, done = threading.Event(), threading.Event()

            def late(work: Callable[[Any], object] = work, gate: Any = gate, done: Any = done) -> None:
                weakref.finalize(gate, done.set)
                work(gate)

            with contextlib.suppress(TimedOut):
                bound(0.01).call(late)
            gate.set()
            del gate, late
            assert done.wait(PATIENCE)

    run()
    gc.collect()
    gc.disable()
    try:
        run()
        assert gc.collect() == 0
    finally:
        gc.enable()
