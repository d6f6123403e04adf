"""aiohttp through a server that fails twice: what the library does below an ordinary client."""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from resilience.integrations.aiohttp import ResilientMiddleware


async def fetch(url: str) -> int:
    """One request."""
    async with aiohttp.ClientSession(middlewares=(ResilientMiddleware(),)) as session, session.get(url) as response:
        return response.status


def main(url: str) -> None:
    """Ask a flaky server for a page and say what came."""
    print(f"aiohttp: {asyncio.run(fetch(url))}")


if __name__ == "__main__":
    main(sys.argv[1])
