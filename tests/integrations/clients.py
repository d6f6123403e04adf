"""Every client in one form, `send(method, url, ...) -> (status, body)`, so that what they share is tested once."""

from __future__ import annotations

import asyncio
import contextvars
import ssl
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
import urllib3

from resilience.integrations.aiohttp import ResilientMiddleware
from resilience.integrations.httpx import ResilientTransport
from resilience.integrations.httpx2 import ResilientTransport as Httpx2Transport
from resilience.integrations.requests import ResilientAdapter
from resilience.integrations.urllib3 import ResilientPoolManager

# Loading the certificates of the world takes longer than most tests.
TRUST = ssl.create_default_context()
CONNECT = 5.0  # seconds; a busy machine is no fault
Send = Callable[..., tuple[int, bytes]]


def _blocking(client: Any) -> Send:
    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        response = client.request(method, url, content=body, headers=headers, files=files)
        return response.status_code, response.content

    return send


def _running(runner: asyncio.Runner, client: Any) -> Send:
    async def request(method: str, url: str, **options: Any) -> tuple[int, bytes]:
        response = await client.request(method, url, **options)
        return response.status_code, response.content

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        content = body if body is None or isinstance(body, bytes) else pieces(body)
        return run(runner, request(method, url, content=content, headers=headers, files=files))

    return send


def run(runner: asyncio.Runner, request: Coroutine[Any, Any, tuple[int, bytes]]) -> tuple[int, bytes]:
    """Run a request to its end, in a copy of the caller's context; no task of it may be left."""

    async def alone() -> tuple[int, bytes]:
        try:
            return await request
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left

    return runner.run(alone(), context=contextvars.copy_context())


async def pieces(body: Any) -> Any:
    for piece in body:
        yield piece


def httpx_sync(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    transport = ResilientTransport(policy=policy, verify=TRUST, **options)
    return _blocking(
        stack.enter_context(httpx.Client(transport=transport, timeout=httpx.Timeout(CONNECT, read=timeout)))
    )


def httpx_async(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    runner = stack.enter_context(asyncio.Runner())
    transport = ResilientTransport(policy=policy, verify=TRUST, **options)
    client = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(CONNECT, read=timeout))
    stack.callback(lambda: runner.run(client.aclose()))
    return _running(runner, client)


def httpx2_sync(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    transport = Httpx2Transport(policy=policy, verify=TRUST, **options)
    return _blocking(
        stack.enter_context(httpx2.Client(transport=transport, timeout=httpx2.Timeout(CONNECT, read=timeout)))
    )


def httpx2_async(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    runner = stack.enter_context(asyncio.Runner())
    transport = Httpx2Transport(policy=policy, verify=TRUST, **options)
    client = httpx2.AsyncClient(transport=transport, timeout=httpx2.Timeout(CONNECT, read=timeout))
    stack.callback(lambda: runner.run(client.aclose()))
    return _running(runner, client)


def by_aiohttp(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    runner = stack.enter_context(asyncio.Runner())

    async def opened() -> aiohttp.ClientSession:
        middleware = ResilientMiddleware(policy=policy, **options)
        return aiohttp.ClientSession(
            middlewares=(middleware,), timeout=aiohttp.ClientTimeout(sock_connect=CONNECT, sock_read=timeout)
        )

    session = runner.run(opened())
    stack.callback(lambda: runner.run(session.close()))

    async def request(method: str, url: str, body: Any, headers: Any) -> tuple[int, bytes]:
        async with session.request(method, url, data=body, headers=headers) as response:
            return response.status, await response.read()

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        if files is not None:  # form data of bytes is what aiohttp can write twice
            body = b"".join(file.read() for file in files.values())
        plain = body is None or isinstance(body, bytes)
        return run(runner, request(method, url, body if plain else pieces(body), headers))

    return send


def by_requests(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    session = stack.enter_context(requests.Session())
    session.trust_env = False
    adapter = ResilientAdapter(policy=policy, **options)
    session.mount("http://", adapter)
    session.mount("https://", adapter)

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        response = session.request(method, url, data=body, headers=headers, files=files, timeout=(CONNECT, timeout))
        return response.status_code, response.content

    return send


def by_urllib3(stack: ExitStack, policy: Any, *, timeout: float = 0.2, **options: Any) -> Send:
    pool = stack.enter_context(
        ResilientPoolManager(policy=policy, timeout=urllib3.Timeout(connect=CONNECT, read=timeout), **options)
    )

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        if files is not None:
            fields = {name: (name, file.read()) for name, file in files.items()}
            response = pool.request(method, url, fields=fields, headers=headers)
        else:
            response = pool.request(method, url, body=body, headers=headers)
        return response.status, response.data

    return send


CLIENTS = {
    "httpx": httpx_sync,
    "httpx async": httpx_async,
    "httpx2": httpx2_sync,
    "httpx2 async": httpx2_async,
    "aiohttp": by_aiohttp,
    "requests": by_requests,
    "urllib3": by_urllib3,
}
# What each client raises where the connection is refused, lost, or silent for longer than its timeout.
OWN = {
    "httpx": httpx.TransportError,
    "httpx async": httpx.TransportError,
    "httpx2": httpx2.TransportError,
    "httpx2 async": httpx2.TransportError,
    "aiohttp": aiohttp.ClientError,
    "requests": requests.RequestException,
    "urllib3": urllib3.exceptions.HTTPError,
}


def _named(module: Any, names: dict[str, str]) -> dict[str, tuple[type[Exception], ...]]:
    silent = dict.fromkeys(("black hole", "slow headers", "stalled body"), names["latency"])
    named = {**silent, **names}
    return {fault: tuple(getattr(module, kind) for kind in kinds.split()) for fault, kinds in named.items()}


_FORK = {
    "latency": "ReadTimeout",
    "reset before headers": "ReadError RemoteProtocolError",  # the latter where it was still writing
    "half of the headers": "RemoteProtocolError",
    "end before headers": "RemoteProtocolError",
    "half response": "RemoteProtocolError",
    "reset after headers": "ReadError",
    "refused": "ConnectError",
    "name": "ConnectError",
    "tls": "ConnectError",
}
_REQUESTS = {
    "latency": "ReadTimeout",
    "reset before headers": "ConnectionError",
    "half of the headers": "ConnectionError",
    "end before headers": "ConnectionError",
    "half response": "ChunkedEncodingError",
    "reset after headers": "ChunkedEncodingError",
    "stalled body": "ConnectionError",
    "refused": "ConnectionError",
    "name": "ConnectionError",
    "tls": "SSLError",
}
_URLLIB3 = {
    "latency": "ReadTimeoutError",
    "reset before headers": "ProtocolError",
    "half of the headers": "ProtocolError",
    "end before headers": "ProtocolError",
    "half response": "ProtocolError",
    "reset after headers": "ProtocolError",
    "refused": "NewConnectionError",
    "name": "NameResolutionError",
    "tls": "SSLError",
}
_AIOHTTP = {
    "latency": "SocketTimeoutError",
    "reset before headers": "ClientOSError",
    "half of the headers": "ServerDisconnectedError",
    "end before headers": "ServerDisconnectedError",
    "half response": "ClientPayloadError",
    "reset after headers": "ClientPayloadError",
    "refused": "ClientConnectorError",
    "name": "ClientConnectorDNSError",
    "tls": "ClientSSLError",
}
# The same fault by fault, below the MaxRetryError that urllib3 puts around most of them.
FAULT_ERRORS: dict[str, dict[str, tuple[type[Exception], ...]]] = {
    "httpx": _named(httpx, _FORK),
    "httpx async": _named(httpx, _FORK),
    "httpx2": _named(httpx2, _FORK),
    "httpx2 async": _named(httpx2, _FORK),
    "aiohttp": _named(aiohttp, _AIOHTTP),
    "requests": _named(requests.exceptions, _REQUESTS),
    "urllib3": _named(urllib3.exceptions, _URLLIB3),
}
