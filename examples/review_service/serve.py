"""`serve`: the service until it is stopped, with a provider next to it unless it was told of another one.

python -m examples.review_service serve &
TOKEN=$(python -m examples.review_service token --sub "auth0|alice" --scope "openid profile read:reviews")
curl -i -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/review/1
curl http://127.0.0.1:8000/metrics                                    # and in a browser: http://127.0.0.1:8000/status
curl -d '{"hang": true}' -H "Content-Type: application/json" http://127.0.0.1:9000/control/faults
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

from examples.auth0_standin.lifeline import end_with_the_parent, exit_on_sigterm
from examples.review_service import journal
from examples.review_service.app import STATUS, create_app
from examples.review_service.children import Child, NotStarted
from examples.review_service.server import HOST, bind, make_server
from examples.review_service.settings import Settings


def serve(port: int, provider_port: int, *, until_eof: bool, protected: bool = True) -> int:
    """Run until SIGTERM, SIGINT or, with `until_eof`, the end of standard input. Returns the exit status."""
    exit_on_sigterm()
    if until_eof:
        end_with_the_parent()
    try:
        with contextlib.ExitStack() as stack:
            return _serve(port, provider_port, protected, stack)
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError, NotStarted) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(port: int, provider_port: int, protected: bool, stack: contextlib.ExitStack) -> int:
    settings = dataclasses.replace(Settings.from_env(), protected=protected)
    listener = stack.enter_context(contextlib.closing(bind(port)))
    if not os.environ.get("REVIEWS_ISSUER"):
        settings = _with_a_provider(settings, provider_port, stack)
    if not os.environ.get("REVIEWS_DATABASE_URL"):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="reviews-"))
        settings = dataclasses.replace(settings, database_url=f"sqlite:///{Path(folder, 'reviews.sqlite3')}")
    app = create_app(settings)
    stack.callback(app.extensions["stop_metrics"])
    server = make_server(app, listener)
    journal.to_stderr()
    address = f"http://{HOST}:{listener.getsockname()[1]}"
    print(json.dumps({"service": address, "provider": settings.issuer, "status": address + STATUS}), flush=True)
    try:
        server.run()
    finally:
        server.close()
    return 0


def _with_a_provider(settings: Settings, port: int, stack: contextlib.ExitStack) -> Settings:
    arguments = ("--port", str(port), "--audience", settings.audience)
    provider = stack.enter_context(Child("examples.auth0_standin", *arguments))
    issuer = provider.ready()["provider"]
    return dataclasses.replace(settings, issuer=issuer, jwks_url="", userinfo_url="")
