"""The provider as one WSGI application: count the call, let happen to it what the switches say, then answer."""

from __future__ import annotations

import time

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from examples.auth0_standin import directory, faults
from examples.auth0_standin.bucket import UserinfoBucket
from examples.auth0_standin.control import Counters, control
from examples.auth0_standin.faults import Faults
from examples.auth0_standin.grants import Grants
from examples.auth0_standin.keys import KeyRing
from examples.auth0_standin.routes import documents, failure, logins, too_many, userinfo
from examples.auth0_standin.tokens import Mint


def create_provider(issuer: str, *, audience: str = directory.AUDIENCE) -> Flask:
    """The provider. `issuer` is its own address, with a slash at the end."""
    app = Flask(__name__, static_folder=None)
    switches, calls, bucket = Faults(), Counters(), UserinfoBucket()
    mint = Mint(issuer, KeyRing(), audience)

    app.extensions["mint"] = mint
    app.register_blueprint(documents(mint))
    app.register_blueprint(logins(mint, Grants(mint)))
    app.register_blueprint(userinfo(mint, bucket))
    app.register_blueprint(control(switches, calls, bucket, mint))

    @app.before_request
    def suffer() -> Response | None:
        if request.path.startswith("/control"):
            return None
        calls.count(request.path)
        mint.skew = switches.skew
        return _suffer(switches) if switches.hits(request.path) else None

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> Response:
        return failure(error.code or 500, error.description or "")

    return app


def _suffer(switches: Faults) -> Response | None:
    connection = request.environ.get("werkzeug.socket")
    time.sleep(switches.latency)
    if switches.hang:
        switches.wait_while("hang")
    if switches.drip:
        faults.drip(connection, switches)
        faults.cut(connection)
        return failure(503, "The connection is gone")
    if switches.down:
        faults.cut(connection)
        return failure(503, "The connection is gone")
    if switches.throttled:
        answer = too_many()
        answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"] = "100", "0"
        answer.headers["x-ratelimit-reset"] = str(int(time.time()) + 2)
        return answer
    status = switches.take_error()
    return None if status is None else failure(status, "The service is not available right now")
