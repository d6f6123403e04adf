"""Plain WSGI behind a limit: five requests a minute from each address, and 429 for what is more."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import urllib3

from resilience import Throttle, context
from resilience.integrations.wsgi import ResilienceMiddleware


def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Say how much time the caller has given us."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{context.remaining()} s left for {environ['PATH_INFO']}".encode()]


app = ResilienceMiddleware(page, throttle=Throttle("5/minute", name="example.wsgi"))


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def main() -> None:
    """Serve on loopback, ask seven times and say what came."""
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for _ in range(7):
            answer = urllib3.request("GET", f"http://127.0.0.1:{server.server_port}/", retries=False)
            print(answer.status, answer.headers["RateLimit"], answer.headers.get("Retry-After", ""))
        server.shutdown()


if __name__ == "__main__":
    main()
