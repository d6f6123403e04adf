"""Several processes and one server."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import trio
import valkey
import valkey.asyncio

from resilience import CircuitBreaker, CircuitOpen, CircuitState, Throttle
from resilience.stores import RedisStore
from tests.stores import workers
from tests.stores.servers import Server, binary, clustered

FRESH = multiprocessing.get_context("spawn")


def admitted(server: Server, lease: int, processes: int, threads: int, seconds: float) -> tuple[list[int], float]:
    """What each process was granted, and how long it took from the first to the last."""
    start, results = FRESH.Barrier(processes + 1), FRESH.Queue()
    jobs = [
        FRESH.Process(target=workers.admit, args=(server.url, lease, threads, seconds, start, results))
        for _ in range(processes)
    ]
    for job in jobs:
        job.start()
    start.wait(30)
    counts, begins, ends = zip(*(results.get(timeout=30) for _ in jobs), strict=True)
    for job in jobs:
        job.join(30)
    return list(counts), max(ends) - min(begins)


@pytest.mark.parametrize("lease", [1, 20])
def test_processes_keep_one_limit(lease: int, server: Server) -> None:
    """Two processes with two threads each are granted the burst and the rate between them, and no more."""
    counts, lasted = admitted(server, lease, 2, 2, 0.8)
    assert sum(counts) <= 50 + 200 * lasted
    assert sum(counts) >= 50 + 200 * 0.8 * 0.8 - 2 * lease


@pytest.mark.proof
@pytest.mark.parametrize("lease", [1, 100])
def test_four_processes_of_eight_threads_keep_one_limit(lease: int, server: Server) -> None:
    """Four processes with eight threads each for ten seconds: none over, and at most a lease each unused."""
    counts, lasted = admitted(server, lease, 4, 8, 10.0)
    print(f"lease={lease}: {sum(counts)} granted of {50 + 200 * lasted:.0f}, by process {counts}")
    assert sum(counts) <= 50 + 200 * lasted
    assert sum(counts) >= 50 + 200 * 10.0 * 0.98 - 4 * lease


def opened(server: Server, **options: float) -> CircuitBreaker:
    """A breaker on this server that has just opened."""
    breaker = CircuitBreaker(1, store=RedisStore.from_url(server.url, timeout=2.0), name="api", **options)
    breaker.open()
    return breaker


def test_processes_send_so_many_trials_and_no_more(server: Server) -> None:
    """Of three processes that all would, exactly as many calls are made as there are trials, and the circuit closes."""
    stop, release, results = FRESH.Event(), FRESH.Event(), FRESH.Queue()
    breaker = opened(server, cooldown=0.3, trials=2, trial_lease=60)
    jobs = [FRESH.Process(target=workers.probe, args=(server.url, stop, release, results)) for _ in range(3)]
    for job in jobs:
        job.start()
    assert [results.get(timeout=30), results.get(timeout=30)] == ["made", "made"]
    time.sleep(0.1)
    # The third has given up before the others end, so it cannot come through a circuit that they have closed.
    stop.set()
    assert results.get(timeout=30) == "gave up"
    release.set()
    for job in jobs:
        job.join(30)
    assert breaker.state is CircuitState.CLOSED


def test_a_prober_that_is_killed_gives_its_place_back(server: Server) -> None:
    """After SIGKILL of the process that made the trial, another is admitted when the lease is over."""
    breaker = opened(server, cooldown=0.1, trial_lease=0.5)
    inside = FRESH.Event()
    time.sleep(0.15)
    job = FRESH.Process(target=workers.hang_in_a_trial, args=(server.url, inside))
    job.start()
    assert inside.wait(30)
    job.kill()
    job.join(30)
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(lambda: "page")
    assert caught.value.retry_after is not None
    assert 0.0 < caught.value.retry_after <= 0.5
    time.sleep(caught.value.retry_after)
    assert breaker.call(lambda: "page") == "page"


def test_a_forked_child_has_connections_of_its_own(server: Server) -> None:
    """After a fork parent and child both go on, and neither reads the answers of the other."""
    store = RedisStore.from_url(server.url, timeout=2.0)
    throttle = Throttle("1/hour burst 400", store=store, name="api")
    assert throttle.try_acquire()
    with warnings.catch_warnings():
        # Of threads that other tests have left behind; this test holds none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os._exit(0 if all(throttle.try_acquire() for _ in range(100)) and not throttle._link.lost else 1)
    assert all(throttle.try_acquire() for _ in range(100))
    assert os.waitpid(child, 0)[1] == 0
    assert throttle.peek().remaining == pytest.approx(400 - 201, abs=0.1)


CLIENTS = {
    "redis-py": lambda port: {"client": redis.Redis(port=port)},
    "valkey-py": lambda port: {"client": valkey.Valkey(port=port)},
    "redis.asyncio": lambda port: {"async_client": redis.asyncio.Redis(port=port)},
    "valkey.asyncio": lambda port: {"async_client": valkey.asyncio.Valkey(port=port)},
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_client_will_do(kind: str, server: Server) -> None:
    """Clients of redis-py and valkey-py serve, plain and for asyncio, in one loop after the other."""
    store = RedisStore(**CLIENTS[kind](server.port), timeout=2.0)
    throttle = Throttle("1/hour burst 4", store=store, name="api", on_store_error="deny")

    async def ask() -> list[bool]:
        answers = [await throttle.try_acquire_async() for _ in range(2)]
        await store.close_async()
        return answers

    assert asyncio.run(ask()) == [True, True]
    assert asyncio.run(ask()) == [True, True]
    if "client" in CLIENTS[kind](server.port):
        assert not throttle.try_acquire()
        store.close()


def test_trio_asks_in_a_thread(server: Server) -> None:
    """On trio the plain client serves, decorated coroutines too, and the loop goes on meanwhile."""
    store = RedisStore(redis.Redis(port=server.port), timeout=2.0)
    breaker = CircuitBreaker(1, store=store, name="api", on_store_error="deny")
    throttle = Throttle("1/hour burst 3", store=store, name="api", on_store_error="deny")

    @breaker
    @throttle
    async def fetch() -> str:
        return "page"

    async def main() -> list[str]:
        return [await fetch() for _ in range(3)]

    assert trio.run(main) == ["page"] * 3
    assert not throttle.try_acquire()
    store.close()


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
def test_a_unix_socket_will_do(library: Any, tmp_path: Path) -> None:
    """A client on a unix socket is taken over like any other."""
    server = Server(binary(), "--unixsocket", str(tmp_path / "valkey.sock"))
    kind = "Redis" if library is redis else "Valkey"
    client = getattr(library, kind)(unix_socket_path=str(tmp_path / "valkey.sock"))
    looped = getattr(library.asyncio, kind)(unix_socket_path=str(tmp_path / "valkey.sock"))
    store = RedisStore(client, async_client=looped, timeout=2.0)
    throttle = Throttle("1/hour burst 2", store=store, name="api", on_store_error="deny")

    async def ask() -> bool:
        granted = await throttle.try_acquire_async()
        await store.close_async()
        return granted

    assert throttle.try_acquire()
    assert asyncio.run(ask())
    assert not throttle.try_acquire()
    store.close()
    server.close()


@pytest.fixture(scope="module")
def cluster() -> Server:
    """A cluster of one node, which holds all slots."""
    server = clustered()
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 10
        while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    yield server
    server.close()


def test_a_cluster_client_is_bounded_from_outside(cluster: Server) -> None:
    """A cluster client is used as it is: keys have one hash tag, and a hung node costs the store's timeout."""
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port)
    store = RedisStore(client, timeout=0.2)
    throttle = Throttle("1/hour burst 3", key="user", store=store, name="api")
    assert [throttle.try_acquire(key="ann") for _ in range(4)] == [True, True, True, False]
    assert throttle.try_acquire(key=("bob", 7))
    cluster.pause()
    began = time.perf_counter()
    throttle.try_acquire(key="ann")
    took = time.perf_counter() - began
    cluster.go_on()
    client.close()
    assert 0.19 <= took <= 0.2 + 0.01 + 0.25


def test_cancelled_decisions_lose_no_more_than_they_took(server: Server) -> None:
    """Callers that are cancelled at any moment cost one token each at most, and those that wait give back theirs."""

    async def main() -> float:
        store = RedisStore.from_url(server.url, timeout=2.0)
        throttle = Throttle("1/hour burst 1000", store=store, name="api")
        for storm in range(5):
            tasks = [asyncio.create_task(throttle.acquire_async()) for _ in range(20)]
            for turns in range(storm):
                await asyncio.sleep(0)
                tasks[turns].cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        short = Throttle("1/hour burst 1", store=store, name="waiting", max_wait=1e6)
        await short.acquire_async()
        tasks = [asyncio.create_task(short.acquire_async()) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        debt = (await short.peek_async()).retry_after
        left = (await throttle.peek_async()).remaining
        await store.close_async()
        assert debt <= 3600.0
        return left

    assert asyncio.run(main()) >= 1000 - 5 * 20


@pytest.mark.slow
def test_the_example_runs() -> None:
    """Four processes keep one limit while their server is killed and restarted."""
    command = [sys.executable, "-m", "examples.shared_limit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "the server is killed" in done.stdout
    assert done.stdout.rstrip().endswith("kept")


@pytest.mark.proof
def test_keys_spread_over_a_cluster_and_outlive_a_node() -> None:
    """On three nodes sixty keys have sixty limits; a node that is killed costs its own keys the store, and no error."""
    nodes: list[Server] = []
    try:
        nodes += (clustered() for _ in range(3))
        for place, node in enumerate(nodes):
            with node.client() as client:
                last = 16383 if place == 2 else place * 5461 + 5460
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", place * 5461, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        deadline = time.monotonic() + 20
        for node in nodes:
            with node.client() as client:
                while "cluster_state:ok" not in str(
                    info := client.execute_command("CLUSTER", "INFO")
                ) or "cluster_known_nodes:3" not in str(info):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        client = redis.cluster.RedisCluster(host="127.0.0.1", port=nodes[0].port)
        store = RedisStore(client, timeout=0.5)
        throttle = Throttle("1/hour burst 2", key="user", store=store, name="api")
        for user in range(60):
            assert [throttle.try_acquire(key=user) for _ in range(3)] == [True, True, False]
        for node in nodes:
            with node.client() as one:
                assert one.dbsize() > 5
        nodes[2].kill()
        # A local bucket of two for each key stands in where the store is left alone; nothing is raised.
        granted = [throttle.try_acquire(key=user) for _ in range(4) for user in range(60)]
        assert sum(granted) <= 2 * 60
        client.close()
    finally:
        for node in nodes:
            node.close()
