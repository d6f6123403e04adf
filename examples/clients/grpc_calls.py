"""gRPC through a server that fails twice: what the library does below an ordinary stub, and below one of asyncio."""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio

from resilience.integrations.grpc import AsyncResilientInterceptor, ResilientInterceptor

READS = {"/test.Echo/*"}  # what may be called twice


def ask(target: str) -> bytes:
    """One call; with generated code, the channel goes to the stub."""
    with grpc.insecure_channel(target) as plain:
        channel = grpc.intercept_channel(plain, ResilientInterceptor(repeat=READS))
        answer: bytes = channel.unary_unary("/test.Echo/unary_unary")(b"hello", timeout=5)
        return answer


async def ask_async(target: str) -> bytes:
    """The same in asyncio."""
    interceptors = AsyncResilientInterceptor(repeat=READS)
    async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
        answer: bytes = await channel.unary_unary("/test.Echo/unary_unary")(b"hello", timeout=5)
        return answer


def main(target: str) -> None:
    """Call a flaky server and say what came."""
    print(f"grpc: {ask(target)!r}, and {asyncio.run(ask_async(target))!r} in asyncio")


if __name__ == "__main__":
    main(sys.argv[1])
