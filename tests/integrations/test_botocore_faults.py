"""Every fault of a network and what a protected client of botocore makes of it, over real sockets.

A read of S3 is a GET, a write of DynamoDB a POST that may not be repeated. botocore reads an answer before it returns
it, so a body that breaks off is a failed attempt; one that ends early it takes for whole, and cannot parse.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from botocore import exceptions
from urllib3.exceptions import HTTPError

from resilience import Retry, TimedOut, context
from resilience.http import not_sent, transient
from resilience.integrations.botocore import protect
from resilience.testing import FaultProxy
from tests.integrations.aws_server import client_of
from tests.integrations.flaky_server import FlakyServer
from tests.integrations.test_client_faults import LOST, SLOW, Heard, connections_to

OWN = {
    "latency": exceptions.ReadTimeoutError,
    "slow headers": exceptions.ReadTimeoutError,
    "reset before headers": exceptions.ConnectionClosedError,
    "half of the headers": exceptions.ConnectionClosedError,
    "end before headers": exceptions.ConnectionClosedError,
}
CALLS: dict[str, Callable[[Any], Any]] = {
    "s3": lambda client: client.list_buckets(),
    "dynamodb": lambda client: client.put_item(TableName="table", Item={"id": {"S": "1"}}),
}
Call = Callable[..., Any]


@pytest.fixture
def call() -> Iterator[Call]:
    """Make a request of a service, under a policy, at an address."""
    with ExitStack() as stack:

        def made(service: str, url: str, policy: Retry, **options: Any) -> Any:
            client = client_of(service, url, **options)
            stack.callback(client.close)
            return CALLS[service](protect(client, policy))

        yield made
    gc.collect()  # a socket that nobody has closed warns here, and a warning is an error


@pytest.mark.parametrize("service", CALLS)
@pytest.mark.parametrize("fault", [fault for fault in LOST if fault != "slow headers"])
def test_lost_connection(call: Call, server: FlakyServer, fault: str, service: str) -> None:
    """What is lost before an answer is botocore's own error, tried again for a read and not for a write."""
    heard = Heard()
    times = 2 if service == "s3" else 1
    with FaultProxy(server.url.removeprefix("http://"), **LOST[fault]) as proxy:
        with pytest.raises(OWN[fault]) as caught:
            url = f"http://{proxy.host}:{proxy.port}"
            call(service, url, heard.retry(), timeout=0.1 if fault in SLOW else 3.0)
        assert transient(caught.value) is True
        assert not not_sent(caught.value)
        assert len(heard.errors) == (2 if service == "s3" else 0)
        assert len(proxy.faults) == times


@pytest.mark.parametrize("service", CALLS)
def test_refused(call: Call, service: str) -> None:
    """Where the connection is refused nothing was sent, so a write is tried again as a read is."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    heard = Heard()
    with pytest.raises(exceptions.EndpointConnectionError):
        call(service, f"http://127.0.0.1:{port}", heard.retry())
    assert [not_sent(error) for error in heard.errors] == [True, True]


@pytest.mark.parametrize("service", CALLS)
@pytest.mark.parametrize(("code", "asked"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 2)])
def test_name_does_not_resolve(
    call: Call, monkeypatch: pytest.MonkeyPatch, service: str, code: int, asked: int
) -> None:
    """A name that does not exist is not asked for again; a name server that does not answer is."""

    def no_address(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(code, "no address")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    heard = Heard()
    with pytest.raises(exceptions.EndpointConnectionError) as caught:
        call(service, "http://name.invalid", heard.retry())
    assert len(heard.errors) == asked
    assert not_sent(caught.value)


def test_untrusted_certificate(call: Call, tls_url: str) -> None:
    """A certificate that nobody vouches for is as wrong the next time."""
    heard = Heard()
    with pytest.raises(exceptions.SSLError) as caught:
        call("s3", tls_url, heard.retry())
    assert transient(caught.value) is False
    assert len(heard.errors) == 1


def test_handshake_that_breaks_off(call: Call, server: FlakyServer) -> None:
    """A server that goes away within the handshake may be back: it is tried again."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), half_close=1.0) as proxy:
        with pytest.raises(exceptions.BotoCoreError):
            call("s3", f"https://{proxy.host}:{proxy.port}", heard.retry())
        assert len(heard.errors) == 2


@pytest.mark.parametrize(("fault", "error"), [("torn", HTTPError), ("stall", HTTPError)])
def test_broken_body(call: Call, server: FlakyServer, fault: str, error: type[Exception]) -> None:
    """A body that breaks off or stalls is a transient error, and tried again."""
    server.script = [fault] * 2
    heard = Heard()
    with pytest.raises((exceptions.BotoCoreError, error)) as caught:
        call("s3", server.url, heard.retry(), timeout=0.2)
    assert transient(caught.value) is True
    assert len(server.requests) == len(heard.errors) == 2


def test_own_timeout_is_the_bound(call: Call, server: FlakyServer) -> None:
    """The client's own timeout ends each attempt, however much time the policy would have."""
    heard = Heard()
    with FaultProxy(server.url.removeprefix("http://"), black_hole=1.0) as proxy:
        begun = time.monotonic()
        with pytest.raises(exceptions.ReadTimeoutError):
            call("s3", f"http://{proxy.host}:{proxy.port}", heard.retry(within=30.0), timeout=0.1)
        assert 0.15 < time.monotonic() - begun < 2.0
        assert len(heard.errors) == 2


@pytest.mark.parametrize("how", ["within", "deadline"])
def test_policy_is_the_bound(call: Call, server: FlakyServer, how: str) -> None:
    """Where the policy, or the deadline, has less time than the client's timeout, its end is the end."""
    with FaultProxy(server.url.removeprefix("http://"), black_hole=1.0) as proxy:
        url = f"http://{proxy.host}:{proxy.port}"
        begun = time.monotonic()
        with pytest.raises((TimedOut, exceptions.ReadTimeoutError)):
            if how == "within":
                call("s3", url, Heard().retry(within=0.2), timeout=30.0)
            with context.deadline(0.2):
                call("s3", url, Heard().retry(), timeout=30.0)
        assert 0.15 < time.monotonic() - begun < 2.0
        assert len(proxy.faults) == 1


def test_abandoned_answers_leave_no_connection(server: FlakyServer) -> None:
    """150 requests that were each refused once leave no more than one connection open."""
    client = protect(client_of("dynamodb", server.url), Retry(on=transient, backoff=0), repeat={"PutItem"})
    server.script = [503, 200] * 150
    for _ in range(150):
        CALLS["dynamodb"](client)
    assert len(server.requests) == 300
    assert connections_to(int(server.url.rpartition(":")[2])) <= 1
    client.close()
