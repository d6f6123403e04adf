"""Calls to the provider end in time and in size, whatever comes back."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from examples.review_service.auth.errors import ProviderBusy, ProviderRefused, ProviderUnavailable
from examples.review_service.auth.jwks import read_keys
from examples.review_service.auth.provider import LARGEST_ANSWER, Provider
from resilience import context
from tests.examples.conftest import Provider as Standin


@contextlib.contextmanager
def _server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server of one connection, that does with it what `answer` does."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _get(url: str, seconds: float = 2.0) -> dict[str, object]:
    with context.deadline(seconds):
        return Provider().get(url)


def _says(head: bytes, body: bytes = b"") -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(head + b"\r\n\r\n" + body)


def _drips(first: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def drip(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(200):
            connection.sendall(drop)
            threading.Event().wait(0.02)

    return drip


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 100000"


@pytest.mark.parametrize(
    "answer",
    [
        _drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"."),
        _drips(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        _drips(OK + b"\r\n\r\n", b" "),
        _drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        _drips(b"", b"H"),
        lambda connection: connection.recv(1),
    ],
    ids=["a header", "many headers", "the body", "chunks", "the status line", "silence"],
)
def test_an_answer_that_drips_ends_at_the_deadline(answer: Callable[[socket.socket], object]) -> None:
    """A server that is never late for the next byte is still late for the whole."""
    with _server(answer) as url:
        start = time.perf_counter()
        with pytest.raises(ProviderUnavailable):
            _get(url, 0.15)
        assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n"),
        _says(b"HTTP/1.1 200 OK\r\nContent-Length: 50", b"{}"),
        _says(b"HTTP/1.1 200 OK\r\nContent-Length: 2", b"[]"),
        _says(b"HTTP/1.1 200 OK\r\nContent-Length: 2", b"{{"),
        _says(b"HTTP/1.1 200 OK\r\nContent-Length: 3", b"\xff\xfe{"),
        _says(b"HTTP/1.1 200 OK", b"[" * 50_000),
        _says(b"HTTP/1.1 200 OK", b'{"a": "' + b"x" * LARGEST_ANSWER + b'"}'),
        _says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, b"{}"),
        _says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0"),
        _says(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0"),
        _says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0"),
        _says(b"HTTP/1.1 204 No Content"),
    ],
)
def test_what_is_no_answer_is_a_provider_in_trouble(answer: Callable[[socket.socket], object]) -> None:
    """Cut off, nonsense, too large, redirected or an error: nothing usable came back."""
    with _server(answer) as url, pytest.raises(ProviderUnavailable):
        _get(url)


def test_nobody_there_is_a_provider_in_trouble() -> None:
    """A refused connection is no different."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnavailable):
        _get(f"http://127.0.0.1:{port}/")


def test_a_document_is_read() -> None:
    """The good case, so that the bad ones above are bad for their faults alone."""
    with _server(_says(b"HTTP/1.1 200 OK\r\nContent-Length: 8", b'{"a": 1}')) as url:
        assert _get(url) == {"a": 1}


def test_a_429_says_when_to_come_back(provider: Standin) -> None:
    """The reset is told in UNIX seconds and read as seconds from now."""
    provider.faults(throttled=True)
    with pytest.raises(ProviderBusy) as busy:
        Provider().get(f"{provider.issuer}userinfo")
    assert busy.value.retry_after == pytest.approx(2.0, abs=1.1)


def test_a_401_is_a_refusal(provider: Standin) -> None:
    """A no is not trouble: asking again would change nothing."""
    with pytest.raises(ProviderRefused):
        Provider().get(f"{provider.issuer}userinfo", token="nonsense")


@pytest.mark.parametrize(
    "keys", [None, [], {}, "keys", [1], [{}], [{"kty": "RSA"}], [{"kty": "oct", "kid": "1", "k": "AA"}]]
)
def test_a_key_set_without_a_key_is_no_answer(keys: object) -> None:
    """An empty key set would declare every token forged, so it replaces nothing."""
    with pytest.raises(ProviderUnavailable):
        read_keys({"keys": keys})


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "EC"},
        {"use": "enc"},
        {"alg": "RS512"},
        {"kid": ""},
        {"kid": 1},
        {"kid": "k" * 300},
        {"n": "AQAB"},
        {"e": None},
    ],
)
def test_what_is_no_signature_key_is_left_out(change: dict[str, object], provider: Standin) -> None:
    """Keys of another kind, for another use, too short or broken do not spoil the good ones, and are not used."""
    document = provider.client.get("/.well-known/jwks.json").json
    good, other = document["keys"][:2]
    kept = read_keys({"keys": [{**other, **change}, good]})
    assert list(kept) == [good["kid"]]
    json.dumps(document)
