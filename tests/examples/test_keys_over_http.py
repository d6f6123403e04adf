"""The same promises over real sockets: a service, a provider, and a provider in trouble."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from examples.review_service.auth.keys import FLOOR
from tests.examples.conftest import Provider, Service

JWKS = "/.well-known/jwks.json"


@pytest.fixture
def warm(service: Service, provider: Provider) -> Service:
    """A service that knows the provider's keys."""
    assert service.get("/reviews", token=provider.token()).status_code == 200
    return service


@pytest.mark.parametrize(
    "trouble", [{"hang": True}, {"drip": True}, {"down": True}, {"errors": 1000}, {"throttled": True}]
)
def test_known_keys_carry_on_whatever_happens_to_the_provider(
    trouble: dict[str, object], warm: Service, provider: Provider
) -> None:
    """An hour of trouble: every request with a known key is answered, and none waits."""
    token = provider.token(ttl=10_000)
    provider.faults(**trouble)
    start = time.perf_counter()
    for _ in range(60):
        warm.clock.advance(60.0)
        assert warm.get("/reviews", token=token).status_code == 200
    assert time.perf_counter() - start < 10.0


@pytest.mark.parametrize("trouble", [{"down": True}, {"errors": 1000}, {"throttled": True}])
def test_keys_that_cannot_be_had_are_a_503(trouble: dict[str, object], service: Service, provider: Provider) -> None:
    """A good token is no 401 because the provider is away, and a forged one is not either: nobody can tell."""
    provider.faults(paths=[JWKS], **trouble)
    for token in (provider.token(), provider.token()[:-10] + "AAAAAAAAAA"):
        answer = service.get("/review/1", token=token)
        assert answer.status_code == 503
        assert answer.json["type"] == "urn:problem:reviews:keys-unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
        assert "WWW-Authenticate" not in answer.headers


def test_a_service_without_keys_recovers_within_the_floor(service: Service, provider: Provider) -> None:
    """The provider was down when the service started; when it is back, so is the service."""
    provider.faults(down=True)
    assert service.get("/review/1", token=provider.token()).status_code == 503
    provider.reset()
    service.clock.advance(FLOOR)
    assert service.get("/review/1", token=provider.token()).status_code == 200


def test_a_planned_rotation_costs_nothing(warm: Service, provider: Provider) -> None:
    """The next key is known before it signs, and the retired one is good for as long as it is published."""
    before = provider.token()
    provider.rotate()
    for token in (before, provider.token()):
        assert warm.get("/reviews", token=token).status_code == 200
    assert provider.calls(JWKS) == 1


def test_an_emergency_rotation_is_noticed_within_the_floor(warm: Service, provider: Provider) -> None:
    """New tokens are good and old ones are bad as soon as the provider may be asked again."""
    before = provider.token()
    provider.rotate(emergency=True)
    after = provider.token()
    assert warm.get("/reviews", token=after).status_code in {401, 503}
    warm.clock.advance(FLOOR)
    assert warm.get("/reviews", token=after).status_code == 200
    assert warm.get("/reviews", token=before).status_code == 401


def test_a_thousand_requests_at_a_rotation_make_one_fetch(
    warm: Service, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole service, from many threads, with the answers that were asked for."""
    monkeypatch.setattr("examples.review_service.auth.keys.PATIENCE_OF_A_CROWD", 30.0)
    warm.clock.advance(60.0)
    provider.rotate(emergency=True)
    provider.faults(latency=0.05, paths=[JWKS])
    token = provider.token()
    before = provider.calls(JWKS)

    def ask(_: int) -> int:
        return warm.app.test_client().get("/review/1", headers={"Authorization": f"Bearer {token}"}).status_code

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(ask, range(1000))) <= {200, 429}
    assert provider.calls(JWKS) == before + 1


@pytest.mark.parametrize(("skew", "status"), [(20.0, 200), (-20.0, 200), (3600.0, 401)])
def test_a_clock_that_is_a_little_ahead_is_forgiven(
    skew: float, status: int, warm: Service, provider: Provider
) -> None:
    """A token from the near future is good, one from the far future is not."""
    provider.faults(skew=skew)
    assert warm.get("/reviews", token=provider.token(ttl=600)).status_code == status
