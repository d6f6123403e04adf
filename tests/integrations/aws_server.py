"""A server that answers as AWS does, request by request, and clients of botocore for it."""

from __future__ import annotations

import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.config
import botocore.session

__all__ = ["AwsServer", "client_of"]


class AwsServer:
    """Answers by the next step of its script, and with success once the script is over.

    A step is a status and an error code, those and headers, a body for a status of 200, or "reset".

    Attributes:
        requests: method, headers and body of each.
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        aws = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.chunks() if "chunked" in headers.get("transfer-encoding", "") else self.whole(headers)
                aws.requests.append((self.command, headers, body))
                step = aws.script.pop(0) if aws.script else 200
                if step == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    return
                status, code, extra = (*step, {})[:3] if isinstance(step, tuple) else (200, None, {})
                text = step if isinstance(step, bytes) else aws.body(headers, code)
                self.send_response(status)
                for name, value in {**extra, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            def whole(self, headers: dict[str, str]) -> bytes:
                return self.rfile.read(int(headers.get("content-length", 0)))

            def chunks(self) -> bytes:
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = "127.0.0.1", self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @staticmethod
    def body(headers: dict[str, str], code: str | None) -> bytes:
        """An error with that code, or a success without content, in the protocol of the request."""
        if "x-amz-target" in headers:
            return json.dumps({"__type": code, "message": "as told"} if code else {}).encode()
        if code is None:
            return b"<ListAllMyBucketsResult/>"
        return f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()

    def attempts(self) -> list[str]:
        """The number that each request gave itself."""
        return [headers.get("x-attempt", "") for _, headers, _ in self.requests]

    def end(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


SESSION = botocore.session.Session()  # reading the models takes longer than most tests


def client_of(service: str, url: str, *, mode: str = "standard", timeout: float = 3.0, **options: Any) -> Any:
    """A client whose region and credentials mean nothing."""
    config = botocore.config.Config(
        retries={"mode": mode},
        connect_timeout=5.0,
        read_timeout=timeout,
        s3={"addressing_style": "path"},
        **options,
    )
    return SESSION.create_client(
        service,
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        config=config,
    )
