"""A small server on a real socket that misbehaves as it is told, request by request."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

__all__ = ["FlakyServer"]


class FlakyServer:
    """Answers each request by the next line of its script, and with 200 once the script is over.

    A step is a status, a pair of status and headers, or "reset" (before any byte), "half" (a body that breaks off),
    "status" (a status line that breaks off), "torn" (a reset within the body), "stall" (no more of the body until the
    server ends), "hang" (no answer until then), "gibberish" (an answer to whatever comes),
    "refuse" (a 503 whose body stalls).
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self._ended = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join(5)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _listen(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._ended.is_set():
                connection.close()
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while self._answer(connection, lines):
                    pass
        except OSError:
            return

    def _answer(self, connection: socket.socket, lines: Any) -> bool:
        if self.script[:1] == ["gibberish"]:
            self.script.pop()
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n")
            return False
        first = lines.readline()
        if not first:
            return False
        headers: dict[str, str] = {}
        while line := lines.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(lines.readline(), 16):
                body += lines.read(size)
                lines.readline()
            lines.readline()
        else:
            body = lines.read(int(headers.get("content-length", 0)))
        self.requests.append((first.decode("latin-1").split(" ")[0], headers, body))
        step = self.script.pop(0) if self.script else 200
        if step == "hang":
            self._ended.wait(10)
            return False
        if step in ("torn", "stall", "refuse"):
            status = b"503" if step == "refuse" else b"200"
            connection.sendall(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 100\r\n\r\nhalf")
            self._ended.wait(0.02 if step == "torn" else 10)  # what is reset at once takes with it what was sent
        if step in ("reset", "torn"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if step in ("stall", "refuse"):
            return False
        if step == "status":
            connection.sendall(b"HTTP/1.")
            return False
        if step == "half":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        status, extra = step if isinstance(step, tuple) else (step, {})
        text = f"status {status}".encode()
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(text)}", *(f"{k}: {v}" for k, v in extra.items())]
        connection.sendall("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + text)
        return True
