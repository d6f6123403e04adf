"""The error that is raised in the end: the call's own, untouched, and nothing left for the garbage collector."""

from __future__ import annotations

import gc
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from resilience import CircuitBreaker, Fallback, Pipeline, ResultNotAccepted, Retry, Throttled, Timeout, context, events
from tests.colours import Colour, async_colours, every_colour

OURS = "resilience: gave up after "


def notes_of(error: BaseException) -> list[str]:
    """The notes on an error."""
    return list(getattr(error, "__notes__", []))


def raises(error: type[BaseException]) -> None:
    """An expression that raises."""
    raise error


def frames_of(error: BaseException) -> list[str]:
    """The names of the functions in an error's traceback, outermost first."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


# --- the same object --------------------------------------------------------------------------------------------------


@every_colour
async def test_the_last_error_is_raised_as_it_is(colour: Colour) -> None:
    """What is raised is the very object of the last attempt, with neither cause nor context of ours."""
    errors = [OSError(1), OSError(2), OSError(3)]
    with pytest.raises(OSError) as caught:
        await colour.call(Retry(on=OSError, backoff=0), colour.function(errors))
    assert caught.value is errors[2]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not caught.value.__suppress_context__


@pytest.mark.parametrize("within", [None, 60])
@every_colour
async def test_the_traceback_is_that_of_the_last_attempt(colour: Colour, within: float | None) -> None:
    """The traceback leads from the caller to the line that raised, through one attempt and not through three."""
    attempts = 0

    def raising_line() -> None:
        nonlocal attempts
        attempts += 1
        raise OSError(attempts)

    async def coroutine() -> None:
        raising_line()

    with pytest.raises(OSError) as caught:
        await colour.call(Retry(on=OSError, backoff=0, within=within), coroutine if colour.is_async else raising_line)
    frames = frames_of(caught.value)
    assert frames[-1] == "raising_line"
    assert frames.count("raising_line") == 1


@every_colour
async def test_an_error_keeps_its_own_cause_and_context(colour: Colour) -> None:
    """Whatever the call chained to its error stays chained."""
    cause, context = KeyError("cause"), ValueError("context")

    def fetch() -> None:
        try:
            raise context
        except ValueError:
            raise OSError from cause

    async def fetch_async() -> None:
        fetch()

    with pytest.raises(OSError) as caught:
        await colour.call(Retry(on=OSError, backoff=0), fetch_async if colour.is_async else fetch)
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context


# --- at most one note -------------------------------------------------------------------------------------------------


@every_colour
async def test_the_note_tells_attempts_waiting_and_the_bound(colour: Colour) -> None:
    """After several attempts the error has one note: how many, seconds waited, and what ended it."""
    with pytest.raises(OSError) as caught:
        await colour.call(Retry(on=OSError, attempts=4, backoff=[0.5, 1, 2]), colour.function([OSError(), ...]))
    assert notes_of(caught.value) == [OURS + "4 attempts and 3.5 s of waiting, ended by attempts"]


@every_colour
async def test_a_single_attempt_needs_no_note(colour: Colour) -> None:
    """Where no second attempt was made, there is nothing to tell: whatever the reason, the error has no note."""
    for policy, error in [
        (Retry(on=OSError, attempts=1), OSError()),
        (Retry(on=OSError), KeyError()),
        (Retry(on=OSError, backoff=10, within=5), OSError()),
        (Retry(on=Throttled, max_retry_after=1), Throttled("t", 2.0)),
        (Retry(on=OSError, backoff=1000), OSError()),
    ]:
        with pytest.raises(type(error)) as caught, context.deadline(900):
            await colour.call(policy, colour.function([error]))
        assert notes_of(caught.value) == []


@every_colour
async def test_an_error_that_is_not_retried_gets_no_note(colour: Colour) -> None:
    """An error that does not match was not given up on, so a later attempt's one carries no note either."""
    with pytest.raises(KeyError) as caught:
        await colour.call(Retry(on=OSError, backoff=0), colour.function([OSError(), KeyError()]))
    assert notes_of(caught.value) == []


@every_colour
async def test_one_instance_for_ever_has_one_note(colour: Colour) -> None:
    """An error object that is raised again and again, call after call, carries the last note only."""
    singleton = OSError("the one")
    singleton.add_note("from the library")
    retry = Retry(on=OSError, attempts=2, backoff=[1])
    fetch = colour.function([singleton, ...])
    for _ in range(5):
        with pytest.raises(OSError):
            await colour.call(retry, fetch)
    with pytest.raises(OSError):
        await colour.call(retry.replace(attempts=3, backoff=[2]), fetch)
    assert notes_of(singleton) == ["from the library", OURS + "3 attempts and 4 s of waiting, ended by attempts"]


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@every_colour
async def test_nested_retries_leave_one_note(colour: Colour) -> None:
    """An error that leaves two retries carries the note of the outer one alone."""
    inner = Retry(on=OSError, attempts=2, backoff=[1])
    outer = Retry(on=OSError, attempts=3, backoff=[5])
    fetch = colour.function([OSError() for _ in range(6)])
    with pytest.raises(OSError) as caught:
        await colour.call(Pipeline(outer, inner), fetch)
    assert notes_of(caught.value) == [OURS + "3 attempts and 10 s of waiting, ended by attempts"]
    with pytest.raises(OSError) as kept:
        await colour.call(Pipeline(outer.replace(attempts=1), inner), colour.function([OSError(), OSError()]))
    assert notes_of(kept.value) == [OURS + "2 attempts and 1 s of waiting, ended by attempts"]


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that takes no attribute, hence no note."""

    status: int


class Stubborn(Exception):
    """An error whose notes are no list."""

    __notes__ = ("mine",)


@pytest.mark.parametrize("error", [Frozen(503), Stubborn()], ids=repr)
def test_an_error_that_takes_no_note_is_raised_all_the_same(error: Exception) -> None:
    """A note is a courtesy: where there can be none, the error is still the call's own.

    (Called directly and caught by hand: contextlib cannot re-raise a frozen dataclass either.)
    """

    def fetch() -> None:
        raise error

    try:
        Retry(on=Exception, attempts=2, backoff=0).call(fetch)
    except Exception as caught:
        assert caught is error
    else:
        pytest.fail("nothing was raised")


# --- pickling ---------------------------------------------------------------------------------------------------------


@every_colour
async def test_what_is_raised_pickles(colour: Colour) -> None:
    """The last error, and ours where no result was good enough, cross a process boundary with all they say."""
    with pytest.raises(OSError) as caught:
        await colour.call(Retry(on=OSError, backoff=1), colour.function([OSError(5, "down"), ...]))
    back = pickle.loads(pickle.dumps(caught.value))
    assert (back.args, notes_of(back)) == ((5, "down"), notes_of(caught.value))
    with pytest.raises(ResultNotAccepted) as refused:
        await colour.call(Retry(on_result=lambda result: True, backoff=1), colour.function([{"status": 503}, ...]))
    again = pickle.loads(pickle.dumps(refused.value))
    assert vars(again) == vars(refused.value)


# --- no garbage -------------------------------------------------------------------------------------------------------

ROUNDS = 1_000


@contextmanager
def no_garbage() -> Iterator[None]:
    """Everything that is made inside dies without the garbage collector."""
    gc.disable()
    gc.freeze()  # what is there already is not looked at, which takes most of the time
    try:
        yield
        found = gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    assert found == 0


def ways_to_end(colour: Colour) -> dict[str, tuple[Any, list[Any]]]:
    """Every way for a call to end, each with a policy and a script for one call."""
    timeout = Timeout(60) if colour.is_async else Timeout(60, thread=False)
    heard = Retry(on=OSError, backoff=0)
    heard.listen(lambda event: None)
    busy = Retry(on=OSError, on_result=lambda result: result is None, backoff=0, within=60)
    busy.listen(lambda event: None)

    def bug(error: Exception) -> bool:
        raise LookupError

    return {
        "success": (Retry(on=OSError), ["page"]),
        "late success": (Retry(on=OSError, backoff=0), [OSError, OSError, "page"]),
        "exhausted": (Retry(on=OSError, backoff=0), [OSError] * 3),
        "one attempt": (Retry(on=OSError, attempts=1), [OSError]),
        "unmatched": (Retry(on=OSError, backoff=0), [KeyError]),
        "unmatched later": (Retry(on=OSError, backoff=0), [OSError, KeyError]),
        "within": (Retry(on=OSError, backoff=0, within=60), [OSError] * 3),
        "out of time": (Retry(on=OSError, backoff=100, within=60), [OSError]),
        "interrupted": (Retry(on=OSError, backoff=0), [OSError, KeyboardInterrupt]),
        "result": (Retry(on_result=lambda result: True, backoff=0), ["no"] * 3),
        "returned": (Retry(on_result=lambda result: True, backoff=0, on_exhausted="return"), ["no"] * 3),
        "junk predicate": (Retry(on=lambda error: "junk"), [OSError]),
        "failing predicate": (Retry(on=bug), [OSError]),
        "junk backoff": (Retry(on=OSError, backoff=lambda *_: -1), [OSError]),
        "heard": (heard, [OSError] * 3),
        "busy": (busy, [OSError, None, KeyError]),
        "nested": (Pipeline(Retry(on=OSError, backoff=0), timeout, Retry(on=OSError, backoff=0)), [OSError] * 9),
        "fallback": (Fallback(on=OSError, call=lambda error, *args: str(error)), [OSError]),
        "failing fallback": (Fallback(on=OSError, call=lambda error, *args: 1 // 0), [OSError]),
        "refused result": (Fallback(on=OSError, on_result=lambda result: True, value=1), ["no"]),
        "composed": (Pipeline(busy, CircuitBreaker(10**6, on=OSError), timeout), [OSError] * 3),
    }


WAYS = ["success", "late success", "exhausted", "one attempt", "unmatched", "unmatched later", "within", "out of time"]
WAYS += ["interrupted", "result", "returned", "junk predicate", "failing predicate", "junk backoff", "heard", "busy"]
WAYS += ["nested", "fallback", "failing fallback", "refused result", "composed"]


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@pytest.mark.parametrize("way", WAYS)
@every_colour
async def test_no_way_for_a_call_to_end_makes_a_cycle(colour: Colour, way: str) -> None:
    """A thousand calls that end in this way leave nothing for the garbage collector."""
    ways = ways_to_end(colour)
    assert list(ways) == WAYS
    policy, script = ways[way]
    calls = 0

    def step() -> Any:
        nonlocal calls
        outcome = script[calls % len(script)]
        calls += 1
        if isinstance(outcome, type):
            raise outcome
        return outcome

    async def coroutine() -> Any:
        return step()

    decorated = policy(coroutine if colour.is_async else step)

    async def once() -> None:
        with suppress(Exception, KeyboardInterrupt):  # how it ends is what other tests are about
            await colour.invoke(decorated)

    await once()
    calls = 0
    with no_garbage():
        for _ in range(ROUNDS):
            await once()
    assert calls % len(script) == 0


@pytest.mark.parametrize("outcome", ["success", "error", "interrupt", "forgotten", "break"])
@every_colour
async def test_no_block_makes_a_cycle(colour: Colour, outcome: str) -> None:
    """A thousand blocks, however they end, leave nothing for the garbage collector."""
    retry = Retry(on=OSError, on_result=lambda result: False, backoff=0, within=60)

    ends: dict[str, Callable[[Any], object]] = {
        "success": lambda attempt: attempt.set_result(1),
        "break": lambda attempt: attempt.set_result(1),
        "error": lambda attempt: raises(OSError),
        "interrupt": lambda attempt: raises(KeyboardInterrupt),
        "forgotten": lambda attempt: None,
    }

    def block(attempt: Any) -> bool:
        with attempt:
            if attempt.number == 1:
                raise OSError
            ends[outcome](attempt)
        return outcome == "break" and attempt.number == 2

    async def loop() -> None:
        if colour.is_async:
            async for attempt in retry.attempts():
                if block(attempt):
                    break
        else:
            for attempt in retry.attempts():
                if block(attempt):
                    break

    async def once() -> None:
        with suppress(OSError, KeyboardInterrupt, RuntimeError):
            await loop()

    await once()
    with no_garbage():
        for _ in range(ROUNDS):
            await once()


@pytest.mark.parametrize("way", ["timeout", "within", "block", "swallowed", "sleeping"])
@async_colours
async def test_no_cut_makes_a_cycle(colour: Colour, way: str) -> None:
    """Calls that are cut at a deadline leave nothing for the garbage collector."""
    retry = Retry(on=OSError, backoff=0, within=1)

    async def hang() -> None:
        await colour.sleep(5)

    async def swallow() -> None:
        try:
            await hang()
        except BaseException:
            raise OSError from None

    async def block() -> None:
        async for attempt in retry.attempts():
            with attempt:
                await hang()

    ways: dict[str, Callable[[], Any]] = {
        "timeout": Timeout(1)(hang),
        "within": retry(hang),
        "block": block,
        "swallowed": retry(swallow),
        "sleeping": Timeout(1)(Retry(on=OSError, backoff=5)(colour.function([OSError, ...]))),
    }

    async def once() -> None:
        with suppress(OSError):
            await ways[way]()

    await once()
    with no_garbage():
        for _ in range(100):
            await once()


def test_an_event_that_is_kept_keeps_the_error_and_nothing_else_alive() -> None:
    """A listener may keep events; the call that they tell of is gone all the same."""
    kept: list[events.Event] = []
    retry = Retry(on=OSError, backoff=0)
    retry.listen(kept.append)
    errors = [OSError(1), OSError(2), OSError(3)]

    def fetch() -> None:
        raise errors[len([event for event in kept if isinstance(event, events.AttemptFailed)])]

    with pytest.raises(OSError):
        retry.call(fetch)
    assert [event.error for event in kept if isinstance(event, events.AttemptFailed)] == errors
