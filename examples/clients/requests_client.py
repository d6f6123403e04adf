"""requests through a server that fails twice: what the library does below an ordinary client."""

from __future__ import annotations

import sys

import requests

from resilience.integrations.requests import ResilientAdapter


def main(url: str) -> None:
    """Ask a flaky server for a page and say what came."""
    with requests.Session() as session:
        session.mount("http://", ResilientAdapter())
        response = session.get(url, timeout=2)
    print(f"requests: {response.status_code} after {response.request.headers['X-Attempt']} attempts")


if __name__ == "__main__":
    main(sys.argv[1])
