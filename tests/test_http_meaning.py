"""What HTTP says, read from plain values."""

from __future__ import annotations

import socket
import ssl
import urllib.error
from email.message import Message
from types import SimpleNamespace

import pytest

from resilience import Quota, Rejected, RetryBudget
from resilience.http import (
    client_policy,
    is_idempotent,
    not_sent,
    parse_rate_limit,
    parse_retry_after,
    transient,
    transient_response,
)

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # 1,700,000,000 seconds after the epoch


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"RateLimit": '"a";r=5;t=3', "RateLimit-Policy": '"a";q=9;w=3'}, Quota(9, 5, 3, 0)),
        ({"RateLimit": '"a";r=5;t=3, "b";r=0;t=60'}, Quota(0, 0, 60, 60)),
        ({"RateLimit": "limit=100, remaining=50, reset=30"}, Quota(100, 50, 30, 0)),
        ({"RateLimit-Limit": "10", "RateLimit-Remaining": "0", "RateLimit-Reset": "7"}, Quota(10, 0, 7, 7)),
        ({"X-RateLimit-Limit": "10, 10;w=1", "X-RateLimit-Remaining": "2"}, Quota(10, 2, 0, 0)),
        ({b"x-rate-limit-remaining": b"0", b"x-rate-limit-reset": b"9"}, Quota(0, 0, 9, 9)),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000010", "Date": DATE}, Quota(0, 0, 10, 10)),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000010000", "Date": DATE}, Quota(0, 0, 10, 10)),
        ({"X-RateLimit-Remaining": "many", "RateLimit": "junk;;=,"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_rate_limit(headers: object, expected: Quota | None) -> None:
    """Every form of the rate limit's fields is read, a UNIX time by the server's own clock, and junk is None."""
    assert parse_rate_limit(headers) == expected


def test_retry_after_by_the_servers_clock() -> None:
    """A Retry-After date counts from the server's Date, so that clocks that differ do no harm."""
    later = "Tue, 14 Nov 2023 22:13:50 GMT"
    response = SimpleNamespace(status=503, headers={"Retry-After": later, "Date": DATE})
    assert transient_response(response) == 30.0
    assert parse_retry_after(later, 1_700_000_000.0) == 30.0


@pytest.mark.parametrize(("status", "answer"), [(429, True), (502, True), (504, True), (500, False), (200, False)])
def test_statuses(status: int, answer: bool) -> None:
    """429, 502, 503 and 504 say "not now"; a 500 may be anything."""
    assert transient_response(SimpleNamespace(status_code=status, headers={})) is answer


def test_larger_hint_wins() -> None:
    """Of Retry-After and the rate limit's reset the larger one is the hint, and only where nothing remains."""
    both = {"Retry-After": "3", "RateLimit": '"a";r=0;t=7'}
    assert transient_response(SimpleNamespace(status_code=429, headers=both)) == 7.0
    left = {"Retry-After": "3", "RateLimit": '"a";r=4;t=7'}
    assert transient_response(SimpleNamespace(status_code=429, headers=left)) == 3.0


def test_errors_of_the_standard_library() -> None:
    """Lost connections and timeouts are transient; a bug, a wrong certificate or an unknown name is not."""
    assert all(transient(error) is True for error in (ConnectionResetError(), TimeoutError(), BrokenPipeError()))
    assert not any(transient(error) for error in (ValueError(), OSError(28, "no space"), Rejected("p", 3.0)))
    assert transient(urllib.error.URLError(ConnectionRefusedError())) is True
    assert transient(urllib.error.HTTPError("http://a", 503, "busy", Message(), None)) is True
    assert transient(urllib.error.URLError(ssl.SSLCertVerificationError())) is False
    assert transient(socket.gaierror(socket.EAI_NONAME, "no such name")) is False
    assert transient(socket.gaierror(socket.EAI_AGAIN, "no answer")) is True


def test_surely_not_sent() -> None:
    """A refused connection has sent nothing, a lost one may have, and the context of an error proves nothing."""
    assert not_sent(urllib.error.URLError(ConnectionRefusedError()))
    assert not not_sent(ConnectionResetError())
    lost = ConnectionResetError()
    lost.__context__ = ConnectionRefusedError()
    assert not not_sent(lost)


def test_idempotent() -> None:
    """The safe and idempotent methods, in any case and type, and anything with a key that is not empty."""
    assert all(map(is_idempotent, ["GET", "put", b"DELETE", "HEAD", "OPTIONS"]))
    assert not is_idempotent("POST", {"Idempotency-Key": " "})
    assert not is_idempotent("PATCH")
    assert is_idempotent("POST", {b"idempotency-key": b"7"})


def test_client_policy() -> None:
    """Each origin has a policy of its own; a budget that is given is shared, and a bad parameter says so at once."""
    hosts = client_policy(throttle="5/s", budget=RetryBudget(name="all"))
    assert hosts["a"] is hosts["a"]
    assert hosts["a"] is not hosts["b"]
    assert [part.kind for part in hosts["a"].policies] == ["retry", "circuit_breaker", "throttle"]
    with pytest.raises(ValueError, match="attempts"):
        client_policy(attempts=0)
