"""Access tokens, in both of the provider's profiles.

    auth0      typ "JWT",    azp, gty                 the default
    rfc9068    typ "at+jwt", client_id, jti           the IETF profile

`aud` is a string, and becomes a list as soon as the token may also be shown to `/userinfo`. `permissions` is there for
an API with role-based access control.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from examples.auth0_standin import directory
from examples.auth0_standin.keys import KeyRing

Profile = Literal["auth0", "rfc9068"]

LIFETIME = 86_400
"""Seconds that a token is good for, unless told otherwise: the provider's default for an API."""


class Mint:
    """Makes access tokens, and recognises its own."""

    def __init__(self, issuer: str, keys: KeyRing, audience: str = directory.AUDIENCE) -> None:
        self.issuer = issuer
        self.audience = audience
        self.keys = keys
        self.skew = 0.0
        """Seconds by which this provider's clock is ahead of everybody else's."""

    @property
    def userinfo_audience(self) -> str:
        """The audience that `/userinfo` asks for."""
        return f"{self.issuer}userinfo"

    def access_token(
        self,
        sub: str,
        scope: str,
        *,
        audience: str | None = None,
        client_id: str = directory.CLIENT_ID,
        ttl: float = LIFETIME,
        grant: str | None = None,
        profile: Profile = "auth0",
        permissions: Sequence[str] | None = None,
    ) -> str:
        """A signed access token for `sub`, valid for `ttl` seconds from now."""
        now = int(time.time() + self.skew)
        audience = audience or self.audience
        for_userinfo = "openid" in scope.split()
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": sub,
            "aud": [audience, self.userinfo_audience] if for_userinfo else audience,
            "iat": now,
            "exp": now + int(ttl),
            "scope": scope,
        }
        if profile == "auth0":
            claims["azp"] = client_id
            if grant is not None:
                claims["gty"] = grant
        else:
            claims |= {"client_id": client_id, "jti": secrets.token_urlsafe(16)}
        if permissions is not None:
            claims["permissions"] = list(permissions)
        return self.sign(claims, typ="JWT" if profile == "auth0" else "at+jwt")

    def id_token(self, user: directory.User, scopes: frozenset[str], client_id: str, nonce: str | None = None) -> str:
        """Who logged in, told to the application: no key to any API."""
        now = int(time.time() + self.skew)
        claims = user.profile(scopes) | {"iss": self.issuer, "aud": client_id, "iat": now, "exp": now + 36_000}
        return self.sign(claims | ({"nonce": nonce} if nonce else {}), typ="JWT")

    def sign(self, claims: dict[str, Any], *, typ: str) -> str:
        """Sign `claims` with the key in use."""
        key = self.keys.current
        return jwt.encode({"alg": "RS256", "typ": typ, "kid": key.kid}, claims, key)

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of one of our own tokens for `/userinfo`, or None for anything else."""
        rules = jwt.JWTClaimsRegistry(
            now=int(time.time() + self.skew),
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.userinfo_audience},
            exp={"essential": True},
        )
        try:
            claims = jwt.decode(token, KeySet(list(self.keys.published())), algorithms=["RS256"]).claims
            rules.validate(claims)
        except (JoseError, ValueError):
            return None
        return claims
