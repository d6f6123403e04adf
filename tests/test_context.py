"""Deadlines and priorities, and how they travel with the work."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import gc
import math
import threading
from typing import Any

import pytest
import trio

from resilience import DeadlineExceeded, Priority, TimedOut, Timeout, context
from resilience._attempt import current_attempt
from resilience._scope import current
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours, every_colour

BAD_SECONDS: list[tuple[Any, type[Exception]]] = [
    (0, ValueError),
    (-1, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (dt.timedelta(0), ValueError),
    (True, TypeError),
    ("1", TypeError),
    (None, TypeError),
    ([1], TypeError),
]


class Deadlines:
    """`with context.deadline(...)` in plain code, `async with` on a loop, on any clock."""

    def __init__(self, colour: Colour, seconds: Any, clock: Any = None) -> None:
        self._block = context.deadline(seconds, clock=clock)
        self._colour = colour

    async def __aenter__(self) -> None:
        await self._block.__aenter__() if self._colour.is_async else self._block.__enter__()

    async def __aexit__(self, *error: object) -> None:
        await self._block.__aexit__(*error) if self._colour.is_async else self._block.__exit__(*error)


# --- what is left -----------------------------------------------------------------------------------------------------


def test_without_a_deadline_there_is_no_end() -> None:
    """Outside of any deadline, nothing remains to be told, and a check passes."""
    assert context.remaining() is None
    context.check()


@every_colour
async def test_remaining_counts_down(colour: Colour) -> None:
    """What remains is the length of the deadline, less what has passed since the block was entered."""
    async with Deadlines(colour, 5):
        assert context.remaining() == 5.0
        await colour.sleep(2)
        assert context.remaining() == 3.0
        context.check()
    assert context.remaining() is None


def test_a_deadline_takes_a_timedelta() -> None:
    """A duration may be given as a `timedelta`."""
    clock = VirtualClock()
    with context.deadline(dt.timedelta(minutes=1), clock=clock):
        assert context.remaining() == 60.0


def test_a_plain_deadline_interrupts_nothing() -> None:
    """In plain code a deadline that passes is told to those who ask, to no one else, and never below zero."""
    clock = VirtualClock()
    with context.deadline(1, clock=clock):
        clock.advance(5)
        assert context.remaining() == 0.0
        with pytest.raises(DeadlineExceeded) as caught:
            context.check()
    assert (caught.value.policy, caught.value.seconds) == ("deadline", 1.0)


def test_a_deadline_has_passed_when_nothing_is_left() -> None:
    """At the very end of it, a deadline has passed."""
    clock = VirtualClock()
    with context.deadline(1, clock=clock):
        clock.advance(1)
        with pytest.raises(DeadlineExceeded):
            context.check()


@async_colours
async def test_an_async_deadline_cancels(colour: Colour) -> None:
    """On a loop the block is cancelled at the deadline, and `DeadlineExceeded` is raised from it."""
    with pytest.raises(DeadlineExceeded) as caught:
        async with context.deadline(2):
            await colour.sleep(10)
    assert colour.clock.now() == 2.0
    assert isinstance(caught.value.__cause__, asyncio.CancelledError | trio.Cancelled)


@async_colours
async def test_an_async_deadline_that_is_kept_cancels_nothing(colour: Colour) -> None:
    """A block that ends in time is left alone, and so is what comes after it."""
    async with context.deadline(2):
        await colour.sleep(1)
    await colour.sleep(10)
    assert colour.clock.now() == 11.0


# --- nesting ----------------------------------------------------------------------------------------------------------


@every_colour
async def test_nested_deadlines_take_the_minimum(colour: Colour) -> None:
    """Inside several deadlines the tightest counts, whichever it is, and each ends with its own block."""
    async with Deadlines(colour, 5):
        async with Deadlines(colour, 100):
            assert context.remaining() == 5.0
        async with Deadlines(colour, 2):
            assert context.remaining() == 2.0
            async with Deadlines(colour, 3):
                assert context.remaining() == 2.0
        assert context.remaining() == 5.0


def test_each_deadline_is_measured_by_its_own_clock() -> None:
    """Deadlines on different clocks are compared by what remains, not by their readings."""
    early, late = VirtualClock(), VirtualClock(1e9)
    with context.deadline(10, clock=late), context.deadline(20, clock=early):
        assert context.remaining() == 10.0
        early.advance(15)
        assert context.remaining() == 5.0
        late.advance(7)
        assert context.remaining() == 3.0
        late.advance(100)
        with pytest.raises(DeadlineExceeded) as caught:
            context.check()
    assert caught.value.seconds == 10.0


@every_colour
async def test_no_deadline_begins_after_another_has_passed(colour: Colour) -> None:
    """Entering a deadline with no time left raises the outer one at once, and leaves it as it is."""
    outer = VirtualClock()
    with context.deadline(1, clock=outer):
        outer.advance(1)
        with pytest.raises(DeadlineExceeded) as caught:
            async with Deadlines(colour, 7):
                raise AssertionError("entered")
        assert caught.value.seconds == 1.0
        assert context.remaining() == 0.0
    assert context.remaining() is None


def test_a_check_inside_a_timeout_is_a_deadline_exceeded() -> None:
    """`check` raises `DeadlineExceeded` for a `Timeout` too, with that policy's name and bound."""
    clock = VirtualClock()
    with Timeout(3, thread=False, name="query", clock=clock).guard():
        clock.advance(3)
        with pytest.raises(DeadlineExceeded) as caught:
            context.check()
    assert (caught.value.policy, caught.value.seconds) == ("query", 3.0)


def test_the_tightest_of_the_passed_deadlines_is_named() -> None:
    """Of several deadlines that have passed, the one that passed first is told."""
    clock = VirtualClock()
    with (
        context.deadline(5, clock=clock),
        Timeout(2, thread=False, clock=clock).guard(),
        context.deadline(9, clock=clock),
    ):
        clock.advance(20)
        with pytest.raises(DeadlineExceeded) as caught:
            context.check()
        assert caught.value.seconds == 2.0
        with pytest.raises(TimedOut) as refused, context.deadline(1, clock=clock):
            pass
        assert (type(refused.value), refused.value.seconds) == (TimedOut, 2.0)


def test_of_deadlines_that_end_together_the_inner_one_is_named() -> None:
    """A tie between deadlines that cut nothing is the innermost one's."""
    clock = VirtualClock()
    with context.deadline(2, clock=clock), Timeout(2, thread=False, name="inner", clock=clock).guard():
        clock.advance(2)
        with pytest.raises(DeadlineExceeded) as caught:
            context.check()
    assert caught.value.policy == "inner"


@async_colours
async def test_of_two_cuts_the_outer_one_wins_its_tie(colour: Colour) -> None:
    """When an inner and an outer deadline end at the same moment, the outer one's error is raised."""
    with pytest.raises(DeadlineExceeded) as caught:
        async with context.deadline(2):
            try:
                async with context.deadline(2.0):
                    await colour.sleep(10)
            except DeadlineExceeded:
                pytest.fail("the inner block took the outer one's cancellation")
    assert caught.value.seconds == 2.0


@async_colours
async def test_an_inner_cut_leaves_the_outer_block_running(colour: Colour) -> None:
    """The error of an inner deadline can be caught, and the outer one still cuts at its own time."""
    with pytest.raises(DeadlineExceeded) as caught:
        async with context.deadline(5):
            with pytest.raises(DeadlineExceeded):
                async with context.deadline(1):
                    await colour.sleep(10)
            assert colour.clock.now() == 1.0
            await colour.sleep(10)
    assert caught.value.seconds == 5.0
    assert colour.clock.now() == 5.0


# --- whose cancellation -----------------------------------------------------------------------------------------------


@async_colours
async def test_a_callers_cancellation_stays_one(colour: Colour) -> None:
    """A task that is cancelled from outside before the deadline ends cancelled, not late."""
    entered: list[bool] = []

    async def work() -> None:
        async with context.deadline(5):
            entered.append(True)
            await colour.sleep(10)

    job = colour.start(work)
    await colour.until(lambda: entered)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)


# --- one object, many uses --------------------------------------------------------------------------------------------


@every_colour
async def test_a_deadline_object_serves_one_block_after_the_other(colour: Colour) -> None:
    """One object may be entered again after it was left, and counts anew; inside itself it is refused."""
    block = Deadlines(colour, 3)
    for _ in range(2):
        async with block:
            await colour.sleep(1)
            assert context.remaining() == 2.0
            with pytest.raises(RuntimeError, match=r"in use: write context\.deadline\(\.\.\.\) anew"):
                async with block:
                    raise AssertionError("entered")
            assert context.remaining() == 2.0


def test_a_deadline_that_was_refused_can_be_used_later() -> None:
    """An object whose entry failed is as good as new."""
    clock = VirtualClock()
    inner = context.deadline(4, clock=clock)
    with context.deadline(1, clock=clock):
        clock.advance(1)
        with pytest.raises(DeadlineExceeded), inner:
            pass
    with inner:
        assert context.remaining() == 4.0


def test_leaving_a_block_that_was_never_entered_does_nothing() -> None:
    """An exit without an entry finds nothing to leave."""
    context.deadline(1).__exit__(None, None, None)
    assert context.remaining() is None


# --- as a decorator ---------------------------------------------------------------------------------------------------


@every_colour
async def test_a_decorated_function_gets_the_deadline_anew_for_each_call(colour: Colour) -> None:
    """As a decorator it bounds each call by itself, plainly for `def`, by a cut for `async def`."""
    seen: list[float | None] = []

    if colour.is_async:

        @context.deadline(3)
        async def work(seconds: float) -> str:
            """Work."""
            seen.append(context.remaining())
            await colour.sleep(seconds)
            return "done"
    else:

        @context.deadline(3)
        def work(seconds: float) -> str:
            """Work."""
            seen.append(context.remaining())
            colour.clock.sleep(seconds)
            return "done"

    assert (work.__name__, work.__doc__, asyncio.iscoroutinefunction(work)) == ("work", "Work.", colour.is_async)
    assert await colour.invoke(work, 2) == await colour.invoke(work, 1) == "done"
    if colour.is_async:
        with pytest.raises(DeadlineExceeded):
            await colour.invoke(work, 10)
    else:
        assert await colour.invoke(work, 10) == "done"
    assert seen == [3.0, 3.0, 3.0]


@every_colour
async def test_decorated_calls_may_run_at_once_and_inside_each_other(colour: Colour) -> None:
    """Calls of one decorated function do not share a deadline, nested and concurrent ones included."""
    decorate = context.deadline(3)

    async def inner() -> float | None:
        return context.remaining()

    async def outer() -> float | None:
        await colour.sleep(1)
        return await inner()

    if not colour.is_async:
        nested = decorate(lambda: (colour.clock.advance(1), decorate(context.remaining)()))
        assert nested()[1] == 2.0
        return
    inner, outer = decorate(inner), decorate(outer)
    assert await colour.together(*[outer] * 10) == [2.0] * 10


@pytest.mark.parametrize(
    "decorate", [context.deadline(1), context.priority(Priority.CRITICAL)], ids=["deadline", "priority"]
)
class TestDecorating:
    """What may be decorated, and what is refused with what to write."""

    def test_methods(self, decorate: Any) -> None:
        """Methods of every kind can be decorated, above or below the other decorator."""

        class Client:
            @decorate
            def method(self, x: int) -> tuple[Any, int]:
                return self, x

            @classmethod
            @decorate
            def below(cls, x: int) -> tuple[Any, int]:
                return cls, x

            @decorate
            @classmethod
            def above(cls, x: int) -> tuple[Any, int]:
                return cls, x

            @decorate
            @staticmethod
            def static(x: int) -> int:
                return x

        client = Client()
        assert client.method(1) == (client, 1)
        assert client.below(2) == (Client, 2)
        assert client.above(3) == (Client, 3)
        assert client.static(4) == 4

    def test_async_callables(self, decorate: Any) -> None:
        """An object with an async `__call__` becomes a coroutine function."""

        class Fetch:
            async def __call__(self, x: int) -> int:
                return x

        wrapped = decorate(Fetch())
        assert asyncio.iscoroutinefunction(wrapped)
        assert trio.run(wrapped, 5) == 5

    def test_generators_are_refused(self, decorate: Any) -> None:
        """A generator runs in pieces, between which its caller's time passes."""

        def generator() -> Any:
            yield

        async def async_generator() -> Any:
            yield

        for fn in (generator, async_generator):
            with pytest.raises(
                TypeError, match=r"context\.\w+ cannot decorate a generator: it runs in pieces; use it inside"
            ):
                decorate(fn)

    def test_what_is_no_function_is_refused(self, decorate: Any) -> None:
        """A value, a class and a coroutine cannot be decorated; the coroutine is closed."""

        async def coroutine() -> None: ...

        for wrong in (5, "url", int, coroutine()):
            with pytest.raises(TypeError, match=r"context\.\w+ decorates a function, got "):
                decorate(wrong)


def test_a_bare_decorator_says_what_to_write() -> None:
    """A decorator without its parentheses is told the right form."""
    with pytest.raises(TypeError, match=r"write @context\.deadline\(2\.0\), got <function"):
        context.deadline(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"write @context\.priority\(Priority\.SHEDDABLE\), got <function"):
        context.priority(lambda: None)  # type: ignore[arg-type]


# --- bad parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "error"), BAD_SECONDS, ids=repr)
def test_what_is_no_duration_is_refused(seconds: Any, error: type[Exception]) -> None:
    """A deadline needs a number of seconds above 0; the error names parameter, rule and value."""
    with pytest.raises(error, match="seconds must be a number of seconds above 0, got") as caught:
        context.deadline(seconds)
    given = seconds.total_seconds() if isinstance(seconds, dt.timedelta) else seconds
    assert str(caught.value).endswith(repr(given))


@pytest.mark.parametrize("missing", ["now", "sleep", "sleep_async"])
def test_what_is_no_clock_is_refused(missing: str) -> None:
    """A clock has all three methods; the error names the one that is missing."""
    methods = {name: lambda self: 0.0 for name in ("now", "sleep", "sleep_async") if name != missing}
    clock = type("Broken", (), methods)()
    with pytest.raises(
        TypeError, match=rf"clock must have now\(\), sleep\(s\) and sleep_async\(s\); .* has no {missing}"
    ):
        context.deadline(1, clock=clock)


def test_a_cut_needs_a_loop() -> None:
    """`async with` outside of asyncio and trio is refused, and leaves no deadline behind."""
    block = context.deadline(1)
    coroutine = block.__aenter__()
    with pytest.raises(RuntimeError, match="no event loop is running here"):
        coroutine.send(None)
    assert context.remaining() is None


def test_a_cut_needs_a_task() -> None:
    """A callback of an asyncio loop is no task that could be cut; it is told so, and no deadline is left behind."""
    seen: list[Any] = []

    def callback() -> None:
        try:
            context.deadline(1).__aenter__().send(None)
        except RuntimeError as error:
            seen.append((str(error), context.remaining()))

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == [("a timeout cuts a task, and no task runs here: await this from inside one", None)]


# --- how they travel --------------------------------------------------------------------------------------------------


@every_colour
async def test_a_deadline_belongs_to_one_caller(colour: Colour) -> None:
    """Callers that run at once have their own deadlines and see no other."""

    def caller(seconds: int) -> Any:
        async def work() -> float | None:
            async with Deadlines(colour, seconds):
                return context.remaining()

        return work

    assert await colour.together(*[caller(seconds) for seconds in range(1, 21)]) == list(range(1, 21))
    assert context.remaining() is None


@async_colours
async def test_a_child_task_inherits_the_deadline(colour: Colour) -> None:
    """A task that is started inside a deadline has what is left of it."""

    async def child() -> float | None:
        return context.remaining()

    async with context.deadline(5):
        await colour.sleep(1)
        assert await colour.start(child).outcome() == 4.0


def test_a_thread_has_a_deadline_only_where_it_was_given_the_context() -> None:
    """A thread begins without a deadline; run in a copy of the context it sees it, and cannot change it."""
    clock, seen = VirtualClock(), []

    def child() -> None:
        seen.append(context.remaining())
        with context.deadline(1, clock=clock):
            seen.append(context.remaining())

    with context.deadline(5, clock=clock):
        copied = contextvars.copy_context()
        for target in (child, lambda: copied.run(child)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        assert context.remaining() == 5.0
    assert seen == [None, 1.0, 5.0, 1.0]


@async_colours
async def test_a_worker_thread_may_ask_what_is_left(colour: Colour) -> None:
    """Inside a cut, a thread that was handed the context can ask, although trio tells it no time."""
    seen: list[Any] = []

    async with context.deadline(5):
        copied = contextvars.copy_context()
        thread = threading.Thread(target=lambda: seen.append(copied.run(context.remaining)))
        thread.start()
        thread.join()
    assert seen == [5.0]


@every_colour
async def test_a_block_leaves_the_context_as_it_was(colour: Colour) -> None:
    """After a block, left in whatever way, no variable of ours is in the context that was not there before."""
    before = dict(contextvars.copy_context())
    async with Deadlines(colour, 5):
        pass
    for error in (OSError, KeyboardInterrupt):
        with pytest.raises(error):
            async with Deadlines(colour, 5):
                raise error
    with context.priority(Priority.CRITICAL):
        pass
    assert dict(contextvars.copy_context()) == before


def test_a_coroutine_that_is_thrown_away_does_not_touch_anothers_deadline() -> None:
    """A suspended coroutine may be closed anywhere, by the garbage collector too: it ends no deadline but its own."""

    class Once:
        def __await__(self) -> Any:
            yield

    async def work() -> None:
        async with context.deadline(9):
            with context.priority(Priority.CRITICAL):
                await Once()

    async def main() -> None:
        suspended = work()
        contextvars.copy_context().run(suspended.send, None)
        async with context.deadline(5, clock=VirtualClock()):
            with context.priority(Priority.SHEDDABLE):
                suspended.close()
                assert context.remaining() == 5.0
                assert context.current_priority() is Priority.SHEDDABLE

    asyncio.run(main())
    assert current.get() is None


def test_nothing_is_an_attempt_outside_of_a_retry() -> None:
    """A deadline is not an attempt of anything."""
    assert current_attempt() is None
    with context.deadline(1, clock=VirtualClock()):
        assert current_attempt() is None


@async_colours
async def test_a_cut_makes_no_cycle(colour: Colour) -> None:
    """A deadline that has cut leaves nothing for the garbage collector."""

    async def late() -> None:
        try:
            async with context.deadline(1):
                await colour.sleep(5)
        except DeadlineExceeded:
            pass

    await late()
    gc.disable()
    gc.freeze()
    try:
        for _ in range(20):
            await late()
        found = gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    assert found == 0


# --- priority ---------------------------------------------------------------------------------------------------------


def test_priorities_are_ordered() -> None:
    """A higher priority gives way later."""
    assert Priority.SHEDDABLE < Priority.DEFAULT < Priority.CRITICAL
    assert context.Priority is Priority


@every_colour
async def test_a_priority_holds_inside_its_block(colour: Colour) -> None:
    """The innermost priority counts, nested ones come back, and another caller sees none of them."""

    async def other() -> Priority:
        return context.current_priority()

    assert context.current_priority() is Priority.DEFAULT
    shed = context.priority(Priority.SHEDDABLE)
    with shed:
        assert context.current_priority() is Priority.SHEDDABLE
        with context.priority(Priority.CRITICAL), shed:
            assert context.current_priority() is Priority.SHEDDABLE
        assert context.current_priority() is Priority.SHEDDABLE
    assert context.current_priority() is Priority.DEFAULT
    assert await colour.together(other) == [Priority.DEFAULT]


@every_colour
async def test_a_decorated_function_has_the_priority(colour: Colour) -> None:
    """As a decorator it holds for each call, and only while it runs."""

    def plain() -> Priority:
        return context.current_priority()

    async def coroutine() -> Priority:
        await colour.sleep(1)
        return context.current_priority()

    work = context.priority(Priority.CRITICAL)(coroutine if colour.is_async else plain)
    assert await colour.invoke(work) is Priority.CRITICAL
    assert context.current_priority() is Priority.DEFAULT


@pytest.mark.parametrize("value", [1, "critical", None, True, Priority])
def test_what_is_no_priority_is_refused(value: Any) -> None:
    """A priority is one of three, not its number."""
    with pytest.raises(TypeError, match=r"Priority\.SHEDDABLE"):
        context.priority(value)
