"""Whatever goes wrong, the caller gets an `application/problem+json` (RFC 9457) that says what to do next.

    401  no token, or a bad one; WWW-Authenticate says which
    403  a good token that does not cover this, or a user we do not know
    404  not there, or not yours to see: one and the same answer, byte for byte
    429  too much at once; Retry-After and RateLimit say when to come back
    503  something behind us is away; Retry-After says when to come back
    504  the time for this request is up

There is no 500 in this table. What nobody foresaw is a 503 as well: all that the caller can do about it is to come
back later, and nothing of it is told to strangers. Bodies are made of fixed sentences; nothing that a caller or a
database said is repeated in them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from examples.review_service import journal
from examples.review_service.auth.errors import (
    InvalidToken,
    KeysUnavailable,
    MissingToken,
    ProviderError,
)
from examples.review_service.models.errors import DatabaseUnavailable
from examples.review_service.services.errors import KeyReused, NotFound, NotYours, UnknownUser
from resilience import LoadShed, Rejected, Throttled, TimedOut

REALM = "reviews"
A_MOMENT = 1.0
"""Seconds to come back after, where nobody knows better."""


class Problem(Exception):
    """An answer other than the one hoped for.

    Args:
        status: the HTTP status.
        kind: what went wrong, in words with hyphens: the last part of the problem's type.
        detail: one sentence for people.
        retry_after: seconds after which it is worth coming back; None if it never is.
        headers: what else belongs to the answer.
        more: further members of the body.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kind)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    def body(self) -> bytes:
        """The JSON document."""
        document = {
            "type": f"urn:problem:reviews:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return json.dumps(document | self.more).encode()

    def all_headers(self) -> dict[str, str]:
        """The headers that make it a problem."""
        headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"} | self.headers
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers

    def status_line(self) -> str:
        """The status with its phrase."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    def response(self) -> Response:
        """The answer to send."""
        return Response(self.body(), status=self.status, headers=self.all_headers())


def not_found() -> Problem:
    """The only 404 there is."""
    return Problem(404, "not-found", "There is nothing here for you to see.")


def insufficient_scope(scope: str) -> Problem:
    """The token is good, and not good enough."""
    challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'
    return Problem(403, "insufficient-scope", f"This needs the scope {scope}.", headers={"WWW-Authenticate": challenge})


def unavailable(kind: str, detail: str, retry_after: float | None = None) -> Problem:
    """A 503."""
    return Problem(503, kind, detail, retry_after=A_MOMENT if retry_after is None else retry_after)


def unexpected() -> Problem:
    """What nobody foresaw."""
    return unavailable("unexpected", "Something unexpected happened.")


def problem_of(error: Exception) -> Problem:
    """The problem that an exception means to the caller."""
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            return meaning(error)
    return unexpected()


def register(app: Flask) -> None:
    """Answer every exception with its problem."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response:
        problem = problem_of(error)
        if problem.kind == "unexpected":
            journal.unexpected(error)
        return problem.response()


def _unauthorised(kind: str, detail: str, *more: str) -> Problem:
    challenge = ", ".join([f'Bearer realm="{REALM}"', *more])
    return Problem(401, kind, detail, headers={"WWW-Authenticate": challenge})


def of_status(status: int) -> Problem:
    """What an HTTP status means where nothing more is known. There is no 500, and only one 404."""
    if status == HTTPStatus.NOT_FOUND:
        return not_found()
    if not 400 <= status < 600 or status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return unexpected()
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "-"), f"{phrase}.")


def _of_http(error: HTTPException) -> Problem:
    problem = of_status(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    problem.headers |= {name: value for name, value in error.get_headers() if name == "Allow"}
    return problem


_INVALID = 'error="invalid_token", error_description="The access token is not valid"'

_MEANINGS: tuple[tuple[type[Exception], Callable[[Any], Problem]], ...] = (
    (Problem, lambda problem: problem),
    (MissingToken, lambda _: _unauthorised("missing-token", "Send an access token: Authorization: Bearer ...")),
    (
        InvalidToken,
        lambda _: _unauthorised("invalid-token", "The access token is not valid, or not any more.", _INVALID),
    ),
    (UnknownUser, lambda _: Problem(403, "unknown-user", "The token is good, but its user is not known here.")),
    (NotYours, lambda _: Problem(403, "not-yours", "Only its author may do this to a review.")),
    (NotFound, lambda _: not_found()),
    (KeyReused, lambda _: Problem(422, "key-reused", "This Idempotency-Key came before, with another review.")),
    (
        Throttled,
        lambda e: Problem(429, "throttled", "That is too much at once.", retry_after=e.retry_after or A_MOMENT),
    ),
    (KeysUnavailable, lambda e: unavailable("keys-unavailable", "Tokens cannot be checked now.", e.retry_after)),
    (DatabaseUnavailable, lambda _: unavailable("database-unavailable", "The database does not answer now.")),
    (ProviderError, lambda _: unavailable("provider-unavailable", "The authentication provider does not answer now.")),
    (LoadShed, lambda _: unavailable("overloaded", "There is more to do at present than can be done.")),
    (
        Rejected,
        lambda e: unavailable("circuit-open", "Something behind this is failing, and is spared.", e.retry_after),
    ),
    (TimedOut, lambda _: Problem(504, "deadline-exceeded", "The time for this is up.", retry_after=A_MOMENT)),
    (HTTPException, _of_http),
)
"""What exceptions mean, the special ones before the general ones."""
