"""A response that says "not now" holds a connection, and nobody holds one while he waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from resilience import Retry
from resilience.http import transient
from resilience.integrations.urllib3 import ResilientPoolManager
from resilience.testing import VirtualClock
from tests.integrations.clients import CLIENTS
from tests.integrations.flaky_server import FlakyServer
from tests.integrations.test_client_faults import connections_to


class Watching(VirtualClock):
    """A clock that looks at the connections whenever somebody waits."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.held: list[int] = []

    def sleep(self, seconds: float) -> None:
        self.held.append(connections_to(self.port))
        super().sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.held.append(connections_to(self.port))
        self.advance(seconds)


def port_of(server: FlakyServer) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture(params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("heard", [False, True])
def test_nothing_is_held_during_a_wait(name: str, stack: ExitStack, server: FlakyServer, heard: bool) -> None:
    """The response of a refused attempt is released before the wait for the next, whether or not anybody listens."""
    server.script = [503 if name == "urllib3" else "refuse"] * 3
    clock = Watching(port_of(server))
    retry = Retry(on=transient, attempts=4, backoff=[1.0, 2.0, 3.0], clock=clock)
    if heard:
        retry.listen(lambda _: None)
    assert CLIENTS[name](stack, retry, timeout=3.0)("GET", server.url) == (200, b"status 200")
    assert clock.now() == 6.0
    # urllib3 has read the body by then, and its connection is free for the next request.
    assert clock.held == ([1, 1, 1] if name == "urllib3" else [0, 0, 0])


def test_unread_response_of_urllib3(server: FlakyServer) -> None:
    """A refused response of which urllib3 was told not to read the body gives its place in the pool back."""
    server.script = ["refuse"] * 2
    clock = Watching(port_of(server))
    retry = Retry(on=transient, backoff=1.0, clock=clock)
    with ResilientPoolManager(policy=retry, maxsize=1, block=True, timeout=3.0) as pool:
        response = pool.request("GET", server.url, preload_content=False, pool_timeout=3.0)
        assert (response.status, response.read()) == (200, b"status 200")
    assert clock.held == [0, 0]


def test_a_wait_that_will_not_be_leaves_the_response(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """Where no attempt follows, because time, budget or attempts are spent, the response is whole."""
    server.script = [(503, {"Retry-After": "50"})]
    clock = Watching(port_of(server))
    retry = Retry(on=transient, attempts=5, within=30.0, backoff=1.0, clock=clock)
    assert CLIENTS[name](stack, retry, timeout=3.0)("GET", server.url) == (503, b"status 503")
    assert clock.held == []


def storm(name: str, stack: ExitStack, server: FlakyServer, requests: int) -> int:
    """The most connections that were open while that many requests were each refused once."""
    send = CLIENTS[name](stack, Retry(on=transient, backoff=0), timeout=5.0)
    server.script = [503, 200] * requests
    most = 0
    for number in range(requests):
        assert send("GET", server.url)[0] == 200
        if number % 50 == 0:
            most = max(most, connections_to(port_of(server)))
    assert len(server.requests) == 2 * requests
    return max(most, connections_to(port_of(server)))


def test_a_few_hundred_retried_requests(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """Of 150 retried requests one after the other no more than one connection is open at any time."""
    assert storm(name, stack, server, 150) <= 1


@pytest.mark.proof
def test_ten_thousand_retried_requests(name: str, stack: ExitStack, server: FlakyServer) -> None:
    """Of 10,000 retried requests one after the other no more than one connection is open at any time."""
    assert storm(name, stack, server, 10_000) <= 1
