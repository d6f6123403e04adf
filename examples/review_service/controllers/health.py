"""Is the process alive, and is it worth sending it requests?

The second asks the database and never the provider: a service that knows its keys is as good as ever while the provider
is away.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from examples.review_service.controllers.door import uncounted
from examples.review_service.controllers.openapi import DOCUMENT
from examples.review_service.models.database import Database
from examples.review_service.policies import Policies


def routes(database: Database, policies: Policies) -> Blueprint:
    """The blueprint."""
    pages = Blueprint("health", __name__)
    ping = policies.reading(database.ping)

    @pages.get("/healthz")
    @uncounted
    def healthz() -> Response:
        return jsonify(status="alive")

    @pages.get("/readyz")
    def readyz() -> Response:
        ping()
        return jsonify(status="ready")

    @pages.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(DOCUMENT)

    return pages
