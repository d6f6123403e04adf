"""httpx tried again where the peer spoke no TLS, and requests did not where the handshake had only broken off."""

from __future__ import annotations

import ssl

import aiohttp
import httpx
import pytest
import requests
import urllib3
from aiohttp.client_reqrep import ConnectionKey

from resilience.http import transient

KEY = ConnectionKey("a.example", 443, True, True, None, None, None)


def wrapped(error: ssl.SSLError) -> list[Exception]:
    """What each client makes of an error of the handshake."""
    connect = httpx.ConnectError(str(error))
    connect.__cause__ = error
    gave_up = urllib3.exceptions.MaxRetryError(
        urllib3.HTTPSConnectionPool("a.example"), "/", urllib3.exceptions.SSLError(error)
    )
    return [connect, gave_up, requests.exceptions.SSLError(gave_up), aiohttp.ClientConnectorSSLError(KEY, error)]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), False),
        (ssl.SSLError(1, "wrong version number"), False),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), True),
    ],
)
def test_verdict_is_the_same_for_every_client(error: ssl.SSLError, passes: bool) -> None:
    """A handshake that fails is not tried again and one that breaks off is, whichever client tells of it."""
    assert [transient(wrapping) for wrapping in wrapped(error)] == [passes] * 4
