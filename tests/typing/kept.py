"""What a type checker must see through every policy: the type as it was, or a union where a value may be replaced.

Nothing here is a test of behaviour; three checkers read the file, and an import runs it, so that no line can rot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

from resilience import CircuitBreaker, Fallback, Pipeline, Policy, Retry, Throttle, Timeout, backoff, context, events


def as_text(error: Exception, number: int) -> str:
    """What a fallback calls instead."""
    return f"{error} for {number}"


async def as_text_later(error: Exception, number: int) -> str:
    """The same as a coroutine function."""
    return f"{error} for {number}"


retry = Retry(on=ConnectionError)
breaker = CircuitBreaker(5)
throttle = Throttle("1000/s burst 1000")
timeout = Timeout(60)
cooperative = Timeout(60, thread=False)
or_none = Fallback(on=ConnectionError, value=None)
or_text = Fallback(on=ConnectionError, call=as_text)
or_text_later = Fallback(on=ConnectionError, call=as_text_later)


@retry
def plain(number: int, *, name: str = "") -> int:
    """A function with a positional and a keyword parameter."""
    return number


@breaker
async def coroutine(number: int) -> str:
    """A coroutine function."""
    return str(number)


@throttle
def generator(number: int) -> Iterator[int]:
    """A generator: gates take them, since a permit can be held while one runs."""
    yield number


@breaker
async def async_generator(number: int) -> AsyncIterator[int]:
    """An async generator."""
    yield number


@or_none
def replaced(number: int) -> int:
    """A function whose result a fallback may replace."""
    return number


@or_none
async def replaced_later(number: int) -> int:
    """The same as a coroutine function."""
    return number


@or_text
def replaced_by_call(number: int) -> int:
    """A function whose result a fallback may compute."""
    return number


@or_text_later
async def replaced_by_call_later(number: int) -> int:
    """The same, awaited."""
    return number


@Pipeline(retry, breaker, throttle, cooperative)
def composed(number: int) -> int:
    """Several policies, none of which replaces anything."""
    return number


@Pipeline(or_none, retry, breaker, timeout)
async def composed_later(number: int) -> int:
    """Several policies, one of which may answer None."""
    return number


@Pipeline(or_none, or_text, retry)
def composed_twice(number: int) -> int:
    """Two fallbacks: their alternatives add up."""
    return number


class Own:
    """A policy from elsewhere: all that a pipeline asks for is `bind`."""

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap nothing."""
        return fn


with_own = Pipeline(Own(), retry)


class Client:
    """Methods of every kind."""

    @breaker
    def method(self, number: int) -> int:
        return number

    @retry
    async def method_later(self, number: int) -> int:
        return number

    @classmethod
    @retry
    def class_method(cls, number: int) -> int:
        return number

    @staticmethod
    @retry
    def static_method(number: int) -> int:
        return number

    @or_none
    def method_replaced(self, number: int) -> int:
        return number


@context.deadline(5)
def bounded(number: int) -> int:
    """A deadline as a decorator keeps the type as well."""
    return number


def decorated() -> None:
    """What each decorated function returns."""
    client = Client()
    assert_type(plain(1, name="x"), int)
    assert_type(list(generator(1)), list[int])
    assert_type(replaced(1), int | None)
    assert_type(replaced_by_call(1), int | str)
    assert_type(composed(1), int)
    assert_type(composed_twice(1), int | str | None)
    assert_type(client.method(1), int)
    assert_type(client.method_replaced(1), int | None)
    assert_type(Client.class_method(1), int)
    assert_type(client.class_method(1), int)
    assert_type(Client.static_method(1), int)
    assert_type(client.static_method(1), int)
    assert_type(bounded(1), int)


async def awaited() -> None:
    """What each decorated coroutine function gives when awaited."""
    assert_type(await coroutine(1), str)
    assert_type(await replaced_later(1), int | None)
    assert_type(await replaced_by_call_later(1), int | str)
    assert_type(await composed_later(1), int | None)
    assert_type(await Client().method_later(1), int)
    async for item in async_generator(1):
        assert_type(item, int)


def called() -> None:
    """`call` gives what the function gives."""

    def half(number: int) -> float:
        return number / 2

    assert_type(retry.call(half, 1), float)
    assert_type(or_none.call(half, 1), float | None)
    assert_type(Pipeline(or_none, retry).call(half, number=1), float | None)


async def called_async() -> None:
    """`call_async` gives what the awaitable gives."""

    async def half(number: int) -> float:
        return number / 2

    assert_type(await retry.call_async(half, 1), float)
    assert_type(await or_none.call_async(half, 1), float | None)


def values() -> None:
    """What the other parts return."""
    assert_type(throttle.try_acquire(), bool)
    assert_type(throttle.reserve().delay, float)
    assert_type(context.remaining(), float | None)
    assert_type(backoff.constant(1)(1, 0.0, 0.5), float)
    assert_type(breaker.name, str)


def covariance() -> None:
    """A policy that replaces nothing serves where one that may answer None is asked for, not the other way round."""

    def protect(policy: Policy[str | None]) -> None:
        policy.name  # noqa: B018

    protect(retry)
    protect(or_none)
    protect(Pipeline(or_none, retry))


def listening(event: events.Event) -> None:
    """A listener takes an event."""


stop: Callable[[], None] = retry.listen(listening)
stop()

as_value: Callable[[int], Coroutine[Any, Any, str]] = coroutine
