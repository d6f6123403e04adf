"""`/control`: what a test or a demonstration needs and no real provider has. No fault ever touches it.

- `GET /control`: the switches, the calls counted by path, the published key ids
- `POST /control/faults` `{"latency": 0.2, "hang": true, ...}`: see faults.py
- `POST /control/rotate` `{"emergency": false}`
- `POST /control/token` `{"sub": ..., "scope": ..., "ttl": ..., "profile": "auth0" or "rfc9068", "permissions": [...]}`
- `POST /control/reset`: every switch off, every bucket full, every counter at zero
"""

from __future__ import annotations

import collections
import threading
from typing import Any

from flask import Blueprint, Response, jsonify, request

from examples.auth0_standin.bucket import UserinfoBucket
from examples.auth0_standin.faults import Faults
from examples.auth0_standin.tokens import LIFETIME, Mint


class Counters:
    """How often each path was called. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: collections.Counter[str] = collections.Counter()

    def count(self, path: str) -> None:
        """One more call of `path`."""
        with self._lock:
            self._calls[path] += 1

    def clear(self) -> None:
        """Start again at zero."""
        with self._lock:
            self._calls.clear()

    def as_dict(self) -> dict[str, int]:
        """The calls so far, by path."""
        with self._lock:
            return dict(self._calls)


def control(switches: Faults, calls: Counters, bucket: UserinfoBucket, mint: Mint) -> Blueprint:
    """The blueprint of `/control`."""
    pages = Blueprint("control", __name__, url_prefix="/control")

    def state() -> Response:
        kids = [key.kid for key in mint.keys.published()]
        return jsonify(faults=switches.as_dict(), calls=calls.as_dict(), kids=kids)

    def wanted() -> dict[str, object]:
        body: Any = request.get_json(silent=True)
        return dict(body) if isinstance(body, dict) else {}

    @pages.get("")
    def look() -> Response:
        return state()

    @pages.post("/faults")
    def turn() -> Response:
        switches.change(wanted())
        return state()

    @pages.post("/rotate")
    def rotate() -> Response:
        if wanted().get("emergency"):
            mint.keys.rotate_in_emergency()
        else:
            mint.keys.rotate()
        return state()

    @pages.post("/token")
    def token() -> Response:
        asked = {"sub": "auth0|alice", "scope": "openid profile email read:reviews write:reviews"} | wanted()
        mint.skew = switches.skew
        try:
            made = mint.access_token(**asked)  # type: ignore[arg-type]
        except (TypeError, AttributeError) as error:
            raise ValueError(f"no token can be made of that: {error}") from error
        return jsonify(access_token=made, expires_in=asked.get("ttl", LIFETIME), token_type="Bearer")  # noqa: S106

    @pages.post("/reset")
    def reset() -> Response:
        switches.clear()
        bucket.refill()
        calls.clear()
        return state()

    @pages.errorhandler(ValueError)
    def refused(error: ValueError) -> tuple[Response, int]:
        return jsonify(error="invalid_request", error_description=str(error)), 400

    return pages
