"""A real server, the address by which its clients know it, and what a fault needs besides."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import redis

from resilience.stores import RedisStore
from resilience.testing import FaultProxy
from tests.stores.servers import Server

Undo = Callable[[], object]

HERE = "127.0.0.1"


class Skewed(RedisStore):
    """A store whose server has a clock that can be set: the hook is the reading that a script takes for its own."""

    __slots__ = ("skew",)

    def ask(self, *question: Any, now: float | None = None) -> Any:
        """Ask, at the time that the server's clock shows."""
        return super().ask(*question, now=time.time() + self.skew)

    async def ask_async(self, *question: Any, now: float | None = None) -> Any:
        """Do what `ask` does."""
        return await super().ask_async(*question, now=time.time() + self.skew)


class Stage:
    """Ends what it has started with its block."""

    def __init__(self, binary: str, timeout: float, *options: str) -> None:
        self.binary, self.timeout = binary, timeout
        self._open = ExitStack()
        self.server = self.another(*options)
        self._front: FaultProxy | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def another(self, *options: str) -> Server:
        """One more server."""
        server = Server(self.binary, *options)
        self._open.callback(server.close)
        return server

    # --- ways to the server ------------------------------------------------------------------------------------------

    def direct(self) -> RedisStore:
        """A store that knows the server itself."""
        return RedisStore.from_url(self.server.url, timeout=self.timeout)

    def fronted(self) -> RedisStore:
        """A store that knows an address behind which another server may stand tomorrow."""
        self._front = self._open.enter_context(FaultProxy((HERE, self.server.port)))
        return RedisStore.from_url(f"redis://{HERE}:{self._front.port}/0", timeout=self.timeout)

    def skewed(self) -> RedisStore:
        """A store whose server's clock can be set."""
        self.clock = Skewed.from_url(self.server.url, timeout=self.timeout)
        self.clock.skew = 0.0
        return self.clock

    def crowded(self) -> RedisStore:
        """A store of clients whose pools have one connection, for which others may wait for ever."""
        pool = redis.BlockingConnectionPool(port=self.server.port, max_connections=1, timeout=None)
        looped = redis.asyncio.BlockingConnectionPool(port=self.server.port, max_connections=1, timeout=None)
        self.pool = pool
        self._open.callback(pool.disconnect)
        return RedisStore(
            redis.Redis(connection_pool=pool),
            async_client=redis.asyncio.Redis(connection_pool=looped),
            timeout=self.timeout,
        )

    # --- doing things to it ------------------------------------------------------------------------------------------

    def lead_to(self, port: int) -> None:
        """Let the address stand for another port, for connections that are made from now on."""
        assert self._front is not None
        self._front.upstream = (HERE, port)

    def by_way_of(self, **faults: Any) -> Undo:
        """Lead every connection through a proxy that does this to it."""
        worse = self._open.enter_context(FaultProxy((HERE, self.server.port), **faults))
        self.lead_to(worse.port)
        self.cut_all()
        return lambda: self.lead_to(self.server.port)

    def cut_all(self, password: str | None = None) -> None:
        """Close every connection, as a server does that is done with its clients."""
        with redis.Redis(port=self.server.port, password=password) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def configure(self, *settings: tuple[str, str, str]) -> Undo:
        """Set each of `(name, now, afterwards)`."""
        client = self.server.client()
        for name, value, _ in settings:
            client.config_set(name, value)

        def undo() -> None:
            for name, _, value in settings:
                client.config_set(name, value)
            client.close()

        return undo

    def instead(self, keys: tuple[str, ...], put: Callable[[Any, str], object]) -> Undo:
        """Put something else under these keys."""
        client = self.server.client()
        # Nobody comes between: else ours would be there already.
        with client.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.delete(key)
                put(pipe, key)
            pipe.execute()

        def undo() -> None:
            client.delete(*keys)
            client.close()

        return undo
