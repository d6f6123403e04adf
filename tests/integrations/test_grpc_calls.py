"""What an intercepted call is to whoever made it: a future, a stream, something to cancel, as gRPC's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from resilience import CircuitBreaker, CircuitOpen, Fallback, Pipeline, Retry
from resilience.http import transient
from resilience.integrations.grpc import AsyncResilientInterceptor, ResilientInterceptor
from tests.integrations.grpc_server import RpcServer

DOWN = grpc.StatusCode.UNAVAILABLE
ALL = {"/test.Echo/*"}


@pytest.fixture
def rpc() -> Iterator[RpcServer]:
    server = RpcServer()
    yield server
    server.end()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def retry(**options: Any) -> Retry:
    return Retry(on=transient, backoff=0, **options)


def channel(stack: ExitStack, rpc: RpcServer, policy: Any = None, *more: Any) -> Any:
    plain = stack.enter_context(grpc.insecure_channel(rpc.target))
    return grpc.intercept_channel(plain, ResilientInterceptor(policy=policy or retry(), repeat=ALL), *more)


def test_future_does_not_wait(stack: ExitStack, rpc: RpcServer) -> None:
    """A future is there at once, is retried behind the caller's back, and then has all that a call has."""
    rpc.script = [DOWN, DOWN]
    future = channel(stack, rpc).unary_unary("/test.Echo/unary_unary").future(b"x", timeout=5)
    called = threading.Event()
    future.add_done_callback(lambda done: called.set())
    assert isinstance(future, grpc.Future)
    assert isinstance(future, grpc.Call)
    assert 0 < future.time_remaining() <= 5
    assert future.result(5) == b"x"
    assert called.wait(5)
    assert (future.done(), future.running(), future.cancelled(), future.is_active()) == (True, False, False, False)
    assert (future.code(), future.details(), future.exception()) == (grpc.StatusCode.OK, "", None)
    assert (future.traceback(), list(future.trailing_metadata()), future.cancel()) == (None, [], False)
    assert not future.add_callback(lambda: None)
    assert rpc.attempts() == ["1", "2", "3"]


def test_failed_future_has_grpcs_error(stack: ExitStack, rpc: RpcServer) -> None:
    """A future that fails has the error, the status and the metadata of the last attempt."""
    rpc.script = [DOWN, DOWN, (DOWN, (("why", "third"),))]
    future = channel(stack, rpc).stream_unary("/test.Echo/stream_unary").future([b"x"])
    assert future.exception(5).code() is DOWN
    assert (future.code(), future.details()) == (DOWN, "as told")
    assert dict(future.trailing_metadata())["why"] == "third"
    assert list(future.initial_metadata()) == []
    with pytest.raises(grpc.RpcError):
        future.result()
    assert future.traceback() is not None


def test_future_that_is_cancelled(stack: ExitStack, rpc: RpcServer) -> None:
    """Cancelling a future ends the attempt under way and makes no other, though the policy would retry anything."""
    rpc.script = ["hang"] * 3
    policy = Retry(on=Exception, backoff=0)
    future = channel(stack, rpc, policy).unary_unary("/test.Echo/unary_unary").future(b"x")
    assert rpc.called.wait(5)
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(0.01)
    assert future.running()
    assert future.cancel()
    assert (future.cancelled(), future.done(), future.code()) == (True, True, grpc.StatusCode.CANCELLED)
    for ask in (future.result, future.exception, future.traceback):
        with pytest.raises(grpc.FutureCancelledError):
            ask(5)
    assert "cancelled" in future.details()
    assert future._done.wait(5)
    assert len(rpc.calls) == 1


def test_rejected_future(stack: ExitStack, rpc: RpcServer) -> None:
    """What a policy rejects, or answers itself, is the future's outcome."""
    breaker = CircuitBreaker(1, on=transient, cooldown=60)
    made = channel(stack, rpc, Pipeline(breaker))
    rpc.script = [DOWN]
    ask = made.unary_unary("/test.Echo/unary_unary")
    assert ask.future(b"x").code() is DOWN
    future = ask.future(b"x")
    assert isinstance(future.exception(5), CircuitOpen)
    with pytest.raises(CircuitOpen):
        future.result()
    assert future.code() is grpc.StatusCode.UNKNOWN
    instead = channel(stack, rpc, Fallback(value=b"instead", on=transient)).unary_unary("/test.Echo/unary_unary")
    rpc.script = [DOWN]
    assert instead.future(b"x").result(5) == b"instead"


def test_answer_with_its_call(stack: ExitStack, rpc: RpcServer) -> None:
    """`with_call` has the call of the attempt that succeeded."""
    rpc.script = [DOWN]
    answer, call = channel(stack, rpc).unary_unary("/test.Echo/unary_unary").with_call(b"x")
    assert (answer, call.code()) == (b"x", grpc.StatusCode.OK)


def test_stream_is_a_call(stack: ExitStack, rpc: RpcServer) -> None:
    """A stream of answers can be asked, iterated and cancelled as gRPC's own."""
    rpc.script = [DOWN]
    call = channel(stack, rpc).unary_stream("/test.Echo/unary_stream")(b"x")
    assert isinstance(call, grpc.Call)
    assert next(call) == b"x"
    assert list(call) == [b"x"]
    assert (call.code(), call.is_active()) == (grpc.StatusCode.OK, False)
    broken = channel(stack, rpc).unary_stream("/test.Echo/unary_stream")(b"x")
    broken.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        list(broken)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_two_interceptors(stack: ExitStack, rpc: RpcServer) -> None:
    """An interceptor below sees each attempt, and an error that it raises is what the policy sees."""
    seen: list[str] = []

    class Below(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(dict(client_call_details.metadata)["x-attempt"])
            if len(seen) == 1:
                raise ConnectionResetError("below")
            return continuation(client_call_details, request)

    made = channel(stack, rpc, Retry(on=ConnectionError, backoff=0), Below())
    assert made.unary_unary("/test.Echo/unary_unary")(b"x") == b"x"
    assert made.unary_unary("/test.Echo/unary_unary").future(b"x").result(5) == b"x"
    assert seen == ["1", "2", "1"]


def test_spent_messages_are_not_sent_again(stack: ExitStack, rpc: RpcServer) -> None:
    """An iterator of messages is spent by the first attempt, and the error says so."""
    rpc.script = [DOWN]
    with pytest.raises(grpc.RpcError) as caught:
        channel(stack, rpc).stream_unary("/test.Echo/stream_unary")(iter([b"a"]))
    assert "its messages are spent" in caught.value.__notes__[0]
    assert len(rpc.calls) == 1


def in_asyncio(rpc: RpcServer, scenario: Any, policy: Any = None) -> None:
    async def main() -> None:
        interceptors = AsyncResilientInterceptor(policy=policy or retry(), repeat=ALL)
        async with grpc.aio.insecure_channel(rpc.target, interceptors=[*interceptors]) as made:
            await scenario(made)

    asyncio.run(main())


def test_asyncio_call_is_a_call(rpc: RpcServer) -> None:
    """A call can be asked for its status and metadata, whether it succeeds or fails."""

    async def scenario(made: Any) -> None:
        rpc.script = [DOWN]
        call = made.unary_unary("/test.Echo/unary_unary")(b"x")
        assert await call == b"x"
        assert await call.code() is grpc.StatusCode.OK
        rpc.script = [DOWN, DOWN, (DOWN, (("why", "third"),))]
        call = made.unary_unary("/test.Echo/unary_unary")(b"x")
        assert await call.code() is DOWN
        assert ("why", "third") in [tuple(pair) for pair in await call.trailing_metadata()]
        assert call.done()

    in_asyncio(rpc, scenario)


def test_asyncio_call_is_cancelled(rpc: RpcServer) -> None:
    """Cancelling a call, or the task that awaits it, makes no other attempt."""

    async def scenario(made: Any) -> None:
        rpc.script = ["hang"] * 4
        call = made.unary_unary("/test.Echo/unary_unary")(b"x")
        await asyncio.to_thread(rpc.called.wait, 5)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await made.unary_unary("/test.Echo/unary_unary")(b"x")
        assert len(rpc.calls) == 2

    in_asyncio(rpc, scenario, Retry(on=Exception, backoff=0))


def test_asyncio_streams_by_hand(rpc: RpcServer) -> None:
    """`read()` gets each answer once, and `write()` reaches the server without a deadlock."""

    async def scenario(made: Any) -> None:
        rpc.script = [DOWN]
        call = made.unary_stream("/test.Echo/unary_stream")(b"x")
        assert [await call.read(), await call.read(), await call.read()] == [b"x", b"x", grpc.aio.EOF]
        for kind in ("stream_unary", "stream_stream"):
            call = getattr(made, kind)(f"/test.Echo/{kind}")()
            await call.write(b"1")
            await call.write(b"2")
            await call.done_writing()
            answers = [await call] if kind == "stream_unary" else [answer async for answer in call]
            assert answers == ([b"12"] if kind == "stream_unary" else [b"1", b"2"])

    in_asyncio(rpc, scenario)


def test_asyncio_generators_are_spent(rpc: RpcServer) -> None:
    """Messages from an async generator are sent once; those of something that begins anew are sent again."""

    async def generator() -> Any:
        yield b"a"

    class Again:
        def __aiter__(self) -> Any:
            return generator()

    async def scenario(made: Any) -> None:
        ask = made.stream_unary("/test.Echo/stream_unary")
        rpc.script = [DOWN]
        assert await ask(Again()) == b"a"
        rpc.script = [DOWN]
        with pytest.raises(grpc.RpcError) as caught:
            await ask(generator())
        assert "its messages are spent" in caught.value.__notes__[0]
        assert rpc.attempts() == ["1", "2", "1"]

    in_asyncio(rpc, scenario)
