"""httpx through a server that fails twice: what the library does below an ordinary client."""

from __future__ import annotations

import sys

import httpx

from resilience.integrations.httpx import ResilientTransport


def main(url: str) -> None:
    """Ask a flaky server for a page and say what came."""
    with httpx.Client(transport=ResilientTransport()) as client:
        response = client.get(url)
    print(f"httpx: {response.status_code} after {response.request.headers['x-attempt']} attempts")


if __name__ == "__main__":
    main(sys.argv[1])
