"""Half-open: who gets in, whatever the form and the colour, and how little a trial can break by ending badly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from resilience import CircuitBreaker, CircuitOpen, SlowRate, Throttled, listen
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.events import CircuitClosed, CircuitHalfOpened, CircuitOpened, LateResult, LeaseTooShort
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours, every_colour
from tests.policies.test_breaker import Boom, by_hand, fails, half_open, in_every_form, through, works

PATIENCE = 10.0


def heard_by(breaker: CircuitBreaker, *types: Any) -> list[Any]:
    """The events that the breaker tells from now on."""
    events: list[Any] = []
    breaker.listen(events.append, *types)
    return events


# --- how many get in --------------------------------------------------------------------------------------------------


@in_every_form
@every_colour
async def test_of_twenty_at_once_exactly_three_run(colour: Colour, form: str) -> None:
    """B1: half-open with three trials runs three of twenty callers and refuses the others at once, in every form."""
    breaker = half_open(colour.clock, trials=3, trial_lease=100)
    running, refused, gate = [], [], colour.gate()

    async def body() -> str:
        running.append(1)
        await gate.wait()
        return "fine"

    async def caller() -> str:
        try:
            return await through(colour, breaker, form, body)
        except CircuitOpen as error:
            refused.append(error)
            raise

    jobs = [colour.start(caller) for _ in range(20)]
    await colour.until(lambda: len(running) + len(refused) == 20)
    assert (len(running), len(refused)) == (3, 17)
    assert {(error.state, error.retry_after) for error in refused} == {("half_open", 100.0)}
    gate.open()
    outcomes = [await job.outcome() for job in jobs]
    assert outcomes.count("fine") == 3 and len(running) == 3
    assert breaker.state == "closed"


class Crowd:
    """Callers of one breaker on threads and on loops of their own, held inside until they are let go."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.ran: list[str] = []
        self.refused: list[str] = []
        self.others: list[BaseException] = []
        self.leave = threading.Event()
        self._wake: list[Callable[[], object]] = []
        self._threads: list[threading.Thread] = []

    def hold(self) -> None:
        self.ran.append(threading.current_thread().name)
        assert self.leave.wait(PATIENCE)

    async def hold_asyncio(self) -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        self._wake.append(lambda: loop.call_soon_threadsafe(event.set))
        self.ran.append("asyncio")
        await event.wait()

    async def hold_trio(self) -> None:
        token, event = trio.lowlevel.current_trio_token(), trio.Event()
        self._wake.append(lambda: token.run_sync_soon(event.set))
        self.ran.append("trio")
        await event.wait()

    def sync_callers(self) -> list[Callable[[], object]]:
        def generates():
            self.hold()
            yield

        def guards() -> None:
            with self.breaker.guard():
                self.hold()

        return [
            self.breaker(self.hold),
            lambda: self.breaker.call(self.hold),
            guards,
            lambda: list(self.breaker(generates)()),
        ]

    def async_callers(self, hold: Callable[[], Any]) -> list[Callable[[], Any]]:
        async def generates():
            await hold()
            yield

        async def iterates() -> None:
            async for _ in self.breaker(generates)():
                pass

        async def guards() -> None:
            async with self.breaker.guard():
                await hold()

        async def guards_plainly() -> None:
            with self.breaker.guard():
                await hold()

        return [
            self.breaker(hold),
            lambda: self.breaker.call(hold),
            lambda: self.breaker.call_async(hold),
            guards,
            guards_plainly,
            iterates,
        ]

    def on_thread(self, call: Callable[[], object]) -> None:
        def run() -> None:
            try:
                call()
            except CircuitOpen:
                self.refused.append("thread")
            except BaseException as error:
                self.others.append(error)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    async def _one(self, call: Callable[[], Any]) -> None:
        try:
            await call()
        except CircuitOpen:
            self.refused.append("loop")

    async def asyncio_crowd(self) -> None:
        async with asyncio.TaskGroup() as group:
            for call in self.async_callers(self.hold_asyncio):
                group.create_task(self._one(call))

    async def trio_crowd(self) -> None:
        async with trio.open_nursery() as nursery:
            for call in self.async_callers(self.hold_trio):
                nursery.start_soon(self._one, call)

    def settle(self, total: int) -> None:
        """Wait until everybody is in or refused, let them go, and wait until all are gone."""
        waiting = threading.Event()
        for _ in range(int(PATIENCE / 0.001)):
            if len(self.ran) + len(self.refused) >= total or self.others:
                break
            waiting.wait(0.001)
        counts = len(self.ran), len(self.refused)
        self.leave.set()
        for wake in self._wake:
            wake()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not self.others
        assert sum(counts) == total
        assert counts == (3, total - 3)


@pytest.mark.parametrize("first", range(3))
def test_of_twenty_on_threads_and_loops_at_once_exactly_three_run(first: int) -> None:
    """B1 holds across threads, an asyncio loop and a trio run that share one breaker, in every form of each."""
    clock = VirtualClock()
    breaker = half_open(clock, trials=3)
    crowd = Crowd(breaker)
    parts = [
        lambda: [crowd.on_thread(call) for call in crowd.sync_callers() * 2],
        lambda: crowd.on_thread(lambda: asyncio.run(crowd.asyncio_crowd())),
        lambda: crowd.on_thread(lambda: trio.run(crowd.trio_crowd)),
    ]
    for part in parts[first:] + parts[:first]:
        part()
    crowd.settle(20)
    assert breaker.state == "closed"


@every_colour
async def test_no_more_trials_run_than_decide(colour: Colour) -> None:
    """Places of trials that succeeded stay taken until the circuit closes; then everybody gets in."""
    breaker = half_open(colour.clock, trials=3)
    gate = colour.gate()

    async def holds() -> None:
        await gate.wait()

    for _ in range(2):
        await through(colour, breaker, "call", works)
    job = colour.start(lambda: through(colour, breaker, "call", holds))
    await colour.until(lambda: breaker.snapshot()["trials"] == 1)
    with pytest.raises(CircuitOpen):
        await through(colour, breaker, "call", works)
    gate.open()
    await job.outcome()
    assert [await through(colour, breaker, "call", works) for _ in range(5)] == ["fine"] * 5


# --- trials that end badly --------------------------------------------------------------------------------------------


@in_every_form
@every_colour
async def test_a_trial_that_hangs_holds_its_place_for_its_lease(colour: Colour, form: str) -> None:
    """B5: a hung trial frees its place when its lease ends, and may end when it likes: late, without effect."""
    breaker = half_open(colour.clock, trial_lease=5)
    late = heard_by(breaker, LateResult)
    gate = colour.gate()

    async def hangs() -> str:
        await gate.wait()
        return "fine"

    hung = colour.start(lambda: through(colour, breaker, form, hangs))
    await colour.until(lambda: breaker.snapshot()["trials"] == 1)
    with pytest.raises(CircuitOpen) as refused:
        await through(colour, breaker, form, works)
    assert refused.value.retry_after == 5.0
    colour.clock.advance(refused.value.retry_after)
    other = colour.gate()

    async def holds() -> str:
        await other.wait()
        return "second"

    second = colour.start(lambda: through(colour, breaker, form, holds))
    await colour.until(lambda: breaker.snapshot()["trials"] == 1)
    gate.open()
    assert await hung.outcome() == "fine"
    assert [event.verdict for event in late] == [SUCCESS]
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 1), "the second place is not the first's"
    other.open()
    assert await second.outcome() == "second"
    assert breaker.state == "closed"


@in_every_form
@async_colours
async def test_a_trial_that_is_cancelled_gives_its_place_back_at_once(colour: Colour, form: str) -> None:
    """B4: a caller that goes away frees its place, counts nothing, and leaves the circuit half-open."""
    breaker = half_open(colour.clock, trials=2)
    entered = []

    async def hangs() -> None:
        entered.append(1)
        await colour.gate().wait()

    await through(colour, breaker, form, works)
    for n in range(1, 11):
        job = colour.start(lambda: through(colour, breaker, form, hangs))
        await colour.until(lambda n=n: len(entered) == n)
        assert breaker.snapshot()["trials"] == 1
        job.cancel()
        assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)
        assert (breaker.state, breaker.snapshot()["trials"], breaker.snapshot()["calls"]) == ("half_open", 0, 1)
    await through(colour, breaker, form, works)
    assert breaker.state == "closed"


@in_every_form
@pytest.mark.parametrize(
    "neutral",
    [KeyError(), Throttled("inner"), KeyboardInterrupt(), SystemExit(3), BaseExceptionGroup("", [SystemExit()])],
)
@every_colour
async def test_a_trial_that_says_nothing_gives_its_place_back(
    colour: Colour, form: str, neutral: BaseException
) -> None:
    """B4: ignored, rejected by an inner policy, or on the way out of the program: the place is free, once."""
    breaker = half_open(colour.clock, trials=2, trial_lease=100)
    hung = breaker.guard()
    hung.__enter__()

    async def neutral_trial() -> None:
        raise neutral

    for _ in range(5):
        with pytest.raises(type(neutral)) as raised:
            await through(colour, breaker, form, neutral_trial)
        assert raised.value is neutral
        assert (breaker.state, breaker.snapshot()["trials"], breaker.snapshot()["calls"]) == ("half_open", 1, 0)
    hung.__exit__(None, None, None)
    await through(colour, breaker, form, works)
    assert breaker.state == "closed"


@in_every_form
@pytest.mark.parametrize("body", [works, fails])
@every_colour
async def test_a_trial_never_decides_a_later_half_open(colour: Colour, form: str, body: Any) -> None:
    """B2: a trial of an earlier half-open that ends in a later one is late, whatever it says."""
    breaker = half_open(colour.clock, trials=2, cooldown=10, trial_lease=1000)
    late = heard_by(breaker, LateResult)
    gate = colour.gate()

    async def held() -> str:
        await gate.wait()
        return await body()

    old = colour.start(lambda: through(colour, breaker, form, held))
    await colour.until(lambda: breaker.snapshot()["trials"] == 1)
    with pytest.raises(Boom):
        await through(colour, breaker, form, fails)
    colour.clock.advance(10)
    assert await through(colour, breaker, form, works) == "fine"
    gate.open()
    await old.outcome()
    assert [event.verdict for event in late] == [SUCCESS if body is works else FAILURE]
    assert (breaker.state, breaker.snapshot()["calls"], breaker.snapshot()["trials"]) == ("half_open", 1, 0)


@in_every_form
@pytest.mark.parametrize("when", ["open", "half_open", "closed"])
@pytest.mark.parametrize("body", [works, fails])
@every_colour
async def test_a_result_from_before_the_opening_changes_nothing(
    colour: Colour, form: str, when: str, body: Any
) -> None:
    """B2: a call admitted before the outage that ends in the middle of it, or after, is a `LateResult` and no more."""
    breaker = CircuitBreaker(1, on=Boom, cooldown=10, clock=colour.clock)
    heard = heard_by(breaker, LateResult, CircuitOpened, CircuitClosed)
    gate = colour.gate()
    inside = []

    async def held() -> str:
        inside.append(1)
        await gate.wait()
        return await body()

    old = colour.start(lambda: through(colour, breaker, form, held))
    await colour.until(lambda: inside)
    breaker.open()
    if when != "open":
        colour.clock.advance(10)
    if when == "closed":
        await through(colour, breaker, form, works)
    assert breaker.state == when
    before, heard[:] = breaker.snapshot(), []
    gate.open()
    outcome = await old.outcome()
    assert outcome == "fine" if body is works else isinstance(outcome, Boom)
    assert [(type(event), event.verdict) for event in heard] == [(LateResult, SUCCESS if body is works else FAILURE)]
    assert (heard[0].policy, heard[0].kind, heard[0].at) == (breaker.name, "circuit_breaker", colour.clock.now())
    assert breaker.snapshot() == before


def test_a_late_success_is_told_although_nobody_waits_for_successes() -> None:
    """A late result is noticed without listeners too: it does not count for the generation that it comes back to."""
    breaker = CircuitBreaker(2, on=Boom)
    old = breaker.guard()
    old.__enter__()
    breaker.reset()
    with pytest.raises(Boom), breaker.guard():
        raise Boom
    old.__exit__(None, None, None)
    assert breaker.snapshot()["failures"] == 1


def test_a_slow_trial_that_is_late_is_late() -> None:
    """What a late trial took is of no interest either."""
    clock = VirtualClock()
    breaker = CircuitBreaker(SlowRate(slower_than=1), cooldown=5, clock=clock)
    breaker.open()
    clock.advance(5)
    with breaker.guard():
        clock.advance(5)
    assert breaker.state == "half_open"


# --- generators -------------------------------------------------------------------------------------------------------


def test_a_generator_holds_its_place_from_its_first_step_to_its_end() -> None:
    """Nothing is taken when it is made; the place comes back at exhaustion, and that is the success."""
    breaker = half_open(VirtualClock())

    @breaker
    def counts():
        yield 1
        yield 2

    steps = counts()
    assert breaker.snapshot()["trials"] == 0
    assert next(steps) == 1
    assert breaker.snapshot()["trials"] == 1
    with pytest.raises(CircuitOpen):
        next(counts())
    assert next(steps) == 2 and breaker.state == "half_open"
    assert next(steps, "end") == "end" and breaker.state == "closed"


@pytest.mark.parametrize("dispose", ["close", "del", "throw"])
def test_a_generator_that_is_left_gives_its_place_back(dispose: str) -> None:
    """Closed, dropped, or thrown into: each ends the trial at once; only what it raises itself can be a failure."""
    breaker = half_open(VirtualClock())

    @breaker
    def counts():
        yield 1

    steps = counts()
    next(steps)
    if dispose == "close":
        steps.close()
    elif dispose == "throw":
        with pytest.raises(KeyError):
            steps.throw(KeyError())
    del steps
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


def test_a_generator_passes_on_what_is_sent_thrown_and_returned() -> None:
    """A gate in front of a generator changes nothing of the conversation."""
    breaker = CircuitBreaker()

    @breaker
    def talks():
        try:
            got = yield "ready"
        except KeyError:
            got = yield "caught"
        return got

    steps = talks()
    assert next(steps) == "ready" and steps.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as done:
        steps.send("over")
    assert done.value.value == "over"


@async_colours
async def test_an_async_generator_holds_its_place_and_gives_it_back(colour: Colour) -> None:
    """From the first step to exhaustion, close or error, and it passes on what is sent and thrown."""
    breaker = half_open(colour.clock, trials=2)

    @breaker
    async def talks():
        try:
            got = yield "ready"
        except KeyError:
            got = yield "caught"
        yield got

    steps = talks()
    assert breaker.snapshot()["trials"] == 0
    assert await anext(steps) == "ready"
    assert breaker.snapshot()["trials"] == 1
    assert await steps.athrow(KeyError()) == "caught"
    assert await steps.asend("over") == "over"
    assert [item async for item in steps] == []
    assert (breaker.snapshot()["trials"], breaker.snapshot()["calls"]) == (0, 1)
    steps = talks()
    await anext(steps)
    await steps.aclose()
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)
    steps = talks()
    await anext(steps)
    with pytest.raises(Boom):
        await steps.athrow(Boom())
    assert breaker.state == "open"


def test_a_generator_thrown_away_while_the_breaker_is_at_work_hangs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may end a generator at any allocation, on a thread that is just inside the breaker's lock."""
    breaker = half_open(VirtualClock(), trials=3, trial_lease=100)

    @breaker
    def endless():
        while True:
            yield

    kept: list[Any] = []

    def abandon() -> None:
        steps = endless()
        next(steps)
        kept.append(steps)

    abandon()
    done = threading.Event()

    def at_work() -> None:
        # What a collection does at an allocation in there, done where it can be seen.
        genuine = breaker._publish

        def publish() -> None:
            while kept:
                kept.pop().close()
            genuine()

        class Watched(CircuitBreaker):
            __slots__ = ()
            _publish = staticmethod(publish)

        breaker.__class__ = Watched
        abandon_and_settle()
        done.set()

    def abandon_and_settle() -> None:
        with contextlib.suppress(KeyError), breaker.guard():
            raise KeyError

    worker = threading.Thread(target=at_work, daemon=True)
    worker.start()
    assert done.wait(PATIENCE), "deadlock"
    breaker.__class__ = CircuitBreaker
    assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


def test_garbage_generators_hang_nobody() -> None:
    """The same with the collector itself, made to run at every allocation of a call in turn."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=1, trial_lease=1e9, trials=50, clock=clock)
    events = heard_by(breaker)
    done = threading.Event()

    @breaker
    def generates():
        yield

    def leave_garbage() -> None:
        with contextlib.suppress(CircuitOpen):
            steps: list[Any] = [generates()]
            next(steps[0])
            steps.append(steps)

    def work() -> None:
        before = gc.get_threshold()
        try:
            for allocations in [*range(1, 60)] * 3:
                gc.disable()
                breaker.open()
                clock.advance(1)
                for _ in range(3):
                    leave_garbage()
                with contextlib.suppress(Boom):
                    gc.set_threshold(gc.get_count()[0] + allocations)
                    gc.enable()
                    with breaker.guard():
                        raise Boom
        finally:
            gc.enable()
            gc.set_threshold(*before)
        done.set()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert done.wait(PATIENCE), "deadlock"
    gc.collect()
    breaker.open()
    assert breaker.snapshot()["trials"] == 0
    assert any(isinstance(event, CircuitOpened) for event in events)


@pytest.mark.parametrize("who", ["a call", "an ending", "a look"])
def test_a_place_left_while_the_breaker_was_at_work_is_free_for_whoever_comes_next(who: str) -> None:
    """It comes back as of the moment at which it was left, before anything else is decided."""
    clock = VirtualClock()
    breaker = half_open(clock, trials=2, trial_lease=5)
    late = heard_by(breaker, LateResult)

    @breaker
    def generates():
        yield

    steps, other = generates(), breaker.guard()
    next(steps)
    clock.advance(4)
    other.__enter__()
    with breaker._lock:
        steps.close()
    if who == "a call":
        assert breaker.call(lambda: "fine") == "fine"
    clock.advance(2)
    if who == "an ending":
        other.__exit__(None, None, None)
    assert breaker.snapshot()["trials"] == (0 if who == "an ending" else 1)
    assert late == []


# --- leases -----------------------------------------------------------------------------------------------------------


def test_the_lease_is_the_cooldown_by_default() -> None:
    """A breaker that is told only of its cooldown gives its trials as long."""
    clock = VirtualClock()
    breaker = half_open(clock, cooldown=7.0)
    breaker.guard().__enter__()
    clock.advance(6.9)
    assert breaker.snapshot()["trials"] == 1
    clock.advance(0.1)
    assert breaker.snapshot()["trials"] == 0


def test_two_lapses_in_a_row_are_told_once() -> None:
    """`LeaseTooShort` comes with the second lapse in a row, with the lease and the moment, and not with the third."""
    clock = VirtualClock()
    breaker = half_open(clock, cooldown=100.0, trial_lease=2)
    events = heard_by(breaker)
    told = []
    for _ in range(4):
        breaker.guard().__enter__()
        clock.advance(2)
        assert breaker.state == "half_open"
        told.append([(event.lease, event.at) for event in events if isinstance(event, LeaseTooShort)])
    assert told == [[], [(2.0, 104.0)], [(2.0, 104.0)], [(2.0, 104.0), (2.0, 108.0)]]


def test_a_lapse_noticed_by_a_refused_call_is_told() -> None:
    """Whoever looks next notices, a call included."""
    clock = VirtualClock()
    breaker = half_open(clock, trials=2, trial_lease=2)
    events = heard_by(breaker)
    breaker.guard().__enter__(), breaker.guard().__enter__()
    clock.advance(2)
    breaker.guard().__enter__()
    assert [type(event) for event in events] == [LeaseTooShort]


# --- coroutines that never run ----------------------------------------------------------------------------------------


@async_colours
async def test_a_coroutine_never_awaited_takes_nothing(colour: Colour) -> None:
    """Until its first step a call has no place, holds up nobody, and makes no transition."""
    breaker = half_open(colour.clock)
    forms = [breaker(works)(), breaker.call(works), breaker.call_async(works)]
    assert breaker.snapshot()["trials"] == 0
    assert await breaker.call_async(works) == "fine"
    for coroutine in forms:
        coroutine.close()
    assert breaker.snapshot()["trials"] == 0


def test_a_guard_never_entered_takes_nothing() -> None:
    """The place is taken on entry."""
    breaker = half_open(VirtualClock())
    guards = [breaker.guard() for _ in range(5)]
    assert breaker.snapshot()["trials"] == 0
    with guards[3]:
        assert breaker.snapshot()["trials"] == 1


def test_a_call_that_is_refused_in_a_coroutine_never_starts_the_function() -> None:
    """The function's coroutine is not even made."""
    breaker = CircuitBreaker()
    breaker.open()
    made = []

    async def fn() -> None: ...

    def factory() -> Any:
        made.append(1)
        return fn()

    with pytest.raises(CircuitOpen):
        by_hand(breaker.call_async(factory))
    assert not made


def test_a_global_listener_hears_trials_of_breakers_built_later() -> None:
    """`listen` hears all policies, those that do not exist yet too."""
    heard: list[Any] = []
    stop = listen(heard.append, CircuitHalfOpened, CircuitClosed)
    try:
        breaker = half_open(VirtualClock(), name="later")
        with breaker.guard():
            pass
    finally:
        stop()
    assert [(type(event), event.policy) for event in heard] == [(CircuitHalfOpened, "later"), (CircuitClosed, "later")]


def test_the_state_given_back_after_virtual_time_takes_no_old_trial_for_a_new_one() -> None:
    """A state put back after virtual time makes the trials admitted meanwhile late: no number is used again."""
    clock = VirtualClock()
    breaker = half_open(clock)
    frozen = breaker._freeze()
    meanwhile = breaker.guard()
    meanwhile.__enter__()
    breaker._thaw(frozen)
    late = heard_by(breaker, LateResult)
    with breaker.guard():
        meanwhile.__exit__(None, None, None)
        assert [event.verdict for event in late] == [SUCCESS]
        assert breaker.snapshot()["trials"] == 1
    assert breaker.state == "closed"


def test_a_late_cancelled_or_ignored_trial_is_a_late_result_too() -> None:
    """Every late ending is told, with the verdict it would have had."""
    clock = VirtualClock()
    breaker = half_open(clock, trial_lease=1)
    late = heard_by(breaker, LateResult)

    def generator_of_one():
        yield 1

    with pytest.raises(KeyError), breaker.guard():
        clock.advance(1)
        raise KeyError
    steps = breaker(generator_of_one)()
    next(steps)
    clock.advance(1)
    steps.close()
    assert [event.verdict for event in late] == [IGNORED, IGNORED]
