"""Every client in one form, `send(method, url, ...) -> (status, body)`, so that what they share is tested once."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
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

Send = Callable[..., tuple[int, bytes]]


def httpx_sync(stack: ExitStack, policy: Any, **options: Any) -> Send:
    client = stack.enter_context(httpx.Client(transport=ResilientTransport(policy=policy, **options), timeout=0.2))

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        response = client.request(method, url, content=body, headers=headers, files=files)
        return response.status_code, response.content

    return send


def httpx_async(stack: ExitStack, policy: Any, **options: Any) -> Send:
    runner = stack.enter_context(asyncio.Runner())
    client = httpx.AsyncClient(transport=ResilientTransport(policy=policy, **options), timeout=0.2)
    stack.callback(lambda: runner.run(client.aclose()))

    async def pieces(body: Any) -> Any:
        for piece in body:
            yield piece

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        content = body if body is None or isinstance(body, bytes) else pieces(body)
        request = client.request(method, url, content=content, headers=headers, files=files)
        response = runner.run(request, context=contextvars.copy_context())
        return response.status_code, response.content

    return send


def httpx2_sync(stack: ExitStack, policy: Any, **options: Any) -> Send:
    client = stack.enter_context(httpx2.Client(transport=Httpx2Transport(policy=policy, **options), timeout=0.2))

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        response = client.request(method, url, content=body, headers=headers, files=files)
        return response.status_code, response.content

    return send


def by_aiohttp(stack: ExitStack, policy: Any, **options: Any) -> Send:
    runner = stack.enter_context(asyncio.Runner())

    async def opened() -> aiohttp.ClientSession:
        middleware = ResilientMiddleware(policy=policy, **options)
        return aiohttp.ClientSession(middlewares=(middleware,), timeout=aiohttp.ClientTimeout(sock_read=0.2))

    session = runner.run(opened())
    stack.callback(lambda: runner.run(session.close()))

    async def pieces(body: Any) -> Any:
        for piece in body:
            yield piece

    async def request(method: str, url: str, body: Any, headers: Any) -> tuple[int, bytes]:
        async with session.request(method, url, data=body, headers=headers) as response:
            return response.status, await response.read()

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        if files is not None:  # form data of bytes is what aiohttp can write twice
            body = b"".join(file.read() for file in files.values())
        plain = body is None or isinstance(body, bytes)
        sent = request(method, url, body if plain else pieces(body), headers)
        return runner.run(sent, context=contextvars.copy_context())

    return send


def by_requests(stack: ExitStack, policy: Any, **options: Any) -> Send:
    session = stack.enter_context(requests.Session())
    session.trust_env = False
    session.mount("http://", ResilientAdapter(policy=policy, **options))

    def send(method: str, url: str, body: Any = None, headers: Any = None, files: Any = None) -> tuple[int, bytes]:
        response = session.request(method, url, data=body, headers=headers, files=files, timeout=0.2)
        return response.status_code, response.content

    return send


def by_urllib3(stack: ExitStack, policy: Any, **options: Any) -> Send:
    pool = stack.enter_context(ResilientPoolManager(policy=policy, timeout=urllib3.Timeout(0.2), **options))

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
    "aiohttp": by_aiohttp,
    "requests": by_requests,
    "urllib3": by_urllib3,
}
# What each client raises where the connection is refused, lost, or silent for longer than its timeout.
OWN = {
    "httpx": httpx.TransportError,
    "httpx async": httpx.TransportError,
    "httpx2": httpx2.TransportError,
    "aiohttp": aiohttp.ClientError,
    "requests": requests.RequestException,
    "urllib3": urllib3.exceptions.HTTPError,
}
