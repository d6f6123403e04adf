"""What every client promises under a policy, over real sockets."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Pipeline, Priority, Rejected, Retry, TimedOut, context
from resilience.http import client_policy, transient
from tests.integrations.clients import CLIENTS, OWN, Send
from tests.integrations.flaky_server import FlakyServer

Make = Callable[..., Send]


@pytest.fixture(params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(name: str) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda policy, **options: CLIENTS[name](stack, policy, **options)


def retry(**options: Any) -> Retry:
    return Retry(on=transient, backoff=0, **options)


def test_retries_what_passes(make: Make, server: FlakyServer) -> None:
    """A 503, a 429 and a lost connection are tried again, and each attempt tells its number."""
    server.script = [503, "reset", 429]
    assert make(retry(attempts=4))("GET", server.url) == (200, b"status 200")
    assert [headers["x-attempt"] for _, headers, _ in server.requests] == ["1", "2", "3", "4"]


def test_last_response_is_returned(make: Make, server: FlakyServer) -> None:
    """When attempts run out the last response is returned, with its body."""
    server.script = [502, 503, 504]
    assert make(retry())("GET", server.url) == (504, b"status 504")
    assert len(server.requests) == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_idempotent_is_sent_once(make: Make, server: FlakyServer, method: str) -> None:
    """A POST or PATCH that may have been carried out is not sent again, and its Retry-After is not waited for."""
    server.script = [(503, {"Retry-After": "30"})]
    begun = time.monotonic()
    assert make(retry())(method, server.url, b"x")[0] == 503
    assert time.monotonic() - begun < 5
    assert len(server.requests) == 1


def test_key_or_repeat_allows_a_post(make: Make, server: FlakyServer) -> None:
    """A POST with an Idempotency-Key, or of a client that was told to repeat it, is sent again with its whole body."""
    server.script = [503]
    assert make(retry())("POST", server.url, b"body", {"Idempotency-Key": "1"})[0] == 200
    server.script = [503]
    assert make(retry(), repeat={"post"})("POST", server.url, b"body")[0] == 200
    assert [body for _, _, body in server.requests] == [b"body"] * 4


def test_lost_post_says_why(name: str, make: Make, server: FlakyServer) -> None:
    """A POST whose connection is lost raises the client's own error with a note of why it was not sent again."""
    server.script = ["reset"]
    with pytest.raises(OWN[name]) as caught:
        make(retry())("POST", server.url, b"x")
    assert len(server.requests) == 1
    assert "may have been carried out" in caught.value.__notes__[0]


def test_unsent_post_is_sent_again(name: str, make: Make) -> None:
    """A refused connection has sent nothing, so even a POST is tried again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    failed: list[object] = []
    policy = retry()
    policy.listen(failed.append)
    with pytest.raises(OWN[name]):
        make(policy)("POST", f"http://127.0.0.1:{port}", b"x")
    assert sum(type(event).__name__ == "AttemptFailed" for event in failed) == 3


def test_spent_generator_is_not_sent_again(make: Make, server: FlakyServer) -> None:
    """A generator that was sent is not sent again empty: the first answer is returned."""
    server.script = [503]
    assert make(retry())("PUT", server.url, (piece for piece in (b"a", b"b")))[0] == 503
    assert [body for _, _, body in server.requests] == [b"ab"]


def test_file_is_rewound(name: str, make: Make, server: FlakyServer) -> None:
    """A file is rewound to where it stood, which need not be its start; an async body of one is a stream, sent once."""
    server.script = [503, "reset"]
    file = io.BytesIO(b"file")
    if not name.startswith("httpx"):  # which counts a file from its start, wherever it stands
        file = io.BytesIO(b"..file")
        file.seek(2)
    status, _ = make(retry())("PUT", server.url, file)
    sent = [body for _, _, body in server.requests]
    assert (status, sent) == ((503, [b"file"]) if name.endswith("async") or name == "aiohttp" else (200, [b"file"] * 3))


def test_multipart_is_sent_whole(make: Make, server: FlakyServer) -> None:
    """A multipart body is sent again as it was."""
    server.script = [503]
    assert make(retry())("PUT", server.url, files={"part": io.BytesIO(b"content of the part")})[0] == 200
    first, second = (body for _, _, body in server.requests)
    assert first == second
    assert b"content of the part" in first


@pytest.mark.parametrize("headers", [{"Retry-After": "120"}, {"RateLimit": '"a";r=0;t=120', "Retry-After": "1"}])
def test_longer_than_the_deadline_fails_at_once(make: Make, server: FlakyServer, headers: dict[str, str]) -> None:
    """A server that asks for more time than is left is not waited for; the larger of two hints counts."""
    server.script = [(429, headers)]
    begun = time.monotonic()
    with context.deadline(30):
        assert make(retry(max_retry_after=1000))("GET", server.url)[0] == 429
    assert time.monotonic() - begun < 5
    assert len(server.requests) == 1


def test_deadline_and_priority_travel(make: Make, server: FlakyServer) -> None:
    """The next service hears how much time is left, in whole milliseconds, and how much the work matters."""
    with context.deadline(20), context.priority(Priority.SHEDDABLE):
        make(retry())("GET", server.url)
    _, headers, _ = server.requests[0]
    assert 15_000 < int(headers["x-deadline-ms"]) <= 20_000
    assert headers["x-priority"] == "sheddable"


def test_passed_deadline_sends_nothing(make: Make, server: FlakyServer) -> None:
    """With no time left nothing is sent."""
    send = make(retry())
    with context.deadline(0.001):
        while context.remaining():
            pass
        with pytest.raises(TimedOut):
            send("GET", server.url)
    assert server.requests == []


def test_breaker_sees_responses(make: Make, server: FlakyServer) -> None:
    """Responses that say "not now" open the circuit, those of a POST too, and a rejection comes out as ours."""
    server.script = [503, 503]
    send = make(Pipeline(retry(), CircuitBreaker(2)))
    assert send("POST", server.url, b"")[0] == 503
    assert send("POST", server.url, b"")[0] == 503
    with pytest.raises(CircuitOpen):
        send("GET", server.url)
    assert len(server.requests) == 2


def test_rejection_between_attempts(make: Make, server: FlakyServer) -> None:
    """A circuit that opens between two attempts rejects the second, and the first response is closed."""
    server.script = [503]
    with pytest.raises(Rejected):
        make(Pipeline(retry(), CircuitBreaker(1)))("GET", server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["reset", "status", "hang"])
def test_fault_is_the_clients_own(name: str, make: Make, server: FlakyServer, fault: str) -> None:
    """A lost connection, half a status line and silence are retried, and end in the client's own exception."""
    server.script = [fault] * 4
    with pytest.raises(OWN[name]) as caught:
        make(retry(attempts=2))("GET", server.url)
    # aiohttp begins once more by itself, above its middlewares, when an idempotent request finds the server gone.
    assert len(server.requests) == (4 if name == "aiohttp" and fault != "hang" else 2)
    assert transient(caught.value) is True


def test_half_a_body_is_transient(name: str, make: Make, server: FlakyServer) -> None:
    """A body that breaks off raises the client's own exception, and it is transient."""
    server.script = ["half"] * 3
    with pytest.raises(OWN[name]) as caught:
        make(retry())("GET", server.url)
    assert transient(caught.value) is True


def test_abandoned_responses_leave_no_connection(make: Make, server: FlakyServer) -> None:
    """250 retried requests need no more than a connection at a time: what was abandoned is closed or drained."""
    server.script = [503, 200] * 250
    send = make(retry())
    assert {send("GET", server.url)[0] for _ in range(250)} == {200}
    assert len(server.requests) == 500
    assert server.connections <= 251
    assert sum(connection.fileno() >= 0 for connection in server._open) <= 10


def test_default_policy_is_by_origin(make: Make, server: FlakyServer) -> None:
    """The default keeps one policy for each origin."""
    hosts = client_policy()
    assert make(hosts)("GET", server.url + "/path")[0] == 200
    assert [key for key, _ in hosts.items()] == [server.url]
