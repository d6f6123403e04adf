"""Calls to the provider, as bounded as calls can be.

A timeout of an HTTP client bounds each read, not the call: a server that sends one byte a second is never late. So
every read here asks `context.remaining()` how much is left of the caller's time, headers included. The size of an
answer is bounded too, redirects are not followed, and an answer that is no JSON object is as good as none.
"""

from __future__ import annotations

import http.client
import io
import json
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from examples.review_service.auth.errors import ProviderBusy, ProviderRefused, ProviderUnavailable
from resilience import context

LARGEST_ANSWER = 64 * 1024
PATIENCE = 5.0
"""Seconds for an answer where the caller has no deadline: what a careful person would give a plain client."""


def _time_left(patience: float = PATIENCE) -> float:
    """Seconds that the next operation on a socket may take: what is left of the caller's time, `patience` at most.

    Raises:
        TimeoutError: there are none.
    """
    remaining = context.remaining()
    left = patience if remaining is None else min(remaining, patience)
    if left <= 0:
        raise TimeoutError("no time left to read")
    return left


class _TimedReads(io.RawIOBase):
    """The reading end of a socket that gives up when its caller's time is up, however slowly it is fed."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._gives_up = time.monotonic() + PATIENCE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._socket.settimeout(_time_left(self._gives_up - time.monotonic()))
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReads(sock))


class _Connection(HTTPConnection):
    response_class = _TimedResponse


class _SecureConnection(HTTPSConnection):
    response_class = _TimedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Provider:
    """An HTTP client for JSON documents of the provider. Safe from any thread."""

    def __init__(self) -> None:
        self._http = urllib3.PoolManager(maxsize=16, retries=False)
        self._http.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def get(self, url: str, *, token: str | None = None) -> dict[str, Any]:
        """The JSON object at `url`, within `context.remaining()` seconds.

        Raises:
            ProviderUnavailable: it did not come, not in time, not whole, or was an error of the provider's.
            ProviderBusy: the provider wants to be left alone for a while.
            ProviderRefused: the provider said no.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = self._http.request(
                "GET",
                url,
                headers=headers,
                timeout=_time_left(),
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                body = _read(answer)
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ProviderUnavailable(type(error).__name__) from None
        if len(body) > LARGEST_ANSWER:
            raise ProviderUnavailable("an answer too large")
        if answer.status == 200:
            return _object(body)
        if answer.status == 429:
            raise ProviderBusy(_seconds_until_reset(answer.headers.get("x-ratelimit-reset", "")))
        if 400 <= answer.status < 500:
            raise ProviderRefused(str(answer.status))
        raise ProviderUnavailable(str(answer.status))


def _read(answer: urllib3.BaseHTTPResponse) -> bytes:
    """The body, or the first `LARGEST_ANSWER` bytes of it and one more. A body that was cut off raises at its end."""
    body = b""
    while len(body) <= LARGEST_ANSWER and (more := answer.read(LARGEST_ANSWER + 1 - len(body))):
        body += more
    return body


def _object(body: bytes) -> dict[str, Any]:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise ProviderUnavailable("an answer that is no JSON") from None
    if not isinstance(document, dict):
        raise ProviderUnavailable("an answer of the wrong shape")
    return dict(document)


def _seconds_until_reset(reset: str) -> float | None:
    """The provider tells the time of the reset in UNIX seconds."""
    return max(0.0, int(reset) - time.time()) if reset.isdecimal() and len(reset) < 12 else None
