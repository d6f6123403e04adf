"""Real servers on loopback, and more requests at once than they are allowed to answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server

__all__ = ["asgi_server", "flood", "wsgi_server"]

AT_ONCE = 200
"""Connections that are open at one time."""


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None: ...


@contextlib.contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    """Werkzeug's server, with a thread for each connection. Gives the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = int(listener.getsockname()[1])
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join(5)
        listener.close()


@contextlib.contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    """Uvicorn, which leaves X-Forwarded-For alone. Gives the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(app, log_config=None, lifespan="off", proxy_headers=False, ws="none", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()


def flood(port: int, path: str, requests: int = 1000, headers: str = "") -> Counter[int]:
    """Send so many requests, each on a connection of its own; how many answers there were of each status.

    `headers` may hold a `{}`, which is the number of the request.
    """
    return asyncio.run(_flood(port, path, requests, headers))


async def _flood(port: int, path: str, requests: int, headers: str) -> Counter[int]:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> int:
        async with places:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers.format(number)}\r\n"
            writer.write(head.encode())
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return int(answer.split(b" ", 2)[1])

    return Counter(await asyncio.gather(*map(one, range(requests))))
