"""What may befall a server, on a real one: every call is bounded, nothing of the driver leaks, and it is noticed when
the server is back.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis

from resilience import Throttle
from resilience.events import Event, StoreLost, StoreRecovered
from resilience.stores import RedisStore
from tests.stores.servers import Server

TIMEOUT = 0.05
OWN = 0.010  # of ours, on top
SLACK = 0.250  # of a machine that does other things as well

KEY = "resilience:bucket:{api}"


def refused(server: Server) -> Callable[[], None]:
    server.kill()
    return server.start


def hung(server: Server) -> Callable[[], None]:
    server.pause()
    return server.go_on


def wrong_type(server: Server) -> Callable[[], None]:
    return _under_the_key(server, lambda client: client.lpush(KEY, "x"))


def junk(server: Server) -> Callable[[], None]:
    return _under_the_key(server, lambda client: client.set(KEY, "no numbers \x00\xff nan"))


def another_shape(server: Server) -> Callable[[], None]:
    return _under_the_key(server, lambda client: client.set(KEY, "1 2 0 4 5 6 7 0 9 10"))


def _under_the_key(server: Server, put: Callable[[object], object]) -> Callable[[], None]:
    client = server.client()
    client.delete(KEY)
    put(client)

    def undo() -> None:
        client.delete(KEY)
        client.close()

    return undo


def _configured(server: Server, *settings: tuple[str, str, str]) -> Callable[[], None]:
    client = server.client()
    for name, value, _ in settings:
        client.config_set(name, value)

    def undo() -> None:
        for name, _, value in settings:
            client.config_set(name, value)
        client.close()

    return undo


def out_of_memory(server: Server) -> Callable[[], None]:
    return _configured(server, ("maxmemory", "1", "0"))


def read_only(server: Server) -> Callable[[], None]:
    client = server.client()
    client.execute_command("REPLICAOF", "127.0.0.1", "1")

    def undo() -> None:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.close()

    return undo


def loses_its_master(server: Server) -> Callable[[], None]:
    client = server.client()
    client.config_set("replica-serve-stale-data", "no")
    client.execute_command("REPLICAOF", "127.0.0.1", "1")

    def undo() -> None:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.close()

    return undo


def wants_a_password(server: Server) -> Callable[[], None]:
    with server.client() as client:
        client.config_set("requirepass", "secret")
    _cut_all(server, "secret")

    def undo() -> None:
        with redis.Redis(port=server.port, password="secret") as client:
            client.config_set("requirepass", "")

    return undo


def _cut_all(server: Server, password: str | None = None) -> None:
    with redis.Redis(port=server.port, password=password) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


FAULTS = (refused, hung, wrong_type, junk, another_shape, out_of_memory, read_only, loses_its_master, wants_a_password)


class Load:
    """Threads that ask without a pause; how long each call took, and what came of it."""

    def __init__(self, throttle: Throttle, threads: int = 4) -> None:
        self.throttle = throttle
        self.slowest = 0.0
        self.granted = 0
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            try:
                granted = self.throttle.try_acquire()
            except BaseException as error:
                self.errors.append(error)
                return
            took = time.perf_counter() - began
            with self._lock:
                self.slowest = max(self.slowest, took)
                self.granted += granted
            time.sleep(0.002)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def until(events: list[Event], kind: type[Event], seconds: float) -> float:
    """Wait for an event; how long that took."""
    began = time.monotonic()
    while not any(isinstance(event, kind) for event in events):
        if time.monotonic() - began > seconds:
            pytest.fail(f"no {kind.__name__} within {seconds} s")
        time.sleep(0.002)
    return time.monotonic() - began


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_bounded_and_over_when_it_is_over(
    fault: Callable[[Server], Callable[[], None]], frail: Server
) -> None:
    """Under load each call returns within the store's timeout, one outage is told, and its end within a second."""
    store = RedisStore.from_url(frail.url, timeout=TIMEOUT)
    throttle = Throttle("100/s burst 20", store=store, name="api")
    events: list[Event] = []
    throttle.listen(events.append, StoreLost, StoreRecovered)
    began = time.monotonic()
    load = Load(throttle)
    try:
        time.sleep(0.05)
        undo = fault(frail)
        until(events, StoreLost, 1.0)
        time.sleep(0.1)
        undo()
        noticed = until(events, StoreRecovered, 1.0 + SLACK)
    finally:
        load.stop()
        store.close()
    lasted = time.monotonic() - began
    assert not load.errors
    assert [type(event) for event in events] == [StoreLost, StoreRecovered]
    assert noticed <= 1.0 + SLACK
    assert load.slowest <= TIMEOUT + OWN + SLACK
    # The shared bucket, empty or not after the restart, and beside it one local bucket.
    assert load.granted <= (20 + 20 + 20) + 2 * 100 * lasted
    print(f"{fault.__name__}: slowest call {load.slowest * 1000:.1f} ms, noticed after {noticed * 1000:.0f} ms")


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
