"""The fault proxy, between real sockets on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from resilience.testing.proxy import FaultProxy

ANSWER = bytes(range(256)) * 40
REQUEST = b"please\n"


class Server(socketserver.ThreadingTCPServer):
    """Reads a line, answers, and closes; remembers the lines."""

    daemon_threads = True
    request_queue_size = 64
    answer = ANSWER

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line = self.rfile.readline()
        self.server.lines.append(line)
        if line:
            self.wfile.write(self.server.answer)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on the loopback."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def connect(proxy: FaultProxy, timeout: float = 5.0) -> socket.socket:
    """A client's socket."""
    return socket.create_connection(proxy.address, timeout=timeout)


def rest(client: socket.socket) -> bytes:
    """All that comes until the end."""
    pieces = []
    while piece := client.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def ask(proxy: FaultProxy) -> bytes | str:
    """What a client gets for its request: the answer, or the name of its error."""
    try:
        with connect(proxy) as client:
            client.sendall(REQUEST)
            return rest(client)
    except OSError as error:
        return type(error).__name__


def test_without_a_fault_everything_passes_both_ways(server: Server) -> None:
    """Bytes pass unchanged in both directions, and the end of the answer with them."""
    server.answer = ANSWER * 30
    with FaultProxy(server.server_address[:2]) as proxy:
        assert ask(proxy) == ANSWER * 30
    assert server.lines == [REQUEST]
    assert proxy.faults == [None]


def test_the_end_of_the_client_reaches_the_server(server: Server) -> None:
    """A client that ends its direction is still answered, once the server has read the end."""
    with FaultProxy(server.server_address[:2]) as proxy, connect(proxy) as client:
        client.sendall(b"no line")
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == ANSWER
    assert server.lines == [b"no line"]


def test_reset(server: Server) -> None:
    """A reset client has sent its request and reads an error; the server hears nothing."""
    with FaultProxy(server.server_address[:2], script=["reset"]) as proxy:
        assert ask(proxy) == "ConnectionResetError"
        assert ask(proxy) == ANSWER
    assert server.lines == [REQUEST]


def test_half_close(server: Server) -> None:
    """After a half close the client reads the end at once, and can go on writing."""
    with FaultProxy(server.server_address[:2], script=["half_close"]) as proxy, connect(proxy) as client:
        client.sendall(REQUEST)
        assert rest(client) == b""
        client.sendall(REQUEST * 100)
        assert server.lines == []


def test_black_hole(server: Server) -> None:
    """A client in a black hole can write as much as it likes, and reads neither an answer nor an end."""
    with FaultProxy(server.server_address[:2], script=["black_hole"]) as proxy:
        with connect(proxy, 0.05) as client:
            client.sendall(REQUEST * 10_000)
            client.shutdown(socket.SHUT_WR)
            with pytest.raises(TimeoutError):
                client.recv(1)
        assert server.lines == []


def test_slow_close(server: Server) -> None:
    """A slow close gives the whole answer at once and its end later."""
    with FaultProxy(server.server_address[:2], script=["slow_close"], linger=0.15) as proxy, connect(proxy) as client:
        client.sendall(REQUEST)
        got = b""
        while len(got) < len(ANSWER):
            got += client.recv(65_536)
        answered = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - answered > 0.1
        assert got == ANSWER


@pytest.mark.parametrize("size", [0, 1, 1000, len(ANSWER), len(ANSWER) + 1])
def test_cut(server: Server, size: int) -> None:
    """A cut lets exactly so many bytes of the answer pass, though the server has done its work."""
    with FaultProxy(server.server_address[:2], script=[("cut", size)]) as proxy:
        assert ask(proxy) == ANSWER[:size]
    assert server.lines == [REQUEST]


def test_latency_makes_the_answer_late(server: Server) -> None:
    """An answer comes later by the latency, all of its pieces by the same."""
    server.answer = ANSWER * 50
    with FaultProxy(server.server_address[:2], latency=0.06) as proxy:
        before = time.monotonic()
        assert ask(proxy) == ANSWER * 50
        took = time.monotonic() - before
    assert took >= 0.06


def test_jitter_is_drawn_for_each_connection() -> None:
    """Delays differ by connection, stay within the jitter, and are those of the seed."""
    proxy = FaultProxy("127.0.0.1:9", latency=0.1, jitter=0.05, seed=4)
    delays = [proxy._terms(index).delay for index in range(200)]
    assert 0.05 <= min(delays) < 0.06
    assert 0.14 < max(delays) <= 0.15
    assert delays == [FaultProxy("127.0.0.1:9", latency=0.1, jitter=0.05, seed=4)._terms(i).delay for i in range(200)]


def test_bandwidth_makes_the_answer_slow(server: Server) -> None:
    """An answer of so many bytes takes as long as the bandwidth says."""
    with FaultProxy(server.server_address[:2], bandwidth=len(ANSWER) * 10) as proxy:
        before = time.monotonic()
        assert ask(proxy) == ANSWER
        assert time.monotonic() - before >= 0.09


def test_a_server_that_is_not_there_is_a_reset(server: Server) -> None:
    """Where the server cannot be reached, the client's connection is reset."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with FaultProxy(unused.getsockname()) as proxy:
            assert ask(proxy) == "ConnectionResetError"


def test_a_client_that_goes_away_does_no_harm(server: Server) -> None:
    """A client that closes in the middle of an answer ends its own connection only."""
    server.answer = ANSWER * 1000
    with FaultProxy(server.server_address[:2]) as proxy:
        with connect(proxy) as client:
            client.sendall(REQUEST)
            client.recv(1)
        server.answer = ANSWER
        assert ask(proxy) == ANSWER


def test_the_script_comes_first_and_then_the_rates(server: Server) -> None:
    """The first connections follow the script; those after it are drawn, as the preview says."""
    rates = {"reset": 0.3, "cut": 0.3}
    with FaultProxy(server.server_address[:2], script=["reset", None], seed=7, **rates) as proxy:
        answers = [ask(proxy) for _ in range(12)]
        faults = list(proxy.faults)
    assert faults == proxy.preview(12)
    assert faults[:2] == ["reset", None]
    assert {"reset", "cut", None} == set(faults[2:])
    expected = {"reset": "ConnectionResetError", "cut": b"", None: ANSWER}
    assert answers == [expected[fault] for fault in faults]


def test_the_same_seed_gives_the_same_faults() -> None:
    """Two proxies with one seed meet their connections alike, and another seed does not."""
    rates = {"reset": 0.2, "half_close": 0.1, "black_hole": 0.1, "slow_close": 0.1, "cut": 0.2}
    faults = FaultProxy("localhost:1", seed=3, **rates).preview(1000)
    assert faults == FaultProxy("localhost:1", seed=3, **rates).preview(1000)
    assert faults != FaultProxy("localhost:1", seed=4, **rates).preview(1000)
    for name, rate in rates.items():
        assert math.isclose(faults.count(name) / 1000, rate, abs_tol=0.05)


@pytest.mark.parametrize("fault", [None, "half_close", "black_hole", "slow_close", "cut"])
def test_nothing_is_left_after_the_block(server: Server, fault: str | None) -> None:
    """Leaving ends every connection and the thread, whatever they were at."""
    before = threading.active_count()
    with FaultProxy(server.server_address[:2], script=[fault], linger=60, latency=60) as proxy:
        client = connect(proxy)
        client.sendall(REQUEST)
        port = proxy.port
        while not proxy.faults:
            pass
        left = time.monotonic()
    assert time.monotonic() - left < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "fault proxy"]
    assert threading.active_count() <= before + 1
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_leaving_by_an_error_ends_it_too(server: Server) -> None:
    """A test that fails inside the block leaves nothing behind either."""
    with pytest.raises(ZeroDivisionError), FaultProxy(server.server_address[:2]):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "fault proxy"]


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)])
def test_works_beside_an_event_loop(server: Server, run: Any) -> None:
    """`async with` works on asyncio and on trio, whose loops it does not touch."""

    async def main() -> bytes | str:
        async with FaultProxy(server.server_address[:2]) as proxy:
            return ask(proxy)

    assert run(main()) == ANSWER


def test_many_connections_at_once(server: Server) -> None:
    """Thirty clients at once each get their own answer."""
    with FaultProxy(server.server_address[:2], latency=0.02) as proxy:
        answers: list[bytes | str] = []
        clients = [threading.Thread(target=lambda: answers.append(ask(proxy))) for _ in range(30)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert answers == [ANSWER] * 30
    assert len(proxy.faults) == 30


def test_it_runs_only_inside_its_block(server: Server) -> None:
    """Nothing starts before the block, it cannot be entered twice at once, and it can be entered again."""
    proxy = FaultProxy(server.server_address[:2], script=["reset"])
    with pytest.raises(RuntimeError, match="with FaultProxy"):
        _ = proxy.port
    for _ in range(2):
        with proxy:
            with pytest.raises(RuntimeError, match="once at a time"), proxy:
                pass
            assert ask(proxy) == "ConnectionResetError"
            assert proxy.faults == ["reset"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"upstream": "nowhere"}, ValueError, "upstream must be"),
        ({"upstream": 80}, TypeError, "upstream must be"),
        ({"upstream": ("host", "80")}, TypeError, "upstream must be"),
        ({"upstream": ("host", 0)}, ValueError, "upstream must be a port"),
        ({"latency": -1}, ValueError, "latency must be"),
        ({"jitter": math.nan}, ValueError, "jitter must be"),
        ({"latency": 1, "jitter": 2}, ValueError, "jitter must be at most the latency, 1, got 2"),
        ({"bandwidth": 0}, ValueError, "bandwidth must be"),
        ({"reset": 1.5}, ValueError, "reset must be"),
        ({"cut": True}, TypeError, "cut must be"),
        ({"reset": 0.6, "cut": 0.6}, ValueError, "sum of the rates must be at most 1"),
        ({"cut_after": -1}, ValueError, "cut_after must be"),
        ({"cut_after": 1.0}, TypeError, "cut_after must be"),
        ({"linger": "1"}, TypeError, "linger must be"),
        ({"script": "reset"}, TypeError, "script must be a list"),
        ({"script": [None, "explode"]}, ValueError, r"script\[1\] must be one of reset, .* got 'explode'"),
        ({"script": [("cut", -1)]}, ValueError, r"script\[0\] must be"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ],
)
def test_bad_parameters_are_named(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """A parameter that breaks its rule is an error with the parameter, the rule and the value."""
    with pytest.raises(error, match=says):
        FaultProxy(**{"upstream": "localhost:80", **arguments})


def test_the_seed_is_in_the_repr() -> None:
    """What a proxy prints is enough to build it again."""
    proxy = FaultProxy("localhost:80", cut=0.25, script=["reset"], seed=9)
    assert repr(proxy) == "FaultProxy(('localhost', 80), cut=0.25, script=[('reset', 0)], seed=9)"
