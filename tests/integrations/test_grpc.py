"""What the interceptors promise for calls of gRPC, over real sockets, blocking and in asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from resilience import CircuitBreaker, CircuitOpen, Fallback, Hedge, Pipeline, Priority, Retry, TimedOut, context
from resilience.http import client_policy, transient
from resilience.integrations.grpc import AsyncResilientInterceptor, ResilientInterceptor
from tests.integrations.grpc_server import CLIENTS, RpcServer

DOWN = grpc.StatusCode.UNAVAILABLE
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
PUSHBACK = "grpc-retry-pushback-ms"
REPEATABLE = {"unary_unary": b"x", "unary_stream": b"x", "stream_unary": [b"a", b"b"]}
ANSWERS = {"unary_unary": [b"x"], "unary_stream": [b"x", b"x"], "stream_unary": [b"ab"]}


@pytest.fixture
def rpc() -> Iterator[RpcServer]:
    server = RpcServer()
    yield server
    server.end()


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest, rpc: RpcServer) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:
        yield lambda policy=None, **options: CLIENTS[request.param](
            stack, rpc.target, retry() if policy is None else policy, **options
        )


def retry(**options: Any) -> Retry:
    return Retry(on=transient, backoff=0, **options)


@pytest.mark.parametrize("kind", REPEATABLE)
def test_retries_what_passes(make: Any, rpc: RpcServer, kind: str) -> None:
    """A call that fails twice is made three times, each attempt tells its number, and the caller's metadata stays."""
    rpc.script = [DOWN, DOWN]
    metadata = (("mine", "kept"), ("x-attempt", "9"))
    assert make()(kind, REPEATABLE[kind], metadata=metadata) == ANSWERS[kind]
    assert rpc.attempts() == ["1", "2", "3"]
    assert [call["mine"] for call in rpc.calls] == ["kept"] * 3


@pytest.mark.parametrize("kind", REPEATABLE)
def test_last_error_is_grpcs_own(make: Any, rpc: RpcServer, kind: str) -> None:
    """When attempts run out the last error is raised as gRPC raises it, with its status and metadata."""
    rpc.script = [DOWN, DOWN, (DOWN, (("why", "third"),))]
    with pytest.raises(grpc.RpcError) as caught:
        make()(kind, REPEATABLE[kind])
    assert type(caught.value).__module__.startswith("grpc.")
    assert caught.value.code() is DOWN
    assert ("why", "third") in [tuple(pair) for pair in caught.value.trailing_metadata()]
    assert len(rpc.calls) == 3


@pytest.mark.parametrize("kind", REPEATABLE)
def test_what_is_not_named_is_called_once(make: Any, rpc: RpcServer, kind: str) -> None:
    """UNAVAILABLE of a method that `repeat` does not name is returned at once, with a note of why."""
    rpc.script = [(DOWN, (("retry-after", "30"),))]
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        make(repeat={"/test.Echo/other", "/test.Other/*"})(kind, REPEATABLE[kind])
    assert time.monotonic() - begun < 5
    assert f"/test.Echo/{kind} may have been carried out" in caught.value.__notes__[0]
    assert len(rpc.calls) == 1


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "ABORTED", "NOT_FOUND", "RESOURCE_EXHAUSTED"])
def test_other_statuses_are_not_transient(make: Any, rpc: RpcServer, code: str) -> None:
    """Every other status may be anything, and RESOURCE_EXHAUSTED without a time may be a message too large."""
    rpc.script = [grpc.StatusCode[code]]
    with pytest.raises(grpc.RpcError) as caught:
        make()("unary_unary", b"x")
    assert caught.value.code().name == code
    assert len(rpc.calls) == 1


def test_own_predicate_sees_grpcs_errors(make: Any, rpc: RpcServer) -> None:
    """A policy of one's own may name any status, and the type of gRPC's errors."""
    rpc.script = [grpc.StatusCode.ABORTED]
    aborted = Retry(on=lambda error: error.code() is grpc.StatusCode.ABORTED, backoff=0)
    assert make(aborted)("unary_unary", b"x") == [b"x"]
    rpc.script = [DOWN]
    assert make(Retry(on=grpc.RpcError, backoff=0))("unary_unary", b"x") == [b"x"]
    assert len(rpc.calls) == 4


@pytest.mark.parametrize("code", [DOWN, FULL])
def test_pushback_is_obeyed(make: Any, rpc: RpcServer, code: grpc.StatusCode) -> None:
    """A server that says when to come back is obeyed, for any method; one that says never, too."""
    rpc.script = [(code, ((PUSHBACK, "60"),))]
    begun = time.monotonic()
    assert make(repeat=())("unary_unary", b"x") == [b"x"]
    assert time.monotonic() - begun >= 0.06
    for never in ("-1", "soon"):
        rpc.script = [(code, ((PUSHBACK, never),))]
        with pytest.raises(grpc.RpcError):
            make()("unary_unary", b"x")
    assert rpc.attempts() == ["1", "2", "1", "1"]


def test_wait_beyond_the_deadline_fails_at_once(make: Any, rpc: RpcServer) -> None:
    """A server that asks for more time than is left, by the context or by `timeout=`, is not waited for."""
    rpc.script = [(DOWN, ((PUSHBACK, "90000"),)), (DOWN, (("retry-after", "90"),))]
    ask = make(retry(max_retry_after=1000))
    begun = time.monotonic()
    with context.deadline(30), pytest.raises(grpc.RpcError):
        ask("unary_unary", b"x")
    with pytest.raises(grpc.RpcError):
        ask("unary_unary", b"x", timeout=30)
    assert time.monotonic() - begun < 5
    assert len(rpc.calls) == 2


@pytest.mark.parametrize("kind", [*REPEATABLE, "stream_stream"])
def test_deadline_and_priority_travel(make: Any, rpc: RpcServer, kind: str) -> None:
    """The server's deadline is what is left here, whichever is shorter, and it hears how much the work matters."""
    request = REPEATABLE.get(kind, iter([b"a"]))
    with context.deadline(20), context.priority(Priority.SHEDDABLE):
        ask = make()
        ask(kind, request)
        ask(kind, REPEATABLE.get(kind, iter([b"a"])), timeout=9)
    assert [call["x-priority"] for call in rpc.calls] == ["sheddable"] * 2
    assert 15 < rpc.calls[0]["left"] <= 20.1
    assert 5 < rpc.calls[1]["left"] <= 9.1
    assert "x-deadline-ms" not in rpc.calls[0]


def test_timeout_is_for_all_attempts(make: Any, rpc: RpcServer) -> None:
    """The caller's `timeout` bounds the call with all of its attempts, and ends in gRPC's own error."""
    rpc.script = [(DOWN, ((PUSHBACK, "100"),)), "hang", DOWN]
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        make()("unary_unary", b"x", timeout=0.4)
    assert time.monotonic() - begun < 3
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(rpc.calls) == 2
    assert rpc.calls[1]["left"] < rpc.calls[0]["left"] - 0.05


def test_passed_deadline_sends_nothing(make: Any, rpc: RpcServer) -> None:
    """With no time left no call is made."""
    ask = make()
    with context.deadline(0.001):
        while context.remaining():
            pass
        with pytest.raises(TimedOut):
            ask("unary_unary", b"x")
    assert rpc.calls == []


def test_breaker_sees_statuses(make: Any, rpc: RpcServer) -> None:
    """UNAVAILABLE opens the circuit, of what may not be repeated too, and a rejection comes out as ours."""
    rpc.script = [DOWN, DOWN]
    ask = make(Pipeline(retry(), CircuitBreaker(2, on=transient)), repeat=())
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            ask("unary_unary", b"x")
    with pytest.raises(CircuitOpen):
        ask("unary_unary", b"x")
    assert len(rpc.calls) == 2


def test_fallback_is_the_answer(make: Any, rpc: RpcServer) -> None:
    """What a fallback returns is the answer of the call."""
    rpc.script = [DOWN]
    assert make(Fallback(value=b"instead", on=transient))("unary_unary", b"x") == [b"instead"]


def test_delivered_messages_are_not_taken_back(make: Any, rpc: RpcServer) -> None:
    """A stream that fails after its first message is not begun again."""
    rpc.script = ["late"]
    with pytest.raises(grpc.RpcError, match="late"):
        make()("unary_stream", b"x")
    assert len(rpc.calls) == 1


def test_default_policy_is_by_service(make: Any, rpc: RpcServer) -> None:
    """The default keeps one policy for each service."""
    services = client_policy()
    assert make(services)("unary_unary", b"x") == [b"x"]
    assert [key for key, _ in services.items()] == ["test.Echo"]


@pytest.mark.parametrize("kind", [ResilientInterceptor, AsyncResilientInterceptor])
def test_mistakes_are_said(kind: Any) -> None:
    """A hedge, a name in place of names and a name that is not whole are errors."""
    with pytest.raises(TypeError, match="Hedge"):
        kind(policy=Hedge(0.1))
    with pytest.raises(TypeError, match="collection of methods"):
        kind(repeat="/test.Echo/unary_unary")
    with pytest.raises(ValueError, match="in full"):
        kind(repeat={"unary_unary"})
