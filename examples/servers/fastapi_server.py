"""FastAPI behind limits: one for every address, and one more for a dear route."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import Depends, FastAPI

from resilience import Throttle
from resilience.integrations.asgi import ResilienceMiddleware
from resilience.integrations.fastapi import limit

app = FastAPI()
app.add_middleware(ResilienceMiddleware, throttle=Throttle("100/s burst 1000", name="example.fastapi"))


@app.get("/report", dependencies=[Depends(limit("5/minute", name="report"))])
async def report() -> str:
    """A page that costs us something."""
    return "a report"


async def main() -> None:
    """Ask seven times and say what came."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://example") as web:
        for _ in range(7):
            answer = await web.get("/report")
            print(answer.status_code, answer.headers["RateLimit"], answer.headers.get("Retry-After", ""))


if __name__ == "__main__":
    asyncio.run(main())
