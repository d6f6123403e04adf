"""Plain ASGI behind a limit, without a framework: five requests a minute from each address."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from resilience import Throttle, context
from resilience.integrations.asgi import ResilienceMiddleware


async def page(scope: Any, _receive: Any, send: Any) -> None:
    """Say how much time the caller has given us, or take too much of it."""
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    body = f"{context.remaining()} s left".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


app = ResilienceMiddleware(page, throttle=Throttle("5/minute", name="example.asgi"))


async def main() -> None:
    """Ask for what takes too long, then for more than we may, and say what came."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://example") as web:
        for path, milliseconds in [("/slow", "50")] + [("/", "5000")] * 6:
            answer = await web.get(path, headers={"X-Deadline-Ms": milliseconds})
            print(answer.status_code, answer.headers["RateLimit"], answer.headers.get("Retry-After", ""))


if __name__ == "__main__":
    asyncio.run(main())
