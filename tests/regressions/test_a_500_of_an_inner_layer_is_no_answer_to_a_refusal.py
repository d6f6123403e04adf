"""A mounted FastAPI application answers 500 to what its limit refuses, before the middleware around it is told."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from resilience import Throttled
from resilience.integrations.asgi import ResilienceMiddleware
from resilience.integrations.fastapi import limit
from tests.colours import Colour, async_colours


def _limited() -> FastAPI:
    app = FastAPI()

    @app.get("/page", dependencies=[Depends(limit("1/day", name="page"))])
    def page() -> str:
        return "served"

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError

    return app


def _mounted() -> Any:
    outer = FastAPI()
    outer.add_middleware(ResilienceMiddleware)
    outer.mount("/sub", _limited())
    return outer


@pytest.mark.parametrize(("app", "prefix"), [(_mounted, "/sub"), (lambda: ResilienceMiddleware(_limited()), "")])
def test_a_limit_of_an_inner_application_is_answered_429(app: Any, prefix: str) -> None:
    """A limit below a mount, or below the middleware as the outermost layer, is a 429; a stranger's error stays 500."""
    web = TestClient(app(), raise_server_exceptions=False)
    answers = [web.get(f"{prefix}/page") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"] == "86400"
    assert answers[1].headers["ratelimit"] == '"page";r=0;t=86400'
    assert answers[1].json()["status"] == 429
    failed = web.get(f"{prefix}/broken")
    assert (failed.status_code, failed.text) == (500, "Internal Server Error")


@async_colours
async def test_a_500_that_is_streamed_is_not_held_up(colour: Colour) -> None:
    """A 500 in pieces is sent with its first piece; a refusal after that goes on to the server."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500})
        assert sent == []
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        assert len(sent) == 2
        raise Throttled("p", 1.0)

    with pytest.raises(Throttled):
        await ResilienceMiddleware(app)({"type": "http", "method": "GET", "headers": []}, None, send)
    assert len(sent) == 2
