"""Every form of a bad token is a 401 that says so, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from examples.review_service.settings import AUDIENCE
from tests.examples.conftest import Provider, Service
from tests.examples.forge import Forge, b64


def _swap(token: str, part: int, text: str) -> str:
    parts = token.split(".")
    parts[part] = text
    return ".".join(parts)


def _with_jwk(f: Forge) -> str:
    numbers = f.stranger.public_key().public_numbers()
    jwk = {
        "kty": "RSA",
        "n": b64(numbers.n.to_bytes(256, "big")),
        "e": b64(numbers.e.to_bytes(3, "big")),
    }
    return f.by_stranger(f.header(jwk=jwk))


def _flipped(f: Forge) -> str:
    head, claims, signature = f.signed().split(".")
    return f"{head}.{claims}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


NOW = int(time.time())

FORMS: dict[str, Callable[[Forge], str]] = {
    # who signed, and how
    "alg none": lambda f: f.unsigned("none"),
    "alg None": lambda f: f.unsigned("None"),
    "alg NONE": lambda f: f.unsigned("NONE"),
    "alg nOnE": lambda f: f.unsigned("nOnE"),
    "alg none with a signature": lambda f: f.unsigned("none", b"signature"),
    "alg missing": lambda f: f.unsigned(..., b"signature"),
    "alg null": lambda f: f.unsigned(None, b"signature"),
    "alg empty": lambda f: f.unsigned("", b"signature"),
    "alg a list": lambda f: f.unsigned(["RS256"], b"signature"),
    "alg in lower case": lambda f: f.signed(f.header(alg="rs256")),
    "HS256 with the public key as PEM": lambda f: f.keyed("HS256", f.public_pem),
    "HS256 with the public key as DER": lambda f: f.keyed("HS256", f.public_der),
    "HS256 without a key": lambda f: f.keyed("HS256", b""),
    "HS384 with the public key": lambda f: f.keyed("HS384", f.public_pem),
    "HS512 with the public key": lambda f: f.keyed("HS512", f.public_pem),
    "RS384 with the right key": lambda f: f.other_rsa("RS384"),
    "RS512 with the right key": lambda f: f.other_rsa("RS512"),
    "PS256 with the right key": lambda f: f.other_rsa("PS256"),
    "ES256": lambda f: f.elliptic(),
    "EdDSA": lambda f: f.edwards(),
    "another key": lambda f: f.by_stranger(),
    "another key under the next key's id": lambda f: f.by_stranger(
        f.header(kid=f.provider.mint.keys.published()[1].kid)
    ),
    "the right key under the next key's id": lambda f: f.signed(f.header(kid=f.provider.mint.keys.published()[1].kid)),
    "signature cut": lambda f: f.signed()[:-20],
    "signature gone": lambda f: f.signed().rpartition(".")[0] + ".",
    "signature flipped": _flipped,
    "signature of zeros": lambda f: f.unsigned("RS256", bytes(256)),
    "signature of another token": lambda f: _swap(f.signed(), 2, f.signed(sub="auth0|bob").split(".")[2]),
    "claims exchanged": lambda f: _swap(f.signed(), 1, f.signed(sub="auth0|bob").split(".")[1]),
    "header exchanged": lambda f: _swap(f.signed(), 0, b64(json.dumps(f.header(x5t="x")))),
    # which key
    "kid missing": lambda f: f.signed(f.header(kid=...)),
    "kid unknown": lambda f: f.by_stranger(f.header(kid="nobody")),
    "kid empty": lambda f: f.by_stranger(f.header(kid="")),
    "kid null": lambda f: f.by_stranger(f.header(kid=None)),
    "kid a number": lambda f: f.by_stranger(f.header(kid=7)),
    "kid a list": lambda f: f.by_stranger(f.header(kid=[f.kid])),
    "kid an object": lambda f: f.by_stranger(f.header(kid={"kid": f.kid})),
    "kid a path": lambda f: f.by_stranger(f.header(kid="../../../../dev/null")),
    "kid a query": lambda f: f.by_stranger(f.header(kid="' UNION SELECT 'key'; --")),
    "kid an address": lambda f: f.by_stranger(f.header(kid="http://127.0.0.1:9/key")),
    "kid with a zero byte": lambda f: f.by_stranger(f.header(kid=f"{f.kid}\0")),
    "kid with a space": lambda f: f.by_stranger(f.header(kid=f" {f.kid}")),
    "kid too long": lambda f: f.by_stranger(f.header(kid="k" * 4000)),
    "a key of its own, jwk": _with_jwk,
    "a key from elsewhere, jku": lambda f: f.by_stranger(f.header(jku="http://127.0.0.1:9/jwks.json")),
    "a key from elsewhere, x5u": lambda f: f.by_stranger(f.header(x5u="http://127.0.0.1:9/cert.pem")),
    "a key of its own, x5c": lambda f: f.by_stranger(f.header(x5c=["AAAA"])),
    "jku on a good token": lambda f: f.signed(f.header(jku="http://127.0.0.1:9/jwks.json")),
    "crit": lambda f: f.signed(f.header(crit=["exp"])),
    "b64": lambda f: f.signed(f.header(b64=False, crit=["b64"])),
    "zip": lambda f: f.signed(f.header(zip="DEF")),
    "typ of another kind": lambda f: f.signed(f.header(typ="secevent+jwt")),
    "typ a number": lambda f: f.signed(f.header(typ=1)),
    # when
    "expired": lambda f: f.signed(exp=NOW - 3600),
    "expired a second ago": lambda f: f.signed(exp=NOW - 1),
    "expires now": lambda f: f.signed(exp=NOW),
    "not yet valid": lambda f: f.signed(nbf=NOW + 3600),
    "issued in the future": lambda f: f.signed(iat=NOW + 3600),
    "exp a text": lambda f: f.signed(exp=str(NOW + 600)),
    "exp true": lambda f: f.signed(exp=True),
    "exp null": lambda f: f.signed(exp=None),
    "exp a list": lambda f: f.signed(exp=[NOW + 600]),
    "exp infinite": lambda f: f.signed_text(json.dumps(f.claims(exp=0)).replace('"exp": 0', '"exp": 1e999')),
    "exp not a number": lambda f: f.signed_text(json.dumps(f.claims(exp=0)).replace('"exp": 0', '"exp": NaN')),
    "exp negative": lambda f: f.signed(exp=-1),
    "iat a text": lambda f: f.signed(iat=str(NOW)),
    "nbf a text": lambda f: f.signed(nbf="soon"),
    # for whom, by whom, about whom
    "another audience": lambda f: f.signed(aud="https://elsewhere.example/api"),
    "audience with a slash too many": lambda f: f.signed(aud=f"{AUDIENCE}/"),
    "audience in upper case": lambda f: f.signed(aud=AUDIENCE.upper()),
    "audience a list without us": lambda f: f.signed(aud=["https://elsewhere.example/api", f.provider.issuer]),
    "audience an empty list": lambda f: f.signed(aud=[]),
    "audience a number": lambda f: f.signed(aud=1),
    "another issuer": lambda f: f.signed(iss="https://elsewhere.example/"),
    "issuer without its slash": lambda f: f.signed(iss=f.provider.issuer.rstrip("/")),
    "issuer a list": lambda f: f.signed(iss=[f.provider.issuer]),
    "issuer empty": lambda f: f.signed(iss=""),
    "iss missing": lambda f: f.signed(iss=...),
    "sub missing": lambda f: f.signed(sub=...),
    "aud missing": lambda f: f.signed(aud=...),
    "exp missing": lambda f: f.signed(exp=...),
    "iat missing": lambda f: f.signed(iat=...),
    "sub a number": lambda f: f.signed(sub=1),
    "sub empty": lambda f: f.signed(sub=""),
    "sub too long": lambda f: f.signed(sub="s" * 256),
    "sub with a line break": lambda f: f.signed(sub="auth0|alice\nadmin"),
    "scope a list": lambda f: f.signed(scope=["read:reviews"]),
    "permissions a text": lambda f: f.signed(permissions="read:reviews"),
    "an id token": lambda f: f.signed(aud="K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja", scope=...),
    # no token at all
    "claims a list": lambda f: f.signed_text("[1]"),
    "claims a text": lambda f: f.signed_text('"claims"'),
    "claims no JSON": lambda f: f.signed_text("{"),
    "claims too deep": lambda f: f.signed_text('{"a":' + "[" * 1500 + "]" * 1500 + "}"),
    "claims not UTF-8": lambda f: _swap(f.signed(), 1, b64(b"\xff\xfe{}")),
    "header no JSON": lambda f: _swap(f.signed(), 0, b64("{")),
    "header a list": lambda f: _swap(f.signed(), 0, b64("[]")),
    "header too deep": lambda f: _swap(f.signed(), 0, b64("[" * 1500 + "]" * 1500)),
    "one part": lambda f: "token",
    "two parts": lambda f: f.signed().rpartition(".")[0],
    "four parts": lambda f: f"{f.signed()}.x",
    "five parts": lambda f: f"{f.signed()}.x.y",
    "nothing but dots": lambda f: "..",
    "empty": lambda f: "",
    "padded": lambda f: f"{f.signed()}==",
    "with a space": lambda f: f.signed().replace(".", " .", 1),
    "two tokens": lambda f: f"{f.signed()}, {f.signed()}",
    "quoted": lambda f: f'"{f.signed()}"',
    "not ASCII": lambda f: f"{f.signed()}\xe9",
    "too long": lambda f: f.signed(extra="x" * 9000),
    "much too long": lambda f: "a" * 100_000,
}


@pytest.fixture(scope="module")
def shared() -> dict[str, Service]:
    return {}


@pytest.fixture
def one_service(shared: dict[str, Service], make: Callable[..., Service]) -> Service:
    """One service for the whole table: a table is what a stranger sends to one service."""
    if not shared:
        shared["service"] = make()
    return shared["service"]


def test_there_are_at_least_sixty_forms() -> None:
    """The table does not shrink."""
    assert len(FORMS) >= 60


@pytest.mark.parametrize("form", FORMS)
def test_a_forged_token_is_a_401(form: str, one_service: Service, provider: Provider) -> None:
    """Whatever is wrong with a token, the answer is 401, the challenge says invalid_token, the body is a problem."""
    answer = one_service.get("/review/1", token=FORMS[form](Forge(provider, AUDIENCE)))
    assert answer.status_code == 401, answer.data
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="reviews", error="invalid_token"')
    assert answer.content_type == "application/problem+json"
    assert answer.json["type"] == "urn:problem:reviews:invalid-token"


@pytest.mark.parametrize("authorization", [None, "", "Basic YWxpY2U6cHc=", "Digest x", "Token x", "Negotiate"])
def test_no_token_is_a_401_without_an_error(authorization: str | None, one_service: Service) -> None:
    """Who sends no bearer token is asked for one, and accused of nothing."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = one_service.get("/review/1", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="reviews"'
    assert answer.json["type"] == "urn:problem:reviews:missing-token"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": [AUDIENCE]},
        {"aud": ["https://elsewhere.example/", AUDIENCE]},
        {"nbf": NOW},
        {"iat": NOW + 20},
        {"scope": ..., "permissions": ["read:reviews"]},
        {"exp": NOW + 600.5},
        {"azp": ..., "client_id": "client", "jti": "1"},
    ],
)
def test_a_good_token_is_let_in(changes: dict[str, object], one_service: Service, provider: Provider) -> None:
    """The forms that a good token may take are all accepted, so the table above is refused for its faults alone."""
    assert one_service.get("/review/1", token=Forge(provider, AUDIENCE).signed(**changes)).status_code == 200


@pytest.mark.parametrize("profile", ["auth0", "rfc9068"])
def test_both_profiles_are_let_in(profile: str, one_service: Service, provider: Provider) -> None:
    """Tokens of both of the provider's profiles verify."""
    token = provider.token(profile=profile, permissions=["read:reviews"])
    assert one_service.get("/review/1", token=token).status_code == 200


def test_the_scheme_is_read_in_any_case(one_service: Service, provider: Provider) -> None:
    """`bearer` is Bearer (RFC 9110, section 11.1)."""
    answer = one_service.get("/review/1", headers={"Authorization": f"bearer {provider.token()}"})
    assert answer.status_code == 200
