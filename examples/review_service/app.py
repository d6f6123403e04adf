"""The service as one WSGI application: everything is made here once, and handed to whoever needs it."""

from __future__ import annotations

import weakref

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, make_wsgi_app
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from examples.review_service import journal, problems
from examples.review_service.auth.jwks import Keys, read_keys
from examples.review_service.auth.keys import SigningKeys
from examples.review_service.auth.profiles import Profiles
from examples.review_service.auth.provider import Provider
from examples.review_service.auth.verifier import Verifier
from examples.review_service.controllers import health, reviews
from examples.review_service.controllers.door import Door
from examples.review_service.controllers.forms import LARGEST_BODY
from examples.review_service.models import seed
from examples.review_service.models.database import Database
from examples.review_service.models.repository import Repository
from examples.review_service.policies import no_policies, policies
from examples.review_service.services.reviews import Reviews
from examples.review_service.settings import Settings
from resilience import Clock
from resilience.clock import default as system_clock
from resilience.status import wsgi_app as status_page
from resilience.telemetry import to_prometheus

STATUS, METRICS = "/status", "/metrics"


def create_app(settings: Settings, *, clock: Clock | None = None) -> Flask:
    """The service. Touches neither network nor database: both may be away, and come back, at any time.

    Args:
        settings: where everything is.
        clock: what policies, deadlines and the age of keys are measured by; the machine's monotonic clock by default.

    Raises:
        ValueError: the database URL cannot be used, or that of Redis.
        ImportError: there is a URL of Redis, and no driver for it.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]

    time = clock or system_clock
    policy = policies(clock, settings.redis_url) if settings.protected else no_policies(clock)
    provider = Provider()
    database = Database(settings.database_url, seed.prepare)

    @policy.keys
    def fetch_keys() -> Keys:
        return read_keys(provider.get(settings.jwks_url))

    keys = SigningKeys(fetch_keys, policy.looks, time)
    verifier = Verifier(keys, issuer=settings.issuer, audience=settings.audience)
    profiles = Profiles(provider, settings.userinfo_url, policy.userinfo, time)
    door = Door(policy, verifier, clock, settings.trusted_proxies)

    app.extensions |= {"policies": policy, "verifier": verifier, "profiles": profiles}
    _keep_a_journal(app)
    problems.register(app)
    door.watch(app)
    app.register_blueprint(reviews.routes(Reviews(Repository(database), profiles, policy), door))
    app.register_blueprint(health.routes(database, policy))
    _show(app)
    return app


def _show(app: Flask) -> None:
    """Mount the live page and the metrics beside the routes: nobody who watches is counted, shed or kept waiting.

    The page can change nothing, for it has no guard. The metrics are kept in a registry of this application's own,
    until `app.extensions["stop_metrics"]` is called or the application is gone.
    """
    registry = CollectorRegistry()
    app.extensions["stop_metrics"] = weakref.finalize(app, to_prometheus(registry))
    beside = {STATUS: status_page(), METRICS: make_wsgi_app(registry)}
    vars(app)["wsgi_app"] = DispatcherMiddleware(app.wsgi_app, beside)


def _keep_a_journal(app: Flask) -> None:
    @app.before_request
    def begin() -> None:
        g.stopwatch = journal.Stopwatch()

    @app.after_request
    def end(answer: Response) -> Response:
        answer.headers.setdefault("Cache-Control", "no-store")
        answer.headers["X-Content-Type-Options"] = "nosniff"
        route = request.url_rule.rule if request.url_rule else None
        journal.request(request.method, route, answer.status_code, g.stopwatch.seconds())
        return answer
