"""The table of statuses: who asks for what, and what the answer is. Every answer that is no success is a problem."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.examples.conftest import READ, WRITE, Provider, Service

DRAFT = {"title": "A chair", "body": "It stands.", "rating": 4}
ALICE, BOB, NOBODY = "auth0|alice", "auth0|bob", "auth0|nobody"
PUBLIC_OF_ALICE, PUBLIC_OF_BOB, PRIVATE_OF_BOB = "/review/1", "/review/2", "/review/4"


def problem(answer: Any) -> str:
    """The last part of a problem's type, after a look at what every problem has."""
    assert answer.content_type == "application/problem+json"
    document = json.loads(answer.data)
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    prefix, _, kind = document["type"].rpartition(":")
    assert prefix == "urn:problem:reviews"
    return str(kind)


GOOD = [
    ("GET", PUBLIC_OF_ALICE, ALICE, READ, 200),
    ("GET", PUBLIC_OF_BOB, ALICE, READ, 200),
    ("GET", PRIVATE_OF_BOB, BOB, READ, 200),
    ("HEAD", PUBLIC_OF_ALICE, ALICE, READ, 200),
    ("GET", "/reviews", ALICE, READ, 200),
    ("POST", "/review", ALICE, WRITE, 201),
    ("DELETE", PUBLIC_OF_ALICE, ALICE, WRITE, 204),
    ("GET", "/healthz", None, "", 200),
    ("GET", "/readyz", None, "", 200),
    ("GET", "/openapi.json", None, "", 200),
]

BAD = [
    ("GET", PUBLIC_OF_ALICE, None, "", 401, "missing-token"),
    ("GET", "/reviews", None, "", 401, "missing-token"),
    ("POST", "/review", None, "", 401, "missing-token"),
    ("DELETE", PUBLIC_OF_ALICE, None, "", 401, "missing-token"),
    ("GET", "/review/nonsense", None, "", 401, "missing-token"),
    ("GET", PUBLIC_OF_ALICE, ALICE, "", 403, "insufficient-scope"),
    ("GET", PUBLIC_OF_ALICE, ALICE, WRITE, 403, "insufficient-scope"),
    ("GET", PUBLIC_OF_ALICE, ALICE, "read:reviewsX xread:reviews READ:REVIEWS", 403, "insufficient-scope"),
    ("GET", "/reviews", ALICE, WRITE, 403, "insufficient-scope"),
    ("POST", "/review", ALICE, READ, 403, "insufficient-scope"),
    ("DELETE", PUBLIC_OF_ALICE, ALICE, READ, 403, "insufficient-scope"),
    ("GET", PUBLIC_OF_ALICE, NOBODY, READ, 403, "unknown-user"),
    ("GET", "/review/999", NOBODY, READ, 403, "unknown-user"),
    ("GET", "/reviews", NOBODY, READ, 403, "unknown-user"),
    ("POST", "/review", NOBODY, WRITE, 403, "unknown-user"),
    ("DELETE", PUBLIC_OF_ALICE, NOBODY, WRITE, 403, "unknown-user"),
    ("GET", PUBLIC_OF_ALICE, "client@clients", READ, 403, "unknown-user"),
    ("DELETE", PUBLIC_OF_BOB, ALICE, WRITE, 403, "not-yours"),
    ("DELETE", PRIVATE_OF_BOB, ALICE, WRITE, 404, "not-found"),
    ("DELETE", "/review/999", ALICE, WRITE, 404, "not-found"),
    ("GET", "/nowhere", ALICE, READ, 404, "not-found"),
    ("GET", "/nowhere", None, "", 404, "not-found"),
    ("GET", "/", None, "", 404, "not-found"),
    ("GET", "/review/1/", ALICE, READ, 404, "not-found"),
    ("GET", "/review/", ALICE, READ, 404, "not-found"),
    ("PUT", PUBLIC_OF_ALICE, ALICE, WRITE, 405, "method-not-allowed"),
    ("PATCH", PUBLIC_OF_ALICE, None, "", 405, "method-not-allowed"),
    ("DELETE", "/reviews", ALICE, WRITE, 405, "method-not-allowed"),
    ("GET", "/review", ALICE, READ, 405, "method-not-allowed"),
    ("BREW", "/review", ALICE, READ, 405, "method-not-allowed"),
    ("POST", "/healthz", None, "", 405, "method-not-allowed"),
]


def _ask(service: Service, provider: Provider, method: str, path: str, sub: str | None, scope: str) -> Any:
    token = None if sub is None else provider.token(sub, scope)
    body = {"json": DRAFT} if method == "POST" else {}
    return service.call(method, path, token=token, **body)


@pytest.mark.parametrize(("method", "path", "sub", "scope", "status"), GOOD)
def test_what_is_allowed(
    method: str, path: str, sub: str | None, scope: str, status: int, service: Service, provider: Provider
) -> None:
    """Who may, does."""
    assert _ask(service, provider, method, path, sub, scope).status_code == status


@pytest.mark.parametrize(("method", "path", "sub", "scope", "status", "kind"), BAD)
def test_what_is_not_allowed(
    method: str, path: str, sub: str | None, scope: str, status: int, kind: str, service: Service, provider: Provider
) -> None:
    """Who may not is told so, by status and by type."""
    answer = _ask(service, provider, method, path, sub, scope)
    assert (answer.status_code, problem(answer)) == (status, kind)
    if kind == "insufficient-scope":
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    if status == 405:
        assert answer.headers["Allow"]


def test_a_504_when_the_time_is_up(service: Service, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose two seconds are gone before the database is asked ends there."""
    token = provider.token()
    assert service.get("/reviews", token=token).status_code == 200
    verify = service.app.extensions["verifier"].caller

    def slowly(given: str) -> object:
        service.clock.advance(2.5)
        return verify(given)

    monkeypatch.setattr(service.app.extensions["verifier"], "caller", slowly)
    answer = service.get("/reviews", token=token)
    assert (answer.status_code, problem(answer)) == (504, "deadline-exceeded")


@pytest.mark.parametrize(
    ("told", "status"),
    [("0", 504), ("00", 504), ("1500", 200), ("9999999999", 200), ("x", 200), ("-1", 200), ("1.5", 200), ("²", 200)],
)
def test_a_caller_may_have_less_time_than_we_give(told: str, status: int, service: Service, provider: Provider) -> None:
    """`X-Deadline-Ms` shortens the deadline; what is no number does nothing."""
    answer = service.get("/reviews", token=provider.token(), headers={"X-Deadline-Ms": told})
    assert answer.status_code == status


def test_nothing_is_a_500(service: Service, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is a 503 that says when to come back."""

    def fail(*_: object) -> object:
        raise ZeroDivisionError("of nobody's concern")

    monkeypatch.setattr(service.app.extensions["verifier"], "caller", fail)
    answer = service.get("/review/1", token=provider.token())
    assert (answer.status_code, problem(answer)) == (503, "unexpected")
    assert answer.headers["Retry-After"] == "1"
    assert b"concern" not in answer.data
