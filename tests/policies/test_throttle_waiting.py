"""Those who wait for a throttle: in one line, over threads and event loops, and without a trace when they go."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest
import trio

from resilience import BlockingWarning, Priority, Throttle, Throttled, context
from resilience.policies import _quick
from resilience.policies._desk_gate import DeskGate
from resilience.policies._waiting import Parked
from tests.colours import Colour, async_colours

PATIENCE = 10.0


class HandClock:
    """A clock that stands still, in any number of threads, until it is moved; blocking sleepers wait for that."""

    def __init__(self, start: float = 1000.0) -> None:
        self.reading = start
        self.moved = threading.Condition()

    def now(self) -> float:
        return self.reading

    def sleep(self, seconds: float) -> None:
        until = self.reading + seconds
        with self.moved:
            assert self.moved.wait_for(lambda: self.reading >= until, PATIENCE), "nobody moved the clock"

    async def sleep_async(self, seconds: float) -> None:
        raise AssertionError("no task waits by this clock")

    def advance(self, seconds: float) -> None:
        with self.moved:
            self.reading += seconds
            self.moved.notify_all()


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[Parked]:
    """Every claim that stood in line during the test, in the order in which it joined."""
    seen: list[Parked] = []
    inner = DeskGate._join

    def join(self: DeskGate, waiter: Parked, max_wait: float) -> bool:
        joined = inner(self, waiter, max_wait)
        if joined:
            seen.append(waiter)
        return joined

    monkeypatch.setattr(DeskGate, "_join", join)
    return seen


@contextlib.contextmanager
def threads(*work: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Run each piece of work on a thread of its own, and see them end."""
    started = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in started:
        thread.start()
    yield started
    for thread in started:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a waiter was never woken"


def eventually(predicate: Callable[[], object]) -> None:
    """Give other threads the processor until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < deadline, "still not so"
        threading.Event().wait(0.0005)


def waiting(throttle: Throttle) -> int:
    """How many stand in line."""
    count: int = throttle.snapshot()["waiting"]
    return count


def assert_untouched(throttle: Throttle) -> None:
    """Nothing is left of anybody who waited."""
    assert not throttle._lots and not throttle._desk.lines and not throttle._pending and not throttle._left
    assert throttle._desk.alarm == inf


def drained(rate: str = "1/hour burst 1", **options: Any) -> Throttle:
    """A throttle without tokens, whose callers wait."""
    throttle = Throttle(rate, max_wait=inf, **options)
    while throttle.try_acquire():
        pass
    return throttle


# --- the order


@async_colours
async def test_first_come_first_served_with_mixed_costs(colour: Colour) -> None:
    """A big request is served in its turn, and nobody passes it, however small."""
    throttle = Throttle("1/s burst 5", max_wait=100, clock=colour.clock)
    assert throttle.try_acquire(cost=5)
    served: list[tuple[float, float]] = []

    async def caller(cost: float) -> None:
        await throttle.acquire_async(cost=cost)
        served.append((cost, colour.clock.now()))

    jobs = []
    for number, cost in enumerate([1, 5, 0.5, 2], 1):
        jobs.append(colour.start(caller, cost))
        await colour.until(lambda number=number: waiting(throttle) == number)
    assert not throttle.try_acquire(cost=0.1), "nor does one that does not wait"
    for job in jobs:
        assert await job.outcome() is None
    assert [cost for cost, _ in served] == [1, 5, 0.5, 2]
    assert [when for _, when in served] == pytest.approx([1.0, 6.0, 6.5, 8.5])
    assert_untouched(throttle)


def test_threads_are_served_in_order() -> None:
    """Blocking callers stand in the same kind of line."""
    clock = HandClock()
    throttle = Throttle("1/s burst 1", max_wait=100, clock=clock)
    assert throttle.try_acquire()
    served: list[int] = []

    def caller(number: int) -> None:
        throttle.acquire()
        served.append(number)

    with contextlib.ExitStack() as stack:
        for number in range(5):
            stack.enter_context(threads(functools.partial(caller, number)))
            eventually(lambda number=number: waiting(throttle) == number + 1)
        for number in range(5):
            assert served == list(range(number))
            clock.advance(1.0)
            eventually(lambda number=number: len(served) == number + 1)
    assert served == list(range(5))
    assert_untouched(throttle)


@async_colours
async def test_higher_priorities_go_first(colour: Colour) -> None:
    """Within a key, whoever matters more is served before those who have waited longer."""
    throttle = Throttle("1/s burst 1", max_wait=100, clock=colour.clock)
    assert throttle.try_acquire()
    served: list[Priority] = []

    async def caller(priority: Priority) -> None:
        with context.priority(priority):
            await throttle.acquire_async()
        served.append(priority)

    jobs = []
    order = [Priority.SHEDDABLE, Priority.DEFAULT, Priority.CRITICAL, Priority.DEFAULT]
    for number, priority in enumerate(order, 1):
        jobs.append(colour.start(caller, priority))
        await colour.until(lambda number=number: waiting(throttle) == number)
    for job in jobs:
        assert await job.outcome() is None
    assert served == sorted(order, reverse=True)


@async_colours
async def test_a_wait_that_can_no_longer_be_met_fails_at_once(colour: Colour) -> None:
    """Who is displaced beyond its time hears of it then, not at its deadline, with a time that is enough."""
    throttle = Throttle("1/s burst 5", max_wait=2.5, clock=colour.clock)
    assert throttle.try_acquire(cost=5)

    async def sheddable() -> None:
        with context.priority(Priority.SHEDDABLE):
            await throttle.acquire_async(cost=2)

    job = colour.start(sheddable)
    await colour.until(lambda: waiting(throttle) == 1)
    turn = throttle.reserve(cost=3)
    error = await job.outcome()
    assert isinstance(error, Throttled) and error.retry_after == pytest.approx(5.0)
    assert colour.clock.now() == 0.0 and turn.delay == 3.0
    assert_gone(throttle)


def assert_gone(throttle: Throttle) -> None:
    """Nobody stands in line."""
    assert waiting(throttle) == 0 and not throttle._lots


@async_colours
async def test_one_key_never_delays_another(colour: Colour) -> None:
    """A crowd on one key costs another key nothing."""
    throttle = Throttle("1/s burst 1", max_wait=inf, clock=colour.clock)
    for key in ("crowded", "calm"):
        assert throttle.try_acquire(key=key)
    crowd = [colour.start(functools.partial(throttle.acquire_async, key="crowded")) for _ in range(50)]
    await colour.until(lambda: waiting(throttle) == 50)
    await throttle.acquire_async(key="calm", max_wait=1)
    assert colour.clock.now() == pytest.approx(1.0)
    for job in crowd:
        await job.outcome()
    assert colour.clock.now() == pytest.approx(50.0)
    assert_untouched(throttle)


def test_threads_asyncio_and_trio_wait_in_one_line(claims: list[Parked]) -> None:
    """Callers of three runtimes are served in the order of their coming, each woken in its own."""
    throttle = drained("400/s burst 1")
    per_runtime, started = 20, time.monotonic()

    async def on_asyncio() -> None:
        await asyncio.gather(*[throttle.acquire_async() for _ in range(per_runtime)])

    async def on_trio() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(per_runtime):
                nursery.start_soon(throttle.acquire_async)

    loops = [lambda: asyncio.run(on_asyncio()), lambda: asyncio.run(on_asyncio()), lambda: trio.run(on_trio)]
    with threads(*loops, *[throttle.acquire] * per_runtime):
        pass
    elapsed = time.monotonic() - started
    waited = sorted(claims, key=lambda claim: claim.number)
    marks = [claim.marks[0] for claim in waited]
    assert len(marks) > per_runtime and marks == sorted(marks), "somebody was overtaken"
    assert elapsed >= (4 * per_runtime - 2) / 400, "more passed than the rate allows"
    assert_untouched(throttle)


# --- what waiting costs


def test_a_thousand_waiters_keep_one_timer() -> None:
    """However many tasks of a loop wait, there is one timer, and no task but theirs."""
    throttle = drained()

    async def scenario() -> None:
        tasks = [asyncio.create_task(throttle.acquire_async()) for _ in range(1000)]
        await asyncio.sleep(0)
        assert waiting(throttle) == 1000
        loop: Any = asyncio.get_running_loop()
        assert len([timer for timer in loop._scheduled if not timer.cancelled()]) == 1
        assert len(asyncio.all_tasks()) == 1001
        before = throttle._desk.ledger.sole
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]
        assert throttle._desk.ledger.sole == before

    asyncio.run(scenario())
    assert_untouched(throttle)


def test_waiting_starts_no_thread_and_the_last_to_leave_takes_the_timer() -> None:
    """Nothing runs in the background, and nothing is set when nobody waits."""
    throttle = drained("200/s burst 1")
    before = threading.active_count()

    async def scenario() -> None:
        await asyncio.gather(*[throttle.acquire_async() for _ in range(5)])
        loop: Any = asyncio.get_running_loop()
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]
        assert threading.active_count() == before

    asyncio.run(scenario())
    throttle.acquire()
    assert threading.active_count() == before
    assert_untouched(throttle)


# --- going away


@async_colours
async def test_a_cancelled_waiter_leaves_no_trace(colour: Colour) -> None:
    """Those behind it are served as if it had never stood there, and the bucket is as it was."""
    throttle = Throttle("1/s burst 5", max_wait=100, clock=colour.clock)
    assert throttle.try_acquire(cost=5)
    served: list[float] = []

    async def caller(cost: float) -> None:
        await throttle.acquire_async(cost=cost)
        served.append(colour.clock.now())

    jobs = []
    for number, cost in enumerate([5, 1, 1], 1):
        jobs.append(colour.start(caller, cost))
        await colour.until(lambda number=number: waiting(throttle) == number)
    jobs[0].cancel()
    await jobs[0].outcome()
    for job in jobs[1:]:
        assert await job.outcome() is None
    assert served == pytest.approx([1.0, 2.0])
    assert_untouched(throttle)


def test_who_is_cancelled_in_the_moment_of_being_granted_passes_it_on() -> None:
    """Tokens granted to a task that is cancelled before it wakes go to the next one."""
    throttle = drained()

    async def scenario() -> list[object]:
        first, second = [asyncio.create_task(throttle.acquire_async()) for _ in range(2)]
        await asyncio.sleep(0)
        throttle.reset()
        assert waiting(throttle) == 1, "the first one has been granted and does not know it yet"
        first.cancel()
        return await asyncio.gather(first, second, return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert isinstance(outcomes[0], asyncio.CancelledError) and outcomes[1] is None
    assert not throttle.try_acquire(), "one token, one call"
    assert_untouched(throttle)


def test_a_waiter_whose_loop_is_closed_is_skipped() -> None:
    """Its tokens are not spent; the next one in line gets them."""
    throttle = drained("20/s burst 1")
    loop = asyncio.new_event_loop()
    lost = throttle.acquire_async()
    stranded = loop.create_task(lost)
    loop.run_until_complete(asyncio.sleep(0))
    assert waiting(throttle) == 1
    loop.close()
    before: Any = throttle._desk.ledger.sole
    throttle.acquire()
    assert throttle._desk.ledger.sole <= max(before, time.monotonic() * 20 - 1) + 1.0
    assert waiting(throttle) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost.close()
        stranded._log_destroy_pending = False  # type: ignore[attr-defined]
        del stranded, lost
        gc.collect()
    assert_untouched(throttle)


def test_a_stalled_loop_delays_only_itself() -> None:
    """While one loop hangs with the head of the line in it, a thread behind it is served in time."""
    throttle = drained("20/s burst 1")
    hanging, release = threading.Event(), threading.Event()

    async def hangs() -> None:
        task = asyncio.create_task(throttle.acquire_async())
        await asyncio.sleep(0)
        hanging.set()
        release.wait(PATIENCE)
        await task

    with threads(lambda: asyncio.run(hangs())):
        hanging.wait(PATIENCE)
        started = time.monotonic()
        throttle.acquire()
        elapsed = time.monotonic() - started
        release.set()
    assert elapsed < 1.0
    assert_untouched(throttle)


@pytest.mark.parametrize("locked", [False, True], ids=["alone", "in the middle of a decision"])
def test_a_coroutine_that_is_thrown_away_while_it_waits_is_forgotten(locked: bool) -> None:
    """The garbage collector may finalise a waiter at any time, also while this very thread decides."""
    throttle = drained("10/s burst 1")

    async def scenario() -> None:
        abandoned = throttle.acquire_async(cost=1)
        abandoned.send(None)
        assert len(throttle._desk.lines) == 1
        with throttle._lock if locked else contextlib.nullcontext():
            abandoned.close()
        await throttle.acquire_async(cost=1)
        assert not throttle._desk.lines

    asyncio.run(scenario())
    assert_untouched(throttle)


@pytest.mark.parametrize("colour", ["asyncio", "trio"])
def test_a_storm_of_cancellations_leaks_nothing(colour: str) -> None:
    """Thousands of tasks cancelled at random points, again and again: nobody is left, and not a token too many."""
    for seed in range(20):
        storm(colour, seed, 3_000 if seed < 2 else 300)


@pytest.mark.proof
@pytest.mark.parametrize("colour", ["asyncio", "trio"])
def test_twenty_storms_of_ten_thousand_leak_nothing(colour: str) -> None:
    """Ten thousand tasks cancelled at random points, with twenty seeds: nobody is left, and not a token too many."""
    for seed in range(20):
        storm(colour, seed, 10_000)


def storm(colour: str, seed: int, count: int) -> None:
    """One storm, and what must be true after it."""
    source = random.Random(seed)
    throttle = Throttle("20_000/s burst 50", max_wait=inf, settle=lambda _: 1)
    started = time.monotonic()
    granted = itertools.count()
    if colour == "asyncio":
        asyncio.run(storm_on_asyncio(throttle, source, granted, count))
    else:
        trio.run(storm_on_trio, throttle, source, granted, count)
    assert next(granted) <= 50 + 20_000 * (time.monotonic() - started)
    assert_untouched(throttle)


async def storm_on_asyncio(throttle: Throttle, source: random.Random, granted: Iterator[int], count: int) -> None:
    """Start and cancel tasks in bursts."""

    @throttle
    async def work() -> None:
        next(granted)
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    while len(tasks) < count:
        tasks += [asyncio.create_task(work()) for _ in range(source.randrange(1, count // 5))]
        if source.random() < 0.7:
            await asyncio.sleep(0)
        for task in source.sample(tasks, source.randrange(len(tasks))):
            task.cancel()
    for task in tasks:
        if source.random() < 0.9:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def storm_on_trio(throttle: Throttle, source: random.Random, granted: Iterator[int], count: int) -> None:
    """Start and cancel tasks in bursts."""
    scopes: list[trio.CancelScope] = []

    @throttle
    async def work() -> None:
        next(granted)
        await trio.lowlevel.checkpoint()

    async def cancellable(scope: trio.CancelScope) -> None:
        with scope:
            await work()

    async with trio.open_nursery() as nursery:
        while len(scopes) < count:
            for _ in range(source.randrange(1, count // 5)):
                scopes.append(trio.CancelScope())
                nursery.start_soon(cancellable, scopes[-1])
            if source.random() < 0.7:
                await trio.lowlevel.checkpoint()
            for scope in source.sample(scopes, source.randrange(len(scopes))):
                scope.cancel()
        for scope in scopes:
            if source.random() < 0.9:
                scope.cancel()


def test_an_interrupt_in_a_waiting_thread_leaves_no_trace() -> None:
    """A clock that raises, as a keyboard interrupt does in the middle of a sleep, frees the place and the lead."""

    class Interrupted(HandClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    throttle = Throttle("1/s burst 1", max_wait=inf, clock=Interrupted())
    assert throttle.try_acquire()
    before = throttle._desk.ledger.sole
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            throttle.acquire()
    assert throttle._desk.ledger.sole == before
    assert_untouched(throttle)


# --- blocking where one should not


def test_blocking_on_a_loop_is_said_once() -> None:
    """A sync wait on a thread with a running loop warns, once per policy; one that does not wait is silent."""
    throttle = Throttle("1000/s burst 1", max_wait=1)

    async def scenario() -> list[warnings.WarningMessage]:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(4):
                throttle.acquire()
            return said

    said = asyncio.run(scenario())
    assert [warning.category for warning in said] == [BlockingWarning]
    assert "use the async form" in str(said[0].message)


def test_outside_a_loop_the_async_form_says_what_it_needs() -> None:
    """Waiting in a coroutine needs a runtime, and the error names both."""
    waiter = drained().acquire_async()
    with pytest.raises(RuntimeError, match=r"asyncio.*trio"):
        waiter.send(None)


# --- threads


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


FORMS = ["unlocked", "locked", "unlocked, early", "locked, early", "by key", "several rates", "fractional"]


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("form", FORMS)
def test_eight_threads_get_exactly_the_burst_when_time_stands_still(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing over and nothing under, in each form of the decision."""
    take = _quick.take_locked if form.startswith("locked") else _quick.take_unlocked
    monkeypatch.setattr(Throttle, "_take_quickly", take)
    # Early in the life of a clock it has not counted up to the burst yet, and sums do not come out exactly.
    early = form.endswith("early")
    rates = ["100/s", "200/s"] if form == "several rates" else ["0.25/s" if early else "100/s"]
    terms: dict[str, Any] = {"key": "one"} if form == "by key" else {}
    # A tenth as a float is a little more than a tenth.
    cost, expected = (0.1, 29_999) if form == "fractional" else (1, 3000)
    throttle = Throttle(*[f"{rate} burst 3000" for rate in rates], cost=cost, clock=HandClock(1000.1))
    counts = [0] * 8

    def hammer(index: int) -> None:
        for _ in range(expected // 4):
            counts[index] += throttle.try_acquire(**terms)

    with threads(*[functools.partial(hammer, index) for index in range(8)]):
        pass
    assert sum(counts) == expected


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("take", [_quick.take_unlocked, _quick.take_locked])
def test_eight_threads_lose_and_mint_nothing_while_time_passes(
    take: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What eight threads were granted is what the bucket counted, by hand and by the short way at once."""
    monkeypatch.setattr(Throttle, "_take_quickly", take)
    ticks = itertools.count(1)
    clock = HandClock(0.0)
    throttle = Throttle("1000/s burst 100", clock=clock)
    # Emptied before time begins, the bucket is never full again, so nothing overflows.
    assert throttle.try_acquire(cost=100)
    clock.now = lambda: next(ticks) / 8192  # type: ignore[method-assign]
    counts = [0.0] * 8

    def hammer(index: int) -> None:
        for turn in range(3000):
            cost = None if index % 2 else (turn % 3) + 1
            if throttle.try_acquire(cost=cost):
                counts[index] += cost or 1

    with threads(*[functools.partial(hammer, index) for index in range(8)]):
        pass
    last = next(ticks) / 8192
    clock.now = lambda: last  # type: ignore[method-assign]
    while throttle.try_acquire():
        counts[0] += 1
    assert sum(counts) == int(1000 * last)


@pytest.mark.usefixtures("switching")
def test_threads_wait_for_their_turn_in_real_time() -> None:
    """Many blocking callers together take the time that the rate gives them, and no more pass than it allows."""
    throttle = drained("500/s burst 1")
    started = time.monotonic()
    with threads(*[lambda: [throttle.acquire() for _ in range(10)]] * 8):
        pass
    elapsed = time.monotonic() - started
    assert elapsed >= 79 / 500
    assert_untouched(throttle)


# --- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_child_has_no_waiters_of_threads_that_are_not_there() -> None:
    """After a fork the child's line is empty and works; the parent's goes on."""
    clock = HandClock()
    throttle = Throttle("1/s burst 1", max_wait=inf, clock=clock)
    assert throttle.try_acquire()
    with threads(throttle.acquire):
        eventually(lambda: waiting(throttle) == 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                good = waiting(throttle) == 0 and not throttle._lots
                clock.reading += 1.0
                os._exit(0 if good and throttle.try_acquire() and not throttle.try_acquire() else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert waiting(throttle) == 1
        clock.advance(1.0)
    assert_untouched(throttle)
