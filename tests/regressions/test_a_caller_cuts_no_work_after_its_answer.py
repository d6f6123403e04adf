"""A caller's deadline cancelled what an ASGI application did after the answer: a stranger could cut background work."""

from __future__ import annotations

from typing import Any

from resilience.context import remaining
from resilience.integrations.asgi import ResilienceMiddleware
from tests.colours import Colour, async_colours

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "client": ("192.0.2.1", 1)}


@async_colours
async def test_work_after_the_answer_is_not_bound(colour: Colour) -> None:
    """Up to the last piece of the answer the caller's deadline holds; what comes after takes the time that it takes."""
    done: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        done.append(remaining() is not None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await colour.sleep(5.0)
        done.append(remaining())

    async def send(message: Any) -> None:
        done.append(message["type"])

    door: Any = ResilienceMiddleware(app)
    await door({**SCOPE, "headers": [(b"x-deadline-ms", b"50")]}, None, send)
    assert done == [True, "http.response.start", "http.response.body", None]
