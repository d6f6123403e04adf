"""The WSGI middleware: what reaches the application, and what reaches the caller."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import urllib3
from werkzeug.test import Client, TestResponse

from resilience import (
    BulkheadFull,
    CircuitOpen,
    CircuitState,
    DeadlineExceeded,
    LimitExceeded,
    LoadShed,
    LoadShedder,
    Priority,
    ResilienceError,
    StoreUnavailable,
    Throttle,
    Throttled,
    TimedOut,
    context,
)
from resilience.http import parse_rate_limit, transient_response
from resilience.integrations.wsgi import ResilienceMiddleware
from resilience.testing import VirtualClock
from tests.integrations.servers import flood, wsgi_server

Body = Callable[[], Iterable[bytes]]


def _app(body: Body = lambda: [b"served"]) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body()

    return app


def _raising(error: BaseException) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise error

    return app


def _ask(app: Any, headers: dict[str, str] | None = None, **more: Any) -> TestResponse:
    return Client(app).open("/", headers=headers, **more)


def test_a_thousand_requests_at_once_get_exactly_what_the_limit_allows() -> None:
    """Of 1,000 requests over real sockets, each with a forged address, 100 pass a limit of 100."""
    throttle = Throttle("100/minute", clock=VirtualClock())
    with wsgi_server(ResilienceMiddleware(_app(), throttle=throttle)) as port:
        statuses = flood(port, "/", headers="X-Forwarded-For: 198.51.100.{}\r\n")
    assert statuses == {200: 100, 429: 900}


def test_a_refusal_says_when_to_come_back() -> None:
    """A 429 is a problem document whose fields a client of ours reads as the wait until the next token."""
    app = ResilienceMiddleware(_app(), throttle=Throttle("10/minute burst 1", name="inbound", clock=VirtualClock()))
    first, second = _ask(app), _ask(app)
    assert (first.status_code, first.headers["RateLimit"]) == (200, '"inbound";r=0;t=6')
    assert second.status == "429 Too Many Requests"
    assert second.mimetype == "application/problem+json"
    assert second.headers["Retry-After"] == "6"
    assert second.headers["RateLimit-Policy"] == '"inbound";q=1;w=6'
    assert second.headers["RateLimit"] == '"inbound";r=0;t=6'
    assert json.loads(second.data) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "That is too much at once.",
    }
    assert transient_response(second) == 6.0
    quota = parse_rate_limit(second.headers)
    assert quota is not None
    assert quota.retry_after == 6.0


ERRORS: list[tuple[ResilienceError, int, str]] = [
    (Throttled("p", 2.1), 429, "3"),
    (Throttled("p", None, "keys"), 429, "1"),
    (Throttled("p", float("inf")), 429, "1"),
    (Throttled("p", 1e300), 429, str(86_400 * 365)),
    (Throttled("p", None, "backend"), 503, "1"),
    (CircuitOpen("p", 29.01, CircuitState.OPEN, ("OSError", "secret")), 503, "30"),
    (BulkheadFull("p"), 503, "1"),
    (LimitExceeded("p"), 503, "1"),
    (LoadShed("p"), 503, "1"),
    (StoreUnavailable("p", "secret"), 503, "1"),
    (TimedOut("p", 2.0), 504, "1"),
    (DeadlineExceeded("p", 2.0), 504, "1"),
]


@pytest.mark.parametrize(("error", "status", "after"), ERRORS, ids=lambda each: type(each).__name__)
def test_each_error_has_its_status(error: ResilienceError, status: int, after: str) -> None:
    """What a policy refuses is 429, 503 or 504 with a Retry-After, and repeats nothing of what is behind us."""
    answer = _ask(ResilienceMiddleware(_raising(error)))
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, after)
    assert answer.mimetype == "application/problem+json"
    assert answer.json is not None
    assert answer.json["status"] == status
    assert b"secret" not in answer.data


def test_a_group_of_refusals_is_one_answer() -> None:
    """A group of our errors alone is answered like its first; one with a stranger in it passes through."""
    ours = ExceptionGroup("both", [LoadShed("p"), TimedOut("p", 1.0)])
    assert _ask(ResilienceMiddleware(_raising(ours))).status_code == 503
    mixed = ExceptionGroup("both", [LoadShed("p"), KeyError("x")])
    with pytest.raises(ExceptionGroup):
        _ask(ResilienceMiddleware(_raising(mixed)))


def test_a_name_injects_no_header() -> None:
    """Whatever stands in the name of a limit, each field stays one line of printable ASCII, quoted as it must be."""
    name = 'in"bound\\\r\nSet-Cookie: a=b\x00é'
    app = ResilienceMiddleware(_app(), throttle=Throttle("1/minute", name=name, clock=VirtualClock()))
    for answer in (_ask(app), _ask(app)):
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["RateLimit"] == '"in\\"bound\\\\Set-Cookie: a=b";r=0;t=60'
        for _, value in answer.headers:
            assert value.isascii()
            assert value.isprintable()


def test_an_error_of_the_application_passes_and_its_token_is_spent() -> None:
    """Errors that are none of ours reach the server unchanged, and the limit holds as ever after them."""
    app = ResilienceMiddleware(_raising(ZeroDivisionError()), throttle=Throttle("3/minute", clock=VirtualClock()))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            _ask(app)
    assert _ask(app).status_code == 429


def test_a_forged_address_gains_no_token() -> None:
    """X-Forwarded-For is not looked at without proxies, and with one only its last entry is."""
    app = ResilienceMiddleware(_app(), throttle=Throttle("1/minute", clock=VirtualClock()))
    behind = ResilienceMiddleware(_app(), throttle=Throttle("1/minute", clock=VirtualClock()), trusted_proxies=1)
    assert [_ask(app, {"X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(3)] == [200, 429, 429]
    forged = [_ask(behind, {"X-Forwarded-For": f"10.0.0.{n}, 203.0.113.9"}).status_code for n in range(3)]
    assert forged == [200, 429, 429]
    assert _ask(behind, {"X-Forwarded-For": "10.0.0.0, 203.0.113.8"}).status_code == 200


def test_a_throttle_with_a_key_gets_the_environ() -> None:
    """The key and the cost of a throttle are asked of the environ; a key of None is the address."""
    throttle = Throttle(
        "4/minute", key=lambda e: e.get("HTTP_X_KEY"), cost=lambda e: int(e["HTTP_X_COST"]), clock=VirtualClock()
    )
    app = ResilienceMiddleware(_app(), throttle=throttle)
    costs = [_ask(app, {"X-Key": "a", "X-Cost": cost}).status_code for cost in ("3", "2", "1")]
    assert costs == [200, 429, 200]
    assert _ask(app, {"X-Key": "b", "X-Cost": "4"}).status_code == 200
    assert [_ask(app, {"X-Cost": "4"}).status_code for _ in range(2)] == [200, 429]


def test_the_view_sees_deadline_and_priority() -> None:
    """What is left and what it matters are the request's inside, body included, and the thread's again outside."""
    seen: list[Any] = []

    def body() -> Iterator[bytes]:
        for _ in range(2):
            seen.append((context.remaining(), context.current_priority()))
            yield b"x"

    app = ResilienceMiddleware(_app(body), trust_priority=True)
    assert _ask(app, {"X-Deadline-Ms": "60000", "X-Priority": "sheddable"}).data == b"xx"
    for remaining, priority in seen:
        assert 0.0 < remaining <= 60.0
        assert priority is Priority.SHEDDABLE
    assert len(seen) == 2
    assert context.remaining() is None
    assert context.current_priority() is Priority.DEFAULT


@pytest.mark.parametrize("told", ["", "-5", "1e3", "5.5", "١٢", "9" * 10, "5,6", "junk"])
def test_a_deadline_that_is_none_is_ignored(told: str) -> None:
    """Junk in X-Deadline-Ms leaves the request without a deadline."""
    app = ResilienceMiddleware(_app(lambda: [repr(context.remaining()).encode()]))
    environ = {"HTTP_X_DEADLINE_MS": told}
    assert _ask(app, environ_overrides=environ).data == b"None"


def test_a_turn_that_comes_too_late_is_refused_at_once() -> None:
    """A throttle that may wait does not hold a thread for a request whose time will be up by then."""
    clock = VirtualClock()
    app = ResilienceMiddleware(_app(), throttle=Throttle("1/s", max_wait=10, clock=clock))
    assert [_ask(app).status_code for _ in range(2)] == [200, 200]
    assert clock.now() == pytest.approx(1.0)
    assert _ask(app, {"X-Deadline-Ms": "500"}).status_code == 429
    assert clock.now() == pytest.approx(1.0)


def test_a_deadline_of_nothing_is_504() -> None:
    """With no time left nothing is begun."""
    assert _ask(ResilienceMiddleware(_raising(AssertionError())), {"X-Deadline-Ms": "0"}).status_code == 504


@pytest.mark.parametrize(
    ("options", "priority"),
    [({}, "DEFAULT"), ({"trusted_proxies": 1}, "CRITICAL"), ({"trust_priority": True}, "CRITICAL")],
)
def test_nobody_promotes_himself(options: dict[str, Any], priority: str) -> None:
    """X-Priority is believed behind proxies of one's own, or when told to."""
    app = ResilienceMiddleware(_app(lambda: [context.current_priority().name.encode()]), **options)
    assert _ask(app, {"X-Priority": "critical"}).data == priority.encode()
    assert _ask(app, {"X-Priority": "emperor"}).data == b"DEFAULT"


def test_what_matters_less_gives_way_first() -> None:
    """A believed priority decides about headroom, at the door already."""
    throttle = Throttle("2/minute", headroom={Priority.SHEDDABLE: 0.5}, clock=VirtualClock())
    app = ResilienceMiddleware(_app(), throttle=throttle, trust_priority=True)
    statuses = [_ask(app, {"X-Priority": level}).status_code for level in ("sheddable", "sheddable", "critical")]
    assert statuses == [200, 429, 200]


def test_a_place_is_held_until_the_body_was_sent() -> None:
    """A request is in flight for the shedder until its answer is closed, begun or not, and after an error no more."""
    shedder = LoadShedder(clock=VirtualClock())

    def in_flight() -> int:
        return int(shedder.snapshot()["in_flight"])

    def body() -> Iterator[bytes]:
        yield str(in_flight()).encode()

    app = ResilienceMiddleware(_app(body), shedder=shedder)
    assert _ask(app).data == b"1"
    assert in_flight() == 0
    answer = Client(app).open("/", buffered=False)
    assert in_flight() == 1
    answer.close()
    assert in_flight() == 0
    with pytest.raises(KeyError):
        _ask(ResilienceMiddleware(_raising(KeyError()), shedder=shedder))
    assert _ask(ResilienceMiddleware(_app(), shedder=shedder)).data == b"served"
    assert in_flight() == 0


@pytest.mark.parametrize("form", ["{:.3f}", "t={:.3f}", "{:.0f}000", "t={:.0f}000000"])
def test_the_shedder_is_told_how_long_requests_have_waited(form: str) -> None:
    """X-Request-Start, in the forms that proxies write, sheds what matters least once requests wait too long."""
    clock = VirtualClock()
    shedder = LoadShedder(target_delay=1.0, clock=clock)
    app = ResilienceMiddleware(_app(), shedder=shedder, trusted_proxies=1)
    late = {"X-Request-Start": form.format(time.time() - 30), "X-Priority": "sheddable"}
    statuses: set[int] = set()
    for _ in range(50):
        statuses.add(_ask(app, late).status_code)
        clock.advance(0.02)
    assert shedder.snapshot()["delay"] > 1.0
    assert 503 in statuses


@pytest.mark.parametrize("told", ["junk", "t=", "1e9", "0", "9" * 30, "5"])
def test_a_start_that_no_proxy_wrote_is_ignored(told: str) -> None:
    """Nonsense in X-Request-Start says nothing, and without proxies nor does anything else."""
    clock = VirtualClock()
    shedder = LoadShedder(clock=clock)
    for _ in range(50):
        _ask(ResilienceMiddleware(_app(), shedder=shedder, trusted_proxies=1), {"X-Request-Start": told})
        _ask(ResilienceMiddleware(_app(), shedder=shedder), {"X-Request-Start": str(time.time() - 30)})
        clock.advance(0.02)
    assert shedder.snapshot()["delay"] == 0.0


def test_a_refusal_before_the_first_byte_replaces_the_answer() -> None:
    """A body whose first piece is refused is answered with the refusal, although its head was decided."""

    def body() -> Iterator[bytes]:
        raise BulkheadFull("p")
        yield b""

    with wsgi_server(ResilienceMiddleware(_app(body))) as port:
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}/", headers={"Connection": "close"}, retries=False)
    assert answer.status == 503
    assert answer.json()["title"] == "Service Unavailable"


def test_a_refusal_after_the_first_byte_breaks_off() -> None:
    """What was half sent is not finished as if it were whole."""

    def body() -> Iterator[bytes]:
        yield b"half"
        raise BulkheadFull("p")

    with (
        wsgi_server(ResilienceMiddleware(_app(body))) as port,
        pytest.raises(urllib3.exceptions.ProtocolError),
    ):
        urllib3.request("GET", f"http://127.0.0.1:{port}/", retries=False)


def test_a_refused_head_request_gets_no_body() -> None:
    """HEAD is refused with the fields alone."""
    answer = _ask(ResilienceMiddleware(_raising(LoadShed("p"))), method="HEAD")
    assert (answer.status_code, answer.data) == (503, b"")
    assert int(answer.headers["Content-Length"]) > 0


def test_no_request_leaves_a_cycle_behind() -> None:
    """Served, streamed, refused or failed, cut short or not: nothing is left for the garbage collector."""

    def stream() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    options: dict[str, Any] = {"throttle": Throttle("1000/s"), "shedder": LoadShedder(), "trust_priority": True}
    inner = [_app(), _app(stream), _raising(LoadShed("p")), _raising(KeyError("x"))]
    apps = [ResilienceMiddleware(app, **options) for app in inner]
    apps.append(ResilienceMiddleware(_app(), throttle=Throttle("1/day", burst=1)))
    told = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_DEADLINE_MS": "60000", "HTTP_X_PRIORITY": "critical"}

    def serve(app: Any, pieces: int) -> None:
        with contextlib.suppress(KeyError):
            body = app(dict(told), lambda *_: None)
            list(itertools.islice(body, pieces))
            if hasattr(body, "close"):
                body.close()

    for round_ in range(2):
        gc.collect()
        gc.disable()
        try:
            for app in apps:
                for pieces in (0, 1, 5):
                    serve(app, pieces)
            found = gc.collect()
        finally:
            gc.enable()
        assert round_ == 0 or found == 0


def test_a_list_and_a_file_stay_what_they_are() -> None:
    """Servers treat a list and their own file wrapper better than an iterator, so these pass as they are."""

    class Wrapper:
        pass

    parts, file = [b"a"], Wrapper()
    environ: dict[str, Any] = {"wsgi.file_wrapper": Wrapper}
    passed: Any = file
    assert ResilienceMiddleware(_app(lambda: parts))({}, lambda *_: None) is parts
    assert ResilienceMiddleware(_app(lambda: passed))(environ, lambda *_: None) is file


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"throttle": "5/s"}, TypeError),
        ({"throttle": Throttle("5/s", key="user")}, TypeError),
        ({"shedder": Throttle("5/s")}, TypeError),
        ({"shedder": LoadShedder(user="user")}, TypeError),
        ({"trusted_proxies": -1}, ValueError),
        ({"trusted_proxies": True}, TypeError),
        ({"trusted_proxies": 1.0}, TypeError),
        ({"trust_priority": "yes"}, TypeError),
    ],
)
def test_parameters_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    """What breaks a rule says so when the middleware is built."""
    with pytest.raises(error):
        ResilienceMiddleware(_app(), **options)
