"""Clients of every kind, connections that are cut, and answers that are none."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress

import pytest
import redis

from resilience import Throttle
from resilience.events import Event, StoreLost
from resilience.stores import RedisStore
from tests.stores.servers import Server

TIMEOUT = 0.05
OWN = 0.010  # of ours, on top
SLACK = 0.250  # of a machine that does other things as well

KEY = "resilience:bucket:{api}"


def _cut_all(server: Server) -> None:
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@pytest.mark.parametrize("command", ["FLUSHALL", "SCRIPT FLUSH"])
def test_a_server_that_has_forgotten_goes_on(command: str, store: RedisStore, server: Server) -> None:
    """After FLUSHALL or SCRIPT FLUSH the next decision is made, and no outage is told."""
    throttle = Throttle("1/minute burst 2", store=store, name="api")
    events: list[Event] = []
    throttle.listen(events.append, StoreLost)
    assert throttle.try_acquire()
    with server.client() as client:
        client.execute_command(*command.split())
    assert throttle.try_acquire()
    assert not events
    assert throttle.try_acquire() is (command == "FLUSHALL")


def test_a_connection_that_the_server_has_closed_is_replaced(store: RedisStore, server: Server) -> None:
    """An idle connection that was cut is no outage: the next decision opens another."""
    throttle = Throttle("1/minute burst 2", store=store, name="api")
    events: list[Event] = []
    throttle.listen(events.append, StoreLost)
    assert throttle.try_acquire()
    time.sleep(0.06)
    _cut_all(server)
    assert throttle.try_acquire()
    assert not throttle.try_acquire()
    assert not events


def test_an_answer_that_is_cut_is_a_store_error() -> None:
    """A server that closes in the middle of an answer, and one that answers nonsense, lead to the local bucket."""
    for answer in (b"*5\r\n$1\r\n1\r\n$4", b"+hello\r\n", b"*2\r\n:1\r\n:2\r\n", b"?\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve(listener: socket.socket = listener, answer: bytes = answer) -> None:
                with suppress(OSError):
                    while True:
                        peer, _ = listener.accept()
                        with peer:
                            peer.recv(65536)
                            peer.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            store = RedisStore.from_url(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=TIMEOUT)
            throttle = Throttle("1/minute burst 1", store=store, name="api")
            heard: list[StoreLost] = []
            throttle.listen(heard.append, StoreLost)
            assert [throttle.try_acquire(), throttle.try_acquire()] == [True, False], answer
            assert KEY in heard[0].error
            store.close()
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_hung_server_is_bounded_on_a_loop_too(frail: Server) -> None:
    """On asyncio the store's timeout cuts a decision, whatever the client was set to, and the loop goes on."""
    import redis.asyncio

    client = redis.asyncio.Redis(port=frail.port, socket_timeout=30, socket_connect_timeout=30)
    store = RedisStore(async_client=client, timeout=TIMEOUT)
    throttle = Throttle("10/s burst 3", store=store, name="api")

    async def main() -> list[float]:
        assert await throttle.try_acquire_async()
        frail.pause()
        took = []
        for _ in range(5):
            began = time.perf_counter()
            await throttle.try_acquire_async()
            took.append(time.perf_counter() - began)
        frail.go_on()
        await store.close_async()
        await client.aclose()
        return took

    took = asyncio.run(main())
    assert TIMEOUT * 0.9 <= took[0] <= TIMEOUT + OWN + SLACK
    assert max(took[1:]) < TIMEOUT / 2


def test_a_store_without_a_plain_client_says_so(server: Server) -> None:
    """Plain code with a store for asyncio alone is the programmer's mistake, not an outage."""
    import redis.asyncio

    store = RedisStore(async_client=redis.asyncio.Redis(port=server.port))
    throttle = Throttle("1/s", store=store, name="api")
    with pytest.raises(TypeError, match="give it client= too"):
        throttle.try_acquire()


@pytest.mark.parametrize("given", [{}, {"client": object()}, {"client": 1, "prefix": 2}])
def test_what_is_no_client_is_refused(given: dict[str, object]) -> None:
    """A store checks what it is given when it is built."""
    with pytest.raises(TypeError, match=r"client|prefix"):
        RedisStore(**given)
