"""A server of gRPC that fails as it is told, call by call, and a client of each kind; no generated code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio

from resilience.integrations.grpc import AsyncResilientInterceptor, ResilientInterceptor

__all__ = ["CLIENTS", "RpcServer", "aio", "blocking"]

Ask = Callable[..., list[bytes]]
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class RpcServer:
    """Echoes what it gets, `unary_stream` twice, once the steps of its script are over.

    A step is a status, a status with trailing metadata, those with the text, None for an answer, "hang" for none, or
    "late", which fails a stream after its first message.

    Attributes:
        calls: the metadata of each call, and `left`, its deadline in seconds.
        called: set once there was one.
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.calls: list[dict[str, Any]] = []
        self.called = threading.Event()
        self.ended = threading.Event()
        made = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, f"_{kind}")) for kind in KINDS}
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", made),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self.target = f"127.0.0.1:{self.port}"
        self._server.start()

    def end(self) -> None:
        self.ended.set()
        self._server.stop(0).wait(5)
        self._pool.shutdown()

    def attempts(self) -> list[str]:
        """The number that each call gave itself."""
        return [call["x-attempt"] for call in self.calls]

    def _step(self, asked: Any) -> bool:
        self.calls.append({**dict(asked.invocation_metadata()), "left": asked.time_remaining()})
        self.called.set()
        step = self.script.pop(0) if self.script else None
        if step == "hang":
            self.ended.wait(10)
        elif step is not None and step != "late":
            code, trailers, text = (*step, "as told")[:3] if isinstance(step, tuple) else (step, (), "as told")
            if trailers:
                asked.set_trailing_metadata(trailers)
            asked.abort(code, text)
        return step == "late"

    def _unary_unary(self, request: bytes, asked: Any) -> bytes:
        self._step(asked)
        return request

    def _unary_stream(self, request: bytes, asked: Any) -> Iterator[bytes]:
        late = self._step(asked)
        yield request
        if late:
            asked.abort(grpc.StatusCode.UNAVAILABLE, "late")
        yield request

    def _stream_unary(self, requests: Iterator[bytes], asked: Any) -> bytes:
        whole = b"".join(requests)
        self._step(asked)
        return whole

    def _stream_stream(self, requests: Iterator[bytes], asked: Any) -> Iterator[bytes]:
        self._step(asked)
        yield from requests


def blocking(stack: ExitStack, target: str, policy: Any = None, repeat: Any = ("/test.Echo/*",), **more: Any) -> Ask:
    """A client of a blocking channel, as a function: kind, request and options to the list of answers."""
    plain = stack.enter_context(grpc.insecure_channel(target, **more))
    channel = grpc.intercept_channel(plain, ResilientInterceptor(policy=policy, repeat=repeat))

    def ask(kind: str, request: Any, **options: Any) -> list[bytes]:
        answer = getattr(channel, kind)(f"/test.Echo/{kind}")(request, **options)
        return list(answer) if kind.endswith("_stream") else [answer]

    return ask


def aio(stack: ExitStack, target: str, policy: Any = None, repeat: Any = ("/test.Echo/*",), **more: Any) -> Ask:
    """The same of an asyncio channel."""
    runner = stack.enter_context(asyncio.Runner())

    async def opened() -> Any:
        interceptors = AsyncResilientInterceptor(policy=policy, repeat=repeat)
        return grpc.aio.insecure_channel(target, interceptors=interceptors, **more)

    channel = runner.run(opened())
    stack.callback(lambda: runner.run(channel.close()))

    async def asked(kind: str, request: Any, options: Any) -> list[bytes]:
        call = getattr(channel, kind)(f"/test.Echo/{kind}")(request, **options)
        return [answer async for answer in call] if kind.endswith("_stream") else [await call]

    def ask(kind: str, request: Any, **options: Any) -> list[bytes]:
        return runner.run(asked(kind, request, options), context=contextvars.copy_context())

    return ask


CLIENTS = {"blocking": blocking, "aio": aio}
