"""The store's timeout holds for a decision as a whole, whatever that is made of and whoever else wants the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
import trio
import trio.testing

from resilience import Throttle
from resilience.stores import RedisStore
from resilience.testing import FaultProxy
from tests.stores.servers import Server

TIMEOUT = 0.1
OWN = 0.010
SLACK = 0.050  # less than another step would cost


def took(ask: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def test_a_script_that_has_to_be_sent_again_is_within_the_same_time(server: Server) -> None:
    """The question, the answer that the script is unknown, and the script: all of it together is bounded."""
    with FaultProxy(("127.0.0.1", server.port), latency=0.9 * TIMEOUT) as proxy:
        store = RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}", timeout=TIMEOUT)
        throttle = Throttle("1/hour", store=store, name="api")
        with server.client() as client:
            client.script_flush()
        assert took(throttle.try_acquire) <= TIMEOUT + OWN + SLACK
        store.close()


def test_a_borrowed_client_has_no_more_time_for_it(server: Server) -> None:
    """The same where a client is used as it is, in a thread."""
    with FaultProxy(("127.0.0.1", server.port), latency=0.9 * TIMEOUT) as proxy:

        class Own(redis.Redis):
            """A client that cannot be taken apart."""

        client = Own(port=proxy.port)
        store = RedisStore(client, timeout=TIMEOUT)
        throttle = Throttle("1/hour", store=store, name="api")
        with server.client() as other:
            other.script_flush()
        assert took(throttle.try_acquire) <= TIMEOUT + OWN + SLACK
        time.sleep(TIMEOUT)
        client.close()


def test_who_finds_all_connections_in_use_waits_no_longer(frail: Server) -> None:
    """Of eighty threads that a hung server keeps waiting, those that had to wait for a connection wait no longer."""
    store = RedisStore.from_url(frail.url, timeout=TIMEOUT)
    throttle = Throttle("1/hour", store=store, name="api")
    assert throttle.try_acquire()
    frail.pause()
    ready = threading.Barrier(80)

    def ask(_: int) -> float:
        ready.wait()
        return took(throttle.try_acquire)

    with ThreadPoolExecutor(80) as pool:
        times = list(pool.map(ask, range(80)))
    frail.go_on()
    store.close()
    assert max(times) <= TIMEOUT + OWN + SLACK


@pytest.mark.parametrize("used_up", [False, True], ids=["free", "used up"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_threads_that_others_use_up_do_not_hold_up_a_loop(loop: str, used_up: bool, server: Server) -> None:
    """With a plain client alone a loop asks in a thread; where others have all threads of the loop, that is bounded."""
    store = RedisStore(redis.Redis(port=server.port), timeout=TIMEOUT)
    throttle = Throttle("1/hour", store=store, name="api")
    lasted = trio.run(_on_trio, throttle, used_up) if loop == "trio" else asyncio.run(_on_asyncio(throttle, used_up))
    assert lasted <= TIMEOUT + OWN + SLACK
    store.close()


async def _on_trio(throttle: Throttle, used_up: bool) -> float:
    free = threading.Event()
    limiter = trio.to_thread.current_default_thread_limiter()
    async with trio.open_nursery() as nursery:
        if used_up:
            for _ in range(int(limiter.total_tokens)):
                nursery.start_soon(trio.to_thread.run_sync, free.wait, 2.0)
            await trio.testing.wait_all_tasks_blocked()
        began = time.perf_counter()
        await throttle.try_acquire_async()
        lasted = time.perf_counter() - began
        free.set()
    return lasted


async def _on_asyncio(throttle: Throttle, used_up: bool) -> float:
    free = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2))
    others: list[Any] = [loop.run_in_executor(None, free.wait, 2.0) for _ in range(2 * used_up)]
    began = time.perf_counter()
    await throttle.try_acquire_async()
    lasted = time.perf_counter() - began
    free.set()
    await asyncio.gather(*others)
    return lasted


def test_a_server_that_answers_by_the_byte_is_slow(server: Server) -> None:
    """An answer that comes a little at a time is as late as one that comes late."""
    with FaultProxy(("127.0.0.1", server.port), bandwidth=100) as proxy:
        store = RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}", timeout=TIMEOUT)
        throttle = Throttle("1/hour", store=store, name="api")
        assert took(throttle.try_acquire) <= TIMEOUT + OWN + SLACK
        store.close()
