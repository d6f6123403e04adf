"""A loopback server with a thread for each connection.

One thread each is wasteful and exactly right here: a switch that makes every answer hang must hang every caller, not
the first sixteen of them.
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any, Self

from werkzeug.serving import WSGIRequestHandler, make_server

from examples.auth0_standin import directory
from examples.auth0_standin.app import create_provider

HOST = "127.0.0.1"


class _Quiet(WSGIRequestHandler):
    """A server that keeps no log: tokens travel through it."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


class ProviderServer:
    """The stand-in on a port of its own, in threads of this process.

    with ProviderServer() as provider:
        requests.get(provider.issuer + ".well-known/jwks.json")

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int = 0, *, audience: str = directory.AUDIENCE) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((HOST, port))
            self._socket.listen(512)
            self.port: int = self._socket.getsockname()[1]
            self.issuer = f"http://{HOST}:{self.port}/"
            self.app = create_provider(self.issuer, audience=audience)
            self._server = make_server(
                HOST, self.port, self.app, threaded=True, request_handler=_Quiet, fd=self._socket.fileno()
            )
        except BaseException:
            self._socket.close()
            raise
        self._thread: threading.Thread | None = None

    def serve_forever(self) -> None:
        """Serve until `close` is called from another thread, or until interrupted."""
        try:
            self._server.serve_forever(poll_interval=0.05)
        finally:
            self._socket.close()

    def start(self) -> Self:
        """Serve from a daemon thread."""
        self._thread = threading.Thread(target=self.serve_forever, name="provider", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening, and let go of whoever hangs."""
        self._server.shutdown()
        self.app.test_client().post("/control/reset")
        if self._thread is not None:
            self._thread.join(5.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
