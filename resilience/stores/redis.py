"""State in Redis or Valkey: one script per decision, decided by the server's own clock.

    from resilience.stores import RedisStore

    store = RedisStore.from_url("redis://127.0.0.1:6379")
    api = Throttle("100/s", store=store, name="api")

The clocks of many machines differ, so none of them decides: each script reads the server's time. A key holds what one
decision needs and nothing else, ends by itself when it says nothing any more, and is built from names and keys that are
escaped, whatever is in them; it has one hash tag, so that a cluster keeps it in one place.

The drivers (redis-py or valkey-py) are imported when a store is made from a URL, and never otherwise.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.resources import files

from resilience._checks import seconds, wrong_type
from resilience._runtime import current_runtime
from resilience.policies._store_words import WrongStore
from resilience.stores._borrowed import Borrowed, BorrowedAsync
from resilience.stores._wires import AsyncWires, Wires, is_missing, is_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

    from resilience.stores import Word

__all__ = ["RedisStore"]


class RedisStore:
    """State that any number of processes share through one server or cluster. Safe from any thread and event loop.

    Plain code uses `client`, asyncio uses `async_client`; where only the plain one is given, asyncio and trio use it in
    a thread. Of each, the address and the credentials are taken; a cluster client is used as it is.

    Args:
        client: a client of redis-py or valkey-py.
        async_client: the same for asyncio.
        prefix: what every key begins with.
        timeout: seconds within which the server answers, or is taken to be away; bounds each decision.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("__weakref__", "_async_wires", "_prefix", "_wires", "timeout")

    def __init__(
        self,
        client: Any = None,
        *,
        async_client: Any = None,
        prefix: str = "resilience:",
        timeout: float = 0.05,
    ) -> None:
        if client is None and async_client is None:
            raise TypeError("a RedisStore needs client=, async_client= or both; or write RedisStore.from_url(url)")
        if not isinstance(prefix, str):
            raise wrong_type("prefix", "a string", prefix)
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix must be without braces, which a cluster goes by, got {prefix!r}")
        self.timeout = seconds("timeout", timeout)
        self._prefix = prefix
        self._wires = _wires(client, self.timeout)
        self._async_wires = _async_wires(async_client, self.timeout)
        _stores.add(self)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "resilience:", timeout: float = 0.05) -> Self:
        """A store at "redis://host:port/db", "rediss://..." or "unix://...", for plain code and asyncio.

        Raises:
            ImportError: neither redis-py nor valkey-py is installed; the message says how to.
        """
        library, client = _driver()
        plain = getattr(library, client).from_url(url)
        looped = getattr(library.asyncio, client).from_url(url)
        return cls(plain, async_client=looped, prefix=prefix, timeout=timeout)

    def key(self, kind: str, whose: tuple[str | int, ...]) -> str:
        """The key under which a state is kept, for those who look at the server by hand."""
        return _key(self._prefix, kind, whose)

    def ask(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[Word],
        given: Sequence[Word],
        *,
        now: float | None = None,
    ) -> Sequence[Word]:
        """Decide, and answer in words; blocks for `timeout` seconds at most. Raises whatever the driver does."""
        wires = self._wires
        if wires is None:
            raise WrongStore("this store has an async_client alone: give it client= too, or use the async forms")
        until = time.monotonic() + self.timeout
        key, script, words = self._question(kind, whose, verb, terms, given, now)
        try:
            try:
                answer = wires.send(until, "EVALSHA", script.sha, "1", key, *words)
            except Exception as error:
                if not is_missing(error):
                    raise
                answer = wires.send(until, "EVAL", script.text, "1", key, *words)
            return _checked(answer)
        except Exception as error:
            _name_key(error, key)
            raise

    async def ask_async(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[Word],
        given: Sequence[Word],
        *,
        now: float | None = None,
    ) -> Sequence[Word]:
        """Do what `ask` does, without blocking the loop."""
        wires = self._async_wires
        if wires is None or current_runtime() == "trio":
            return await self._in_a_thread(partial(self.ask, kind, whose, verb, terms, given, now=now))
        import asyncio

        key, script, words = self._question(kind, whose, verb, terms, given, now)
        try:
            async with asyncio.timeout(self.timeout):
                try:
                    answer = await wires.send("EVALSHA", script.sha, "1", key, *words)
                except Exception as error:
                    if not is_missing(error):
                        raise
                    answer = await wires.send("EVAL", script.text, "1", key, *words)
            return _checked(answer)
        except Exception as error:
            _name_key(error, key)
            raise

    async def _in_a_thread(self, plain: Callable[[], Sequence[Word]]) -> Sequence[Word]:
        # Others may have all threads of the loop, for as long as they like: waiting for one counts too.
        if current_runtime() == "trio":
            trio = sys.modules["trio"]
            with trio.move_on_after(self.timeout):
                answered: Sequence[Word] = await trio.to_thread.run_sync(plain, abandon_on_cancel=True)
                return answered
            raise TimeoutError("no thread has answered in time")
        import asyncio

        async with asyncio.timeout(self.timeout):
            return await asyncio.to_thread(plain)

    def __repr__(self) -> str:
        return f"<RedisStore prefix={self._prefix!r} timeout={self.timeout:g}>"

    def close(self) -> None:
        """Close the connections that are idle; the store may be used again, and opens new ones."""
        if self._wires is not None:
            self._wires.drop()

    async def close_async(self) -> None:
        """Do what `close` does, for the connections of this loop too."""
        self.close()
        if self._async_wires is not None:
            await self._async_wires.close()

    def _question(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[Word],
        given: Sequence[Word],
        now: float | None,
    ) -> tuple[str, _Script, tuple[str | bytes, ...]]:
        script = _scripts.get(kind)
        if script is None:
            _scripts[kind] = script = _Script(kind)
        text, numbers = "", given
        if given and isinstance(given[-1], str):
            text, numbers = given[-1], given[:-1]
        packed = _packed(tuple(terms)) + _DOUBLES[len(numbers)](*numbers)
        return _key(self._prefix, kind, whose), script, ("" if now is None else repr(now), verb, packed, text)

    def _after_fork(self) -> None:
        for wires in (self._wires, self._async_wires):
            if wires is not None:
                wires.after_fork()


class _Script:
    """One script as the server knows it."""

    __slots__ = ("sha", "text")

    def __init__(self, kind: str) -> None:
        parts = [files("resilience.stores") / f"{part}.lua" for part in _PARTS[kind]]
        self.text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_PARTS = {
    "bucket": ("prelude", "bucket"),
    "budget": ("prelude", "budget"),
    "breaker": ("prelude", "breaker_calm", "breaker_trips", "breaker"),
}
"""What the script for each kind of state is put together from."""

_scripts: dict[str, _Script] = {}


class _Doubles(dict[int, Callable[..., bytes]]):
    """How so many numbers are packed, by their count."""

    def __missing__(self, count: int) -> Callable[..., bytes]:
        self[count] = pack = struct.Struct(f"<{count}d").pack
        return pack


_DOUBLES = _Doubles()


@lru_cache(maxsize=1024)
def _packed(terms: tuple[Word, ...]) -> bytes:
    return _DOUBLES[len(terms)](*terms)


@lru_cache(maxsize=4096)
def _key(prefix: str, kind: str, whose: tuple[str | int, ...]) -> str:
    return f"{prefix}{kind}:{{{':'.join(map(_escaped, whose))}}}"


def _escaped(part: str | int) -> str:
    """A part of a key that says nothing but itself: a number is told from its digits, and nothing is punctuation."""
    from urllib.parse import quote

    # Half a character is a key like any other: what users send may hold it, and an error would be taken for an outage.
    return f"#{part}" if isinstance(part, int) else quote(part, safe="", errors="surrogatepass")


def _checked(answer: Any) -> Sequence[Word]:
    text = answer.decode() if isinstance(answer, bytes) else answer
    if not isinstance(text, str):
        raise TypeError(f"the server answered {answer!r}")
    numbers, *texts = text.split("\n", 2)
    return [*map(float, numbers.split()), *texts]


def _name_key(error: Exception, key: str) -> None:
    if key not in str(error):
        error.args = (f"{error} (asked about {key})",)


def _wires(client: Any, timeout: float) -> Wires | Borrowed | None:
    if client is None:
        return None
    if not callable(getattr(client, "execute_command", None)):
        raise wrong_type("client", "a client of redis-py or valkey-py", client)
    return Wires(client, timeout) if is_plain(client) else Borrowed(client)


def _async_wires(client: Any, timeout: float) -> AsyncWires | BorrowedAsync | None:
    if client is None:
        return None
    if not callable(getattr(client, "execute_command", None)):
        raise wrong_type("async_client", "a client of redis.asyncio or valkey.asyncio", client)
    return AsyncWires(client, timeout) if is_plain(client) else BorrowedAsync(client)


def _driver() -> tuple[Any, str]:
    import importlib

    for name, client in (("redis", "Redis"), ("valkey", "Valkey")):
        try:
            importlib.import_module(f"{name}.asyncio")
            return importlib.import_module(name), client
        except ImportError:
            continue
    raise ImportError(
        "a store in Redis or Valkey needs redis-py or valkey-py: pip install 'resilience-policies[redis]'"
    )


def _forked() -> None:
    for store in list(_stores):
        store._after_fork()


def _known() -> Any:
    from weakref import WeakSet

    known: WeakSet[RedisStore] = WeakSet()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)
    return known


_stores = _known()
