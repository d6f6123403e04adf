"""A guard, an exemption or a key that was `async def` was called, and the coroutine, which is true, was the answer."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from flask import Flask

from resilience import Throttle
from resilience.integrations._arrival import Arrival
from resilience.integrations._server import Limit
from resilience.integrations.fastapi import limit
from resilience.integrations.flask import Resilience
from resilience.integrations.wsgi import ResilienceMiddleware
from resilience.status import wsgi_app
from resilience.status._board import shared


async def _asynchronous(*_: Any) -> bool:
    return False


def _app(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.mark.parametrize("name", ["key", "cost", "exempt_when"])
def test_what_a_limit_asks_is_a_plain_function(name: str) -> None:
    """An `async def` is refused where it is written, a throttle's own too."""
    wrong: dict[str, Any] = {name: _asynchronous}
    with pytest.raises(TypeError, match="plain function"):
        limit("1/day", **wrong)
    with pytest.raises(TypeError, match="plain function"):
        Resilience(Flask(__name__)).limit("1/day", **wrong)
    if name != "exempt_when":
        with pytest.raises(TypeError, match="plain function"):
            ResilienceMiddleware(_app, throttle=Throttle("1/day", **wrong))


@pytest.mark.parametrize("name", ["key", "cost", "exempt_when"])
@pytest.mark.filterwarnings("error")
def test_a_plain_function_that_returns_a_coroutine_lets_nobody_pass(name: str) -> None:
    """It is an error of the request, and nothing is left that was never awaited."""
    hidden: dict[str, Any] = {name: lambda: _asynchronous()}
    with pytest.raises(TypeError, match=f"{name} returned a coroutine"):
        Limit(Throttle("1/day"), **hidden).take(Arrival("192.0.2.1"))
    gc.collect()


@pytest.mark.filterwarnings("error")
def test_a_guard_of_wsgi_that_is_async_allows_nothing() -> None:
    """Neither an `async def` nor what returns its coroutine lets anybody change a circuit."""
    with pytest.raises(TypeError, match="plain function"):
        wsgi_app(guard=_asynchronous)
    app = wsgi_app(guard=lambda environ: _asynchronous(environ))
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/isolate",
        "HTTP_X_RESILIENCE_STATUS": "1",
        "CONTENT_TYPE": "application/json",
    }
    before = shared().view()["policies"]
    with pytest.raises(TypeError, match="guard returned a coroutine"):
        app(environ, lambda *_: lambda _: None)
    gc.collect()
    assert [row["state"] for row in shared().view()["policies"]] == [row["state"] for row in before]
