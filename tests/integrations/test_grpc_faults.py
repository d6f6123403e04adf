"""Every fault of a network and what a call of gRPC makes of it, blocking and in asyncio, over real sockets.

gRPC has one error for all of them, with a status: UNAVAILABLE where there is no connection or it is lost, and
DEADLINE_EXCEEDED where nothing comes. Whether a call has left is in its words only.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from resilience import Retry, TimedOut, context
from resilience.http import transient
from resilience.testing import FaultProxy
from tests.integrations.grpc_server import CLIENTS, RpcServer
from tests.integrations.test_client_faults import Heard, connections_to

# A connection that breaks before it is one, so that no call can have gone out on it.
UNMADE = {
    "reset": {"reset": 1.0},
    "end": {"half_close": 1.0},
    "cut within the greeting": {"cut": 1.0, "cut_after": 10},
}
NAMED = ("/test.Echo/*",)
# gRPC waits a second before it connects again, and a test does not.
SOON = [("grpc.initial_reconnect_backoff_ms", 10)]


@pytest.fixture
def rpc() -> Iterator[RpcServer]:
    server = RpcServer()
    yield server
    server.end()


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def made(target: str, policy: Any, repeat: Any = ()) -> Any:
            return CLIENTS[request.param](stack, target, policy, repeat, options=SOON)

        yield made


@pytest.mark.parametrize("fault", UNMADE)
def test_connection_is_not_made(make: Any, rpc: RpcServer, fault: str) -> None:
    """A connection that breaks while it is made has carried nothing: any call is made again."""
    heard = Heard()
    with FaultProxy(rpc.target, **UNMADE[fault]) as proxy:
        with pytest.raises(grpc.RpcError) as caught:
            make(f"{proxy.host}:{proxy.port}", heard.retry())("unary_unary", b"x", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(heard.errors) == 2
    assert rpc.calls == []


@pytest.mark.parametrize("repeat", [(), NAMED])
def test_connection_is_lost(make: Any, rpc: RpcServer, repeat: Any) -> None:
    """A connection that is lost while the server works is UNAVAILABLE, and only what is named is called again."""
    heard = Heard()
    with FaultProxy(rpc.target, cut=1.0, cut_after=100) as proxy:
        with pytest.raises(grpc.RpcError) as caught:
            make(f"{proxy.host}:{proxy.port}", heard.retry(), repeat)("unary_unary", b"x", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(heard.errors) == (2 if repeat else 0)
        assert 1 <= len(rpc.calls) <= 2


def test_refused(make: Any) -> None:
    """Where the connection is refused nothing was sent, so any call is made again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    heard = Heard()
    with pytest.raises(grpc.RpcError) as caught:
        make(f"127.0.0.1:{port}", heard.retry())("unary_unary", b"x", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(heard.errors) == 2


def test_name_does_not_resolve(make: Any) -> None:
    """A name that does not resolve is UNAVAILABLE to gRPC, whyever; nothing was sent."""
    heard = Heard()
    with pytest.raises(grpc.RpcError) as caught:
        make("name.invalid:1", heard.retry())("unary_unary", b"x", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(heard.errors) == 2


@pytest.mark.parametrize("fault", [{"latency": 2.0}, {"black_hole": 1.0}, {"bandwidth": 5.0}])
def test_own_timeout_is_the_bound(make: Any, rpc: RpcServer, fault: dict[str, float]) -> None:
    """Silence ends with the caller's timeout, which is for all attempts, however much time the policy has."""
    heard = Heard()
    with FaultProxy(rpc.target, **fault) as proxy:
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            make(f"{proxy.host}:{proxy.port}", heard.retry(within=30.0), NAMED)("unary_unary", b"x", timeout=0.2)
        assert 0.15 < time.monotonic() - begun < 2.0
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert transient(caught.value) is False  # gRPC's own is not told from others by its name


@pytest.mark.parametrize("how", ["within", "deadline"])
def test_policy_is_the_bound(make: Any, rpc: RpcServer, how: str) -> None:
    """Where the policy, or the deadline, has less time than the caller's timeout, its end is the end."""
    with FaultProxy(rpc.target, black_hole=1.0) as proxy:
        target = f"{proxy.host}:{proxy.port}"
        begun = time.monotonic()
        with pytest.raises((TimedOut, grpc.RpcError)):
            if how == "within":
                make(target, Heard().retry(within=0.2), NAMED)("unary_unary", b"x", timeout=30)
            with context.deadline(0.2):
                make(target, Heard().retry(), NAMED)("unary_unary", b"x", timeout=30)
        assert 0.15 < time.monotonic() - begun < 2.0


def test_relayed_words_of_another(make: Any, rpc: RpcServer) -> None:
    """A server that hands on another's UNAVAILABLE with metadata is known not to be a connection that failed."""
    words = "failed to connect to all addresses; last error: UNKNOWN: Connection refused"
    rpc.script = [(grpc.StatusCode.UNAVAILABLE, (("hop", "2"),), words)]
    with pytest.raises(grpc.RpcError):
        make(rpc.target, Retry(on=transient, backoff=0))("unary_unary", b"x")
    assert len(rpc.calls) == 1


def test_one_connection_for_all_attempts(make: Any, rpc: RpcServer) -> None:
    """150 calls that each failed once leave the one connection of their channel."""
    ask = make(rpc.target, Retry(on=transient, backoff=0), NAMED)
    rpc.script = [grpc.StatusCode.UNAVAILABLE, None] * 150
    assert {ask("unary_unary", b"x")[0] for _ in range(150)} == {b"x"}
    assert len(rpc.calls) == 300
    assert connections_to(rpc.port) <= 1
