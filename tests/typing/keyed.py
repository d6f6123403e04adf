"""What a type checker must see through `Keyed`: the policy that the factory makes, and what that may return instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Never, assert_type

from resilience import Bulkhead, CircuitBreaker, CircuitState, Fallback, Keyed, Pipeline, Policy, Retry


class Own:
    """A policy from elsewhere."""

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap nothing."""
        return fn


def breaker_for(host: str) -> CircuitBreaker:
    """One breaker for each host."""
    return CircuitBreaker(5, name=host)


def pipeline_for(host: str) -> Pipeline[None]:
    """One pipeline for each host, which may answer None."""
    return Pipeline(Fallback(on=ConnectionError, value=None), CircuitBreaker(5), name=host)


def places_for(origin: tuple[str, int]) -> Bulkhead:
    """A few places for each origin."""
    return Bulkhead(5, name=origin[0])


def origin_of(host: str, port: int) -> tuple[str, int]:
    """The key of a call."""
    return host, port


def own_for(host: str) -> Own:
    """One foreign object for each host."""
    return Own()


hosts = Keyed(breaker_for, key="host")
origins = Keyed(places_for, key=origin_of, max_keys=64, idle=60, name="origins")
replacing = Keyed(pipeline_for, key="host")
foreign = Keyed(own_for)
either: Keyed[Policy[Any], Any] = Keyed(lambda host: Retry(on=ConnectionError))
some: Policy = hosts


@hosts
def fetch(host: str, *, path: str = "/") -> int:
    """A function with a breaker for each host."""
    return len(path)


@hosts
async def fetch_later(host: str) -> str:
    """The same as a coroutine function."""
    return host


@replacing
def fetch_or_none(host: str) -> int:
    """A function whose result may be replaced."""
    return len(host)


def decorated() -> None:
    """What each decorated function returns."""
    assert_type(fetch("a", path="/x"), int)
    assert_type(fetch_or_none("a"), int | None)
    assert_type(hosts.call(fetch, "a"), int)


async def awaited() -> None:
    """What a decorated coroutine function gives when awaited."""
    assert_type(await fetch_later("a"), str)


def held() -> None:
    """What is found under a key has the type of what the factory makes."""
    assert_type(hosts, Keyed[CircuitBreaker, Never])
    assert_type(hosts["a"], CircuitBreaker)
    assert_type(hosts["a"].state, CircuitState)
    assert_type(hosts["a", 443], CircuitBreaker)
    assert_type(hosts.items(), Sequence[tuple[str | int | tuple[str | int, ...], CircuitBreaker]])
    assert_type(origins["a", 443], Bulkhead)
    assert_type(foreign["a"], Own)
    assert_type(replacing["a"].call(len, "a"), int | None)
    assert_type(hosts.replace(max_keys=5), Keyed[CircuitBreaker, Never])
