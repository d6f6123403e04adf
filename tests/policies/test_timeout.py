"""What a timeout promises: whose cancellation it is, what a plain call may do, and what is told."""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import trio

from resilience import CircuitBreaker, DeadlineExceeded, Pipeline, Retry, TimedOut, Timeout, context
from resilience.events import CallSucceeded, DeadlineMissed, Event
from resilience.testing import VirtualClock
from tests.colours import FORMS, Colour, async_colours, every_colour

CANCELLED = (asyncio.CancelledError, trio.Cancelled)


def bound(colour: Colour, seconds: float, **kwargs: Any) -> Timeout:
    """A timeout for functions of a colour."""
    return Timeout(seconds, thread=None if colour.is_async else False, **kwargs)


# --- in time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_a_call_that_ends_in_time_is_left_alone(colour: Colour, form: str) -> None:
    """A result or an error that comes in time passes unchanged, with the arguments as given."""
    error = OSError()
    work = colour.function([(1, "done"), (1, error)])
    assert await colour.call(bound(colour, 2), work, 5, form=form) == "done"
    with pytest.raises(OSError) as caught:
        await colour.call(bound(colour, 2), work, 5, form=form)
    assert caught.value is error
    assert work.calls == [(5,), (5,)]


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_inside_there_is_a_deadline(colour: Colour, form: str) -> None:
    """Code inside can ask what is left, the minimum of all bounds, and outside there is none again."""
    seen: list[float | None] = []

    def look() -> None:
        seen.append(context.remaining())

    async def look_async() -> None:
        look()

    fn = look_async if colour.is_async else look
    await colour.call(bound(colour, 3), fn, form=form)
    await colour.call(Pipeline(bound(colour, 3), bound(colour, 2), bound(colour, 5)), fn, form=form)
    with context.deadline(1):
        await colour.call(bound(colour, 3), fn, form=form)
    assert seen == [3.0, 2.0, 1.0]
    assert context.remaining() is None


@every_colour
async def test_seconds_may_be_a_timedelta(colour: Colour) -> None:
    """A duration is given in seconds or as a `timedelta`."""
    policy = bound(colour, timedelta(minutes=1))  # type: ignore[arg-type]
    async with colour.guard(policy):
        assert context.remaining() == 60.0


@every_colour
async def test_each_call_has_its_own_bound(colour: Colour) -> None:
    """Callers of one timeout share nothing: each has the whole time, from its own beginning."""
    policy = bound(colour, 5)

    def caller(wait: float) -> Any:
        async def run() -> float | None:
            if colour.is_async:
                await colour.sleep(wait)
            async with colour.guard(policy):
                return context.remaining()

        return run

    assert await colour.together(*[caller(wait) for wait in range(10)]) == [5.0] * 10


# --- cut --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@async_colours
async def test_a_call_that_takes_too_long_is_cut(colour: Colour, form: str) -> None:
    """On a loop the call is cancelled at the bound, and `TimedOut` names policy and bound."""
    ended: list[float] = []

    async def work() -> None:
        try:
            await colour.sleep(100)
        finally:
            ended.append(colour.clock.now())

    with pytest.raises(TimedOut) as caught:
        await colour.call(Timeout(2, name="query"), work, form=form)
    assert ended == [2.0]
    assert type(caught.value) is TimedOut
    assert (caught.value.policy, caught.value.seconds) == ("query", 2.0)
    assert str(caught.value) == "query: no answer within 2 s"
    assert isinstance(caught.value.__cause__, CANCELLED)


@async_colours
async def test_the_error_is_a_timeout_and_an_os_error(colour: Colour) -> None:
    """Code that catches TimeoutError or OSError catches ours."""
    for kind in (TimeoutError, OSError):
        with pytest.raises(kind):
            await Timeout(1).call_async(colour.function([(9, "late")]))


@async_colours
async def test_the_task_can_go_on_after_a_cut(colour: Colour) -> None:
    """After its own cut the task is not cancelled any more: it can wait, and be cut again."""
    policy = Timeout(1)
    for _ in range(3):
        with pytest.raises(TimedOut):
            await policy.call_async(colour.function([(9, "late")]))
        await colour.sleep(1)
    assert colour.clock.now() == 6.0
    if colour.name == "asyncio":
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


@async_colours
async def test_a_callers_cancellation_is_not_a_timeout(colour: Colour) -> None:
    """A task that is cancelled before its bound ends cancelled."""
    work = colour.function([(100, "never")])
    job = colour.start(Timeout(10)(work))
    await colour.sleep(3)
    job.cancel()
    assert isinstance(await job.outcome(), CANCELLED)


def test_cancelled_in_the_tick_of_the_cut_is_cancelled_trio() -> None:
    """When a caller's scope and ours end at one moment, the cancellation is the caller's: nobody waits for an error."""

    async def scenario(colour: Colour) -> None:
        with trio.move_on_after(5) as scope:
            await Timeout(5).call_async(colour.function([(100, "never")]))
        assert scope.cancelled_caught
        assert trio.current_time() == 5.0

    colour = Colour.named("trio")
    colour.run(lambda: scenario(colour))


def test_cancelled_in_the_tick_of_the_cut_is_cancelled_asyncio() -> None:
    """Both in one turn of an asyncio loop, in either order: the caller's cancellation wins."""

    async def scenario(colour: Colour, first: str) -> None:
        loop = asyncio.get_running_loop()

        async def hang() -> None:
            await asyncio.sleep(100)

        task = asyncio.ensure_future(Timeout(5).call_async(hang))
        if first == "caller":
            loop.call_at(loop.time() + 5, task.cancel)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0)
            loop.call_at(loop.time() + 5, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.time() == 5.0

    for first in ("caller", "cut"):
        colour = Colour.named("asyncio")
        colour.run(lambda colour=colour, first=first: scenario(colour, first))


def test_cancelled_while_it_unwinds_is_cancelled_asyncio() -> None:
    """A caller who goes away while the cut call is still cleaning up gets his cancellation."""

    async def scenario(colour: Colour) -> None:
        async def slow_to_end() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(10)

        task = asyncio.ensure_future(Timeout(5).call_async(slow_to_end))
        await asyncio.sleep(7)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


@async_colours
async def test_a_call_that_was_cancelled_before_is_none_of_ours(colour: Colour) -> None:
    """A cancellation that was asked for before the call began stays the caller's, whatever the bound does."""
    seen: list[str] = []

    async def caller() -> None:
        try:
            await colour.gate().wait()
        except asyncio.CancelledError:
            # Cleaning up with a bound, while cancelled, as a shutdown does.
            with pytest.raises(TimedOut):
                await Timeout(1).call_async(colour.function([(9, "late")]))
            seen.append("timed out")
            raise

    if colour.name == "trio":
        return
    job = colour.start(caller)
    await colour.sleep(1)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError)
    assert seen == ["timed out"]


@async_colours
async def test_of_nested_bounds_the_one_that_passed_is_raised(colour: Colour) -> None:
    """An inner and an outer timeout each raise for themselves; on a tie it is the outer one."""
    late = colour.function([(100, "late"), ...])
    for outer, inner, name in ((5, 2, "inner"), (2, 5, "outer"), (3, 3, "outer")):
        with pytest.raises(TimedOut) as caught:
            await Pipeline(Timeout(outer, name="outer"), Timeout(inner, name="inner")).call_async(late)
        assert caught.value.policy == name


@pytest.mark.parametrize(("ours", "theirs"), [(2, 5), (5, 2), (3, 3)])
def test_beside_the_loops_own_timeout_asyncio(ours: float, theirs: float) -> None:
    """`asyncio.timeout` inside and outside of ours: each knows its own cancellation, and the outer one wins a tie."""

    async def scenario(colour: Colour) -> None:
        started = colour.clock.now()
        with pytest.raises(TimeoutError) as outside:
            async with asyncio.timeout(theirs):
                await Timeout(ours).call_async(colour.function([(100, "late")]))
        assert isinstance(outside.value, TimedOut) == (ours < theirs)
        assert colour.clock.now() - started == min(ours, theirs)

        async def inside() -> None:
            async with asyncio.timeout(theirs):
                await asyncio.sleep(100)

        with pytest.raises(TimeoutError) as caught:
            await Timeout(ours).call_async(inside)
        assert isinstance(caught.value, TimedOut) == (ours <= theirs)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


@pytest.mark.parametrize(("ours", "theirs"), [(2, 5), (5, 2), (3, 3)])
def test_beside_the_loops_own_timeout_trio(ours: float, theirs: float) -> None:
    """`trio.fail_after` inside and outside of ours: each knows its own cancellation, and the outer one wins a tie."""

    async def scenario(colour: Colour) -> None:
        with pytest.raises((TimedOut, trio.TooSlowError)) as outside:
            with trio.fail_after(theirs):
                await Timeout(ours).call_async(colour.function([(100, "late")]))
        assert isinstance(outside.value, TimedOut) == (ours < theirs)

        async def inside() -> None:
            with trio.fail_after(theirs):
                await trio.sleep(100)

        with pytest.raises((TimedOut, trio.TooSlowError)) as caught:
            await Timeout(ours).call_async(inside)
        assert isinstance(caught.value, TimedOut) == (ours <= theirs)

    colour = Colour.named("trio")
    colour.run(lambda: scenario(colour))


# --- what a call makes of its cancellation ----------------------------------------------------------------------------


@async_colours
async def test_a_result_in_spite_of_the_cut_is_kept(colour: Colour) -> None:
    """A call that swallows its cancellation and returns has returned, and the task is not cancelled any more."""

    async def stubborn() -> str:
        try:
            await colour.sleep(100)
        except CANCELLED:
            return "kept"
        return "never"

    assert await Timeout(1).call_async(stubborn) == "kept"
    await colour.sleep(1)


@async_colours
async def test_an_error_in_answer_to_the_cut_is_the_real_one(colour: Colour) -> None:
    """A call that turns its cancellation into an error of its own raises that error."""

    async def stubborn() -> None:
        try:
            await colour.sleep(100)
        except CANCELLED:
            raise ConnectionError("interrupted") from None

    with pytest.raises(ConnectionError, match="interrupted"):
        await Timeout(1).call_async(stubborn)
    await colour.sleep(1)


def test_a_task_group_inside_asyncio() -> None:
    """A group of tasks inside is cancelled as a whole, and a child's error of its own stays visible."""

    async def scenario(colour: Colour) -> None:
        ended: list[str] = []

        async def child(name: str, *, bitter: bool = False) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(name)
                if bitter:
                    raise OSError(name)

        async def group(*, bitter: bool) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child("a"))
                tasks.create_task(child("b", bitter=bitter))

        with pytest.raises(TimedOut):
            await Timeout(1).call_async(group, bitter=False)
        assert sorted(ended) == ["a", "b"]
        with pytest.raises(ExceptionGroup) as caught:
            await Timeout(1).call_async(group, bitter=True)
        assert [type(leaf) for leaf in caught.value.exceptions] == [OSError]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


def test_a_timeout_inside_a_task_group_asyncio() -> None:
    """A child's own timeout is that child's error, and cancels its siblings as any error does."""

    async def scenario(colour: Colour) -> None:
        ended: list[str] = []

        async def sibling() -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sibling())
                tasks.create_task(Timeout(1).call_async(colour.function([(9, "late")])))
        assert [type(leaf) for leaf in caught.value.exceptions] == [TimedOut]
        assert ended == ["cancelled"]

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


def test_a_nursery_inside_trio() -> None:
    """A nursery inside is cancelled as a whole; a child's own error stays, without the cancellations beside it."""

    async def scenario(colour: Colour) -> None:
        async def child(*, bitter: bool) -> None:
            try:
                await trio.sleep(100)
            finally:
                if bitter:
                    raise OSError("child")

        async def nursery(*bitter: bool) -> None:
            async with trio.open_nursery() as tasks:
                for each in bitter:
                    tasks.start_soon(lambda each=each: child(bitter=each))

        with pytest.raises(TimedOut) as caught:
            await Timeout(1).call_async(nursery, False, False)
        assert isinstance(caught.value.__cause__, BaseException)
        with pytest.raises(ExceptionGroup) as mixed:
            await Timeout(1).call_async(nursery, False, True)
        assert mixed.group_contains(OSError)
        assert not mixed.group_contains(trio.Cancelled)
        await trio.sleep(1)

    colour = Colour.named("trio")
    colour.run(lambda: scenario(colour))


@async_colours
async def test_a_result_in_the_tick_of_the_cut(colour: Colour) -> None:
    """A call whose answer comes in the very moment of the bound either returns it or times out, and nothing lingers."""
    for _ in range(20):
        with suppress(TimedOut):
            assert await Timeout(1).call_async(colour.function([(1, "just")])) == "just"
        await colour.sleep(1)
    assert context.remaining() is None


def test_a_call_that_never_waits_is_not_cut_asyncio() -> None:
    """A cut needs a moment in which the task waits: one that never does runs to its end and keeps its result."""

    async def scenario(colour: Colour) -> None:
        async def busy() -> str:
            colour.clock.advance(100)
            return "done"

        assert await Timeout(1).call_async(busy) == "done"
        await asyncio.sleep(1)

    colour = Colour.named("asyncio")
    colour.run(lambda: scenario(colour))


@async_colours
async def test_a_gate_inside_sees_a_cut_as_a_failure_and_a_departure_as_nothing(colour: Colour) -> None:
    """A breaker inside counts a call that was cut for being slow, not one whose caller went away."""
    breaker = CircuitBreaker(1, on=OSError, cooldown=1000)
    protected = Pipeline(Timeout(5), breaker)
    job = colour.start(protected(colour.function([(100, "never")])))
    await colour.sleep(4.5)
    job.cancel()
    await job.outcome()
    assert breaker.state == "closed"
    with pytest.raises(TimedOut):
        await protected.call_async(colour.function([(100, "never")]))
    assert breaker.state == "open"


# --- no time to begin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_nothing_is_begun_with_no_time_left(colour: Colour, form: str) -> None:
    """When an outer bound has passed, the call is not made, and that bound's own error is raised."""
    clock = VirtualClock()
    work = colour.function([])
    with context.deadline(3, clock=clock):
        clock.advance(3)
        with pytest.raises(DeadlineExceeded) as caught:
            await colour.call(bound(colour, 5), work, form=form)
    assert caught.value.seconds == 3.0
    with Timeout(2, thread=False, name="outer", clock=clock).guard():
        clock.advance(2)
        with pytest.raises(TimedOut) as refused:
            await colour.call(bound(colour, 5), work, form=form)
    assert (type(refused.value), refused.value.policy) == (TimedOut, "outer")


# --- plain calls ------------------------------------------------------------------------------------------------------

PLAIN = (
    "a running sync call cannot be cut: pass thread=True, which runs it in a worker left behind at the deadline, "
    r"or thread=False, where only code that reads context\.remaining\(\) obeys"
)


def test_a_plain_function_needs_a_decision() -> None:
    """Without `thread`, decorating, calling and guarding plain code are refused with what to write."""
    policy = Timeout(1)
    for use in (policy, policy.call, policy.bind, Pipeline(policy), Pipeline(policy).call):
        with pytest.raises(TypeError, match=PLAIN):
            use(lambda: None)  # type: ignore[operator]
    with pytest.raises(TypeError, match=PLAIN), policy.guard():
        pass
    with pytest.raises(TypeError, match=PLAIN), Pipeline(policy).guard():
        pass
    assert context.remaining() is None


@pytest.mark.parametrize("late", [0.0, 3.0])
def test_a_plain_call_that_ends_late_is_kept(late: float) -> None:
    """A finished call is never discarded: a late result returns, a late error is raised unchanged; both are told."""
    clock = VirtualClock()
    policy = Timeout(2, thread=False, name="query", clock=clock)
    events: list[Event] = []
    policy.listen(events.append)
    error = OSError()

    def work(outcome: Any) -> Any:
        clock.sleep(2 + late)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert policy.call(work, "late") == "late"
    with pytest.raises(OSError) as caught:
        policy.call(work, error)
    assert caught.value is error
    with policy.guard():
        clock.sleep(2 + late)
    assert events == [
        DeadlineMissed("query", "timeout", at, seconds=2.0, late=late) for at in (2 + late, 4 + 2 * late, 6 + 3 * late)
    ]


def test_an_interrupt_in_a_late_plain_call_passes_through() -> None:
    """KeyboardInterrupt is never replaced."""
    clock = VirtualClock()

    def work() -> None:
        clock.sleep(9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Timeout(2, thread=False, clock=clock).call(work)


@every_colour
async def test_success_is_told(colour: Colour) -> None:
    """A call that ends in time is a `CallSucceeded`; one that fails in time is no event of the timeout's."""
    policy = bound(colour, 2, name="query")
    events: list[Event] = []
    policy.listen(events.append)
    await colour.call(policy, colour.function([(1, "done")]))
    with pytest.raises(OSError):
        await colour.call(policy, colour.function([OSError()]))
    assert events == [CallSucceeded("query", "timeout", 1.0, attempts=1)]


@async_colours
async def test_a_cut_is_told_by_its_error_alone(colour: Colour) -> None:
    """A call that is cut makes no event of success, and none of a deadline that was missed."""
    policy = Timeout(2)
    events: list[Event] = []
    policy.listen(events.append)
    with pytest.raises(TimedOut):
        await policy.call_async(colour.function([(9, "late")]))
    assert events == []


@async_colours
async def test_a_plain_call_on_a_loop_keeps_to_plain_rules(colour: Colour) -> None:
    """With `thread=False`, an async function is cut all the same; a plain block is not."""
    policy = Timeout(2, thread=False)
    with pytest.raises(TimedOut):
        await policy.call_async(colour.function([(9, "late")]))
    with policy.guard():
        await colour.sleep(9)
    assert policy.call(lambda: "done") == "done"


@async_colours
async def test_the_cut_is_timed_by_what_remains_on_the_policys_clock(colour: Colour) -> None:
    """The loop times the cut, for as long as the policy's clock says on entry; a frozen clock does not stop it."""
    frozen = VirtualClock(500)
    with pytest.raises(TimedOut):
        await Timeout(4, clock=frozen).call_async(colour.function([(9, "late")]))
    assert colour.clock.now() == 4.0
    assert frozen.now() == 500.0


@every_colour
async def test_nothing_of_a_bound_stays_in_the_callers_context(colour: Colour) -> None:
    """Whichever way a bounded call ends, the context holds no variable of ours that was not there before."""
    before = dict(contextvars.copy_context())
    for script in (["done"], [OSError], [KeyboardInterrupt], [(9, "late")]):
        with suppress(OSError, KeyboardInterrupt):
            await colour.call(bound(colour, 2), colour.function(script))
        assert dict(contextvars.copy_context()) == before


# --- parameters and misuse --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        *[(seconds, ValueError) for seconds in (0, -1, math.nan, math.inf, 10**400)],
        *[(seconds, TypeError) for seconds in (True, "2", None, [2], object)],
    ],
    ids=repr,
)
def test_bad_seconds_are_refused(seconds: Any, error: type[Exception]) -> None:
    """The bound is a number of seconds above 0; the error names parameter, rule and value."""
    with pytest.raises(error) as caught:
        Timeout(seconds)
    assert str(caught.value) == f"seconds must be a number of seconds above 0, got {seconds!r}"


@pytest.mark.parametrize("thread", [0, 1, "no"])
def test_bad_thread_is_refused(thread: Any) -> None:
    """`thread` is None, True or False."""
    with pytest.raises(ValueError, match=f"thread must be None, True or False, got {thread!r}"):
        Timeout(1, thread=thread)


@pytest.mark.parametrize(
    ("parameter", "value"), [("name", ""), ("name", 5), ("clock", 5), ("clock", object())], ids=repr
)
def test_other_bad_parameters_are_refused(parameter: str, value: Any) -> None:
    """Name and clock are checked as for every policy."""
    with pytest.raises((TypeError, ValueError), match=f"{parameter} must"):
        Timeout(1, **{parameter: value})


def test_misuse_says_what_to_write() -> None:
    """A bare decorator, a policy as a block, a generator and a second use of a guard are told the right form."""

    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    with pytest.raises(TypeError, match=r"write @Timeout\(2\.0\)"):
        Timeout(generator)  # type: ignore[arg-type]
    policy = Timeout(1, thread=False)
    with pytest.raises(TypeError, match=r"write with policy\.guard\(\):"), policy:  # type: ignore[attr-defined]
        pass
    for fn in (generator, async_generator):
        with pytest.raises(
            TypeError, match="Timeout cannot wrap a generator: between its steps the time is its caller's"
        ):
            policy(fn)
    guard = policy.guard()
    with guard:
        pass
    with pytest.raises(RuntimeError, match=r"serves one block: call policy\.guard\(\) again"), guard:
        pass
    with pytest.raises(TypeError, match="has no cost to settle"):
        policy.guard().settle(1)


def test_replace_repr_and_snapshot() -> None:
    """A timeout can be looked at and changed into another."""
    policy = Timeout(2, thread=False, name="query")
    assert json.loads(json.dumps(policy.snapshot())) == {"name": "query", "kind": "timeout", "seconds": 2.0}
    other = policy.replace(seconds=5)
    assert (other.snapshot()["seconds"], other.name) == (5.0, "query")
    assert other.call(lambda: 1) == 1
    assert repr(policy) == "Timeout(seconds=2, thread=False, name='query')"


@async_colours
async def test_inside_a_retry_each_attempt_has_the_whole_bound(colour: Colour) -> None:
    """A timeout inside a retry bounds one attempt, one outside the whole."""
    work = colour.function([(9, "late"), (9, "late"), "done"])
    assert await Pipeline(Retry(on=TimedOut, backoff=0), Timeout(2)).call_async(work) == "done"
    assert colour.clock.now() == 4.0
