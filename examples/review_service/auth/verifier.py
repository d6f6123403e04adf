"""Is this token good? Signature, issuer, audience and times, by PyJWT; what PyJWT leaves open is closed here.

- The algorithm is RS256 and nothing else, whatever the header says: no `none`, no HS256 keyed with the public key.
- The key is one that the provider publishes, found by `kid`. Headers that bring or point to a key of their own (`jwk`,
  `jku`, `x5c`, `x5u`), or that change what the rest means (`crit`, `b64`, `zip`), are refused.
- A token that is about to begin is allowed `LEEWAY`: our clock may be behind the provider's. One that has ended is
  given nothing: that would lengthen the life of a stolen one.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Any

import jwt

from examples.review_service.auth.errors import InvalidToken, KeysUnavailable, MissingToken
from examples.review_service.auth.jwks import LONGEST_KID
from examples.review_service.auth.keys import SigningKeys

LONGEST_TOKEN = 8 * 1024
LONGEST_SUB = 255
LEEWAY = 30.0

_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_HEADERS = frozenset({"alg", "typ", "kid", "x5t"})
_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token speaks for, and what it allows. `token` is there to be shown to the provider, and in no repr."""

    sub: str
    scopes: frozenset[str]
    token: str

    def __repr__(self) -> str:
        """Show everything but the token."""
        return f"Caller(sub={self.sub!r}, scopes={sorted(self.scopes)})"

    def may(self, scope: str) -> bool:
        """Whether the token covers `scope`."""
        return scope in self.scopes


def bearer_token(authorization: str | None) -> str:
    """The token of an `Authorization` header.

    Raises:
        MissingToken: the header is not there, or of another scheme.
        InvalidToken: what it carries cannot be a token.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise MissingToken
    token = token.strip(" ")
    if len(token) > LONGEST_TOKEN or not _JWS.fullmatch(token):
        raise InvalidToken("shape")
    return token


class Verifier:
    """Turns a token into the caller that it speaks for. Safe from any thread."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    def caller(self, token: str) -> Caller:
        """Whom the token speaks for.

        Raises:
            InvalidToken: it is not good.
            KeysUnavailable: that cannot be known at the moment.
        """
        try:
            return _caller(self._claims(token), token)
        except (InvalidToken, KeysUnavailable):
            raise
        except Exception as error:
            # A hostile token fails in ways that no list of exceptions foresees.
            raise InvalidToken(type(error).__name__) from None

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        kid, typ = header.get("kid"), header.get("typ", "JWT")
        if header.get("alg") != "RS256" or not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise InvalidToken("kind")
        if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID or not _HEADERS.issuperset(header):
            raise InvalidToken("header")
        claims = jwt.decode(
            token,
            self._keys.find(kid),
            algorithms=["RS256"],
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY,
            options={"require": _REQUIRED},
        )
        if not all(_is_time(claims[name]) for name in ("exp", "iat", "nbf") if name in claims):
            raise InvalidToken("times")
        if claims["exp"] <= time.time():
            raise InvalidToken("expired")
        return claims


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _caller(claims: dict[str, Any], token: str) -> Caller:
    sub, scope = claims["sub"], claims.get("scope", "")
    permissions: Any = claims.get("permissions", [])
    if not isinstance(sub, str) or not 0 < len(sub) <= LONGEST_SUB or not sub.isprintable():
        raise InvalidToken("sub")
    if not isinstance(scope, str) or not isinstance(permissions, list):
        raise InvalidToken("scope")
    granted = [name for name in permissions if isinstance(name, str)]
    return Caller(sub, frozenset([*scope.split(), *granted]), token)
