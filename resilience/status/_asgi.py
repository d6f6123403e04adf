"""The page as an ASGI application, under asyncio and trio."""

from __future__ import annotations

import sys

from resilience._checks import callable_or_none
from resilience._runtime import current_runtime
from resilience.status._answers import LARGEST, STREAM, Answer, Asked, act, answer, is_change, refusal
from resilience.status._stream import EVERY, TICKS, Stream, check_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["asgi_app"]


def asgi_app(*, guard: Callable[[Any], Any] | None = None, streams: int = 100) -> App:
    """The live page as an ASGI application: mount it under any path, behind whatever lets people in.

    Args:
        guard: called with the scope of a request that would isolate or release a circuit; a true answer allows it. It
            may be an `async def`. Without a guard nothing can be changed.
        streams: readers that are served by a stream at the same time, the others poll; 0 for none.

    Raises:
        TypeError, ValueError: `guard` cannot be called, or `streams` is no integer from 0 on.
    """
    callable_or_none("guard", guard)
    check_streams(streams)
    open_streams: set[Stream] = set()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        asked = _asked(scope, may_stream=len(open_streams) < streams)
        if guard is not None and is_change(asked):
            found = refusal(asked) or act(asked, await _body(receive), allowed=await _allowed(guard, scope))
            await _write(found, asked, send)
            return
        found = answer(asked, guarded=guard is not None)
        if found.kind != STREAM or asked.method == "HEAD":
            await _write(found, asked, send)
            return
        stream = Stream(guarded=guard is not None)
        open_streams.add(stream)
        try:
            await _start(found, send)
            await _pour(stream, receive, send)
        finally:
            open_streams.discard(stream)

    return app


async def _pour(stream: Stream, receive: Receive, send: Send) -> None:
    listening = _Departure(receive)
    try:
        for _ in range(TICKS):
            await send({"type": "http.response.body", "body": stream.next(), "more_body": True})
            if await listening.within(EVERY):
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        listening.stop()


class _Departure:
    """Waits for a reader to go away, for a while at a time, on the loop that is running."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._runtime = current_runtime()
        self._task: Any = None

    async def within(self, seconds: float) -> bool:
        """Whether the reader has gone within so many seconds."""
        if self._runtime == "trio":
            with sys.modules["trio"].move_on_after(seconds) as scope:
                await self._gone()
            return not scope.cancelled_caught
        asyncio = sys.modules["asyncio"]
        if self._task is None:
            self._task = asyncio.ensure_future(self._gone())
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        return bool(done)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _asked(scope: dict[str, Any], *, may_stream: bool) -> Asked:
    headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
    path, mount = scope["path"], scope.get("root_path", "")
    # Servers and frameworks differ in whether the path still holds where the application is mounted.
    if mount and (path == mount or path.startswith(f"{mount}/")):
        path = path[len(mount) :]
    return Asked(scope["method"], path if mount else path or "/", headers, mount, may_stream)


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= LARGEST:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body if len(body) <= LARGEST else b""
    return b""


async def _allowed(guard: Callable[[Any], Any], scope: dict[str, Any]) -> bool:
    may = guard(scope)
    return bool(await may if hasattr(may, "__await__") else may)


async def _start(found: Answer, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in found.headers]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})


async def _write(found: Answer, asked: Asked, send: Send) -> None:
    await _start(found, send)
    await send({"type": "http.response.body", "body": b"" if asked.method == "HEAD" else found.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
