"""What a retry does, once for plain functions, asyncio and trio."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import math
from typing import Any

import pytest
import trio

from resilience import CircuitBreaker, CircuitOpen, Pipeline, Rejected, Retry, Throttled, backoff
from tests.colours import Colour, async_colours, every_colour

ANY_FORM = pytest.mark.parametrize("form", ["call", "decorator"])


# --- again, and again -------------------------------------------------------------------------------------------------


@ANY_FORM
@every_colour
async def test_a_call_that_succeeds_is_made_once(colour: Colour, form: str) -> None:
    """A first success is returned as it is, with the arguments as given and without a wait."""
    page = object()
    fetch = colour.function([page])
    assert await colour.call(Retry(on=OSError), fetch, "/", 2, form=form, key="x") is page
    assert fetch.calls == [("/", 2)]
    assert colour.clock.sleeps == []


@ANY_FORM
@every_colour
async def test_a_failed_call_is_made_again_after_a_wait(colour: Colour, form: str) -> None:
    """Each failed attempt is followed by the backoff's delay and another attempt with the same arguments."""
    fetch = colour.function([OSError(), OSError(), "page"])
    retry = Retry(on=OSError, backoff=[1, 2.5])
    assert await colour.call(retry, fetch, "/", form=form) == "page"
    assert fetch.calls == [("/",)] * 3
    assert fetch.times == [0.0, 1.0, 3.5]
    assert colour.clock.sleeps == [1.0, 2.5]


@pytest.mark.parametrize("attempts", [1, 2, 5])
@every_colour
async def test_attempts_counts_calls_in_all(colour: Colour, attempts: int) -> None:
    """After `attempts` calls, the first included, the last error is raised."""
    fetch = colour.function([OSError(), ...])
    with pytest.raises(OSError):
        await colour.call(Retry(on=OSError, attempts=attempts, backoff=1), fetch)
    assert len(fetch.calls) == attempts
    assert colour.clock.sleeps == [1.0] * (attempts - 1)


@every_colour
async def test_three_attempts_are_the_default(colour: Colour) -> None:
    """A retry that is told nothing else makes three calls, with growing, spread out waits between them."""
    fetch = colour.function([OSError(), ...])
    with pytest.raises(OSError):
        await colour.call(Retry(on=OSError, rng=lambda: 0.5), fetch)
    assert len(fetch.calls) == 3
    assert colour.clock.sleeps == [0.05, 0.1]


@every_colour
async def test_infinite_attempts_go_on(colour: Colour) -> None:
    """With `attempts=math.inf` a call is made until it succeeds."""
    fetch = colour.function([*[OSError()] * 500, "at last"])
    assert await colour.call(Retry(on=OSError, attempts=math.inf, backoff=0), fetch) == "at last"


@every_colour
async def test_a_zero_delay_calls_no_sleep(colour: Colour) -> None:
    """A delay of zero goes on at once, without a sleep of no length."""
    fetch = colour.function([OSError(), OSError(), "page"])
    assert await colour.call(Retry(on=OSError, backoff=[0, 0]), fetch) == "page"
    assert colour.clock.sleeps == []


@every_colour
async def test_each_call_counts_anew(colour: Colour) -> None:
    """The attempts and delays of one call leave nothing for the next."""
    fetch = colour.function([OSError(), OSError(), "one", OSError(), OSError(), "two"])
    retry = Retry(on=OSError, backoff=[1, 2])
    decorated = retry(fetch)
    assert await colour.invoke(decorated) == "one"
    assert await colour.invoke(decorated) == "two"
    assert colour.clock.sleeps == [1.0, 2.0, 1.0, 2.0]


# --- what is retried --------------------------------------------------------------------------------------------------


@every_colour
async def test_what_is_not_named_is_not_retried(colour: Colour) -> None:
    """An error that `on` does not match is raised from the attempt in which it comes, first or later."""
    for script in ([KeyError("x")], [OSError(), OSError(), KeyError("x")]):
        fetch = colour.function(script)
        with pytest.raises(KeyError):
            await colour.call(Retry(on=OSError, attempts=9, backoff=0), fetch)
        assert len(fetch.calls) == len(script)


@every_colour
async def test_what_is_ignored_is_not_retried(colour: Colour) -> None:
    """`ignore` wins over `on`."""
    fetch = colour.function([ConnectionResetError(), PermissionError()])
    with pytest.raises(PermissionError):
        await colour.call(Retry(on=OSError, ignore=PermissionError, backoff=0), fetch)


@every_colour
async def test_a_predicate_decides(colour: Colour) -> None:
    """A predicate sees each error once, in order, and its word counts."""
    seen: list[Exception] = []
    errors = [OSError("again"), OSError("again"), OSError("enough")]

    def worth_it(error: Exception) -> bool:
        seen.append(error)
        return str(error) == "again"

    with pytest.raises(OSError, match="enough"):
        await colour.call(Retry(on=worth_it, attempts=9, backoff=0), colour.function(errors))
    assert seen == errors


@pytest.mark.parametrize("junk", ["yes", [], object()])
@every_colour
async def test_a_predicate_that_answers_junk_is_an_error_and_no_retry(colour: Colour, junk: Any) -> None:
    """A junk answer is raised as a TypeError after the one attempt, with the call's own error as its context."""
    boom = OSError("boom")
    fetch = colour.function([boom])

    def judge(error: Exception) -> Any:
        return junk

    with pytest.raises(TypeError, match="judge must answer True, False, None or a number") as caught:
        await colour.call(Retry(on=judge, backoff=0), fetch)
    assert caught.value.__context__ is boom


@every_colour
async def test_a_predicate_that_raises_is_no_retry(colour: Colour) -> None:
    """The predicate's own error is raised after the one attempt, with the call's error as its context."""
    boom, bug = OSError("boom"), LookupError("bug")
    fetch = colour.function([boom])

    def judge(error: Exception) -> bool:
        raise bug

    with pytest.raises(LookupError) as caught:
        await colour.call(Retry(on=judge, backoff=0), fetch)
    assert caught.value is bug
    assert bug.__context__ is boom
    assert bug.__notes__[0].startswith("resilience: raised by the predicate on=")


@every_colour
async def test_a_group_is_retried_when_nothing_of_it_is_left_over(colour: Colour) -> None:
    """A group of errors is retried whole or not at all."""
    good = ExceptionGroup("all lost", [OSError(), ExceptionGroup("nested", [ConnectionError()])])
    bad = ExceptionGroup("one odd", [OSError(), KeyError()])
    fetch = colour.function([good, bad])
    with pytest.raises(ExceptionGroup, match="one odd") as caught:
        await colour.call(Retry(on=OSError, backoff=0), fetch)
    assert caught.value is bad


# --- rejections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [Exception, BaseException, lambda error: True, (OSError, Exception)], ids=repr)
@every_colour
async def test_a_rejection_is_not_retried_unless_named(colour: Colour, on: Any) -> None:
    """`Exception` and predicates do not see a `Rejected`: it is raised at once."""
    fetch = colour.function([Throttled("t", 1.0)])
    with pytest.raises(Throttled):
        await colour.call(Retry(on=on, backoff=0), fetch)


@pytest.mark.parametrize("on", [Rejected, Throttled, (Exception, Throttled)], ids=repr)
@every_colour
async def test_a_rejection_that_is_named_waits_for_its_time(colour: Colour, on: Any) -> None:
    """A retried rejection uses an attempt, and waits at least its `retry_after`."""
    fetch = colour.function([Throttled("t", 4.0), Throttled("t", 0.5), Throttled("t", None)])
    with pytest.raises(Throttled):
        await colour.call(Retry(on=on, backoff=1), fetch)
    assert colour.clock.sleeps == [4.0, 1.0]


@every_colour
async def test_a_breaker_inside_is_asked_before_each_attempt(colour: Colour) -> None:
    """A retry outside of a breaker stops at the open circuit, which it does not retry unless told to."""
    fetch = colour.function([OSError(), OSError()])
    breaker = CircuitBreaker(2, on=OSError, cooldown=30, clock=colour.clock)
    with pytest.raises(CircuitOpen):
        await colour.call(Pipeline(Retry(on=Exception, attempts=5, backoff=1), breaker), fetch)
    assert len(fetch.calls) == 2


# --- delays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sleeps"),
    [
        (2, [2.0, 2.0, 2.0]),
        (0.5, [0.5, 0.5, 0.5]),
        (dt.timedelta(seconds=1.5), [1.5, 1.5, 1.5]),
        ([1, 3], [1.0, 3.0, 3.0]),
        ((1, dt.timedelta(seconds=2)), [1.0, 2.0, 2.0]),
        (backoff.linear(2, jitter="none"), [2.0, 4.0, 6.0]),
        (backoff.exponential(1, jitter="full"), [0.25, 0.5, 1.0]),
        (lambda retry, previous, u: retry * 10 + previous + u, [10.25, 30.5, 60.75]),
    ],
    ids=str,
)
@every_colour
async def test_backoff_in_all_its_forms(colour: Colour, given: Any, sleeps: list[float]) -> None:
    """A number means the same wait each time, a sequence one after the other, and a function is asked."""
    fetch = colour.function([OSError(), OSError(), OSError(), "page"])
    await colour.call(Retry(on=OSError, attempts=4, backoff=given, rng=lambda: 0.25), fetch)
    assert colour.clock.sleeps == sleeps


@every_colour
async def test_chance_comes_from_rng(colour: Colour) -> None:
    """Each retry draws one number from `rng`, and none is drawn where nothing fails or nothing more is tried."""
    drawn = iter([0.1, 0.9, 0.2, 0.8] * 3)
    plain = Retry(on=OSError, backoff=backoff.constant(10, jitter="full"), rng=lambda: next(drawn))
    for retry in (plain, plain.replace(within=1000), plain.replace(on=(OSError, KeyError), ignore=KeyError)):
        colour.clock.sleeps.clear()
        await colour.call(retry, colour.function(["page"]))
        await colour.call(retry, colour.function([OSError(), OSError(), "page"]))
        with pytest.raises(OSError):
            await colour.call(retry, colour.function([OSError(), ...]))
        assert colour.clock.sleeps == [1.0, 9.0, 2.0, 8.0]
    assert next(drawn, None) is None


@every_colour
async def test_a_backoff_that_answers_junk_is_an_error(colour: Colour) -> None:
    """A backoff of one's own that answers no delay is told so, after the attempt that failed, first or later."""
    fetch = colour.function([OSError()])
    with pytest.raises(ValueError, match="must answer a number of seconds, 0 or more, got nan"):
        await colour.call(Retry(on=OSError, backoff=lambda *_: math.nan), fetch)
    errors = [OSError(), OSError()]
    before = dict(contextvars.copy_context())
    with pytest.raises(TypeError, match="must answer a number of seconds, 0 or more, got 'soon'") as caught:
        await colour.call(
            Retry(on=OSError, backoff=lambda retry, *_: 0.0 if retry == 1 else "soon"), colour.function(errors)
        )
    assert caught.value.__context__ is errors[1]
    assert dict(contextvars.copy_context()) == before


@every_colour
async def test_a_backoff_may_answer_whole_seconds(colour: Colour) -> None:
    """A backoff of one's own may return an int; it is asked once for each delay."""
    asked: list[int] = []

    def grow(retry: int, previous: float, u: float) -> int:
        asked.append(retry)
        return int(previous) + 1

    fetch = colour.function([OSError(), OSError(), OSError(), "page"])
    await colour.call(Retry(on=OSError, attempts=4, backoff=grow), fetch)
    assert colour.clock.sleeps == [1.0, 2.0, 3.0]
    assert asked == [1, 2, 3]


# --- what is never retried --------------------------------------------------------------------------------------------

INTERRUPTS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize("form", ["call", "decorator", "within"])
@pytest.mark.parametrize("interrupt", [*INTERRUPTS, BaseExceptionGroup("", [KeyboardInterrupt(), OSError()])], ids=repr)
@every_colour
async def test_an_interrupt_passes_through(colour: Colour, form: str, interrupt: Any) -> None:
    """What is no `Exception` is never retried and never shown to a predicate, on the first attempt or a later one."""

    def never(error: BaseException) -> bool:
        assert isinstance(error, OSError)
        return True

    retry = Retry(on=never, attempts=9, backoff=0, within=100 if form == "within" else None)
    for script in ([interrupt], [OSError(), interrupt]):
        fetch = colour.function(script)
        with pytest.raises(BaseException) as caught:
            await colour.call(retry, fetch, form="call" if form == "within" else form)
        assert len(fetch.calls) == len(script)
        assert caught.type is (interrupt if isinstance(interrupt, type) else type(interrupt))
        assert not getattr(caught.value, "__notes__", None)


@pytest.mark.parametrize("on", [BaseException, (KeyboardInterrupt, asyncio.CancelledError, trio.Cancelled)])
@async_colours
async def test_naming_an_interrupt_does_not_make_it_retried(colour: Colour, on: Any) -> None:
    """A cancelled call ends cancelled, even where `on` names the cancellation."""
    calls: list[int] = []

    async def hang() -> None:
        calls.append(1)
        await colour.gate().wait()

    async def caller() -> None:
        await Retry(on=on, attempts=9, backoff=0).call_async(hang)

    job = colour.start(caller)
    await colour.until(lambda: calls)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)
    assert calls == [1]


@async_colours
async def test_a_cancellation_during_the_wait_ends_the_call(colour: Colour) -> None:
    """A caller that is cancelled between two attempts makes no further one."""
    fetch = colour.function([OSError(), "never"])

    async def caller() -> None:
        await Retry(on=OSError, backoff=100).call_async(fetch)

    job = colour.start(caller)
    await colour.until(lambda: fetch.calls)
    await colour.sleep(1)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)
    await colour.sleep(200)
    assert len(fetch.calls) == 1
