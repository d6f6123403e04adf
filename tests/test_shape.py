"""Which callables are async, and what a wrapper looks like from outside."""

from __future__ import annotations

import functools
import inspect
from unittest.mock import AsyncMock

import pytest

from resilience import CircuitBreaker, Fallback, Pipeline, Retry, Throttle, Timeout
from resilience._shape import shape_of


def plain(): ...


async def coroutine(): ...


def generator():
    yield


async def async_generator():
    yield


class Callable:
    async def __call__(self): ...

    async def method(self): ...

    @classmethod
    async def of_class(cls): ...

    @staticmethod
    async def static(): ...


class PlainCallable:
    def __call__(self): ...


@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (plain, "sync"),
        (print, "sync"),
        (int, "sync"),
        (PlainCallable(), "sync"),
        (Callable, "sync"),
        (functools.partial(plain), "sync"),
        (coroutine, "coroutine"),
        (functools.partial(coroutine), "coroutine"),
        (functools.partial(functools.partial(coroutine)), "coroutine"),
        (Callable(), "coroutine"),
        (functools.partial(Callable()), "coroutine"),
        (Callable().method, "coroutine"),
        (Callable.of_class, "coroutine"),
        (Callable.static, "coroutine"),
        (AsyncMock(), "coroutine"),
        (generator, "generator"),
        (functools.partial(generator), "generator"),
        (async_generator, "async_generator"),
    ],
)
def test_the_shape_of_a_callable_is_seen_through_its_wrapping(fn, shape):
    """Async is recognised for async def, partials of one, methods, and objects with an async __call__."""
    assert shape_of(fn) == shape


POLICIES = [
    Retry(on=ValueError),
    CircuitBreaker(),
    Throttle("100/s"),
    Timeout(1, thread=False),
    Fallback(on=ValueError, value=None),
    Pipeline(Retry(on=ValueError), CircuitBreaker()),
]
by_kind = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)


@by_kind
def test_a_wrapper_keeps_name_docstring_and_signature(policy):
    """A decorated function looks like itself, and says which policy it has."""

    def fetch(url: str, *, retries: int = 3) -> bytes:
        """Fetch it."""
        return b""

    wrapped = policy(fetch)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("fetch", "Fetch it.", fetch)
    assert inspect.signature(wrapped) == inspect.signature(fetch)
    assert wrapped.policy is policy


@by_kind
def test_a_wrapper_of_async_def_is_async_def(policy):
    """Frameworks that ask whether a function is async get the same answer as before."""
    assert inspect.iscoroutinefunction(policy(coroutine))
    assert not inspect.iscoroutinefunction(policy(plain))


@pytest.mark.parametrize("policy", [CircuitBreaker(), Throttle("100/s")], ids=lambda policy: policy.kind)
def test_a_gate_keeps_the_kind_of_a_generator(policy):
    """A generator behind a gate is still a generator, an async one an async one."""
    assert inspect.isgeneratorfunction(policy(generator))
    assert inspect.isasyncgenfunction(policy(async_generator))


@by_kind
def test_methods_class_methods_and_static_methods_can_be_decorated(policy):
    """A policy decorates whatever is written in a class body, above or below the other decorator."""

    class Client:
        @policy
        def method(self, x):
            return self, x

        @classmethod
        @policy
        def of_class(cls, x):
            return cls, x

        @policy
        @staticmethod
        def static(x):
            return x

    client = Client()
    assert client.method(1) == (client, 1)
    assert client.of_class(2) == (Client, 2)
    assert client.static(3) == 3


@by_kind
def test_what_is_no_function_is_refused_with_what_to_write(policy):
    """Decorating a value or a coroutine says how a policy is used."""
    for wrong in (3, "url", coroutine()):
        with pytest.raises(TypeError, match=r"write policy\.call\(fn"):
            policy(wrong)


@by_kind
def test_a_decorated_local_function_is_freed_without_the_collector(policy):
    """A policy does not hold what it decorates."""
    import gc
    import weakref

    def local(): ...

    gc.disable()
    try:
        wrapped = policy(local)
        gone = weakref.ref(local)
        del local, wrapped
        assert gone() is None
    finally:
        gc.enable()
