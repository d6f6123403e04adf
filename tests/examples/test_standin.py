"""The stand-in has Auth0's shapes, and its switches do what they say."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from examples.auth0_standin import directory
from tests.examples.conftest import ALL, Provider

CLIENT = {"client_id": directory.CLIENT_ID, "client_secret": directory.CLIENT_SECRET, "audience": directory.AUDIENCE}
ALICE = {"username": "alice@reviews.example", "password": directory.PASSWORD}


@pytest.fixture
def web(provider: Provider) -> FlaskClient:
    return provider.client


def _read(token: str, part: int = 1) -> dict[str, Any]:
    text = token.split(".")[part]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return claims


def test_the_configuration_leads_to_everything(web: FlaskClient, provider: Provider) -> None:
    """Discovery names this issuer, with its slash, and paths below it."""
    document = web.get("/.well-known/openid-configuration").json
    assert document["issuer"] == provider.issuer
    assert provider.issuer.endswith("/")
    assert document["jwks_uri"] == f"{provider.issuer}.well-known/jwks.json"


def test_the_key_set_has_the_current_and_the_next_key(web: FlaskClient) -> None:
    """Two public RSA keys for signatures, and nothing private in them."""
    keys = web.get("/.well-known/jwks.json").json["keys"]
    assert len(keys) >= 2
    for key in keys:
        assert (key["kty"], key["use"], key["alg"], key["e"]) == ("RSA", "sig", "RS256", "AQAB")
        assert key.keys() == {"kty", "use", "alg", "e", "n", "kid"}


def test_a_rotation_brings_the_next_key_into_use(provider: Provider) -> None:
    """Planned: next becomes current and the old one stays. Emergency: nothing that was there is left."""
    current, following = provider.client.get("/control").json["kids"][:2]
    provider.rotate()
    kids = provider.client.get("/control").json["kids"]
    assert (kids[0], kids[2]) == (following, current)
    provider.rotate(emergency=True)
    assert not set(kids) & set(provider.client.get("/control").json["kids"])
    assert _read(provider.token(), 0)["kid"] == provider.client.get("/control").json["kids"][0]


def test_client_credentials(web: FlaskClient, provider: Provider) -> None:
    """An application's own token: `sub` says @clients, `gty` says how it was come by, as a form and as JSON."""
    for body in (
        {"json": CLIENT | {"grant_type": "client_credentials"}},
        {"data": CLIENT | {"grant_type": "client_credentials"}},
    ):
        answer = web.post("/oauth/token", **body).json
        assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 86_400)
        claims = _read(answer["access_token"])
        assert claims["iss"] == provider.issuer
        assert claims["sub"] == f"{directory.CLIENT_ID}@clients"
        assert claims["azp"] == directory.CLIENT_ID
        assert claims["gty"] == "client-credentials"
        assert claims["aud"] == directory.AUDIENCE
        assert claims["exp"] - claims["iat"] == 86_400


def test_password(web: FlaskClient, provider: Provider) -> None:
    """A user's token: with openid the audience is a list, and an id token comes along."""
    answer = web.post("/oauth/token", json=CLIENT | ALICE | {"grant_type": "password", "scope": ALL}).json
    claims = _read(answer["access_token"])
    assert (claims["sub"], claims["gty"]) == ("auth0|alice", "password")
    assert claims["aud"] == [directory.AUDIENCE, f"{provider.issuer}userinfo"]
    assert _read(answer["id_token"])["name"] == "Alice Archer"


def _code(web: FlaskClient, **more: str) -> dict[str, list[str]]:
    asked = {
        "response_type": "code",
        "client_id": directory.CLIENT_ID,
        "redirect_uri": "https://app.example/back?x=1",
        "scope": ALL,
        "audience": directory.AUDIENCE,
        "state": "s",
        "login_hint": "auth0|bob",
    }
    answer = web.get("/authorize", query_string=asked | more)
    assert answer.status_code == 302
    return parse_qs(urlsplit(answer.headers["Location"]).query)


def test_authorization_code_with_proof(web: FlaskClient) -> None:
    """The code is good once, with the verifier that belongs to its challenge, and without a secret."""
    verifier = "v" * 50
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    back = _code(web, code_challenge=challenge, nonce="n")
    assert (back["state"], back["x"]) == (["s"], ["1"])
    wanted = {
        "grant_type": "authorization_code",
        "client_id": directory.CLIENT_ID,
        "code": back["code"][0],
        "redirect_uri": "https://app.example/back?x=1",
        "code_verifier": verifier,
    }
    answer = web.post("/oauth/token", json=wanted)
    claims = _read(answer.json["access_token"])
    assert claims["sub"] == "auth0|bob"
    assert "gty" not in claims
    assert _read(answer.json["id_token"])["nonce"] == "n"
    assert web.post("/oauth/token", json=wanted).json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code_verifier": "w" * 50}, "invalid_grant"),
        ({"redirect_uri": "https://evil.example/"}, "unauthorized_client"),
        ({"code": "made up"}, "invalid_grant"),
        ({"client_id": "another"}, "access_denied"),
    ],
)
def test_a_code_in_the_wrong_hands_is_worth_nothing(change: dict[str, str], error: str, web: FlaskClient) -> None:
    """Another verifier, address, code or client: refused in the provider's words."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 50).digest()).rstrip(b"=").decode()
    wanted = {
        "grant_type": "authorization_code",
        "client_id": directory.CLIENT_ID,
        "code": _code(web, code_challenge=challenge)["code"][0],
        "redirect_uri": "https://app.example/back?x=1",
        "code_verifier": "v" * 50,
    }
    answer = web.post("/oauth/token", json=wanted | change)
    assert (answer.status_code in {401, 403}, answer.json["error"]) == (True, error)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "magic"}, 403, "unauthorized_client"),
        (CLIENT | {"grant_type": "client_credentials", "client_secret": "é"}, 401, "access_denied"),
        (CLIENT | {"grant_type": "client_credentials", "audience": "https://other.example"}, 403, "access_denied"),
        (CLIENT | {"grant_type": "client_credentials", "audience": ""}, 403, "access_denied"),
        (CLIENT | {"grant_type": "password", "username": "alice"}, 400, "invalid_request"),
        (CLIENT | ALICE | {"grant_type": "password", "password": "wrong"}, 403, "invalid_grant"),
        ([], 400, "invalid_request"),
    ],
)
def test_refusals_have_the_providers_bodies(body: Any, status: int, error: str, web: FlaskClient) -> None:
    """`error` and `error_description`, and the status that the provider gives it."""
    answer = web.post("/oauth/token", json=body)
    assert (answer.status_code, answer.json["error"]) == (status, error)
    assert answer.json["error_description"]


def test_both_token_profiles(provider: Provider) -> None:
    """Auth0's own has azp, the IETF's has client_id, jti and another typ."""
    own, ietf = (provider.token(profile=profile, permissions=["read:reviews"]) for profile in ("auth0", "rfc9068"))
    assert (_read(own, 0)["typ"], _read(ietf, 0)["typ"]) == ("JWT", "at+jwt")
    assert "azp" in _read(own)
    assert {"client_id", "jti"} <= _read(ietf).keys()
    assert "azp" not in _read(ietf)
    assert _read(own)["permissions"] == ["read:reviews"]


def test_userinfo_has_a_bucket_of_its_own(web: FlaskClient, provider: Provider) -> None:
    """Ten calls for each user, then a 429 with a reset in UNIX seconds; another user is not touched."""
    alice, bob = ({"Authorization": f"Bearer {provider.token(sub)}"} for sub in ("auth0|alice", "auth0|bob"))
    answers = [web.get("/userinfo", headers=alice) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == [*map(str, range(9, -1, -1)), "0"]
    assert answers[0].headers["x-ratelimit-limit"] == "10"
    assert 0 < int(answers[-1].headers["x-ratelimit-reset"]) - time.time() <= 13
    assert answers[-1].json["error"] == "too_many_requests"
    assert web.get("/userinfo", headers=bob).status_code == 200


@pytest.mark.parametrize("scope", ["openid", "openid profile", "openid email"])
def test_userinfo_shows_what_the_scopes_allow(scope: str, web: FlaskClient, provider: Provider) -> None:
    """The scope profile opens the name, email the address."""
    answer = web.get("/userinfo", headers={"Authorization": f"Bearer {provider.token(scope=scope)}"}).json
    assert answer["sub"] == "auth0|alice"
    assert ("name" in answer, "email" in answer) == ("profile" in scope, "email" in scope)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer nonsense", "Basic x"])
def test_userinfo_wants_a_token(authorization: str, web: FlaskClient) -> None:
    """Anything else is a 401 in plain text."""
    answer = web.get("/userinfo", headers={"Authorization": authorization})
    assert (answer.status_code, answer.text) == (401, "Unauthorized")


def test_userinfo_wants_a_token_of_its_own(web: FlaskClient, provider: Provider) -> None:
    """A token without openid, expired or taken back is none."""
    tokens = [provider.token(scope="read:reviews"), provider.token(ttl=-10), provider.token()]
    provider.rotate(emergency=True)
    for token in tokens:
        assert web.get("/userinfo", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_errors_are_counted_down(web: FlaskClient, provider: Provider) -> None:
    """The next N answers are errors, and then all is well."""
    provider.faults(errors=2, status=502)
    statuses = [web.get("/.well-known/jwks.json").status_code for _ in range(3)]
    assert statuses == [502, 502, 200]


def test_a_fault_can_be_kept_to_some_paths(web: FlaskClient, provider: Provider) -> None:
    """`paths` says where it hurts; the control panel never does."""
    provider.faults(errors=5, paths=["/userinfo"])
    assert web.get("/.well-known/jwks.json").status_code == 200
    assert web.get("/userinfo").status_code == 503
    assert provider.calls("/userinfo") == 1


def _connect(provider: Provider, seconds: float) -> http.client.HTTPConnection:
    address = urlsplit(provider.issuer)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=seconds)


@pytest.mark.parametrize(
    ("fault", "error"), [("hang", TimeoutError), ("down", http.client.RemoteDisconnected), ("drip", TimeoutError)]
)
def test_faults_of_the_connection(fault: str, error: type[Exception], provider: Provider) -> None:
    """Over a real socket: silence, a cut, an answer that never ends; and all is well when it is off."""
    provider.faults(**{fault: True})
    connection = _connect(provider, 0.15)
    connection.request("GET", "/.well-known/jwks.json")
    if fault == "drip":
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 200 OK")
    else:
        with pytest.raises(error):
            connection.getresponse()
    connection.close()
    provider.faults(**{fault: False})
    connection = _connect(provider, 5.0)
    connection.request("GET", "/.well-known/jwks.json")
    assert connection.getresponse().status == 200
    connection.close()


def test_who_hangs_is_answered_when_it_is_over(provider: Provider) -> None:
    """A connection that hung is not lost."""
    provider.faults(hang=True)
    connection = _connect(provider, 5.0)
    connection.request("GET", "/.well-known/jwks.json")
    provider.faults(hang=False)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_clock_that_is_ahead(provider: Provider) -> None:
    """Tokens come from the provider's time."""
    provider.faults(skew=3600.0)
    assert _read(provider.token())["iat"] - time.time() == pytest.approx(3600, abs=5)


@pytest.mark.parametrize(
    "switches",
    [
        {"nonsense": 1},
        {"hang": 1},
        {"errors": True},
        {"errors": 1.5},
        {"latency": "1"},
        {"paths": "/userinfo"},
        {"hang": None},
    ],
)
def test_a_switch_that_does_not_exist_or_fit_is_refused(switches: dict[str, Any], web: FlaskClient) -> None:
    """The answer names the switch, and nothing is turned."""
    answer = web.post("/control/faults", json={"latency": 5.0, **switches})
    assert answer.status_code == 400
    assert next(iter(switches)) in answer.json["error_description"]
    assert web.get("/control").json["faults"]["latency"] == 0.0


def test_what_does_not_exist_has_the_providers_error(web: FlaskClient) -> None:
    """A 404 in its words."""
    answer = web.get("/nowhere")
    assert (answer.status_code, answer.json["statusCode"], answer.json["error"]) == (404, 404, "Not Found")
    assert re.search("not found", answer.json["message"])
