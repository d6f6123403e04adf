"""What the provider answers, in its own words: paths, bodies and headers are those that its documentation shows."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from examples.auth0_standin import directory
from examples.auth0_standin.bucket import UserinfoBucket
from examples.auth0_standin.grants import Code, GrantError, Grants
from examples.auth0_standin.tokens import Mint


def documents(mint: Mint) -> Blueprint:
    """What anybody may read: the configuration and the public keys."""
    pages = Blueprint("documents", __name__, url_prefix="/.well-known")
    issuer = mint.issuer

    @pages.get("/openid-configuration")
    def configuration() -> Response:
        return jsonify(
            issuer=issuer,
            authorization_endpoint=f"{issuer}authorize",
            token_endpoint=f"{issuer}oauth/token",
            userinfo_endpoint=mint.userinfo_audience,
            jwks_uri=f"{issuer}.well-known/jwks.json",
            scopes_supported=["openid", "profile", "email"],
            response_types_supported=["code"],
            code_challenge_methods_supported=["S256"],
            id_token_signing_alg_values_supported=["RS256"],
            token_endpoint_auth_methods_supported=["client_secret_post"],
            subject_types_supported=["public"],
        )

    @pages.get("/jwks.json")
    def jwks() -> Response:
        answer = jsonify(mint.keys.jwks())
        answer.headers["Cache-Control"] = "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400"
        return answer

    return pages


def logins(mint: Mint, grants: Grants) -> Blueprint:
    """How an application comes by a token."""
    pages = Blueprint("logins", __name__)

    @pages.get("/authorize")
    def authorize() -> AnyResponse:
        """Agree for whom `login_hint` names: there is no person here to press the button."""
        asked = request.args
        client_id, back = asked.get("client_id", ""), asked.get("redirect_uri", "")
        if client_id != directory.CLIENT_ID or not back:
            return make_response("Unknown client or missing redirect_uri", HTTPStatus.BAD_REQUEST)
        user = directory.USERS.get(asked.get("login_hint", ""))
        if asked.get("response_type") != "code" or asked.get("code_challenge_method", "S256") != "S256":
            found = {"error": "unsupported_response_type", "error_description": "Ask for a code, with S256 if any"}
        elif user is None:
            found = {"error": "login_required", "error_description": "Login required"}
        else:
            code = Code(
                user=user,
                client_id=client_id,
                redirect_uri=back,
                scope=asked.get("scope", "openid profile email"),
                audience=asked.get("audience", mint.audience),
                challenge=asked.get("code_challenge"),
                nonce=asked.get("nonce"),
                issued=time.monotonic(),
            )
            found = {"code": grants.issue_code(code)}
        found |= {"state": asked["state"]} if "state" in asked else {}
        return redirect(f"{back}{'&' if '?' in back else '?'}{urlencode(found)}")

    @pages.post("/oauth/token")
    def token() -> Response:
        answer = jsonify(grants.token(_form()))
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @pages.errorhandler(GrantError)
    def refused(error: GrantError) -> tuple[Response, int]:
        return jsonify(error.body), error.status

    return pages


def userinfo(mint: Mint, bucket: UserinfoBucket) -> Blueprint:
    """Who a token speaks for."""
    pages = Blueprint("userinfo", __name__)

    @pages.get("/userinfo")
    def userinfo() -> Response:
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        claims = mint.read(credentials) if scheme.lower() == "bearer" else None
        if claims is None:
            refusal = make_response("Unauthorized", HTTPStatus.UNAUTHORIZED)
            refusal.headers["WWW-Authenticate"] = 'Bearer realm="Users"'
            return refusal
        sub, scopes = str(claims["sub"]), frozenset(str(claims["scope"]).split())
        allowed, headers = bucket.take(sub)
        answer = jsonify(directory.find_user(sub).profile(scopes)) if allowed else too_many()
        answer.headers.update(headers)
        return answer

    return pages


def too_many() -> Response:
    """The body of every 429."""
    answer = jsonify(error="too_many_requests", error_description="Global limit has been reached")
    answer.status_code = HTTPStatus.TOO_MANY_REQUESTS
    return answer


def failure(status: int, message: str) -> Response:
    """The body of errors that are nobody's grant."""
    answer = jsonify(statusCode=status, error=HTTPStatus(status).phrase, message=message)
    answer.status_code = status
    return answer


def _form() -> dict[str, str]:
    """The parameters of a token request, which may come as a form or as JSON."""
    if not request.is_json:
        return request.form.to_dict()
    body: Any = request.get_json(silent=True)
    return {str(name): str(value) for name, value in body.items()} if isinstance(body, dict) else {}
