"""Every fault of a network and what each client makes of it under a retry, over real sockets.

The table is the contract: which exceptions whoever called gets, whether a GET is sent again, and whether a POST is. A
fault that hits the body hits it after the answer has been returned, so it is not sent again, save by urllib3, which
reads the body before it returns.
"""

from __future__ import annotations

import gc
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from resilience import Retry, TimedOut
from resilience.http import not_sent, transient
from resilience.testing import FaultProxy
from tests.integrations.clients import CLIENTS, FAULT_ERRORS, OWN
from tests.integrations.flaky_server import FlakyServer

# What befalls the connection before there is an answer, after which nobody knows what the server has done.
LOST = {
    "latency": {"latency": 2.0},
    "reset before headers": {"reset": 1.0},
    "half of the headers": {"cut": 1.0, "cut_after": 10},
    "end before headers": {"half_close": 1.0},
    "slow headers": {"bandwidth": 5.0},
}
SLOW = {"latency", "slow headers", "stalled body"}
BROKEN = {"half response": "half", "reset after headers": "torn", "stalled body": "stall"}


def inner(error: Exception) -> Exception:
    """The error that urllib3 gave up for, or any other one itself."""
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, Exception) else error


class Heard:
    """A predicate that notes what a retry asks it: an error for each attempt that it might repeat."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def __call__(self, error: Exception) -> bool | float:
        self.errors.append(error)
        return transient(error)

    def retry(self, **options: Any) -> Retry:
        return Retry(on=self, attempts=2, backoff=0, **options)


def connections_to(port: int) -> int:
    """How many sockets of this process are connected to a port of the loopback."""
    count = 0
    for number in range(512):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as copy:
                    count += copy.getpeername()[1:2] == (port,)
        except OSError:
            continue
    return count


@pytest.fixture(params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()  # a socket that nobody has closed warns here, and a warning is an error


@pytest.mark.parametrize(
    ("fault", "method"),
    [(fault, method) for fault in LOST for method in ("GET", "POST") if (fault, method) != ("slow headers", "POST")],
)
def test_lost_connection(name: str, stack: ExitStack, server: FlakyServer, fault: str, method: str) -> None:
    """What is lost before an answer is the client's own error, tried again for a GET and not for a POST."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), **LOST[fault]) as proxy:
        send = CLIENTS[name](stack, heard.retry(), timeout=0.1 if fault in SLOW else 3.0)
        begun = time.monotonic()
        with pytest.raises(OWN[name]) as caught:
            send(method, f"http://{proxy.host}:{proxy.port}/", b"x" if method == "POST" else None)
        assert time.monotonic() - begun < 2.0
        assert isinstance(inner(caught.value), FAULT_ERRORS[name][fault])
        assert transient(caught.value) is True
        assert not not_sent(caught.value)
        # aiohttp begins an idempotent request once more by itself where the server is gone.
        rounds = 2 if name == "aiohttp" and fault not in SLOW else 1
        assert len(heard.errors) == (2 * rounds if method == "GET" else 0)
        assert len(proxy.faults) == (2 * rounds if method == "GET" else 1)
        assert connections_to(proxy.port) == 0


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_body(name: str, stack: ExitStack, server: FlakyServer, fault: str) -> None:
    """A body that breaks off or stalls is the client's own transient error, tried again where the client reads it."""
    server.script = [BROKEN[fault]] * 2
    heard = Heard()
    with pytest.raises(OWN[name]) as caught:
        CLIENTS[name](stack, heard.retry(), timeout=0.1 if fault in SLOW else 3.0)("GET", server.url)
    assert isinstance(inner(caught.value), FAULT_ERRORS[name][fault])
    assert transient(caught.value) is True
    assert len(server.requests) == (2 if name == "urllib3" else 1)
    assert len(heard.errors) == (2 if name == "urllib3" else 0)
    assert connections_to(int(server.url.rpartition(":")[2])) == 0


def test_slow_body_arrives(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """A body that comes slowly, but never pauses for as long as the client waits, is no failure."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), bandwidth=300.0, latency=0.02) as proxy:
        url = f"http://{proxy.host}:{proxy.port}/"
        assert CLIENTS[name](stack, heard.retry(), timeout=1.0)("GET", url) == (200, b"status 200")
    assert heard.errors == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused(name: str, stack: ExitStack, method: str) -> None:
    """Where the connection is refused nothing was sent, so a POST is tried again as a GET is."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    heard = Heard()
    with pytest.raises(OWN[name]) as caught:
        CLIENTS[name](stack, heard.retry())(method, f"http://127.0.0.1:{port}", b"x")
    assert isinstance(inner(caught.value), FAULT_ERRORS[name]["refused"])
    assert [not_sent(error) for error in heard.errors] == [True, True]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("code", "asked"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 2)])
def test_name_does_not_resolve(
    name: str, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, method: str, code: int, asked: int
) -> None:
    """A name that does not exist is not asked for again; a name server that does not answer is, for a POST too."""

    def no_address(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(code, "no address")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    heard = Heard()
    with pytest.raises(OWN[name]) as caught:
        CLIENTS[name](stack, heard.retry())(method, "http://name.invalid/", b"x")
    assert isinstance(inner(caught.value), FAULT_ERRORS[name]["name"])
    assert len(heard.errors) == asked
    assert not_sent(caught.value)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_untrusted_certificate(name: str, stack: ExitStack, tls_url: str, method: str) -> None:
    """A certificate that nobody vouches for is as wrong the next time."""
    heard = Heard()
    with pytest.raises(OWN[name]) as caught:
        CLIENTS[name](stack, heard.retry(), timeout=5.0)(method, tls_url, b"x")
    assert isinstance(inner(caught.value), FAULT_ERRORS[name]["tls"])
    assert transient(caught.value) is False
    assert len(heard.errors) <= 1
    assert connections_to(int(tls_url.rpartition(":")[2])) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_text_for_tls(name: str, stack: ExitStack, server: FlakyServer, method: str) -> None:
    """A server that does not speak TLS will not have learnt it by the next attempt."""
    server.script = ["gibberish"]
    heard = Heard()
    with pytest.raises(OWN[name]) as caught:
        CLIENTS[name](stack, heard.retry(), timeout=5.0)(method, server.url.replace("http", "https"), b"x")
    assert isinstance(inner(caught.value), FAULT_ERRORS[name]["tls"])
    assert transient(caught.value) is False
    assert len(heard.errors) <= 1
    assert server.connections == 1
    assert connections_to(int(server.url.rpartition(":")[2])) == 0


def test_handshake_that_breaks_off(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """A server that goes away within the handshake may be back: it is tried again, and nothing was sent."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), half_close=1.0) as proxy:
        with pytest.raises(OWN[name]):
            CLIENTS[name](stack, heard.retry(), timeout=3.0)("GET", f"https://{proxy.host}:{proxy.port}/")
        assert len(heard.errors) == 2


def test_own_timeout_is_the_bound(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """A client's own timeout ends each attempt, however much time the policy would have."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), black_hole=1.0) as proxy:
        begun = time.monotonic()
        with pytest.raises(OWN[name]) as caught:
            CLIENTS[name](stack, heard.retry(within=30.0), timeout=0.1)("GET", f"http://{proxy.host}:{proxy.port}/")
        assert isinstance(inner(caught.value), FAULT_ERRORS[name]["black hole"])
        assert 0.15 < time.monotonic() - begun < 2.0
        assert len(heard.errors) == 2
        assert connections_to(proxy.port) == 0


def test_policy_is_the_bound(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """Where the policy has less time than the client's timeout, its end is the end."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), black_hole=1.0) as proxy:
        begun = time.monotonic()
        with pytest.raises((TimedOut, OWN[name])):
            CLIENTS[name](stack, heard.retry(within=0.2), timeout=30.0)("GET", f"http://{proxy.host}:{proxy.port}/")
        assert 0.15 < time.monotonic() - begun < 2.0
        assert len(proxy.faults) == 1
        assert connections_to(proxy.port) == 0
