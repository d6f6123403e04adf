"""The live page, as WSGI through a real server and as ASGI by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest

from resilience import Bulkhead, CircuitBreaker, Retry, status
from resilience.status._board import Board, shared
from resilience.status._stream import Stream
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours

PAGE = {"X-Resilience-Status": "1", "Content-Type": "application/json"}


def refuse() -> None:
    raise ConnectionError("refused")


def found(view: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in view["policies"] if row["name"] == name)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Site:
    def __init__(self, app: Any) -> None:
        self.server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, {key.replace("_", "-"): value for key, value in headers.items()})
        try:
            with urlopen(request) as answer:
                return answer.status, answer.headers, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def change(self, verb: str, name: str, **more: str) -> int:
        headers = {key.replace("-", "_"): value for key, value in PAGE.items()} | more
        return self.ask(f"/{verb}", {"id": shared().id, "name": name}, **headers)[0]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def open_site() -> Iterator[Site]:
    site = Site(validator(status.wsgi_app()))
    yield site
    site.close()


@pytest.fixture
def guarded_site() -> Iterator[Site]:
    site = Site(validator(status.wsgi_app(guard=lambda environ: environ.get("HTTP_X_USER") == "operator")))
    yield site
    site.close()


# --- what the board knows ---------------------------------------------------------------------------------------------


def test_the_board_counts_by_the_second_and_forgets_after_a_minute() -> None:
    """History is a minute of seconds, the present one last, and the rates are those of the last whole seconds."""
    clock = VirtualClock(1000.0)
    board = Board(clock)
    breaker = CircuitBreaker(name="counted")
    board.view()
    for _ in range(3):
        breaker.call(int)
    clock.advance(2)
    breaker.call(int)
    row = found(board.view(), "counted")
    assert row["history"]["ok"] == [0] * 57 + [3, 0, 1]
    assert row["rates"]["ok"] == 1.5
    clock.advance(61)
    breaker.call(int)
    assert sum(found(board.view(), "counted")["history"]["ok"]) == 1


def test_the_board_listens_only_while_somebody_looks() -> None:
    """Nothing is heard before the first look, and the first event long after the last one ends the listening."""
    clock = VirtualClock()
    board = Board(clock)
    breaker = CircuitBreaker(name="looked at")
    assert not board.listening
    board.view()
    assert board.listening
    clock.advance(71)
    breaker.call(int)
    assert not board.listening
    assert sum(found(board.view(), "looked at")["history"]["ok"]) == 0
    breaker.call(int)
    assert sum(found(board.view(), "looked at")["history"]["ok"]) == 1


def test_the_board_loses_no_event_under_eight_threads() -> None:
    """As many calls are counted as there were."""
    board = Board(VirtualClock())
    breaker = CircuitBreaker(name="stormy")
    board.view()
    threads = [threading.Thread(target=lambda: [breaker.call(int) for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found(board.view(), "stormy")["history"]["ok"]) == 1600


def test_rows_tell_state_flight_and_last_error() -> None:
    """A row says how a policy stands in words, and policies of one name share it, the worst state first."""
    board = Board(VirtualClock())
    board.view()
    kept = [
        CircuitBreaker(1, name="twin of the board"),
        CircuitBreaker(1, name="twin of the board"),
        Bulkhead(2, name="full before the board"),
    ]
    retry = Retry(on=ConnectionError, attempts=1, name="failing before the board")
    for policy in (kept[1], retry):
        with pytest.raises(ConnectionError):
            policy.call(refuse)
    with kept[2].guard():
        view = board.view()
    twin = found(view, "twin of the board")
    assert (twin["state"], twin["level"], twin["count"]) == ("open", "bad", 2)
    assert twin["last_error"] == ["ConnectionError", "refused"]
    assert found(view, "full before the board")["in_flight"] == 1
    assert found(view, "failing before the board")["last_error"] == ["ConnectionError", "refused"]
    assert json.dumps(view)


def test_a_policy_that_cannot_say_how_it_is_says_why() -> None:
    """An error of somebody's own snapshot is in its row, and the others are there."""

    class Broken(CircuitBreaker):
        def snapshot(self) -> dict[str, Any]:
            raise RuntimeError("a bug")

    kept = Broken(name="broken row"), CircuitBreaker(name="whole row")
    view = status.snapshot()
    assert found(view, "broken row")["last_error"] == ["RuntimeError", "a bug"]
    assert found(view, "whole row")["state"] == "closed"
    assert len(kept) == 2


# --- reading ----------------------------------------------------------------------------------------------------------


def test_the_page_and_its_parts_are_served_with_a_strict_policy(open_site: Site) -> None:
    """Page, style and script come with a content policy that allows nothing inline and nothing from elsewhere."""
    for path, kind in (("/", "text/html"), ("/status.css", "text/css"), ("/status.js", "text/javascript")):
        code, headers, body = open_site.ask(path)
        assert code == 200
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert b"https://" not in body
        assert open_site.ask(path, If_None_Match=headers["ETag"])[0] == 304
    page = open_site.ask("/")[2].decode()
    assert "<style" not in page
    assert "<script>" not in page
    assert " style=" not in page


def test_data_is_what_snapshot_says(open_site: Site) -> None:
    """The polled data hold every named policy."""
    breaker = CircuitBreaker(name="</script><img src=x>")
    breaker.open()
    code, _, body = open_site.ask("/data.json")
    view = json.loads(body)
    assert code == 200
    assert found(view, breaker.name)["state"] == "open"
    assert view["guarded"] is False
    assert view["id"] == status.snapshot()["id"]


def test_a_server_of_one_thread_streams_nothing(open_site: Site) -> None:
    """Where a stream would take the only thread there is none, and the page polls; unknown paths are not found."""
    assert open_site.ask("/events")[0] == 503
    assert open_site.ask("/nothing")[0] == 404
    assert open_site.ask("/isolate", {})[0] == 404
    assert open_site.ask("/data.json", {})[0] == 405


def wsgi(app: Any, path: str, mount: str = "", method: str = "GET") -> tuple[str, dict[str, str], Any]:
    told: list[Any] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": mount, "wsgi.multithread": True}
    body = app(environ, lambda code, headers, *_: told.extend((code, dict(headers))))
    return told[0], told[1], body


def test_a_mount_without_its_slash_is_sent_on() -> None:
    """Links of the page are relative, so a mount point redirects to its folder, whatever stands in front of it."""
    code, headers, _ = wsgi(status.wsgi_app(), "", "/ops/status")
    assert code.startswith("308")
    assert headers["Location"] == "status/"


def test_streams_are_counted_and_given_back() -> None:
    """No more readers than were allowed hold a thread, and a reader that goes away makes room, read or not."""
    app = status.wsgi_app(streams=1)
    first = wsgi(app, "/events")
    assert first[0] == "200 OK"
    assert wsgi(app, "/events")[0].startswith("503")
    first[2].close()
    first[2].close()
    again = wsgi(app, "/events")[2]
    assert next(iter(again)).startswith(b"retry: 1000\nevent: full\ndata: {")
    again.close()
    assert wsgi(status.wsgi_app(streams=0), "/events")[0].startswith("503")


def messages(chunk: bytes) -> tuple[str, dict[str, Any]]:
    lines = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())
    return lines["event"], json.loads(lines["data"])


def test_a_stream_sends_everything_and_then_what_has_changed() -> None:
    """The first message is whole; a later one has the rows that differ, and the names of those that are gone."""
    breaker, other = CircuitBreaker(name="changing"), CircuitBreaker(name="leaving")
    stream = Stream(guarded=False)
    event, view = messages(stream.next())
    assert event == "full"
    assert len(found(view, "changing")["history"]["ok"]) == 60
    breaker.open()
    del other
    event, view = messages(stream.next())
    assert event == "tick"
    assert found(view, "changing")["state"] == "open"
    assert len(found(view, "changing")["history"]["ok"]) < 60
    assert ["leaving", "circuit_breaker"] in view["gone"]


# --- changing ---------------------------------------------------------------------------------------------------------


def test_circuits_are_isolated_and_released_by_whom_the_guard_lets(guarded_site: Site) -> None:
    """The guard decides; an isolation made twice is one, and ends with one release."""
    breaker = CircuitBreaker(name="switched")
    assert guarded_site.change("isolate", "switched") == 403
    assert breaker.state == "closed"
    assert guarded_site.change("isolate", "switched", X_User="operator") == 200
    assert guarded_site.change("isolate", "switched", X_User="operator") == 200
    assert breaker.state == "isolated"
    assert guarded_site.change("release", "switched", X_User="operator") == 200
    assert breaker.state == "closed"
    assert guarded_site.change("release", "nobody", X_User="operator") == 404


@pytest.mark.parametrize(
    "forged",
    [
        {"X_Resilience_Status": "0"},
        {"Content_Type": "text/plain"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Origin": "null"},
    ],
)
def test_another_site_can_change_nothing(guarded_site: Site, forged: dict[str, str]) -> None:
    """A request that no page of ours has made is refused, even from a browser that may."""
    breaker = CircuitBreaker(name="wanted")
    assert guarded_site.change("isolate", "wanted", X_User="operator", **forged) == 403
    assert breaker.state == "closed"


def test_a_page_of_another_process_is_told_so(guarded_site: Site) -> None:
    """A change that names the board of a process before the restart changes nothing; neither does nonsense."""
    breaker = CircuitBreaker(name="restarted")
    headers = {key.replace("-", "_"): value for key, value in PAGE.items()} | {"X_User": "operator"}
    assert guarded_site.ask("/isolate", {"id": "before", "name": "restarted"}, **headers)[0] == 409
    for nonsense in ([], {"id": shared().id}, {"id": shared().id, "name": 3}, {"name": "x" * 5000}):
        assert guarded_site.ask("/isolate", nonsense, **headers)[0] == 400
    assert breaker.state == "closed"
    assert guarded_site.ask("/isolate", **headers)[0] == 405


# --- asgi -------------------------------------------------------------------------------------------------------------


class Client:
    """An ASGI server's end of one request, by hand."""

    def __init__(self, colour: Colour, body: bytes = b"") -> None:
        self.colour = colour
        self.sent: list[dict[str, Any]] = []
        self.body = body
        self.asked = 0
        self.left = colour.gate()

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self, app: Any, path: str, method: str = "GET", mount: str = "", **headers: str) -> int:
        pairs = [(key.replace("_", "-").lower().encode(), value.encode()) for key, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "root_path": mount, "headers": pairs}
        await app(scope, self.receive, self.send)
        return self.sent[0]["status"]


@async_colours
async def test_asgi_serves_the_page_under_any_mount(colour: Colour) -> None:
    """The same page comes whether or not the path still holds the mount point."""
    app = status.asgi_app()
    for path, mount in (("/", ""), ("/status/", "/status"), ("/", "/status")):
        client = Client(colour)
        assert await client.ask(app, path, mount=mount) == 200
        assert client.sent[1]["body"].startswith(b"<!doctype html>")
    assert await Client(colour).ask(app, "/status", mount="/status") == 308
    assert await Client(colour).ask(app, "/statuses", mount="/status") == 404


@async_colours
async def test_asgi_streams_until_the_reader_leaves(colour: Colour) -> None:
    """A stream tells changes as they come, and ends when its reader goes away, which makes room for the next."""
    app = status.asgi_app(streams=1)
    client = Client(colour)
    job = colour.start(client.ask, app, "/events")
    await colour.until(lambda: len(client.sent) >= 2)
    assert client.sent[1]["body"].startswith(b"retry: 1000\nevent: full\n")
    assert await Client(colour).ask(app, "/events") == 503
    client.left.open()
    assert await job.outcome() == 200
    again = Client(colour)
    again.left.open()
    assert await again.ask(app, "/events") == 200


@async_colours
async def test_asgi_changes_are_guarded(colour: Colour) -> None:
    """An async guard is awaited, and what it refuses is not done."""

    async def guard(scope: dict[str, Any]) -> bool:
        return (b"x-user", b"operator") in scope["headers"]

    app, breaker = status.asgi_app(guard=guard), CircuitBreaker(name="asgi")
    body = json.dumps({"id": shared().id, "name": "asgi"}).encode()
    headers = {key.replace("-", "_"): value for key, value in PAGE.items()}
    assert await Client(colour, body).ask(app, "/isolate", "POST", **headers) == 403
    assert breaker.state == "closed"
    assert await Client(colour, body).ask(app, "/isolate", "POST", x_user="operator", **headers) == 200
    assert breaker.state == "isolated"
    assert await Client(colour, body).ask(app, "/release", "POST", x_user="operator", **headers) == 200
    assert breaker.state == "closed"
