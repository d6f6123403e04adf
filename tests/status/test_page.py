"""The live page in a real browser, against a real server with threads."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from resilience import Bulkhead, CircuitBreaker, CircuitOpen, Retry, RetryBudget, Throttle, status

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOT = Path(__file__).resolve().parents[2] / "docs" / "_static" / "status.png"

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"), pytest.mark.slow]


class Threads(ThreadingMixIn, WSGIServer):
    """A server with a thread for each connection, all of which can be cut."""

    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections = [*getattr(self, "connections", []), request]
        super().process_request(request, client_address)

    def cut(self) -> None:
        """Cut every connection that is still there, as the end of a process does."""
        for connection in getattr(self, "connections", []):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a reader that goes away is no error."""


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Served:
    """The page on a server of several threads."""

    def __init__(self, port: int = 0, streams: int = 20) -> None:
        page = status.wsgi_app(guard=lambda environ: True, streams=streams)

        def app(environ: Any, start_response: Any) -> Any:
            return page({**environ, "wsgi.multithread": True}, start_response)

        self.server: Any = make_server("127.0.0.1", port, app, server_class=Threads, handler_class=Quiet)
        self.port: int = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.cut()
        self.server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest.fixture
def page(browser: Any, site: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1100, "height": 580})
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.complaints.append(request.url) if "127.0.0.1" not in request.url else None)
    page.goto(f"http://127.0.0.1:{site.port}/")
    page.locator("#link[data-live=yes]").wait_for(timeout=5000)
    yield page
    context.close()


def row(page: Any, name: str) -> Any:
    return page.locator("tbody tr", has=page.get_by_text(name, exact=True))


def test_a_circuit_that_opens_is_on_the_page_within_a_second(page: Any, site: Served) -> None:
    """It is shown and told to screen readers within a second of opening, over the stream, and nothing is complained
    of.
    """
    breaker = CircuitBreaker(1, name="provider")
    row(page, "provider").wait_for(timeout=3000)
    breaker.open()
    row(page, "provider").get_by_text("open", exact=True).wait_for(timeout=1000)
    page.locator("[aria-live=polite]", has_text="provider is open").wait_for(state="attached", timeout=1000)
    assert page.locator("#link").text_content() == "live"
    assert page.complaints == []


def test_without_a_stream_the_page_polls(browser: Any) -> None:
    """Where no stream is to be had, the page asks once a second, and is as right."""
    served = Served(streams=0)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.locator("#link", has_text="by polling").wait_for(timeout=5000)
    breaker = CircuitBreaker(name="polled")
    breaker.open()
    row(page, "polled").get_by_text("open", exact=True).wait_for(timeout=3000)
    page.close()
    served.close()


def test_a_name_is_text_and_never_markup(page: Any) -> None:
    """A policy named like a tag is shown by its name, and nothing of it is run."""
    name = "<img src=x onerror=alert(1)>\"'&</td>"
    kept = CircuitBreaker(name=name)
    row(page, name).wait_for(timeout=3000)
    assert page.locator("img").count() == 0
    assert page.complaints == []
    assert kept.state == "closed"


def test_a_circuit_is_isolated_and_released_by_keyboard(page: Any) -> None:
    """The button is reached and pressed without a mouse, says what it does, and keeps the focus."""
    breaker = CircuitBreaker(name="by key")
    button = page.get_by_role("button", name="Isolate by key")
    button.wait_for(timeout=3000)
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Release by key").wait_for(timeout=2000)
    assert breaker.state == "isolated"
    page.locator("button:focus:enabled", has_text="Release").wait_for(timeout=2000)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Isolate by key").wait_for(timeout=2000)
    assert breaker.state == "closed"


def test_two_hundred_policies_do_not_lag(page: Any) -> None:
    """With 200 busy policies an update takes less than a tenth of a second, and each of them is shown."""
    kept = [CircuitBreaker(name=f"many-{number:03}") for number in range(200)]
    row(page, "many-199").wait_for(timeout=5000)
    costs = []
    for _ in range(4):
        for breaker in kept:
            breaker.call(int)
        page.wait_for_timeout(600)
        costs.append(float(page.evaluate("document.documentElement.dataset.cost")))
    print(f"update with 200 policies: {sorted(costs)} ms")
    assert min(costs) < 100
    page.locator("#find").fill("many-007")
    assert page.locator("tbody tr:visible").count() == 1


def test_it_fits_a_phone(page: Any) -> None:
    """On a narrow screen nothing has to be scrolled sideways."""
    kept = CircuitBreaker(name="a-name-that-is-rather-long-for-so-small-a-screen.circuit_breaker")
    row(page, kept.name).wait_for(timeout=3000)
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_is_right_again_after_a_restart(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server goes away the page says so, and shows the next process's policies when it is back."""
    from resilience.status import _board

    served = Served()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/")
    before = CircuitBreaker(name="of the first process")
    row(page, "of the first process").wait_for(timeout=3000)
    served.close()
    page.locator("#link[data-live=no]").wait_for(timeout=8000)
    del before
    monkeypatch.setattr(_board, "_boards", {})
    after = CircuitBreaker(name="of the second process")
    after.open()
    again = Served(served.port)
    row(page, "of the second process").get_by_text("open", exact=True).wait_for(timeout=8000)
    assert row(page, "of the first process").count() == 0
    page.close()
    again.close()


def test_dark_and_light_have_enough_contrast(browser: Any, site: Served) -> None:
    """In both schemes text and ground differ by at least 4.5 to 1, the ratio that WCAG asks for."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    kept = CircuitBreaker(name="seen")
    kept.open()
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(f"http://127.0.0.1:{site.port}/")
        row(page, "seen").wait_for(timeout=3000)
        ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for place in ("body", "#link", ".bad .state", "tbody .kind"):
            ink = luminance(page.evaluate(f"getComputedStyle(document.querySelector('{place}')).color"))
            assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, (scheme, place)
        page.close()


def test_the_picture_of_the_documentation_is_of_this_page(page: Any, tmp_path: Path) -> None:
    """The documentation shows the page as it is taken here, by size and shape, and small enough to be read anywhere."""
    kept = scene()
    row(page, "shop orders.retry").wait_for(timeout=3000)
    page.wait_for_timeout(1200)
    play(kept)
    page.locator("#find").fill("shop ")
    page.wait_for_timeout(1200)
    page.screenshot(path=tmp_path / "status.png")
    taken, shown = (tmp_path / "status.png").read_bytes(), SCREENSHOT.read_bytes()
    assert taken[:24] == shown[:24], "the header of a PNG, with its width and height"
    assert len(shown) < 100_000


def refuse() -> None:
    raise ConnectionError("connection refused")


def scene() -> list[Any]:
    """A few policies in the states that a picture should show."""
    return [
        Retry(on=ConnectionError, attempts=2, backoff=0, name="shop orders.retry"),
        CircuitBreaker(3, name="shop orders.circuit_breaker"),
        CircuitBreaker(3, name="shop payments.circuit_breaker"),
        Throttle("100/s", name="shop orders.throttle"),
        Bulkhead(8, name="shop reports.bulkhead"),
        RetryBudget(name="shop orders.budget"),
    ]


def play(kept: list[Any]) -> None:
    """Let a payment provider fail, and its circuit open."""
    retry, orders, payments = kept[:3]
    for _ in range(3):
        with pytest.raises(ConnectionError):
            payments.call(refuse)
    for _ in range(9):
        retry.call(int)
        orders.call(int)
        with pytest.raises(CircuitOpen):
            payments.call(int)
    with pytest.raises(ConnectionError):
        retry.call(refuse)
