"""urllib3 through a server that fails twice: what the library does below an ordinary client."""

from __future__ import annotations

import sys

from resilience.integrations.urllib3 import ResilientPoolManager


def main(url: str) -> None:
    """Ask a flaky server for a page and say what came."""
    with ResilientPoolManager() as pool:
        response = pool.request("GET", url, timeout=2)
    print(f"urllib3: {response.status} {response.data.decode()}")


if __name__ == "__main__":
    main(sys.argv[1])
