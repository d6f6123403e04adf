"""The short way of a first attempt through httpx: what it leaves out must show nowhere.

Each scenario is run as it is, and once more by transports that were told that headers cannot be appended to, which go
the long way. What the server saw, what whoever called got, and what became of each response have to be the same.
"""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import httpx2
import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Priority,
    Retry,
    RetryBudget,
    Throttle,
    Throttled,
    context,
)
from resilience.events import CallSucceeded, Event
from resilience.http import transient
from resilience.integrations import _httpx
from resilience.integrations._httpx_first import FIRST, can_append
from resilience.integrations.httpx import ResilientTransport
from resilience.integrations.httpx2 import ResilientTransport as Httpx2Transport
from resilience.testing import VirtualClock, disabled

URL = "http://a.example/"
MODULES: dict[str, tuple[Any, Any]] = {"httpx": (httpx, ResilientTransport), "httpx2": (httpx2, Httpx2Transport)}


class Server:
    """A transport that answers from a script, one entry an attempt, and notes all."""

    def __init__(self, client: Any, *script: Any) -> None:
        self.client: Any = client
        self.script = list(script)
        self.attempts: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.made: list[Any] = []

    def handle_request(self, request: Any) -> Any:
        self.bodies.append(b"".join(request.stream))
        self.attempts.append(request.headers.get_list("X-Attempt"))
        entry = self.script.pop(0) if self.script else 200
        if isinstance(entry, str):
            raise getattr(self.client, entry)("lost")
        if isinstance(entry, Exception):
            raise entry
        self.made.append(self.client.Response(entry, stream=self.client.ByteStream(b"x")))
        return self.made[-1]

    async def handle_async_request(self, request: Any) -> Any:
        return self.handle_request(request)


class Passing(VirtualClock):
    """A clock on which sleepers do not wait for anybody to let time pass."""

    async def sleep_async(self, seconds: float | timedelta) -> None:
        self.advance(seconds)


class Bench:
    """One module, one colour, one way."""

    def __init__(self, name: str, awaits: bool) -> None:
        self.client: Any
        self.transport: Any
        self.client, self.transport = MODULES[name]
        self.awaits = awaits

    def server(self, *script: Any) -> Server:
        return Server(self.client, *script)

    def sender(self, server: Server, policy: Any, **options: Any) -> Callable[..., Any]:
        transport = self.transport(server, policy=policy, **options)

        def send(request: Any = None) -> Any:
            asked = request or self.client.Request("GET", URL)
            return (
                asyncio.run(transport.handle_async_request(asked)) if self.awaits else transport.handle_request(asked)
            )

        return send


@pytest.fixture(params=["short", "long"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "long":
        monkeypatch.setattr(_httpx, "can_append", lambda client: False)
    param: str = request.param
    return param


@pytest.fixture(params=[(name, awaits) for name in MODULES for awaits in (False, True)], ids=str)
def bench(request: pytest.FixtureRequest, way: str) -> Bench:
    return Bench(*request.param)


def retry(**options: Any) -> Retry:
    return Retry(on=transient, backoff=0, **options)


POLICIES: dict[str, Callable[[], Any]] = {
    "retry": retry,
    "with a budget": lambda: retry(budget=RetryBudget()),
    "with a breaker": lambda: Pipeline(retry(), CircuitBreaker(5, on=transient)),
    "with gates": lambda: Pipeline(
        retry(budget=RetryBudget()), CircuitBreaker(5), Throttle("1000/s"), Bulkhead(2, max_wait=0.0)
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("script", "status", "attempts"),
    [
        ([200], 200, 1),
        ([404], 404, 1),
        ([503], 200, 2),
        ([503, "ReadTimeout", 429], 429, 3),
        (["ConnectError", 204], 204, 2),
        ([502, 503, 504], 504, 3),
    ],
)
def test_attempts(bench: Bench, policy: str, script: list[Any], status: int, attempts: int) -> None:
    """Attempts are numbered from 1, refused responses closed, and the last one is returned whole."""
    server = bench.server(*script)
    assert bench.sender(server, POLICIES[policy]())().status_code == status
    assert server.attempts == [[str(number + 1)] for number in range(attempts)]
    assert [response.is_closed for response in server.made] == [True] * (len(server.made) - 1) + [False]


@pytest.mark.parametrize("policy", POLICIES)
def test_last_error_is_the_clients(bench: Bench, policy: str) -> None:
    """When attempts run out on an error it is the client's own, with the way through the transport in its traceback."""
    server = bench.server("ReadTimeout", "ReadTimeout", "ReadTimeout")
    with pytest.raises(bench.client.ReadTimeout) as caught:
        bench.sender(server, POLICIES[policy]())()
    assert len(server.attempts) == 3
    assert caught.value.__context__ is None
    assert "handle_request" in [entry.name for entry in caught.traceback]
    server = bench.server("UnsupportedProtocol")
    with pytest.raises(bench.client.UnsupportedProtocol) as caught:
        bench.sender(server, POLICIES[policy]())()
    assert len(server.attempts) == 1
    passed = [entry.name for entry in caught.traceback if str(entry.path) == _httpx.__file__]
    assert len([name for name in passed if name.startswith("handle_")]) == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fault", [503, "ReadTimeout"])
def test_post_is_sent_once(bench: Bench, policy: str, fault: Any) -> None:
    """What may have been carried out is not sent again, unless told to; a lost one says why."""
    server = bench.server(fault)
    send = bench.sender(server, POLICIES[policy]())
    if fault == 503:
        assert send(bench.client.Request("POST", URL, content=b"x")).status_code == 503
    else:
        with pytest.raises(bench.client.ReadTimeout) as caught:
            send(bench.client.Request("POST", URL, content=b"x"))
        assert "may have been carried out" in caught.value.__notes__[0]
    assert server.attempts == [["1"]]
    server = bench.server(fault)
    send = bench.sender(server, POLICIES[policy](), repeat={"post"})
    assert send(bench.client.Request("POST", URL, content=b"x")).status_code == 200


def test_number_is_written_once(bench: Bench) -> None:
    """A request that brings a number, its own of an earlier round or anybody's, has the new one instead."""
    server = bench.server(200, 503, 200, 200, 200)
    send = bench.sender(server, retry())
    request = bench.client.Request("GET", URL, headers={"x-attempt": "7", "A": "1"})
    for _ in range(3):
        send(request)
    request.headers["B"] = "2"
    send(request)
    assert server.attempts == [["1"], ["1"], ["2"], ["1"], ["1"]]
    assert request.headers.raw.count((FIRST[0], FIRST[2])) == 1


def test_body_of_a_copied_request(bench: Bench) -> None:
    """Headers that come from another request say nothing of the body: a file is rewound, a generator is not sent."""
    first = bench.client.Request("GET", URL)
    bench.sender(bench.server(), retry())(first)
    server, file = bench.server(503), io.BytesIO(b"..file")
    file.seek(2)
    send = bench.sender(server, retry())
    assert send(bench.client.Request("PUT", URL, headers=first.headers, content=file)).status_code == 200
    server.script = [503]
    pieces = (piece for piece in (b"a", b"b"))
    assert send(bench.client.Request("PUT", URL, headers=first.headers, content=pieces)).status_code == 503
    assert server.bodies == [b"file", b"file", b"ab"]


def test_gate_that_refuses_sends_nothing(bench: Bench) -> None:
    """What a gate refuses is no attempt: the first that it lets in has number 1. A refusal further down counts."""
    clock = Passing()
    policy = Pipeline(Retry(on=Throttled, clock=clock), Throttle("1/s", burst=1, clock=clock))
    server = bench.server()
    send, request = bench.sender(server, policy), bench.client.Request("GET", URL)
    send(request)
    send(request)
    assert (server.attempts, clock.now()) == ([["1"], ["1"]], 1.0)
    clock.advance(10.0)
    server.script = [Throttled("further down", 5.0)]
    send(request)
    assert server.attempts[2:] == [["1"], ["2"]]


def test_breaker_counts_each_attempt(bench: Bench) -> None:
    """The circuit hears of every attempt once, the first included."""
    server = bench.server(503, 503)
    breaker = CircuitBreaker(3, on=transient)
    send = bench.sender(server, Pipeline(retry(), breaker))
    assert send().status_code == 200
    server.script = [503, 503]
    with pytest.raises(CircuitOpen):
        bench.sender(server, Pipeline(retry(attempts=4), CircuitBreaker(2, on=transient)))()
    assert breaker.snapshot()["state"] == "closed"


def test_key_of_a_throttle(bench: Bench) -> None:
    """A throttle that looks at what is sent finds the same whichever way it goes."""
    seen: set[str] = set()

    def key(sent: object) -> str:
        seen.add(type(sent).__name__)
        return "all"

    policy = Pipeline(retry(), Throttle("1000/s", key=key))
    bench.sender(bench.server(503), policy)()
    assert seen == {"HttpxExchange"}


def test_budget_of_a_success(bench: Bench) -> None:
    """A success earns its deposit once, a refused attempt none."""
    budget = RetryBudget(0.5, per_second=0.0, capacity=10)
    send = bench.sender(bench.server(503), retry(budget=budget))
    send()
    assert budget.snapshot()["level"] == 9.5
    send()
    assert budget.snapshot()["level"] == 10.0


def test_what_stands_around(bench: Bench) -> None:
    """A deadline, a priority and a listener of the retry are seen, whenever they come."""
    server = bench.server()
    heard: list[Event] = []
    policy = retry()
    send = bench.sender(server, policy)
    request = bench.client.Request("GET", URL)
    send(request)
    assert "X-Priority" not in request.headers
    with context.priority(Priority.CRITICAL):
        send(request)
    assert request.headers["X-Priority"] == "critical"
    with context.deadline(20):
        send(request)
    assert 15_000 < int(request.headers["X-Deadline-Ms"]) <= 20_000
    stop = policy.listen(heard.append)
    send()
    stop()
    send()
    assert [type(event) for event in heard] == [CallSucceeded]


def test_disabled(bench: Bench) -> None:
    """A disabled retry makes one attempt."""
    server, policy = bench.server(503, 503), retry()
    send = bench.sender(server, policy)
    with disabled(policy):
        assert send().status_code == 503
    assert send().status_code == 200
    assert server.attempts == [["1"], ["1"], ["2"]]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_garbage(policy: str, way: str) -> None:
    """Whatever becomes of a request, nothing of it waits for the collector."""
    bench = Bench("httpx", awaits=False)
    server = bench.server()
    send, request = bench.sender(server, POLICIES[policy]()), bench.client.Request("GET", URL)
    unsent = bench.client.Request("POST", URL, content=b"x")

    def rounds() -> None:
        for script, asked in (([200], request), ([503], request), (["ReadTimeout"], request), ([503], unsent)):
            server.script = script
            send(asked)
        server.script = ["ReadTimeout"]
        with suppress(httpx.ReadTimeout):
            send(unsent)
        server.made.clear()

    rounds()
    gc.collect()
    gc.disable()
    try:
        rounds()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("client", [httpx, httpx2])
def test_headers_are_tried(client: Any) -> None:
    """These clients' headers can be appended to; those that keep them in another form cannot."""
    assert can_append(client)

    class Other:
        class Headers(dict[str, str]):
            pass

    assert not can_append(Other)
