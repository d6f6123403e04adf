"""A retry and whoever calls it: many at once, contexts, threads, loops, and all shapes of functions."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import random
import threading
import warnings
from contextlib import suppress
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio

from resilience import BlockingWarning, Retry, context
from resilience._attempt import current_attempt
from tests.colours import Colour, async_colours, every_colour

RETRY = Retry(on=OSError, backoff=0)


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"within": 10_000}, {"on_result": lambda result: False}], ids=str)
@every_colour
async def test_a_thousand_calls_share_nothing(colour: Colour, options: dict[str, Any]) -> None:
    """A thousand concurrent calls of one decorated function have their own attempts, waits and outcomes."""
    calls: dict[int, int] = {}
    retry = Retry(on=OSError, attempts=4, backoff=lambda retry, previous, u: previous + 1, **options)

    def fail_so_often(caller: int) -> int:
        calls[caller] = calls.get(caller, 0) + 1
        if calls[caller] <= caller % 5:
            raise OSError(caller)
        return caller

    async def fail_so_often_async(caller: int) -> int:
        await colour.sleep(caller % 3)
        return fail_so_often(caller)

    fetch = retry(fail_so_often_async if colour.is_async else fail_so_often)

    async def outcome(caller: int) -> Any:
        try:
            return await colour.invoke(fetch, caller)
        except OSError as error:
            return error

    async def outcomes(first: int, step: int) -> list[Any]:
        return [await outcome(caller) for caller in range(first, 1000, step)]

    # A thousand tasks on a loop; a thousand threads would only wait for one another, so twenty make fifty calls each.
    callers = 1000 if colour.is_async else 20
    batches = await colour.together(*[functools.partial(outcomes, first, callers) for first in range(callers)])
    for caller in range(1000):
        result = batches[caller % callers][caller // callers]
        assert calls[caller] == min(caller % 5 + 1, 4)
        if caller % 5 < 4:
            assert result == caller
        else:
            assert result.args == (caller,)
            assert result.__notes__ == ["resilience: gave up after 4 attempts and 6 s of waiting, ended by attempts"]


@every_colour
async def test_one_policy_serves_many_functions(colour: Colour) -> None:
    """A policy may decorate any number of functions; its name is the first one's, and nothing else is shared."""
    retry = Retry(on=OSError, backoff=0)
    one, two = colour.function([OSError(), "one"]), colour.function([OSError(), OSError(), "two"])
    one.__name__, two.__name__ = "one", "two"
    first, second = retry(one), retry(two)
    assert (await colour.invoke(second), await colour.invoke(first)) == ("two", "one")
    assert retry.name == "one"
    assert (first.__name__, second.__name__) == ("one", "two")


def test_one_policy_serves_every_colour_at_once() -> None:
    """The same object retries plain functions, threads, asyncio and trio."""
    retry = Retry(on=OSError, backoff=0)

    def flaky(failures: int) -> Any:
        left = [failures]

        def fetch() -> str:
            left[0] -= 1
            if left[0] >= 0:
                raise OSError
            return "page"

        return fetch

    def flaky_async() -> Any:
        fetch = flaky(2)

        async def fetch_async() -> str:
            return fetch()

        return fetch_async

    results: list[str] = [retry.call(flaky(2))]
    threads = [
        threading.Thread(target=lambda: results.append(retry.call(flaky(2)))),
        threading.Thread(target=lambda: results.append(asyncio.run(retry.call_async(flaky_async())))),
        threading.Thread(target=lambda: results.append(trio.run(retry.call_async, flaky_async()))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["page"] * 4


# --- the caller's context ---------------------------------------------------------------------------------------------

mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="unset")


@pytest.mark.parametrize("options", [{}, {"within": 60}, {"on_result": lambda result: False}], ids=str)
@pytest.mark.parametrize(
    "script", [["page"], [OSError, "page"], [OSError] * 3, [OSError, KeyError], [OSError, KeyboardInterrupt]]
)
@every_colour
async def test_nothing_of_a_call_stays_in_the_callers_context(colour: Colour, script: list[Any], options: Any) -> None:
    """Whichever way a call ends, the context holds no variable of ours that was not there before."""
    for heard in (False, True):
        retry = Retry(on=OSError, backoff=0, **options)
        if heard:
            retry.listen(lambda event: None)
        before = dict(contextvars.copy_context())
        with suppress(OSError, KeyError, KeyboardInterrupt):
            await colour.call(retry, colour.function(script))
        assert dict(contextvars.copy_context()) == before


@every_colour
async def test_what_an_attempt_sets_in_the_context_stays(colour: Colour) -> None:
    """An attempt runs in the caller's own context, so variables that it sets are the caller's, as without a retry."""

    def fetch() -> str:
        mine.set("set by the call")
        return "page"

    async def fetch_async() -> str:
        return fetch()

    mine.set("before")
    await colour.call(Retry(on=OSError, within=60), fetch_async if colour.is_async else fetch)
    assert mine.get() == "set by the call"


@async_colours
async def test_a_cancelled_call_leaves_no_trace_in_the_context(colour: Colour) -> None:
    """A task whose call was cancelled, in an attempt or between two, goes on without deadline or attempt."""
    seen: list[Any] = []

    async def caller(script: list[Any]) -> None:
        try:
            await Retry(on=OSError, backoff=50, within=100).call_async(colour.function(script))
        finally:
            seen.append((context.remaining(), current_attempt()))

    for script in ([(10, "never")], [OSError(), "never"]):
        job = colour.start(caller, script)
        await colour.sleep(1)
        job.cancel()
        await job.outcome()
    assert seen == [(None, None)] * 2


def test_a_call_that_is_thrown_away_does_not_touch_anothers_context() -> None:
    """A suspended call may be closed in the middle of another one, by the garbage collector: each keeps its own."""

    class Once:
        def __await__(self) -> Any:
            yield

    async def hang() -> None:
        await Once()

    async def main() -> None:
        suspended = Retry(on=OSError, within=60, name="thrown away").call_async(hang)
        contextvars.copy_context().run(suspended.send, None)

        async def inside() -> None:
            suspended.close()
            remaining = context.remaining()
            assert remaining is not None
            assert 20 < remaining <= 30
            assert current_attempt() == (1, 0)

        await Retry(on=OSError, within=30).call_async(inside)

    asyncio.run(main())


# --- nothing happens before its time ----------------------------------------------------------------------------------


def test_a_coroutine_that_is_never_awaited_has_done_nothing() -> None:
    """Calling a decorated coroutine function reads no clock and opens no deadline before the first step."""

    class NoClock:
        def now(self) -> float:
            raise AssertionError("the clock was read")

        sleep = sleep_async = now

    retry = Retry(on=OSError, within=60, clock=NoClock())  # type: ignore[arg-type]
    coroutine = retry(AsyncMock())()
    assert inspect.iscoroutine(coroutine)
    assert context.remaining() is None
    coroutine.close()


def test_a_first_success_reads_no_clock_and_draws_no_number() -> None:
    """Where nothing depends on time, a call that succeeds asks neither the clock nor for chance."""

    class NoClock:
        def now(self) -> float:
            raise AssertionError("asked")

        sleep = sleep_async = now

    retry = Retry(on=OSError, clock=NoClock(), rng=NoClock().now)  # type: ignore[arg-type]
    assert retry.call(lambda: "page") == "page"
    assert asyncio.run(retry.call_async(AsyncMock(return_value="page"))) == "page"


# --- blocking a loop --------------------------------------------------------------------------------------------------


def blocking_calls(colour: Colour, retry: Retry, times: int) -> list[Any]:
    """The warnings of so many calls that sleep on the thread of a running loop."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fails = iter([True, False] * times)

        def fetch() -> None:
            if next(fails):
                raise OSError

        for _ in range(times):
            retry.call(fetch)
    return caught


@async_colours
async def test_a_blocking_wait_on_a_loop_warns_once_per_policy(colour: Colour) -> None:
    """A plain call that sleeps on a thread with a running loop warns once, at the line of whoever called."""
    retry = Retry(on=OSError, backoff=1, name="slow")
    caught = blocking_calls(colour, retry, 3)
    assert [warning.category for warning in caught] == [BlockingWarning]
    assert str(caught[0].message) == "slow sleeps on a thread that runs an event loop: decorate an async def instead"
    assert caught[0].filename == __file__
    assert len(blocking_calls(colour, retry.replace(), 1)) == 1


@async_colours
async def test_the_warning_points_at_the_callers_line_in_every_form(colour: Colour) -> None:
    """Decorated, with a listener, with a deadline, or in a loop of attempts: the caller's file is named."""

    def flaky() -> Any:
        fails = iter([True, False])

        def fetch() -> None:
            if next(fails):
                raise OSError

        return fetch

    def block(retry: Retry) -> None:
        for attempt in retry.attempts():
            with attempt:
                if attempt.number == 1:
                    raise OSError

    for options in ({}, {"within": 60}):
        for form in (lambda retry: retry(flaky())(), lambda retry: retry.call(flaky()), block):
            retry = Retry(on=OSError, backoff=1, **options)
            retry.listen(lambda event: None)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                form(retry)
            assert [warning.filename for warning in caught] == [__file__]


@async_colours
async def test_what_does_not_sleep_does_not_warn(colour: Colour) -> None:
    """Without a wait, in a thread, or in an async function, nothing blocks the loop."""
    assert blocking_calls(colour, Retry(on=OSError, backoff=0), 1) == []
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(blocking_calls(colour, Retry(on=OSError, backoff=0.001), 1)))
    thread.start()
    thread.join()
    assert seen == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await Retry(on=OSError, backoff=1).call_async(colour.function([OSError(), "page"]))


def test_a_plain_call_without_a_loop_does_not_warn() -> None:
    """Sleeping is what a plain thread may do."""
    colour = Colour.named("sync")

    async def scenario() -> list[Any]:
        return blocking_calls(colour, Retry(on=OSError, backoff=1), 1)

    assert colour.run(scenario) == []


# --- shapes of functions ----------------------------------------------------------------------------------------------


class Client:
    """A class with functions of every kind."""

    async def method(self, *args: Any) -> Any:
        return self, *args

    @classmethod
    async def of_class(cls, *args: Any) -> Any:
        return cls, *args

    @staticmethod
    async def static(*args: Any) -> Any:
        return args

    async def __call__(self, *args: Any) -> Any:
        return self, *args


CLIENT = Client()


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (CLIENT.method, (CLIENT, 1)),
        (Client.of_class, (Client, 1)),
        (Client.static, (1,)),
        (CLIENT, (CLIENT, 1)),
        (functools.partial(CLIENT.method, 0), (CLIENT, 0, 1)),
        (functools.partial(functools.partial(CLIENT), 0), (CLIENT, 0, 1)),
        (AsyncMock(return_value="mocked"), "mocked"),
    ],
)
@async_colours
async def test_async_is_recognised_in_every_disguise(colour: Colour, fn: Any, expected: Any) -> None:
    """Methods, partials, callable objects and async mocks are async: the wrapper is a coroutine function."""
    decorated = RETRY(fn)
    assert inspect.iscoroutinefunction(decorated)
    assert await decorated(1) == expected
    assert await RETRY.call(fn, 1) == expected
    assert await RETRY.call_async(fn, 1) == expected


@async_colours
async def test_call_async_awaits_whatever_comes(colour: Colour) -> None:
    """`call_async` retries a plain function that returns something to await, and awaits it anew each time."""
    made: list[int] = []

    class Awaitable:
        def __await__(self) -> Any:
            if len(made) < 3:
                raise OSError
            yield from AsyncMock(return_value="page")().__await__()
            return "page"

    def start() -> Any:
        made.append(1)
        return Awaitable()

    assert await RETRY.call_async(start) == "page"
    assert len(made) == 3


def test_a_plain_function_that_returns_a_coroutine_needs_call_async() -> None:
    """`call` refuses it by name, and closes the coroutine, so that nothing warns of it later."""

    async def coroutine() -> None: ...

    def disguised() -> Any:
        return coroutine()

    with pytest.raises(TypeError, match=r"disguised.* is a plain function that returned a coroutine: use call_async"):
        RETRY.call(disguised)


def test_generators_are_refused() -> None:
    """A generator cannot be begun anew without repeating what it has yielded: decorating and `call` say so."""

    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    for fn in (generator, async_generator, functools.partial(generator)):
        for refuse in (RETRY, RETRY.call, RETRY.bind):
            with pytest.raises(
                TypeError, match="Retry cannot wrap a generator: what it has yielded cannot be taken back"
            ):
                refuse(fn)  # type: ignore[operator]


@every_colour
async def test_methods_are_retried_as_methods(colour: Colour) -> None:
    """A decorated method, class method or static method keeps its first argument through all attempts."""
    seen: list[Any] = []

    def step(*args: Any) -> tuple[Any, ...]:
        seen.append(args)
        if len(seen) % 2:
            raise OSError
        return args

    if colour.is_async:

        class Service:
            @RETRY
            async def method(self, x: int) -> Any:
                return step(self, x)

            @classmethod
            @RETRY
            async def below(cls, x: int) -> Any:
                return step(cls, x)

            @RETRY
            @staticmethod
            async def static(x: int) -> Any:
                return step(x)
    else:

        class Service:
            @RETRY
            def method(self, x: int) -> Any:
                return step(self, x)

            @classmethod
            @RETRY
            def below(cls, x: int) -> Any:
                return step(cls, x)

            @RETRY
            @staticmethod
            def static(x: int) -> Any:
                return step(x)

    service = Service()
    assert await colour.invoke(service.method, 1) == (service, 1)
    assert await colour.invoke(service.below, 2) == (Service, 2)
    assert await colour.invoke(service.static, 3) == (3,)
    assert seen == [(service, 1)] * 2 + [(Service, 2)] * 2 + [(3,)] * 2


def test_the_default_chance_is_seeded_by_the_module() -> None:
    """Without `rng`, jitter comes from `random.random`, which is seeded anew in a forked child."""
    assert Retry(on=OSError)._rng is random.random
