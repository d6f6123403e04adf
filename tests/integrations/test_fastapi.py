"""FastAPI's dependency, with the middleware that makes its answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse

from resilience import CircuitBreaker, Throttle, Throttled, context
from resilience.integrations.asgi import ResilienceMiddleware
from resilience.integrations.fastapi import limit
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours
from tests.integrations.servers import asgi_server, flood


def _served(*dependencies: Any, **options: Any) -> FastAPI:
    """An application with one page behind these limits, and the middleware around it unless told otherwise."""
    app = FastAPI(openapi_url=None)
    if options.pop("answered", True):
        app.add_middleware(ResilienceMiddleware, **options)

    @app.get("/", dependencies=[Depends(each) for each in dependencies])
    async def page() -> str:
        return "served"

    return app


def _web(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://example")


def test_a_thousand_requests_at_once_get_exactly_what_the_limit_allows() -> None:
    """Of 1,000 requests over real sockets, each with a forged address, 100 pass a limit of 100."""
    with asgi_server(_served(limit("100/day"))) as port:
        statuses = flood(port, "/", headers="X-Forwarded-For: 198.51.100.{}\r\n")
    assert statuses == {200: 100, 429: 900}


def test_a_thousand_tasks_of_one_loop_get_exactly_what_the_limit_allows() -> None:
    """Views that fail after a while change nothing about it: 100 are begun."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(ResilienceMiddleware)
    app.add_exception_handler(ZeroDivisionError, lambda *_: PlainTextResponse("failed", 418))
    begun: list[int] = []

    @app.get("/", dependencies=[Depends(limit("100/day"))])
    async def page() -> str:
        begun.append(1)
        await asyncio.sleep(0)
        if len(begun) % 2:
            raise ZeroDivisionError
        return "served"

    async def all_at_once() -> Counter[int]:
        async with _web(app) as web:
            answers = await asyncio.gather(*(web.get("/") for _ in range(1000)))
        return Counter(answer.status_code for answer in answers)

    statuses = asyncio.run(all_at_once())
    assert statuses[429] == 900
    assert statuses[200] + statuses[418] == len(begun) == 100


@async_colours
async def test_a_refusal_says_when_to_come_back(colour: Colour) -> None:
    """A 429 is a problem document, and the RateLimit fields name every limit that was passed."""
    clock = VirtualClock()
    app = _served(
        limit("10/minute", burst=1, name="page", clock=clock), throttle=Throttle("100/s", name="all", clock=clock)
    )
    async with _web(app) as web:
        first, second = await web.get("/"), await web.get("/")
    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["ratelimit"] == '"all";r=99;t=1, "page";r=0;t=6'
    assert second.headers["ratelimit-policy"] == '"all";q=100;w=1, "page";q=1;w=6'
    assert second.headers["retry-after"] == "6"
    assert second.headers["content-type"] == "application/problem+json"
    assert second.json()["status"] == 429


@async_colours
async def test_without_the_middleware_it_raises(colour: Colour) -> None:
    """The dependency raises what a handler of the application's own may answer."""
    app = _served(limit("1/day"), answered=False)
    async with _web(app) as web:
        assert (await web.get("/")).status_code == 200
        with pytest.raises(Throttled):
            await web.get("/")
    app.add_exception_handler(Throttled, lambda *_: PlainTextResponse("mine", 420))
    app.middleware_stack = None
    async with _web(app) as web:
        assert (await web.get("/")).status_code == 420


@async_colours
async def test_key_cost_and_exemption_are_asked_of_the_request(colour: Colour) -> None:
    """Whose bucket it is, what it costs and who is exempt come from the request; without a key it is the address."""

    def user(request: Request) -> str | None:
        return request.headers.get("x-user")

    app = _served(
        limit(
            "4/day",
            key=user,
            cost=lambda request: int(request.query_params["n"]),
            exempt_when=lambda request: user(request) == "admin",
        ),
        trusted_proxies=1,
    )

    async with _web(app) as web:

        async def statuses(times: int, **headers: str) -> list[int]:
            named = {f"x-{name.replace('_', '-')}": value for name, value in headers.items()}
            return [(await web.get("/?n=2", headers=named)).status_code for _ in range(times)]

        assert await statuses(3, user="a") == [200, 200, 429]
        assert await statuses(3, user="b") == [200, 200, 429]
        assert await statuses(3, forwarded_for="1.1.1.1, 203.0.113.1") == [200, 200, 429]
        assert await statuses(3, forwarded_for="9.9.9.9, 203.0.113.1") == [429, 429, 429]
        assert await statuses(3, forwarded_for="203.0.113.2") == [200, 200, 429]
        assert await statuses(9, user="admin") == [200] * 9


@async_colours
async def test_routes_that_depend_on_one_object_share_it(colour: Colour) -> None:
    """One `limit` is one set of buckets, wherever it stands; a `Throttle` can be given whole."""
    shared = Depends(limit(Throttle("2/day")))
    app = FastAPI(openapi_url=None)
    app.add_middleware(ResilienceMiddleware)
    for path in ("/a", "/b"):
        app.add_api_route(path, lambda: "x", dependencies=[shared])
    async with _web(app) as web:
        assert [(await web.get(path)).status_code for path in ("/a", "/b", "/a", "/b")] == [200, 200, 429, 429]


@async_colours
async def test_a_policy_in_a_view_and_the_deadline_are_answered(colour: Colour) -> None:
    """An open circuit is 503 with the time to come back, a deadline that passes in a view 504."""
    circuit = CircuitBreaker(1, cooldown=30, clock=VirtualClock())
    circuit.open()
    app = FastAPI(openapi_url=None)
    app.add_middleware(ResilienceMiddleware)

    @app.get("/open")
    async def behind() -> str:
        return await circuit.call_async(colour.sleep, 0.0) or "x"

    @app.get("/slow")
    async def slow() -> str:
        await colour.sleep(60.0)
        return str(context.remaining())

    async with _web(app) as web:
        refused = await web.get("/open")
        late = await web.get("/slow", headers={"X-Deadline-Ms": "500"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert late.status_code == 504


@pytest.mark.parametrize(
    ("rates", "options"), [((), {}), ((5,), {}), (("5/s",), {"key": "user"}), ((Throttle("5/s"),), {"burst": 3})]
)
def test_parameters_are_checked(rates: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What breaks a rule says so where it is written."""
    with pytest.raises(TypeError):
        limit(*rates, **options)
