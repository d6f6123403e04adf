"""From what a caller sent to what the use cases take, or a problem that says what is wrong with it."""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from typing import Any

from flask import Request

from examples.review_service.models.entities import Draft, Visibility
from examples.review_service.models.repository import LARGEST_ID
from examples.review_service.problems import Problem, not_found

LARGEST_BODY = 64 * 1024
LONGEST_TITLE, LONGEST_BODY = 200, 5_000
LONGEST_KEY = 255
PAGE, LARGEST_PAGE = 20, 100

_KEY = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_KEY}}}")
_NUMBER = re.compile(r"[0-9]{1,19}")
_CURSOR = "reviews:"
_UNSTORABLE = frozenset({"Cc", "Cs"})
"""Control characters, and surrogates without their other half: no database takes all of them."""


def review_id(text: str) -> int:
    """The id in a path. What cannot be an id is the id of nothing."""
    if not _NUMBER.fullmatch(text) or str(int(text)) != text:
        raise not_found()
    return int(text)


def draft(request: Request) -> Draft:
    """The review in a request body."""
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", "Send the review as application/json.")
    try:
        sent: Any = json.loads(request.get_data(cache=False))
    except (ValueError, RecursionError):
        raise Problem(400, "malformed-json", "The body is not JSON.") from None
    if not isinstance(sent, dict):
        raise Problem(400, "malformed-json", "The body is not a JSON object.")
    fields: dict[str, Any] = dict(sent)
    faults = {name: fault for name, check in _FIELDS.items() if (fault := check(fields.get(name)))}
    faults |= {"": "there is a field that no review has"} if fields.keys() - _FIELDS.keys() else {}
    if faults:
        errors = [{"field": name, "detail": fault} for name, fault in faults.items()]
        raise Problem(422, "invalid-review", "The review cannot be stored as it is.", more={"errors": errors})
    return Draft(
        title=fields["title"].strip(),
        body=fields["body"].strip(),
        rating=fields["rating"],
        visibility=Visibility(fields.get("visibility") or Visibility.PUBLIC),
    )


def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key`, if there is one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Problem(400, "bad-idempotency-key", f"Idempotency-Key takes 1 to {LONGEST_KEY} visible ASCII characters.")
    return key


def limit(request: Request) -> int:
    """How many reviews fit on a page of the list."""
    text = request.args.get("limit")
    if text is None:
        return PAGE
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise Problem(400, "bad-limit", f"limit must be a number from 1 to {LARGEST_PAGE}.")
    return int(text)


def cursor(request: Request) -> int | None:
    """Where the page of the list begins: before the review with this id."""
    text = request.args.get("cursor")
    if text is None:
        return None
    try:
        name, _, number = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii").rpartition(":")
        before = int(number) if _NUMBER.fullmatch(number) and f"{name}:" == _CURSOR else 0
    except (UnicodeError, binascii.Error):
        before = 0
    if not 0 < before <= LARGEST_ID or cursor_at(before) != text:
        raise Problem(400, "bad-cursor", "The cursor is none of ours. Begin again without one.")
    return before


def cursor_at(before: int) -> str:
    """A cursor, to be handed back as it is."""
    return base64.urlsafe_b64encode(f"{_CURSOR}{before}".encode()).decode()


def _text(longest: int) -> Any:
    def check(value: object) -> str | None:
        if not isinstance(value, str) or not 1 <= len(value.strip()) <= longest:
            return f"must be a text of 1 to {longest} characters"
        if any(unicodedata.category(char) in _UNSTORABLE and char not in "\n\r\t" for char in value):
            return "must hold no control characters and no halves of characters"
        return None

    return check


def _rating(value: object) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5
    return None if fits else "must be a whole number from 1 to 5"


def _visibility(value: object) -> str | None:
    fits = value is None or value in tuple(Visibility)
    return None if fits else "must be public or private"


_FIELDS = {"title": _text(LONGEST_TITLE), "body": _text(LONGEST_BODY), "rating": _rating, "visibility": _visibility}
