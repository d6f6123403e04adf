"""A provider on loopback for the whole session, and services made to order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from examples.auth0_standin.server import ProviderServer
from examples.auth0_standin.tokens import Mint
from examples.review_service.app import create_app
from examples.review_service.settings import Settings
from resilience.testing import VirtualClock

READ, WRITE = "read:reviews", "write:reviews"
ALL = f"openid profile email {READ} {WRITE}"


class Provider:
    """The stand-in and its control panel."""

    def __init__(self, server: ProviderServer) -> None:
        self.issuer = server.issuer
        self.mint: Mint = server.app.extensions["mint"]
        self.client = server.app.test_client()

    def token(self, sub: str = "auth0|alice", scope: str = ALL, **more: Any) -> str:
        answer = self.client.post("/control/token", json={"sub": sub, "scope": scope, **more})
        token: str = answer.json["access_token"]
        return token

    def faults(self, **switches: Any) -> None:
        answer = self.client.post("/control/faults", json=switches)
        assert answer.status_code == 200, answer.data

    def rotate(self, *, emergency: bool = False) -> None:
        self.client.post("/control/rotate", json={"emergency": emergency})

    def calls(self, path: str) -> int:
        return int(self.client.get("/control").json["calls"].get(path, 0))

    def reset(self) -> None:
        self.client.post("/control/reset")


class Service:
    """A service under a clock that only the test moves."""

    def __init__(self, provider: Provider, settings: Settings, clock: VirtualClock) -> None:
        self.provider = provider
        self.clock = clock
        self.app = create_app(settings, clock=clock)
        self.client: FlaskClient = self.app.test_client()

    def call(self, method: str, path: str, *, token: str | None = None, **more: Any) -> TestResponse:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str, *, token: str | None = None, **more: Any) -> TestResponse:
        return self.call("GET", path, token=token, **more)


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture
def provider(provider_server: ProviderServer) -> Iterator[Provider]:
    standin = Provider(provider_server)
    standin.reset()
    yield standin
    standin.reset()


@pytest.fixture
def make(provider: Provider) -> Callable[..., Service]:
    def made(**more: Any) -> Service:
        settings = Settings(**{"issuer": provider.issuer, "database_url": "sqlite://", **more})
        return Service(provider, settings, VirtualClock())

    return made


@pytest.fixture
def service(make: Callable[..., Service]) -> Service:
    return make()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "reviews.sqlite3"
