"""Connections of our own to a server that somebody's client knows the way to.

A client that is passed in is set up for other work: it waits for five seconds or for ever, retries behind our back, and
its pool may be used up by others. So of a client we take the address and the credentials, and make connections that
answer within the store's time or fail, each tried once. What cannot be taken apart like that, a cluster client for one,
is used as it is (`_borrowed`).

A connection that has failed in any way is closed: an answer that comes too late must not be read as the next one.

A driver bounds each wait for bytes and not their sum: a handshake, a question in two steps, or an answer that comes a
little at a time would take several times as long. So here each wait gets what is left of the decision's time
(`_Hurried`). Only the name of a host is looked up in the system's own time.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
import time
from collections import deque
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["AsyncWires", "Wires", "is_plain"]

_MOST = 64
"""Connections at a time, per process and event loop; whoever finds them all in use waits within the store's time."""

_RESTED = 0.05
"""Seconds without use after which a connection is looked at before it is used again."""

_NEARLY = 0.002
"""Seconds by which a wait may be too long."""

_DRIVERS = ("redis", "valkey")

_TAKEN_OVER = ("host", "port", "path", "db", "username", "password", "credential_provider", "client_name")


def is_plain(client: Any) -> bool:
    """Whether a client is one server's, with connections of the driver's own kind: ours can be made like them."""
    pool = getattr(client, "connection_pool", None)
    if type(pool).__name__ not in {"ConnectionPool", "BlockingConnectionPool"}:
        return False
    makers: list[Any] = [type(client), getattr(pool, "connection_class", object)]
    return all(maker.__module__.partition(".")[0] in _DRIVERS for maker in makers)


def _recipe(client: Any, timeout: float, *, looped: bool) -> tuple[type[Any], dict[str, Any]]:
    """The class of a client's connections, and the settings for ours."""
    pool = client.connection_pool
    settings = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name in _TAKEN_OVER or name.startswith(("ssl_", "socket_keepalive"))
    }
    library = type(client).__module__.partition(".")[0]
    retry = importlib.import_module(f"{library}.asyncio.retry" if looped else f"{library}.retry").Retry
    # What a driver would tell the server of itself is a round trip more; how to forbid that has changed over the years.
    base = importlib.import_module(f"{library}.asyncio.connection" if looped else f"{library}.connection")
    known = inspect.signature(base.AbstractConnection).parameters
    quiet = ("driver_info",) if "driver_info" in known else ("lib_name", "lib_version")
    settings |= {name: None for name in quiet if name in known}
    settings |= {
        "protocol": 2,
        "decode_responses": True,
        "retry": retry(importlib.import_module(f"{library}.backoff").NoBackoff(), 0),
        "socket_timeout": None if looped else timeout,
        "socket_connect_timeout": None if looped else timeout,
    }
    return pool.connection_class, settings


class Wires:
    """Connections for plain code. Safe from any thread."""

    __slots__ = ("_free", "_idle", "_make", "_settings")

    def __init__(self, client: Any, timeout: float) -> None:
        made, self._settings = _recipe(client, timeout, looped=False)
        self._make = _hurried(made)
        self.after_fork()

    def after_fork(self) -> None:
        """Forget all connections: in a forked child they are the parent's."""
        self._idle: deque[tuple[Any, float]] = deque()
        self._free = threading.BoundedSemaphore(_MOST)

    def send(self, until: float, *words: str | bytes) -> Any:
        """Send one command, return the answer by then, as `time.monotonic` reads; raises whatever the driver does."""
        packed = _packed(words)
        if not self._free.acquire(blocking=False) and not self._free.acquire(timeout=_left(until)):
            raise TimeoutError(f"all {_MOST} connections are in use")
        try:
            rested = 0.0
            try:
                wire, since = self._idle.pop()
                rested = time.monotonic() - since
            except IndexError:
                wire = self._make(**self._settings)
                wire.term = _Term(until)
            wire.term.until = until
            try:
                # What can be read before anything was asked is the end of the connection, or no answer of ours. One
                # that was in use a moment ago was not closed for being idle.
                if rested > _RESTED and _is_stale(wire):
                    wire.disconnect()
                wire.connect()
                wire.send_packed_command(packed)
                answer = wire.read_response()
            except BaseException as error:
                if is_missing(error):
                    self._idle.append((wire, time.monotonic()))
                else:
                    wire.disconnect()
                    self.drop()
                raise
            self._idle.append((wire, time.monotonic()))
            return answer
        finally:
            self._free.release()

    def drop(self) -> None:
        """Close what is idle: it was made to a server that has failed since."""
        while self._idle:
            self._idle.pop()[0].disconnect()


def _hurried(made: Any) -> Any:
    """A class of connections like `made`, each of which has until `term.until` for whatever it does."""

    def connect(self: Any) -> Any:
        return _Hurried(made._connect(self), self.term)

    def left(self: Any) -> float:
        return _left(self.term.until)

    def keep(_: Any, limit: object) -> None:
        """A driver sets this once, and asks for it before each address that it tries."""

    return type("Hurried", (made,), {"_connect": connect, "socket_connect_timeout": property(left, keep)})


class _Term:
    """Until when a connection has time, as `time.monotonic` reads."""

    __slots__ = ("until",)

    def __init__(self, until: float) -> None:
        self.until = until


class _Hurried:
    """A socket whose every wait for an answer ends when the time of its connection does."""

    __slots__ = ("_limit", "_socket", "_term", "sendall")

    def __init__(self, socket: Any, term: _Term) -> None:
        self._socket, self._term = socket, term
        self._limit: float | None = socket.gettimeout()
        # What is sent is small, and one question at a time: that does not wait.
        self.sendall = socket.sendall

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, limit: float | None) -> None:
        """Take a limit from the driver. Zero, by which it looks without waiting, stays zero."""
        self._limit = limit
        self._socket.settimeout(limit)

    def _hurry(self) -> None:
        limit = self._limit
        # To set it is a call to the system, and mostly it is right already.
        if limit and not -_NEARLY < self._term.until - time.monotonic() - limit < _NEARLY:
            self.settimeout(_left(self._term.until))

    def recv(self, *given: Any) -> Any:
        """Wait for bytes, while there is time."""
        self._hurry()
        return self._socket.recv(*given)

    def recv_into(self, *given: Any) -> Any:
        """Do what `recv` does."""
        self._hurry()
        return self._socket.recv_into(*given)


def _left(until: float) -> float:
    """Seconds until then. Raises TimeoutError where there are none."""
    left = until - time.monotonic()
    if left <= 0.0:
        raise TimeoutError("no answer in time")
    return left


class _Loop:
    __slots__ = ("free", "idle")

    def __init__(self) -> None:
        self.idle: deque[Any] = deque()
        self.free = asyncio.Semaphore(_MOST)


class AsyncWires:
    """Connections for asyncio, of each loop its own. The caller bounds the time."""

    __slots__ = ("_idle", "_make", "_settings")

    def __init__(self, client: Any, timeout: float) -> None:
        self._make, self._settings = _recipe(client, timeout, looped=True)
        self.after_fork()

    def after_fork(self) -> None:
        """Forget all connections: in a forked child they are the parent's."""
        self._idle: WeakKeyDictionary[Any, _Loop] = WeakKeyDictionary()

    async def send(self, *words: str | bytes) -> Any:
        """Send one command and return the answer; raises whatever the driver does."""
        packed = _packed(words)
        loop = asyncio.get_running_loop()
        entry = self._idle.get(loop)
        if entry is None:
            self._idle[loop] = entry = _Loop()
        idle, free = entry.idle, entry.free
        async with free:
            wire = idle.pop() if idle else self._make(**self._settings)
            try:
                if wire.is_connected and wire._reader.at_eof():
                    await wire.disconnect(nowait=True)
                await wire.connect()
                await wire.send_packed_command(packed)
                answer = await wire.read_response()
            except BaseException as error:
                if is_missing(error):
                    idle.append(wire)
                else:
                    # Without a wait: whoever is being cancelled has no time for it.
                    await wire.disconnect(nowait=True)
                    while idle:
                        await idle.pop().disconnect(nowait=True)
                raise
            idle.append(wire)
            return answer

    async def close(self) -> None:
        """Close what is idle on this loop."""
        entry = self._idle.pop(asyncio.get_running_loop(), None)
        while entry is not None and entry.idle:
            await entry.idle.pop().disconnect()


def _packed(words: Sequence[str | bytes]) -> list[bytes]:
    """A command as it is sent; the drivers' own way of it costs as much as the rest of the way there."""
    coded = [word.encode() if isinstance(word, str) else word for word in words]
    return [b"*%d\r\n" % len(coded) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in coded])]


def _is_stale(wire: Any) -> bool:
    try:
        return bool(wire.can_read(0))
    except Exception:
        return True


def is_missing(error: BaseException) -> bool:
    """Whether the server only says that it does not know a script, as after a restart."""
    return type(error).__name__ == "NoScriptError"
