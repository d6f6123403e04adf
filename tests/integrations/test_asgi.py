"""The ASGI middleware, under asyncio and trio."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resilience import BulkheadFull, LoadShed, LoadShedder, Priority, Throttle, TimedOut, context
from resilience.integrations.asgi import ResilienceMiddleware
from tests.colours import Colour, async_colours
from tests.integrations.servers import asgi_server, flood


class Answer:
    """What an application sent for one request."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


async def _ask(app: Any, *headers: tuple[str, str], method: str = "GET", peer: Any = ("192.0.2.1", 5000)) -> Answer:
    answer = Answer()
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": "/", "headers": raw, "client": peer}
    await app(scope, None, answer.send)
    return answer


async def _page(scope: Any, receive: Any, send: Any) -> None:
    remaining = context.remaining()
    told = [None if remaining is None else 0.0 < remaining <= 60.0, context.current_priority().name]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def _raising(error: Exception, *, after: int = 0) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if after:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


def test_a_thousand_requests_at_once_get_exactly_what_the_limit_allows() -> None:
    """Of 1,000 requests over real sockets, each with a forged address, 100 pass a limit of 100."""
    app = ResilienceMiddleware(_page, throttle=Throttle("100/day"))
    with asgi_server(app) as port:
        statuses = flood(port, "/", headers="X-Forwarded-For: 198.51.100.{}\r\n")
    assert statuses == {200: 100, 429: 900}


@async_colours
async def test_a_refusal_is_a_problem_document(colour: Colour) -> None:
    """A 429 says when to come back, and all that pass learn how much is left."""
    throttle = Throttle("10/minute burst 1", name="inbound", clock=colour.clock)
    app = ResilienceMiddleware(_page, throttle=throttle)
    first, second = await _ask(app), await _ask(app)
    assert (first.status, first.headers["ratelimit"]) == (200, '"inbound";r=0;t=6')
    assert first.headers["content-type"] == "application/json"
    assert second.status == 429
    assert second.headers["content-type"] == "application/problem+json"
    assert second.headers["retry-after"] == "6"
    assert second.headers["ratelimit-policy"] == '"inbound";q=1;w=6'
    assert json.loads(second.body)["title"] == "Too Many Requests"
    assert int(second.headers["content-length"]) == len(second.body)


@async_colours
async def test_a_throttle_that_may_wait_suspends_the_request(colour: Colour) -> None:
    """A request that has to wait for its turn waits, within what the throttle and its deadline allow."""
    throttle = Throttle("1/s", max_wait=10, clock=colour.clock)
    app = ResilienceMiddleware(_page, throttle=throttle)
    assert (await _ask(app)).status == 200
    began = colour.clock.now()
    assert (await _ask(app)).status == 200
    assert colour.clock.now() - began == pytest.approx(1.0)
    late = await _ask(app, ("X-Deadline-Ms", "500"))
    assert (late.status, late.headers["retry-after"]) == (429, "1")
    assert colour.clock.now() - began == pytest.approx(1.0)


@async_colours
async def test_a_request_is_cut_at_its_deadline(colour: Colour) -> None:
    """A request that waits for something past its deadline is cancelled there, and answered with 504."""
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await colour.sleep(60.0)
        finally:
            ended.append("cancelled")

    began = colour.clock.now()
    answer = await _ask(ResilienceMiddleware(app), ("X-Deadline-Ms", "1500"))
    assert answer.status == 504
    assert answer.headers["retry-after"] == "1"
    assert ended == ["cancelled"]
    assert colour.clock.now() - began == pytest.approx(1.5)
    assert context.remaining() is None


@async_colours
async def test_deadline_and_priority_start_the_context(colour: Colour) -> None:
    """The application sees what the caller said, where it is believed; junk says nothing."""
    told = (("X-Deadline-Ms", "60000"), ("X-Priority", "critical"))
    believing: list[dict[str, Any]] = [{"trusted_proxies": 1}, {"trust_priority": True}]
    for options in [{}, *believing]:
        app = ResilienceMiddleware(_page, **options)
        priority = "CRITICAL" if options in believing else "DEFAULT"
        assert json.loads((await _ask(app, *told)).body) == [True, priority]
        assert json.loads((await _ask(app, *told, *told)).body) == [None, "DEFAULT"]
        assert json.loads((await _ask(app)).body) == [None, "DEFAULT"]
        assert (await _ask(app, ("X-Deadline-Ms", "0"))).status == 504
    assert context.current_priority() is Priority.DEFAULT


@async_colours
async def test_a_forged_address_gains_no_token(colour: Colour) -> None:
    """Of several X-Forwarded-For fields only the last entry of the last one is believed, and only behind a proxy."""
    app = ResilienceMiddleware(_page, throttle=Throttle("1/day", clock=colour.clock))
    behind = ResilienceMiddleware(_page, throttle=Throttle("1/day", clock=colour.clock), trusted_proxies=1)
    for number, status in ((1, 200), (2, 429), (3, 429)):
        forged = ("X-Forwarded-For", f"10.0.0.{number}")
        assert (await _ask(app, forged)).status == status
        assert (await _ask(behind, forged, ("X-Forwarded-For", "203.0.113.9"))).status == status
    assert (await _ask(app, peer=None)).status == 200


@async_colours
async def test_nothing_is_added_to_an_answer_that_has_begun(colour: Colour) -> None:
    """A refusal after the first byte goes on to the server, which breaks off; a stranger's error always does."""
    answer = Answer()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    with pytest.raises(BulkheadFull):
        await ResilienceMiddleware(_raising(BulkheadFull("p"), after=1))(scope, None, answer.send)
    assert len(answer.messages) == 1
    with pytest.raises(ZeroDivisionError):
        await _ask(ResilienceMiddleware(_raising(ZeroDivisionError())))


@async_colours
async def test_what_is_refused_inside_is_answered(colour: Colour) -> None:
    """A refusal or a timeout of the application has its status, in a group of them too, and HEAD has no body."""
    assert (await _ask(ResilienceMiddleware(_raising(LoadShed("p"))))).status == 503
    assert (await _ask(ResilienceMiddleware(_raising(TimedOut("p", 1.0))))).status == 504
    assert (await _ask(ResilienceMiddleware(_raising(ExceptionGroup("g", [LoadShed("p")]))))).status == 503
    head = await _ask(ResilienceMiddleware(_raising(LoadShed("p"))), method="HEAD")
    assert (head.status, head.body) == (503, b"")


@async_colours
async def test_limit_and_place_survive_an_exception(colour: Colour) -> None:
    """An error spends its token and gives its place back."""
    shedder = LoadShedder(clock=colour.clock)
    throttle = Throttle("3/day", clock=colour.clock)
    app = ResilienceMiddleware(_raising(KeyError()), throttle=throttle, shedder=shedder)
    for _ in range(3):
        with pytest.raises(KeyError):
            await _ask(app)
    assert (await _ask(app)).status == 429
    assert shedder.snapshot()["in_flight"] == 0


@async_colours
async def test_a_shedder_knows_its_users_by_the_scope(colour: Colour) -> None:
    """A request holds its place while it is served, in the name of the user that the scope tells."""
    users: list[object] = []
    shedder = LoadShedder(user=lambda scope: users.append(scope["client"][0]) or "user", clock=colour.clock)
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(shedder.snapshot()["in_flight"])
        await _page(scope, receive, send)

    assert (await _ask(ResilienceMiddleware(app, shedder=shedder))).status == 200
    assert (users, seen, shedder.snapshot()["in_flight"]) == (["192.0.2.1"], [1], 0)


@async_colours
async def test_a_request_whose_client_has_gone_gives_its_place_back(colour: Colour) -> None:
    """A task that the server cancels ends as cancelled, and holds no place afterwards."""
    shedder = LoadShedder(clock=colour.clock)
    gate = colour.gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()

    job = colour.start(_ask, ResilienceMiddleware(app, shedder=shedder), ("X-Deadline-Ms", "60000"))
    await colour.until(lambda: shedder.snapshot()["in_flight"] == 1)
    job.cancel()
    assert type(await job.outcome()).__name__ in {"CancelledError", "Cancelled"}
    assert shedder.snapshot()["in_flight"] == 0


@async_colours
async def test_only_http_is_counted(colour: Colour) -> None:
    """Websockets and the lifespan reach the application as they are."""
    throttle = Throttle("1/day", clock=colour.clock)
    passed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)

    door = ResilienceMiddleware(app, throttle=throttle)
    scopes = [{"type": "websocket", "headers": []}, {"type": "lifespan"}, {"type": "lifespan"}]
    for scope in scopes:
        await door(scope, None, None)
    assert all(mine is theirs for mine, theirs in zip(passed, scopes, strict=True))
    assert len(passed) == 3
