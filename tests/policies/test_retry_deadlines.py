"""A retry and time: `within`, the caller's own deadline, and what the other side asks for."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from resilience import DeadlineExceeded, Pipeline, Retry, TimedOut, Timeout, context, http
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours, every_colour


class Asks(Exception):
    """An error that asks for some seconds."""

    def __init__(self, retry_after: Any = None, **headers: Any) -> None:
        super().__init__(retry_after)
        if retry_after is not None:
            self.retry_after = retry_after
        self.response = SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


def timeout(colour: Colour, seconds: float, **kwargs: Any) -> Timeout:
    """A timeout for functions of a colour."""
    return Timeout(seconds, thread=None if colour.is_async else False, **kwargs)


# --- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "slept"),
    [
        (Asks(5), 5.0),
        (Asks(2.5), 2.5),
        (Asks("7"), 7.0),
        (Asks(dt.timedelta(seconds=9)), 9.0),
        (Asks(Retry_After="5"), 5.0),
        (Asks(retry_after=b"6"), 6.0),
        (Asks(retry_after=None, RETRY_AFTER=b"8"), 8.0),
        (ExceptionGroup("", [Asks(2), ExceptionGroup("", [Asks(4)])]), 4.0),
        (Asks(0.25), 1.0),
        (Asks(0), 1.0),
        (Asks(-5), 1.0),
        (Asks(math.nan), 1.0),
        (Asks("soon"), 1.0),
        (Asks(Retry_After="-5"), 1.0),
        (Asks(Retry_After="later"), 1.0),
        (Asks(True), 1.0),
    ],
    ids=repr,
)
@every_colour
async def test_the_delay_is_the_larger_of_backoff_and_hint(colour: Colour, error: Exception, slept: float) -> None:
    """A hint lengthens the delay and never shortens it; what is negative, NaN or junk is no hint."""
    await colour.call(Retry(on=Asks, backoff=1), colour.function([error, "page"]))
    assert colour.clock.sleeps == [slept]


@every_colour
async def test_a_date_in_a_header_is_obeyed(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Retry-After that is a date is waited for, by the wall clock; one that has passed asks for nothing."""
    monkeypatch.setattr(http.time, "time", lambda: 1_898_596_800.0)
    ahead, past = "Fri, 01 Mar 2030 12:00:30 GMT", "Fri, 01 Mar 2030 11:00:00 GMT"
    script = [Asks(Retry_After=ahead), Asks(Retry_After=past), "page"]
    await colour.call(Retry(on=Asks, backoff=1), colour.function(script))
    assert colour.clock.sleeps == [30.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "slept"), [(True, [1.0]), (4, [4.0]), (4.5, [4.5]), (0.0, [1.0]), (-2, [1.0]), (math.nan, [1.0])]
)
@every_colour
async def test_a_number_from_the_predicate_is_a_hint(colour: Colour, answer: Any, slept: list[float]) -> None:
    """A predicate's number means yes, 0.0 included, and not sooner than that."""
    await colour.call(Retry(on=lambda error: answer, backoff=1), colour.function([OSError(), "page"]))
    await colour.call(Retry(on_result=lambda r: r == "no" and answer, backoff=1), colour.function(["no", "page"]))
    assert colour.clock.sleeps == slept * 2


@every_colour
async def test_a_zero_from_the_predicate_does_not_force_a_wait(colour: Colour) -> None:
    """The hint 0.0 with no backoff is an attempt at once."""
    await colour.call(Retry(on=lambda error: 0.0, backoff=0), colour.function([OSError(), "page"]))
    assert colour.clock.sleeps == []


@every_colour
async def test_the_largest_of_all_hints_counts(colour: Colour) -> None:
    """Of the predicate's number, the error's attribute and its header, the largest is waited for."""
    script = [Asks(3, Retry_After="2"), Asks(2, Retry_After="5"), Asks(1), "page"]
    await colour.call(Retry(on=lambda error: 4, attempts=9, backoff=0), colour.function(script))
    assert colour.clock.sleeps == [4.0, 5.0, 4.0]


@every_colour
async def test_a_hint_does_not_stretch_later_delays(colour: Colour) -> None:
    """A backoff that builds on the last delay is not told of hints."""
    script = [Asks(50), Asks(), "page"]
    await colour.call(Retry(on=Asks, backoff=lambda retry, previous, u: previous + 1), colour.function(script))
    assert colour.clock.sleeps == [50.0, 2.0]


@pytest.mark.parametrize("hint", [60.001, 3600, math.inf, 10**400])
@every_colour
async def test_a_hint_above_the_bound_ends_the_call_at_once(colour: Colour, hint: Any) -> None:
    """Whoever asks for more than `max_retry_after`, a minute by default, is not waited for: the real error comes."""
    error = Asks(hint)
    with pytest.raises(Asks) as caught:
        await colour.call(Retry(on=Asks, backoff=0), colour.function([error]))
    assert caught.value is error
    assert colour.clock.sleeps == []


@every_colour
async def test_the_bound_of_hints_can_be_moved(colour: Colour) -> None:
    """A hint of exactly `max_retry_after` is obeyed; with 0, none is."""
    await colour.call(Retry(on=Asks, max_retry_after=dt.timedelta(hours=2)), colour.function([Asks(7200), 1]))
    assert colour.clock.sleeps == [7200.0]
    with pytest.raises(Asks):
        await colour.call(Retry(on=Asks, max_retry_after=0), colour.function([Asks(0.001)]))


# --- within -----------------------------------------------------------------------------------------------------------


@every_colour
async def test_an_hour_is_not_waited_for_with_a_fifth_of_a_second_left(colour: Colour) -> None:
    """`Retry-After: 3600` near the end of `within` fails at once with the real error."""
    error = Asks(Retry_After="3600")
    fetch = colour.function([(9.8, error)])
    with pytest.raises(Asks) as caught:
        await colour.call(Retry(on=Asks, within=10, max_retry_after=7200), fetch)
    assert caught.value is error
    assert colour.clock.now() == 9.8


@pytest.mark.parametrize(("took", "attempts"), [(0.0, 2), (8.9, 2), (9.0, 1), (9.5, 1)])
@every_colour
async def test_no_sleep_reaches_the_end_of_within(colour: Colour, took: float, attempts: int) -> None:
    """A wait that would end at the limit or past it is not begun; the last error is raised instead, now."""
    fetch = colour.function([(took, OSError()), "page"])
    retry = Retry(on=OSError, backoff=1, within=10)
    if attempts == 2:
        assert await colour.call(retry, fetch) == "page"
        return
    with pytest.raises(OSError):
        await colour.call(retry, fetch)
    assert colour.clock.now() == took


@every_colour
async def test_within_counts_from_the_first_attempt_of_each_call(colour: Colour) -> None:
    """Each call has its own time, which begins with its first attempt and not with the policy."""
    retry = Retry(on=OSError, backoff=1, within=dt.timedelta(seconds=3), attempts=99)
    decorated = retry(colour.function([OSError(), ...]))
    for _ in range(2):
        await colour.sleep(100)
        before = colour.clock.now()
        with pytest.raises(OSError) as caught:
            await colour.invoke(decorated)
        assert colour.clock.now() - before == 2.0
        assert caught.value.__notes__[0].endswith("3 attempts and 2 s of waiting, ended by within")
        caught.value.__notes__.clear()


@every_colour
async def test_within_is_a_deadline_for_what_is_inside(colour: Colour) -> None:
    """Code in an attempt sees what is left of `within`, and an inner timeout keeps to the smaller of the two."""
    seen: list[float | None] = []

    def look() -> str:
        seen.append(context.remaining())
        if len(seen) < 3:
            raise OSError
        return "page"

    async def look_async() -> str:
        return look()

    await colour.call(
        Pipeline(Retry(on=OSError, backoff=4, within=10), timeout(colour, 5)), look_async if colour.is_async else look
    )
    assert seen == [5.0, 5.0, 2.0]
    assert context.remaining() is None


def test_a_plain_attempt_is_not_cut() -> None:
    """In plain code an attempt that runs past `within` is left to end, and its result is kept."""
    colour = Colour.named("sync")

    async def scenario() -> None:
        retry = Retry(on=OSError, within=5)
        assert retry.call(colour.function([(100, "late")])) == "late"
        with pytest.raises(KeyError):
            retry.call(colour.function([(100, KeyError())]))

    colour.run(scenario)


@async_colours
async def test_an_async_attempt_is_cut_at_within(colour: Colour) -> None:
    """On a loop the attempt that is running when `within` ends is cancelled: `DeadlineExceeded` names the policy."""
    fetch = colour.function([(2, OSError()), (100, "never")])
    with pytest.raises(DeadlineExceeded) as caught:
        await colour.call(Retry(on=Exception, backoff=1, within=7, attempts=9, name="r"), fetch)
    assert colour.clock.now() == 7.0
    assert len(fetch.calls) == 2
    assert (caught.value.policy, caught.value.seconds) == ("r", 7.0)


@async_colours
async def test_a_cut_is_not_retried_when_the_attempt_hides_it(colour: Colour) -> None:
    """An attempt that turns its cancellation into an ordinary error is not tried again after the deadline."""
    calls: list[float] = []

    async def stubborn() -> None:
        calls.append(colour.clock.now())
        try:
            await colour.sleep(100)
        except (asyncio.CancelledError, trio.Cancelled):
            raise ConnectionError("interrupted") from None

    with pytest.raises(ConnectionError):
        await Retry(on=OSError, backoff=0, within=3, attempts=math.inf).call_async(stubborn)
    assert calls == [0.0]
    assert colour.clock.now() == 3.0


@async_colours
async def test_a_cut_counts_even_where_the_policys_clock_is_behind(colour: Colour) -> None:
    """Once the loop has cut an attempt, nothing is left to try, although the policy's own clock has not moved."""
    calls: list[int] = []

    async def stubborn() -> None:
        calls.append(1)
        try:
            await colour.sleep(100)
        except (asyncio.CancelledError, trio.Cancelled):
            raise ConnectionError("interrupted") from None

    retry = Retry(on=OSError, backoff=0, within=3, attempts=math.inf, clock=VirtualClock())
    with pytest.raises(ConnectionError):
        await retry.call_async(stubborn)
    assert calls == [1]


@async_colours
async def test_a_result_after_a_swallowed_cut_is_kept(colour: Colour) -> None:
    """An attempt that ignores its cancellation and returns has returned."""

    async def stubborn() -> str:
        try:
            await colour.sleep(100)
        except (asyncio.CancelledError, trio.Cancelled):
            return "kept"
        return "never"

    assert await Retry(on=OSError, within=3).call_async(stubborn) == "kept"


# --- the caller's own deadline ----------------------------------------------------------------------------------------


@every_colour
async def test_no_sleep_passes_the_callers_deadline(colour: Colour) -> None:
    """A deadline further out bounds the waits as well: the last error is raised now, not after a sleep for nothing."""
    fetch = colour.function([OSError(1), OSError(2)])
    with pytest.raises(OSError) as caught, context.deadline(5):
        await colour.call(Retry(on=OSError, backoff=3, attempts=9), fetch)
    assert caught.value.args == (2,)
    assert caught.value.__notes__[0].endswith("ended by deadline")
    assert colour.clock.now() == 3.0


@every_colour
async def test_a_hint_past_the_callers_deadline_ends_the_call_at_once(colour: Colour) -> None:
    """`Retry-After` beyond the caller's deadline fails at once with the real error."""
    with pytest.raises(Asks), context.deadline(5):
        await colour.call(Retry(on=Asks, backoff=0), colour.function([Asks(30)]))
    assert colour.clock.now() == 0.0


@every_colour
async def test_a_deadline_on_another_clock_counts_by_what_is_left(colour: Colour) -> None:
    """A retry on its own clock keeps to a deadline that is measured by another one."""
    own = VirtualClock(1e6)
    with pytest.raises(OSError), context.deadline(5):
        await colour.call(Retry(on=OSError, backoff=5, clock=own), colour.function([OSError()]))
    assert own.sleeps == []


@pytest.mark.parametrize("on", [TimedOut, TimeoutError, OSError, Exception])
@every_colour
async def test_an_inner_attempts_timeout_is_retried(colour: Colour, on: Any) -> None:
    """A `TimedOut` that bounds one attempt is an error like any other: `on` names it by any of its bases."""
    hang = colour.function([(5, "late"), (5, "late"), "page"])
    if not colour.is_async:
        hang = colour.function([TimedOut("t", 2), DeadlineExceeded("t", 2), "page"])
    assert await colour.call(Pipeline(Retry(on=on, backoff=0), timeout(colour, 2)), hang) == "page"


@every_colour
async def test_a_timeout_because_the_callers_time_is_over_is_not_retried(colour: Colour) -> None:
    """When an outer deadline has passed, the `TimedOut` that says so is raised, without a wait or another attempt."""
    outer = VirtualClock()
    calls: list[int] = []

    def attempt() -> None:
        calls.append(1)
        outer.advance(10)
        context.check()

    async def attempt_async() -> None:
        attempt()

    for late in (attempt_async if colour.is_async else attempt,):
        for retry in (Retry(on=Exception, backoff=0, attempts=9), Retry(on=Exception, within=60, attempts=9)):
            calls.clear()
            with pytest.raises(DeadlineExceeded) as caught, context.deadline(5, clock=outer):
                await colour.call(retry, late)
            assert calls == [1]
            assert caught.value.seconds == 5.0


@every_colour
async def test_an_inner_timeout_refuses_once_the_callers_time_is_over(colour: Colour) -> None:
    """The bound of an attempt is not opened after the outer one has passed, and that refusal is not retried."""
    outer = VirtualClock()

    def late() -> None:
        outer.advance(10)
        raise OSError

    async def late_async() -> None:
        late()

    with pytest.raises(OSError), context.deadline(5, clock=outer):
        await colour.call(
            Pipeline(Retry(on=Exception, backoff=0, attempts=9), timeout(colour, 2)),
            late_async if colour.is_async else late,
        )


@every_colour
async def test_within_does_not_begin_after_the_callers_deadline(colour: Colour) -> None:
    """A retry that opens a deadline does not begin with no time left: the outer error comes before any attempt."""
    outer = VirtualClock()
    with context.deadline(5, clock=outer):
        outer.advance(5)
        with pytest.raises(DeadlineExceeded) as caught:
            await colour.call(Retry(on=Exception, within=60), colour.function([]))
    assert caught.value.seconds == 5.0


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@async_colours
async def test_an_outer_timeout_cuts_attempts_and_waits_alike(colour: Colour) -> None:
    """The cancellation of a timeout around a retry passes through it, in an attempt and between two."""
    for script in ([(100, "never")], [OSError(), "never"]):
        retry = Retry(on=OSError, backoff=[50])
        fetch = colour.function(script)
        before = colour.clock.now()
        if len(script) == 1:
            with pytest.raises(TimedOut):
                await Pipeline(Timeout(7), retry).call_async(fetch)
            assert colour.clock.now() - before == 7.0
        else:
            with pytest.raises(OSError):
                await Pipeline(Timeout(7), retry).call_async(fetch)
            assert colour.clock.now() == before
        assert len(fetch.calls) == 1


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@every_colour
async def test_an_inner_within_is_retried_by_an_outer_retry(colour: Colour) -> None:
    """The end of an inner retry's `within` is that retry's own bound: an outer one may try again."""
    inner = Retry(on=OSError, backoff=2, within=3)
    outer = Retry(on=OSError, backoff=1, attempts=2)
    fetch = colour.function([OSError(), OSError(), OSError(), "page"])
    assert await colour.call(Pipeline(outer, inner), fetch) == "page"
    assert fetch.times == [0.0, 2.0, 3.0, 5.0]
