"""The grants of `/oauth/token`, and what the provider says when it refuses one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass

from examples.auth0_standin import directory
from examples.auth0_standin.tokens import LIFETIME, Mint

CODE_LIFETIME = 60.0
"""Seconds in which an authorization code must be redeemed."""


class GrantError(Exception):
    """A refusal in the provider's words."""

    def __init__(self, status: int, error: str, description: str, uri: str | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}
        if uri is not None:
            self.body["error_uri"] = uri


@dataclass(frozen=True)
class Code:
    """What an authorization code stands for."""

    user: directory.User
    client_id: str
    redirect_uri: str
    scope: str
    audience: str
    challenge: str | None
    nonce: str | None
    issued: float


class Grants:
    """Turns credentials into tokens. Safe from any thread."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._lock = threading.Lock()
        self._codes: dict[str, Code] = {}

    def issue_code(self, code: Code) -> str:
        """Remember that a user agreed; the code is good once."""
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[name] = code
        return name

    def token(self, form: dict[str, str]) -> dict[str, object]:
        """Answer a token request.

        Raises:
            GrantError: the request is refused.
        """
        grant = form.get("grant_type", "")
        if not grant:
            raise GrantError(400, "invalid_request", "Missing required parameter: grant_type")
        answer = {
            "client_credentials": self._client_credentials,
            "password": self._password,
            "authorization_code": self._authorization_code,
        }.get(grant)
        if answer is None:
            raise GrantError(
                403,
                "unauthorized_client",
                f"Grant type '{grant}' not allowed for the client.",
                "https://auth0.com/docs/clients/client-grant-types",
            )
        return answer(form)

    def _client_credentials(self, form: dict[str, str]) -> dict[str, object]:
        self._check_client(form, with_secret=True)
        client_id, audience = form["client_id"], self._audience(form)
        scope = form.get("scope") or " ".join(directory.API_SCOPES)
        token = self._mint.access_token(
            f"{client_id}@clients", scope, audience=audience, client_id=client_id, grant="client-credentials"
        )
        return _answer(token, scope)

    def _password(self, form: dict[str, str]) -> dict[str, object]:
        self._check_client(form, with_secret=True)
        for needed in ("username", "password"):
            if not form.get(needed):
                raise GrantError(400, "invalid_request", f"Missing required parameter: {needed}")
        user = directory.log_in(form["username"], form["password"])
        if user is None:
            raise GrantError(403, "invalid_grant", "Wrong email or password.")
        return self._for_user(user, form.get("scope", ""), self._audience(form), form["client_id"], grant="password")

    def _authorization_code(self, form: dict[str, str]) -> dict[str, object]:
        self._check_client(form, with_secret="code_verifier" not in form)
        with self._lock:
            code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.client_id != form["client_id"] or time.monotonic() - code.issued > CODE_LIFETIME:
            raise GrantError(403, "invalid_grant", "Invalid authorization code")
        if form.get("redirect_uri") != code.redirect_uri:
            raise GrantError(
                403,
                "unauthorized_client",
                "The redirect URI is wrong. You sent something else than you sent to /authorize",
            )
        if not _verifies(code.challenge, form.get("code_verifier")):
            raise GrantError(403, "invalid_grant", "Failed to verify code verifier")
        return self._for_user(code.user, code.scope, code.audience, code.client_id, nonce=code.nonce)

    def _for_user(
        self,
        user: directory.User,
        scope: str,
        audience: str,
        client_id: str,
        *,
        grant: str | None = None,
        nonce: str | None = None,
    ) -> dict[str, object]:
        token = self._mint.access_token(user.sub, scope, audience=audience, client_id=client_id, grant=grant)
        answer = _answer(token, scope)
        scopes = frozenset(scope.split())
        if "openid" in scopes:
            answer["id_token"] = self._mint.id_token(user, scopes, client_id, nonce)
        return answer

    @staticmethod
    def _check_client(form: dict[str, str], *, with_secret: bool) -> None:
        known = form.get("client_id") == directory.CLIENT_ID
        secret_right = not with_secret or _equal(form.get("client_secret", ""), directory.CLIENT_SECRET)
        if not (known and secret_right):
            raise GrantError(401, "access_denied", "Unauthorized")

    def _audience(self, form: dict[str, str]) -> str:
        audience = form.get("audience", "")
        if not audience:
            raise GrantError(
                403, "access_denied", "No audience parameter was provided, and no default audience has been configured"
            )
        if audience != self._mint.audience:
            raise GrantError(403, "access_denied", f"Service not found: {audience}")
        return audience


def _answer(token: str, scope: str) -> dict[str, object]:
    return {"access_token": token, "scope": scope, "expires_in": LIFETIME, "token_type": "Bearer"}


def _verifies(challenge: str | None, verifier: str | None) -> bool:
    """Whether the one who redeems a code is the one who asked for it (RFC 7636, S256)."""
    if challenge is None:
        return verifier is None
    digest = hashlib.sha256((verifier or "").encode()).digest()
    return _equal(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), challenge)


def _equal(one: str, other: str) -> bool:
    """Compare without telling by the time it takes how much was right."""
    return hmac.compare_digest(one.encode(), other.encode())
