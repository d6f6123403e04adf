"""Who knocks too often is told when to come back, and what matters most is refused last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.review_service.policies import READ
from resilience import context
from tests.examples.conftest import Provider, Service
from tests.examples.test_statuses import DRAFT, problem

BURST = 1000


def _use_up(service: Service, share: float, address: str = "127.0.0.1") -> None:
    """Take a share of an address's burst, as that many requests would."""
    with context.priority(READ):
        service.app.extensions["policies"].by_address.acquire(key=address, cost=BURST * share)


def test_an_address_that_knocks_too_often_gets_a_429(service: Service, provider: Provider) -> None:
    """After the burst there is a 429, before the token is looked at, with all that a client needs to behave."""
    _use_up(service, 1.0)
    answer = service.get("/review/1", token="not even looked at")
    assert (answer.status_code, problem(answer)) == (429, "throttled")
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["RateLimit"] == '"address";r=0;t=10'
    assert answer.headers["RateLimit-Policy"] == '"address";q=1000'
    assert provider.calls("/.well-known/jwks.json") == 0


def test_waiting_for_as_long_as_it_says_is_enough(service: Service, provider: Provider) -> None:
    """`Retry-After` is kept."""
    _use_up(service, 1.0)
    wait = service.get("/review/1").headers["Retry-After"]
    service.clock.advance(float(wait))
    assert service.get("/review/1", token=provider.token()).status_code == 200


def test_lists_go_first_then_writing_then_reading(service: Service, provider: Provider) -> None:
    """What is not essential is strangled first."""
    token = provider.token()

    def ask() -> list[int]:
        return [
            service.get("/reviews", token=token).status_code,
            service.call("POST", "/review", token=token, json=DRAFT).status_code,
            service.get("/review/2", token=token).status_code,
        ]

    assert ask() == [200, 201, 200]
    _use_up(service, 0.5)
    assert ask() == [429, 201, 200]
    _use_up(service, 0.25)
    assert ask() == [429, 429, 200]


def test_a_subject_with_many_addresses_is_still_one(make: Callable[..., Service], provider: Provider) -> None:
    """The second throttle counts the user, whom only the token tells; other users go on."""
    service = make(trusted_proxies=1)
    with context.priority(READ):
        service.app.extensions["policies"].by_subject.acquire(key="auth0|alice", cost=BURST)
    for number in range(3):
        headers = {"X-Forwarded-For": f"10.0.0.{number}"}
        answer = service.get("/review/1", token=provider.token("auth0|alice"), headers=headers)
        assert (answer.status_code, problem(answer)) == (429, "throttled")
        assert answer.headers["RateLimit"].startswith('"subject"')
    assert service.get("/review/1", token=provider.token("auth0|bob")).status_code == 200


def test_a_health_check_is_never_refused(service: Service) -> None:
    """Nobody restarts a service because somebody else floods it."""
    _use_up(service, 1.0)
    assert service.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/nowhere", "/review", "/reviews", "/readyz", "/openapi.json"])
def test_everything_else_is_counted(path: str, service: Service) -> None:
    """What does not exist costs as much as what does."""
    _use_up(service, 1.0)
    assert service.get(path).status_code == 429


@pytest.mark.parametrize(
    ("proxies", "forwarded", "key"),
    [
        (0, "10.0.0.1", "127.0.0.1"),
        (1, None, "127.0.0.1"),
        (1, "10.0.0.1", "10.0.0.1"),
        (1, "6.6.6.6, 10.0.0.1", "10.0.0.1"),
        (1, "10.0.0.1,", "127.0.0.1"),
        (1, "nonsense", "127.0.0.1"),
        (1, "10.0.0.1:4711", "127.0.0.1"),
        (2, "10.0.0.1", "127.0.0.1"),
        (2, "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (2, "6.6.6.6, 10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (1, "::ffff:10.0.0.1", "10.0.0.1"),
        (1, "2001:db8::1", "2001:db8::/64"),
        (1, "2001:db8::ffff:1", "2001:db8::/64"),
        (1, ", " * 10_000 + "10.0.0.1", "10.0.0.1"),
    ],
)
def test_the_address_is_the_one_that_our_own_proxies_saw(
    proxies: int, forwarded: str | None, key: str, make: Callable[..., Service]
) -> None:
    """Whatever a client writes into X-Forwarded-For, it neither gains tokens nor takes those of others."""
    service = make(trusted_proxies=proxies)
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    service.get("/readyz", headers=headers)
    with context.priority(READ):
        assert service.app.extensions["policies"].by_address.peek(key=key).remaining == pytest.approx(BURST - 1)


def test_a_503_tells_the_quota_too(service: Service, provider: Provider) -> None:
    """Who has to come back learns what coming back costs."""
    provider.faults(down=True)
    answer = service.get("/review/1", token=provider.token())
    assert answer.status_code == 503
    assert answer.headers["RateLimit"] == '"address";r=999;t=1'
