"""Generated wrappers and closures, told the same story: whatever the policies and whatever befalls the calls, both say,
wait, count and tell the same.

The closures are the reference. A story is a pipeline, what the function does in each attempt, and what somebody does to
the policies between two calls; it is played twice, on virtual clocks that begin alike.
"""

from __future__ import annotations

import asyncio
import warnings
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import (
    Bulkhead,
    CircuitBreaker,
    FailureRate,
    Pipeline,
    Retry,
    RetryBudget,
    SlowRate,
    Throttle,
    Timeout,
    _compile,
    backoff,
    listen,
)
from resilience.testing import VirtualClock, disabled
from tests.colours import Colour


class Asks(ConnectionError):
    """An error that says when to come back."""

    retry_after = 0.75


ERRORS: dict[str, Any] = {"fails": ConnectionError, "asks": Asks, "breaks": ValueError, "strange": OverflowError}
BACKOFFS: list[Any] = [0.0, 0.5, (0.25, 1.0), backoff.exponential(0.25, jitter="full"), backoff.exponential(0.25)]
TRIPS: list[Any] = [
    1,
    3,
    FailureRate(0.5, calls=4, minimum_calls=2),
    FailureRate(0.5, window=5, minimum_calls=2),
    SlowRate(0.5, slower_than=1, calls=4, minimum_calls=2),
    SlowRate(0.5, slower_than=1, window=5, minimum_calls=2),
    (2, FailureRate(0.5, calls=4)),
    (SlowRate(0.5, slower_than=1, calls=4), FailureRate(0.5, calls=4)),
]


def not_good(result: object) -> bool:
    """The judgement on a result, which one result is too much for."""
    if result == "odd":
        raise LookupError(result)
    return result == "bad"


def connections(error: Exception) -> bool:
    """The judgement on an error, which one error is too much for."""
    if isinstance(error, OverflowError):
        raise LookupError(str(error))
    return isinstance(error, ConnectionError)


def rolled(number: int) -> float:
    """What a random source gives, which fails now and then."""
    if number % 13 == 12:
        raise ZeroDivisionError(number)
    return (0.5, 0.25, 0.875, 0.0, 0.625)[number % 5]


def optional(value: Any) -> Any:
    """A value or None."""
    return st.sampled_from([None, value])


RETRIES = st.fixed_dictionaries(
    {
        "attempts": st.integers(1, 4),
        "backoff": st.integers(0, len(BACKOFFS) - 1),
        "within": st.sampled_from([None, None, 1.0, 2.5]),
        "on": st.sampled_from([ConnectionError, ConnectionError, connections]),
        "on_result": optional(not_good),
        "on_exhausted": st.sampled_from(["raise", "return"]),
        "budget": optional((0.5, 0.0, 2)),
        "max_retry_after": st.sampled_from([0.5, 60.0]),
    }
)
BREAKERS = st.fixed_dictionaries(
    {
        "trip": st.integers(0, len(TRIPS) - 1),
        "cooldown": st.sampled_from([1.0, 3.0, (1.0, 2.0)]),
        "on": st.sampled_from([ConnectionError, ConnectionError, connections]),
        "on_result": optional(not_good),
        "trials": st.integers(1, 2),
        "ramp": st.sampled_from([None, None, 2.0]),
    }
)
THROTTLES = st.fixed_dictionaries(
    {
        "rate": st.sampled_from(["2/s", "1/s burst 3", "0.5/s burst 2", "3/s burst 1"]),
        "max_wait": st.sampled_from([0, 0.6, 5]),
    }
)
PARTS = st.one_of(
    st.tuples(st.just("retry"), RETRIES),
    st.tuples(st.just("breaker"), BREAKERS),
    st.tuples(st.just("throttle"), THROTTLES),
    st.tuples(st.just("timeout"), st.sampled_from([0.75, 2.0])),
    st.tuples(st.just("bulkhead"), st.integers(1, 2)),
)
ATTEMPTS = st.tuples(
    st.sampled_from([0.0, 0.0, 0.25, 1.25]),
    st.sampled_from(["well", "well", "well", "bad", "fails", "fails", "asks", "breaks", "calls", "odd", "strange"]),
)
STEPS = st.one_of(
    st.tuples(st.just("call")),
    st.tuples(st.just("call")),
    st.tuples(st.just("call")),
    st.tuples(st.just("wait"), st.sampled_from([0.25, 1.0, 3.0])),
    st.tuples(st.sampled_from(["open", "close", "reset", "isolate", "look", "freeze"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["listen", "stop", "listen to all", "off"])),
)

CUTS = st.tuples(st.sampled_from(["cancel", "cancel", "drop"]), st.integers(0, 6))


def made(kind: str, options: Any, clock: Any, dice: Any, name: str) -> Any:
    """One policy of a story."""
    terms: dict[str, Any] = {"clock": clock, "name": name}
    if kind == "retry":
        options = {**options, "backoff": BACKOFFS[options["backoff"]]}
        if options["budget"] is not None:
            ratio, per_second, capacity = options["budget"]
            options["budget"] = RetryBudget(ratio, per_second=per_second, capacity=capacity, clock=clock)
        return Retry(rng=dice, **options, **terms)
    if kind == "breaker":
        options = {**options, "trip": TRIPS[options["trip"]]}
        # How often it asks for a number is no promise: a short way asks for none.
        return CircuitBreaker(rng=lambda: 0.5, **options, **terms)
    if kind == "throttle":
        return Throttle(options["rate"], max_wait=options["max_wait"], **terms)
    return Timeout(options, thread=False, **terms) if kind == "timeout" else Bulkhead(options, **terms)


class Story:
    """A pipeline and a function in it, by one kind of wrapper, and what has happened so far."""

    def __init__(self, specs: list[Any], script: list[Any], clock: Any) -> None:
        self.clock = clock
        self.script = list(script)
        self.told: list[object] = []
        self.stops: list[Any] = []
        self.off = False
        rolls = count()
        self.parts = [
            made(kind, options, clock, lambda: rolled(next(rolls)), f"{kind} {number}")
            for number, (kind, options) in enumerate(specs)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.pipeline = Pipeline(*self.parts)

    def next(self) -> tuple[float, str]:
        """How long the next attempt takes, and how it ends."""
        step: tuple[float, str] = self.script.pop(0) if self.script else (0.0, "well")
        self.told.append(("attempt", self.clock.now(), *step))
        return step

    def outcome(self, how: str) -> str:
        """The end of an attempt."""
        if how in ERRORS:
            raise ERRORS[how](how)
        return how

    def hear(self, event: object) -> None:
        """A listener."""
        self.told.append(repr(event))

    def fared(self, result: object) -> None:
        """What became of a call."""
        if isinstance(result, BaseException):
            notes = tuple(getattr(result, "__notes__", ()))
            result = type(result).__name__, str(result), getattr(result, "retry_after", None), notes
        self.told.append((result, self.clock.now()))

    def do(self, verb: str, number: int = 0) -> None:
        """Something between two calls."""
        part = self.parts[number % len(self.parts)]
        if verb == "look":
            self.told.append([each.snapshot() for each in self.parts])
        elif verb == "isolate":
            if isinstance(part, CircuitBreaker):
                self.stops.append(part.isolate("by hand").release)
        elif verb == "freeze":
            part._thaw(part._freeze())
        elif verb == "listen":
            self.stops += [each.listen(self.hear) for each in self.parts]
        elif verb == "listen to all":
            self.stops.append(listen(self.hear))
        elif verb == "stop":
            while self.stops:
                self.stops.pop()()
        elif verb == "off":
            self.off = not self.off
        elif isinstance(part, CircuitBreaker):
            getattr(part, verb)()


def play(specs: list[Any], script: list[Any], steps: list[Any], generated: bool) -> list[object]:
    """Play a story on plain functions."""
    story = Story(specs, script, VirtualClock(1.0))

    def fetch(fails: object = None, *rest: object) -> str:
        seconds, how = story.next()
        if seconds:
            story.clock.advance(seconds)
        return call(fails) if how == "calls" else story.outcome(how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compile, "ENABLED", generated)
        call: Any = story.pipeline(fetch)
    try:
        for verb, *more in [*steps, ("stop",), ("look", 0)]:
            if verb == "call":
                result: Any
                try:
                    if story.off:
                        with disabled(*story.parts[:1]):
                            result = call(1)
                    else:
                        result = call(1)
                except Exception as error:
                    result = error
                story.fared(result)
            elif verb == "wait":
                story.clock.advance(more[0])
            else:
                story.do(verb, *more)
    finally:
        story.do("stop")
    return story.told


def play_async(specs: list[Any], script: list[Any], steps: list[Any], generated: bool) -> list[object]:
    """Play a story on coroutine functions."""
    colour = Colour.named("asyncio")
    found: list[object] = []

    async def scenario() -> None:
        story = Story(specs, script, colour.clock)

        async def fetch(fails: object = None, *rest: object) -> str:
            seconds, how = story.next()
            if seconds:
                await story.clock.sleep_async(seconds)
            return await call(fails) if how == "calls" else story.outcome(how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_compile, "ENABLED", generated)
            call: Any = story.pipeline(fetch)
        try:
            for verb, *more in [*steps, ("stop",), ("look", 0)]:
                if verb == "call":
                    result: Any
                    try:
                        if story.off:
                            with disabled(*story.parts[:1]):
                                result = await call(1)
                        else:
                            result = await call(1)
                    except Exception as error:
                        result = error
                    story.fared(result)
                elif verb == "cancel":
                    task: asyncio.Future[Any] = asyncio.ensure_future(call(1))
                    for _ in range(more[0]):
                        await asyncio.sleep(0)
                    task.cancel()
                    ends: Any = await asyncio.gather(task, return_exceptions=True)
                    story.fared(ends[0])
                elif verb == "drop":
                    story.fared(dropped(call(1)))
                elif verb == "wait":
                    await story.clock.sleep_async(more[0])
                else:
                    story.do(verb, *more)
        finally:
            story.do("stop")
        found.extend(story.told)

    colour.run(scenario)
    return found


def dropped(call: Any) -> object:
    """Begin a call, and throw it away at its first wait."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    except Exception as error:
        return error
    call.close()
    return "dropped"


SPECS = st.lists(PARTS, min_size=1, max_size=4)
SCRIPTS = st.lists(ATTEMPTS, max_size=20)


@given(specs=SPECS, script=SCRIPTS, steps=st.lists(STEPS, max_size=15))
def test_both_wrappers_of_a_function_tell_one_story(specs: list[Any], script: list[Any], steps: list[Any]) -> None:
    """Outcomes, moments, attempts, events and snapshots of plain calls are the same."""
    told = play(specs, script, steps, True)
    assert told == play(specs, script, steps, False)


@given(specs=SPECS, script=SCRIPTS, steps=st.lists(st.one_of(STEPS, CUTS), max_size=15))
def test_both_wrappers_of_a_coroutine_tell_one_story(specs: list[Any], script: list[Any], steps: list[Any]) -> None:
    """Outcomes, moments, attempts, events and snapshots of calls on a loop are the same."""
    told = play_async(specs, script, steps, True)
    assert told == play_async(specs, script, steps, False)
