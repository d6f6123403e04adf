"""The Flask extension: limits on views, and one for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, g, request
from flask.testing import FlaskClient

from resilience import BulkheadFull, LoadShedder, Priority, Throttle, Throttled, TimedOut, context
from resilience.integrations.flask import Resilience
from resilience.testing import VirtualClock
from tests.integrations.servers import flood, wsgi_server


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.fixture
def web(app: Flask) -> FlaskClient:
    return app.test_client()


def _statuses(web: FlaskClient, path: str, times: int, **more: Any) -> list[int]:
    return [web.get(path, **more).status_code for _ in range(times)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_thousand_requests_at_once_get_exactly_what_the_limit_allows(app: Flask, colour: str) -> None:
    """Of 1,000 requests over real sockets, with forged addresses and a view that fails, 50 come through."""
    limits = Resilience(app)
    served: list[int] = []

    def sync_view() -> str:
        served.append(1)
        if len(served) % 2:
            raise ZeroDivisionError
        return "served"

    async def async_view() -> str:
        return sync_view()

    view: Any = sync_view if colour == "sync" else async_view
    app.add_url_rule("/", view_func=limits.limit("100/day")(view))
    app.register_error_handler(ZeroDivisionError, lambda _: ("failed", 418))
    with wsgi_server(app) as port:
        statuses = flood(port, "/", headers="X-Forwarded-For: 198.51.100.{}\r\n")
    assert statuses[429] == 900
    assert statuses[200] + statuses[418] == 100
    assert len(served) == 100


def test_a_limit_is_its_views_alone(app: Flask, web: FlaskClient) -> None:
    """What one decorator limits, each view has for itself; a shared limit is one for all."""
    limits = Resilience(app)
    alone = limits.limit("2/day")
    shared = limits.shared_limit("3/day", name="shared")
    for name in ("a", "b"):
        app.add_url_rule(f"/alone/{name}", f"alone-{name}", alone(lambda: "x"))
        app.add_url_rule(f"/shared/{name}", f"shared-{name}", shared(lambda: "x"))
    assert _statuses(web, "/alone/a", 3) == [200, 200, 429]
    assert _statuses(web, "/alone/b", 3) == [200, 200, 429]
    assert _statuses(web, "/shared/a", 2) + _statuses(web, "/shared/b", 2) == [200, 200, 200, 429]


def test_a_refusal_says_when_to_come_back(app: Flask, web: FlaskClient) -> None:
    """A 429 is a problem document with Retry-After, and the RateLimit fields name every limit that was passed."""
    clock = VirtualClock()
    limits = Resilience(app, throttle=Throttle("100/s", name="all", clock=clock))

    @app.get("/")
    @limits.limit("10/minute", burst=1, clock=clock)
    def page() -> str:
        return "served"

    first, second = web.get("/"), web.get("/")
    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["RateLimit"] == '"all";r=99;t=1, "page";r=0;t=6'
    assert second.headers["RateLimit-Policy"] == '"all";q=100;w=1, "page";q=1;w=6'
    assert second.headers["Retry-After"] == "6"
    assert second.mimetype == "application/problem+json"
    assert second.get_json()["status"] == 429


def test_key_cost_and_exemption_are_asked_inside_the_request(app: Flask, web: FlaskClient) -> None:
    """A key is whoever a before_request has logged in, a cost what the request asks for, and some are exempt."""
    limits = Resilience(app)

    @app.before_request
    def log_in() -> None:
        g.user = request.headers.get("X-User")

    @app.get("/")
    @limits.limit(
        "4/day",
        key=lambda: g.user,
        cost=lambda: int(request.args.get("n", "1")),
        exempt_when=lambda: g.user == "admin",
    )
    def page() -> str:
        return "served"

    assert _statuses(web, "/?n=2", 3, headers={"X-User": "a"}) == [200, 200, 429]
    assert _statuses(web, "/?n=2", 3, headers={"X-User": "b"}) == [200, 200, 429]
    assert _statuses(web, "/?n=2", 3) == [200, 200, 429]
    assert _statuses(web, "/?n=2", 3, headers={"X-User": "127.0.0.1"}) == [200, 200, 429]
    assert _statuses(web, "/?n=2", 9, headers={"X-User": "admin"}) == [200] * 9


def test_the_throttle_of_the_application_counts_all_but_what_is_exempt(app: Flask, web: FlaskClient) -> None:
    """Every request is counted, of pages that are not there too, before anything else runs; not the exempt ones."""
    ran: list[int] = []
    app.before_request(lambda: ran.append(1))
    limits = Resilience(app, throttle=Throttle("2/day"))
    app.add_url_rule("/page", view_func=lambda: "page", endpoint="page")

    @limits.exempt
    @app.get("/healthz")
    def healthz() -> str:
        return "alive"

    assert _statuses(web, "/healthz", 5) == [200] * 5
    assert _statuses(web, "/nowhere", 1) + _statuses(web, "/page", 2) == [404, 200, 429]
    assert _statuses(web, "/healthz", 1) == [200]
    assert len(ran) == 8


def test_the_priority_of_a_view_decides_who_gives_way(app: Flask, web: FlaskClient) -> None:
    """A view's own priority is asked at the door, and holds in the view and in the body that it streams."""
    throttle = Throttle("2/day", headroom={Priority.SHEDDABLE: 0.5})
    limits = Resilience(app, throttle=throttle, trust_priority=True)

    @app.get("/list")
    @limits.priority(Priority.SHEDDABLE)
    def listing() -> Response:
        def body() -> Iterator[str]:
            yield context.current_priority().name

        return Response(body())

    assert web.get("/list").text == "SHEDDABLE"
    assert web.get("/list").status_code == 429
    assert web.get("/list", headers={"X-Priority": "critical"}).text == "CRITICAL"
    assert context.current_priority() is Priority.DEFAULT


def test_the_deadline_reaches_views_of_both_kinds(app: Flask, web: FlaskClient) -> None:
    """X-Deadline-Ms bounds plain and async views; one that has passed is 504 and begins nothing."""
    Resilience(app)

    @app.get("/plain")
    def plain() -> str:
        return str(context.remaining())

    @app.get("/async")
    async def coroutine() -> str:
        return str(context.remaining())

    for path in ("/plain", "/async"):
        assert 0.0 < float(web.get(path, headers={"X-Deadline-Ms": "60000"}).text) <= 60.0
        assert web.get(path).text == "None"
        assert web.get(path, headers={"X-Deadline-Ms": "0"}).status_code == 504


def test_what_views_refuse_is_answered(app: Flask, web: FlaskClient) -> None:
    """Rejected is 503 and TimedOut 504; a handler of the application's own goes first, whenever it was registered."""
    app.register_error_handler(TimedOut, lambda _: ("mine", 504))
    Resilience(app)
    app.register_error_handler(Throttled, lambda _: ("mine", 420))
    errors: dict[str, Exception] = {"a": BulkheadFull("p"), "b": TimedOut("p", 1.0), "c": Throttled("p", 1.0)}

    @app.get("/<which>")
    def view(which: str) -> str:
        raise errors[which]

    assert [web.get(f"/{which}").status_code for which in "abc"] == [503, 504, 420]
    assert web.get("/a").mimetype == "application/problem+json"
    assert web.get("/b").text == "mine"


def test_a_place_is_given_back_after_an_exception(app: Flask, web: FlaskClient) -> None:
    """A request is in flight while its view runs, exempt views are not, and an error leaves nothing behind."""
    shedder = LoadShedder(clock=VirtualClock())
    limits = Resilience(app, shedder=shedder)
    seen: list[int] = []

    @app.get("/")
    def view() -> str:
        seen.append(shedder.snapshot()["in_flight"])
        raise KeyError

    @app.get("/exempt")
    @limits.exempt
    def exempt() -> str:
        return str(shedder.snapshot()["in_flight"])

    assert web.get("/", buffered=True).status_code == 500
    assert (seen, shedder.snapshot()["in_flight"]) == ([1], 0)
    assert web.get("/exempt").text == "0"


def test_a_limit_above_its_route_is_refused_loudly(app: Flask, web: FlaskClient) -> None:
    """A limit that would limit nothing is an error of the first request; one that another decorator covers is none."""
    app.testing = True
    limits = Resilience(app)

    @limits.limit("1/day")
    @app.get("/above")
    def above() -> str:
        return "unlimited"

    def view() -> str:
        return "served"

    app.add_url_rule("/free", "free", view)
    app.add_url_rule("/paid", "paid", limits.exempt(limits.limit("1/day")(view)))
    with pytest.raises(RuntimeError, match="above its route"):
        web.get("/above")
    assert _statuses(web, "/free", 3) == [200, 200, 200]
    assert _statuses(web, "/paid", 3) == [200, 429, 429]


def test_one_extension_serves_many_applications() -> None:
    """`init_app` can be called later, and for each application once; blueprints are limited like the rest."""
    limits = Resilience(trusted_proxies=1)
    pages = Blueprint("pages", __name__)
    pages.add_url_rule("/", view_func=limits.limit("1/day")(lambda: "x"), endpoint="page")
    for _ in range(2):
        app = Flask(__name__)
        app.register_blueprint(pages)
        limits.init_app(app)
        with pytest.raises(RuntimeError, match="already"):
            limits.init_app(app)
    web = app.test_client()
    assert _statuses(web, "/", 2, headers={"X-Forwarded-For": "1.1.1.1, 203.0.113.1"}) == [200, 429]
    assert _statuses(web, "/", 2, headers={"X-Forwarded-For": "203.0.113.2"}) == [200, 429]


def test_one_throttle_can_be_given_whole(app: Flask, web: FlaskClient) -> None:
    """A `Throttle` of one's own stands in for rates, with its key asked inside the request, and alone."""
    throttle = Throttle("1/day", key=lambda: request.args["who"])
    limits = Resilience(app)
    app.add_url_rule("/", view_func=limits.limit(throttle)(lambda: "x"), endpoint="page")
    assert [web.get(f"/?who={who}").status_code for who in "aab"] == [200, 429, 200]
    assert throttle.peek(key="b").remaining < 1.0


@pytest.mark.parametrize(
    ("rates", "options"),
    [
        ((), {}),
        ((5,), {}),
        (("5/s",), {"key": "user"}),
        (("5/s",), {"exempt_when": True}),
        ((Throttle("5/s"), "5/s"), {}),
        ((Throttle("5/s"),), {"burst": 3}),
        ((Throttle("5/s", key="user"),), {}),
        (("5/s",), {"nonsense": 1}),
    ],
)
def test_parameters_are_checked(app: Flask, rates: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What breaks a rule says so where it is written, and not at the first request."""
    wrong: Any = "critical"
    with pytest.raises(TypeError):
        Resilience(app).limit(*rates, **options)
    with pytest.raises(TypeError, match="Priority"):
        Resilience().priority(wrong)
