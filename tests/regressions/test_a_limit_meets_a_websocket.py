"""A limit before a whole FastAPI application broke each of its websockets with a TypeError."""

from __future__ import annotations

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from resilience.integrations.asgi import ResilienceMiddleware
from resilience.integrations.fastapi import limit


def test_a_handshake_is_counted_and_closed_when_it_is_one_too_many() -> None:
    """A websocket draws on the same bucket as a request; what is refused is closed with "try again later"."""
    app = FastAPI(dependencies=[Depends(limit("2/day", key=lambda request: request.headers["user-agent"]))])
    app.add_middleware(ResilienceMiddleware)

    @app.get("/page")
    def page() -> str:
        return "served"

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    web = TestClient(app, raise_server_exceptions=False)
    with web.websocket_connect("/talk") as socket:
        assert socket.receive_text() == "hello"
    assert web.get("/page").status_code == 200
    with pytest.raises(WebSocketDisconnect) as caught, web.websocket_connect("/talk"):
        pass
    assert caught.value.code == 1013
    assert web.get("/page").status_code == 429
