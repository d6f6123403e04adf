"""What a fallback replaces, by what, and what it leaves alone."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio

from resilience import (
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Pipeline,
    Rejected,
    ResilienceError,
    ResultNotAccepted,
    Retry,
    Throttled,
    TimedOut,
    Timeout,
)
from resilience.events import CallSucceeded, Event, FallbackUsed
from tests.colours import Colour, async_colours, every_colour

FORMS = pytest.mark.parametrize("form", ["call", "decorator"])


# --- a value ----------------------------------------------------------------------------------------------------------


@FORMS
@every_colour
async def test_an_error_is_replaced_by_the_value(colour: Colour, form: str) -> None:
    """A matching error becomes the value, the very object, and what succeeds is left as it is."""
    value, page = object(), object()
    fetch = colour.function([OSError(), page])
    fallback = Fallback(on=OSError, value=value)
    assert await colour.call(fallback, fetch, 1, form=form) is value
    assert await colour.call(fallback, fetch, 1, form=form) is page
    assert fetch.calls == [(1,), (1,)]


@pytest.mark.parametrize(
    "value", [None, False, 0, "", ..., (), lambda: "not called", ValueError("not raised")], ids=repr
)
@every_colour
async def test_any_value_will_do(colour: Colour, value: Any) -> None:
    """The value is returned as it is: None, a function and an exception are values too."""
    assert await colour.call(Fallback(on=OSError, value=value), colour.function([OSError()])) is value


@every_colour
async def test_what_does_not_match_is_raised_unchanged(colour: Colour) -> None:
    """An error that `on` does not name, or that `ignore` names, is the same object for the caller."""
    fallback = Fallback(on=OSError, ignore=PermissionError, value="instead")
    for error in (KeyError(), PermissionError()):
        with pytest.raises(type(error)) as caught:
            await colour.call(fallback, colour.function([error]))
        assert caught.value is error
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "interrupt",
    [
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        asyncio.CancelledError,
        BaseExceptionGroup("", [KeyboardInterrupt()]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("on", [BaseException, lambda error: True], ids=["type", "predicate"])
@every_colour
async def test_only_an_exception_is_ever_replaced(colour: Colour, on: Any, interrupt: Any) -> None:
    """Interrupts and cancellations pass through untouched, whatever `on` says."""
    with pytest.raises(BaseException) as caught:
        await colour.call(Fallback(on=on, value="instead"), colour.function([interrupt]))
    assert caught.type is (interrupt if isinstance(interrupt, type) else type(interrupt))


@async_colours
async def test_a_cancelled_call_is_not_replaced(colour: Colour) -> None:
    """A caller who goes away gets no fallback."""
    fetch = colour.function([(100, "never")])
    job = colour.start(Fallback(on=BaseException, value="instead")(fetch))
    await colour.until(lambda: fetch.calls)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)


@async_colours
async def test_a_timeout_inside_is_replaced(colour: Colour) -> None:
    """A cut by an inner timeout is an error like any other, and can be replaced."""
    fetch = colour.function([(100, "never")])
    assert await Pipeline(Fallback(on=TimedOut, value="instead"), Timeout(2)).call_async(fetch) == "instead"


# --- rejections and groups --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [Exception, ResilienceError, Rejected, Throttled, lambda error: True], ids=repr)
@every_colour
async def test_a_rejection_is_like_any_error(colour: Colour, on: Any) -> None:
    """A fallback sees a `Rejected` by plain `isinstance`, and shows it to predicates, inside groups too."""
    for error in (Throttled("t", 1.0), ExceptionGroup("", [Throttled("t")])):
        assert await colour.call(Fallback(on=on, value="instead"), colour.function([error])) == "instead"


@every_colour
async def test_an_open_circuit_is_replaced(colour: Colour) -> None:
    """Outside of a breaker it answers while the circuit is open."""
    breaker = CircuitBreaker(1, on=OSError, cooldown=1000)
    parts = Pipeline(Fallback(on=CircuitOpen, value="instead"), breaker)
    with pytest.raises(OSError):
        await colour.call(parts, colour.function([OSError()]))
    assert await colour.call(parts, colour.function([])) == "instead"


@every_colour
async def test_a_group_is_replaced_when_nothing_is_left_over(colour: Colour) -> None:
    """A group of errors is replaced whole or not at all."""
    fallback = Fallback(on=OSError, value="instead")
    assert await colour.call(fallback, colour.function([ExceptionGroup("", [OSError(), OSError()])])) == "instead"
    with pytest.raises(ExceptionGroup):
        await colour.call(fallback, colour.function([ExceptionGroup("", [OSError(), KeyError()])]))


@every_colour
async def test_a_predicate_that_fails_is_an_error(colour: Colour) -> None:
    """A predicate that answers junk is told so, with the call's own error as context."""
    boom = OSError()
    with pytest.raises(TypeError, match="must answer True, False, None or a number") as caught:
        await colour.call(Fallback(on=lambda error: "junk", value="instead"), colour.function([boom]))
    assert caught.value.__context__ is boom


# --- results ----------------------------------------------------------------------------------------------------------


@every_colour
async def test_a_result_is_replaced(colour: Colour) -> None:
    """`on_result` answering True, or a number, means that the result is replaced."""
    fetch = colour.function([None, "page", 0.5])
    fallback = Fallback(
        on=OSError, on_result=lambda result: result is None or (result == 0.5 and result), value="instead"
    )
    assert [await colour.call(fallback, fetch) for _ in range(3)] == ["instead", "page", "instead"]


@every_colour
async def test_a_call_learns_of_the_refused_result(colour: Colour) -> None:
    """Where a result is replaced by a call, the error that it gets holds the result."""
    seen: list[Any] = []

    def instead(error: Exception, *args: Any) -> str:
        seen.append((error, args))
        return "instead"

    fallback = Fallback(on=OSError, on_result=lambda result: not result, call=instead, name="f")
    assert await colour.call(fallback, colour.function([[]]), 7) == "instead"
    error, args = seen[0]
    assert isinstance(error, ResultNotAccepted)
    assert (error.policy, error.last_result, error.attempts, error.elapsed, args) == ("f", [], 1, 0.0, (7,))


# --- a call -----------------------------------------------------------------------------------------------------------


@FORMS
@every_colour
async def test_a_call_gets_the_error_and_the_arguments(colour: Colour, form: str) -> None:
    """`call(error, *args, **kwargs)` is called with the error and all that the failed call was given."""
    error = OSError("down")
    seen: list[Any] = []

    def instead(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "instead"

    fallback = Fallback(on=OSError, call=instead)
    assert await colour.call(fallback, colour.function([error]), "/", 2, form=form, key="x") == "instead"
    assert seen == [((error, "/", 2), {"key": "x"})]


@async_colours
async def test_an_async_call_is_awaited(colour: Colour) -> None:
    """An `async def`, a partial of one, an object with an async `__call__` and an async mock are awaited."""

    async def instead(error: Exception, *args: Any, **kwargs: Any) -> str:
        await colour.sleep(1)
        return "instead"

    class Instead:
        async def __call__(self, error: Exception, *args: Any) -> str:
            return "instead"

    for call in (instead, functools.partial(instead, extra=1), Instead(), AsyncMock(return_value="instead")):
        fallback = Fallback(on=OSError, on_result=lambda result: not result, call=call)
        assert await colour.call(fallback, colour.function([OSError()])) == "instead"
        assert await colour.call(fallback, colour.function([None])) == "instead"
    assert colour.clock.now() == 4.0


@async_colours
async def test_a_plain_call_serves_async_functions_too(colour: Colour) -> None:
    """A plain `call` needs no await, and what it returns is not awaited."""
    assert (
        await colour.call(Fallback(on=OSError, call=lambda error: "instead"), colour.function([OSError()])) == "instead"
    )


@pytest.mark.parametrize("asynchronous", [False, True])
@every_colour
async def test_a_call_that_fails_raises_its_error_with_the_first_as_context(colour: Colour, asynchronous: bool) -> None:
    """When the substitute fails as well, its error is raised, and the first one is its context."""
    first, second = OSError("first"), LookupError("second")

    def instead(error: Exception) -> str:
        raise second

    async def instead_async(error: Exception) -> str:
        raise second

    if asynchronous and not colour.is_async:
        return
    fallback = Fallback(on=OSError, call=instead_async if asynchronous else instead)
    with pytest.raises(LookupError) as caught:
        await colour.call(fallback, colour.function([first]))
    assert caught.value is second
    assert caught.value.__context__ is first
    assert caught.value.__cause__ is None
    second.__context__ = None


@every_colour
async def test_a_call_may_raise_the_error_itself(colour: Colour) -> None:
    """A substitute that gives up raises the first error again, unchanged."""
    error = OSError()

    def instead(error: Exception) -> None:
        raise error

    with pytest.raises(OSError) as caught:
        await colour.call(Fallback(on=OSError, call=instead), colour.function([error]))
    assert caught.value is error
    assert caught.value.__context__ is None


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
def test_an_async_call_needs_an_async_function() -> None:
    """Nothing in a plain function could await the substitute: it is refused where it is bound."""

    async def instead(error: Exception) -> str:
        return "instead"

    fallback = Fallback(on=OSError, call=instead)
    for use in (fallback, fallback.call, Pipeline(fallback), Pipeline(Retry(on=OSError), fallback)):
        with pytest.raises(
            TypeError, match=r"call=.*instead.* is async, so it needs an async function; .* is a plain one"
        ):
            use(lambda: None)  # type: ignore[operator]


@every_colour
async def test_a_plain_call_that_returns_a_coroutine_says_so(colour: Colour) -> None:
    """A lambda around an async function is told to be an `async def`; its coroutine is closed, so nothing warns."""

    async def instead() -> str:
        return "instead"

    fallback = Fallback(on=OSError, call=lambda error: instead())
    with pytest.raises(TypeError, match="returned a coroutine: make it an async def, for an async function"):
        await colour.call(fallback, colour.function([OSError()]))


# --- events -----------------------------------------------------------------------------------------------------------


@every_colour
async def test_what_is_told(colour: Colour) -> None:
    """A replaced error, a replaced result and a success are told; an error that passes is not."""
    error = OSError()
    fallback = Fallback(on=OSError, on_result=lambda result: result is None, value="instead", name="f")
    events: list[Event] = []
    fallback.listen(events.append)
    for outcome in (error, None, "page"):
        await colour.call(fallback, colour.function([(1, outcome)]))
    with pytest.raises(KeyError):
        await colour.call(fallback, colour.function([(1, KeyError())]))
    assert events == [
        FallbackUsed("f", "fallback", 1.0, error=error),
        FallbackUsed("f", "fallback", 2.0, error=None),
        CallSucceeded("f", "fallback", 3.0, attempts=1),
    ]


# --- composition ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@every_colour
async def test_outside_a_retry_it_answers_when_all_attempts_have_failed(colour: Colour) -> None:
    """A fallback outside of a retry sees the last error; inside, the retry never learns that anything failed."""
    fetch = colour.function([OSError(1), OSError(2), OSError(3)])
    fallback = Fallback(on=OSError, call=lambda error: error.args)
    assert await colour.call(Pipeline(fallback, Retry(on=OSError, backoff=0)), fetch) == (3,)
    inside = colour.function([OSError(1)])
    assert await colour.call(Pipeline(Retry(on=OSError, backoff=0), fallback), inside) == (1,)


@every_colour
async def test_fallbacks_nest(colour: Colour) -> None:
    """A fallback may stand in for another one that failed."""
    inner = Fallback(on=OSError, call=lambda error: 1 // 0)
    outer = Fallback(on=ZeroDivisionError, value="at last")
    assert await colour.call(Pipeline(outer, inner), colour.function([OSError()])) == "at last"


@every_colour
async def test_many_callers_share_nothing(colour: Colour) -> None:
    """Each call's substitute gets that call's error and arguments."""

    def fetch(number: int) -> None:
        raise OSError(number)

    async def fetch_async(number: int) -> None:
        await colour.sleep(number % 3)
        fetch(number)

    decorated = Fallback(on=OSError, call=lambda error, number: (error.args[0], number))(
        fetch_async if colour.is_async else fetch
    )
    outcomes = await colour.together(*[functools.partial(colour.invoke, decorated, number) for number in range(20)])
    assert outcomes == [(number, number) for number in range(20)]


# --- parameters and misuse --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"value": 1, "call": print}, {"call": None}], ids=str)
def test_exactly_one_of_value_and_call(arguments: dict[str, Any]) -> None:
    """A fallback without a substitute, or with two, is refused."""
    given = "both" if len(arguments) == 2 else "neither"
    with pytest.raises(TypeError, match=rf"Fallback takes exactly one of value=\.\.\. and call=\.\.\., got {given}"):
        Fallback(on=OSError, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": 1}, "on"),
        ({"on": None, "value": 1}, "on must be an exception type, a tuple of them or a predicate, got None"),
        ({"on": (), "value": 1}, "on must name at least one exception type, got an empty tuple"),
        ({"on": 5, "value": 1}, "on must be an exception type, a tuple of them or a predicate, got 5"),
        ({"on": OSError, "ignore": "x", "value": 1}, "ignore must be an exception type"),
        ({"on": OSError, "on_result": 5, "value": 1}, "on_result must be a predicate of the result or None, got 5"),
        ({"on": OSError, "call": 5}, "call must be a callable or None, got 5"),
        ({"on": OSError, "value": 1, "name": ""}, "name must be a string that is not empty, or None, got ''"),
        ({"on": OSError, "value": 1, "clock": 5}, "clock must have now"),
        ({"on": OSError, "value": 1, "default": 5}, "default"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(arguments: dict[str, Any], message: str) -> None:
    """Every parameter is checked when the policy is built: the error names it, the rule and the value."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Fallback(**arguments)
    assert message in str(caught.value)


def test_everything_is_a_keyword() -> None:
    """Positional arguments are refused."""
    with pytest.raises(TypeError):
        Fallback(OSError, value=1)  # type: ignore[misc]


def test_misuse_says_what_to_write() -> None:
    """A bare decorator, a block, a guard and a generator are told the right form."""

    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    fallback = Fallback(on=OSError, value=None)
    with pytest.raises(TypeError, match=r"write @Fallback\(on=ConnectionError, value=None\)"):
        Fallback(generator)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"write with policy\.guard\(\):"), fallback:  # type: ignore[attr-defined]
        pass
    with pytest.raises(TypeError, match="Fallback cannot guard a block, which has no result to replace: decorate"):
        fallback.guard()
    for fn in (generator, async_generator):
        with pytest.raises(TypeError, match="Fallback cannot wrap a generator: what it has yielded cannot be replaced"):
            fallback(fn)


def test_replace_swaps_value_and_call() -> None:
    """A changed copy may have another substitute of either kind; the old one is not touched."""
    fallback = Fallback(on=ZeroDivisionError, value="old", name="f")

    def fails() -> Any:
        return 1 // 0

    assert fallback.replace(value="new").call(fails) == "new"
    by_call = fallback.replace(call=lambda error: str(error))
    assert by_call.call(fails) == "integer division or modulo by zero"
    assert by_call.replace(value=None).call(fails) is None
    assert by_call.replace(name="other").call(fails) == by_call.call(fails)
    assert fallback.replace(on=OSError, name="other").name == "other"
    assert fallback.call(fails) == "old"
    with pytest.raises(TypeError, match="exactly one"):
        fallback.replace(value=1, call=print)
    with pytest.raises(TypeError, match="Fallback has no parameter 'default'"):
        fallback.replace(default=1)


def test_repr_and_snapshot() -> None:
    """A fallback can be looked at."""
    assert repr(Fallback(on=OSError, value=None)) == "Fallback(on=<class 'OSError'>, value=None)"
    assert repr(Fallback(on=OSError, call=print)) == "Fallback(on=<class 'OSError'>, call=<built-in function print>)"
    snapshot = Fallback(on=OSError, value=object(), name="f").snapshot()
    assert json.loads(json.dumps(snapshot)) == {"name": "f", "kind": "fallback"}


def test_a_wrapper_of_async_def_is_async_def() -> None:
    """The wrapper keeps the colour of what it wraps."""
    fallback = Fallback(on=OSError, value=None)
    assert inspect.iscoroutinefunction(fallback(AsyncMock()))
    assert not inspect.iscoroutinefunction(fallback(lambda: None))
