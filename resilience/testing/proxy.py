"""A network that fails, between a client and a server that do not.

Much of what goes wrong between two programs cannot be raised by a double: an answer that ends in the middle, a peer
that is silent for ever, a connection that is reset while the request is on its way. So this is a real one: a proxy on
the loopback, to which the client connects in place of the server, and which forwards bytes until it does not.

Each connection meets one fault at most, by script and then by rate. Which one depends on the seed and on the number of
the connection alone, so that the same test sees the same faults. Delays and bandwidth hold for the answers, on every
connection.

Nothing runs before the block is entered. Inside it there is one daemon thread with an asyncio loop of its own, which
neither sees nor stops the loop of whoever tests; after it there is no thread and no socket. Time is real: this is the
one tool of the kit that knows no other.
"""

from __future__ import annotations

import asyncio
import random
import threading

from resilience._checks import number, positive_int, seconds, share, wrong_type, wrong_value
from resilience.testing.proxy_link import FAULTS, Link, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from typing import Any, Self, TypeGuard

__all__ = ["FaultProxy"]

_PATIENCE = 5.0


class FaultProxy:
    """A TCP proxy on the loopback that makes connections slow, cuts them, or lets them hang.

        with FaultProxy(("127.0.0.1", 8080), script=["reset"], latency=0.02) as proxy:
            client = connect(proxy.host, proxy.port)

    The faults, for `script` and as parameters:

        reset         the connection is reset when the first bytes of the client have come
        half_close    the proxy ends its direction when they have come: the client reads the end, and may go on writing
        black_hole    the client is listened to and never answered, and its connection is never closed
        slow_close    all is answered, and the end of the answer comes `linger` seconds late
        cut           the connection is closed after `cut_after` bytes of the answer

    Use it with `with` or `async with`, in threads, asyncio and trio; entering and leaving block for milliseconds. Any
    number of connections at once; they are numbered in the order in which they are accepted.

    Args:
        upstream: where the server is: `(host, port)`, or text such as "127.0.0.1:8080".
        latency: seconds by which each answer comes later.
        jitter: seconds by which that may be more or less; drawn once for each connection, evenly.
        bandwidth: bytes a second of the answers of a connection; None for no bound.
        reset, half_close, black_hole, slow_close, cut: the share of connections with this fault, 0 to 1.
        cut_after: bytes of an answer that pass before a cut, 0 or more.
        linger: seconds by which a slow close is late.
        script: the faults of the first connections, in order: a name, `("cut", bytes)`, or None for no fault.
        seed: an integer; the same one gives the same faults.

    Attributes:
        host, port: where to connect to, inside the block.
        faults: what each connection has met so far, a name or None, in order.

    Raises:
        OSError: from entering, when no port can be opened.
        RuntimeError: the block is entered twice.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        upstream: tuple[str, int] | str,
        *,
        latency: float | timedelta = 0.0,
        jitter: float | timedelta = 0.0,
        bandwidth: float | None = None,
        reset: float = 0.0,
        half_close: float = 0.0,
        black_hole: float = 0.0,
        slow_close: float = 0.0,
        cut: float = 0.0,
        cut_after: int = 0,
        linger: float | timedelta = 1.0,
        script: Sequence[str | tuple[str, int] | None] = (),
        seed: int = 0,
    ) -> None:
        self.upstream = _address(upstream)
        self._latency = seconds("latency", latency, zero=True)
        self._jitter = seconds("jitter", jitter, zero=True)
        if self._jitter > self._latency:
            raise wrong_value("jitter", f"at most the latency, {self._latency:g}", jitter)
        self._bandwidth = None if bandwidth is None else number("bandwidth", bandwidth)
        given = (reset, half_close, black_hole, slow_close, cut)
        self._rates = [share(name, rate, zero=True) for name, rate in zip(FAULTS, given, strict=True)]
        if sum(self._rates) > 1.0 + 1e-9:
            raise wrong_value("the sum of the rates", "at most 1", sum(self._rates))
        self._cut_after = _bytes("cut_after", cut_after)
        self._linger = seconds("linger", linger, zero=True)
        self._script = _script(script, self._cut_after)
        self._seed = _integer("seed", seed)
        self._thread: threading.Thread | None = None
        self._port = 0
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.faults: list[str | None] = []

    # --- the block ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("this proxy is running: enter its block once at a time")
        self.faults = []
        self._error = None
        self._ready = threading.Event()
        self._loop = None
        self._thread = threading.Thread(target=self._serve, name="fault proxy", daemon=True)
        self._thread.start()
        error: BaseException | None = None
        if not self._ready.wait(_PATIENCE):
            error = RuntimeError(f"the proxy did not start within {_PATIENCE:g} s")
        failed: Any = self._error
        error = failed or error
        if error is not None:
            self.__exit__()
            raise error
        return self

    def __exit__(self, *_: object) -> None:
        thread, loop, self._thread = self._thread, self._loop, None
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._stop.set)
        if thread is not None:
            thread.join(_PATIENCE)
        self._port = 0

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    @property
    def port(self) -> int:
        """The port on which it listens.

        Raises:
            RuntimeError: it does not, outside its block.
        """
        if not self._port:
            raise RuntimeError("this proxy is not running: write with FaultProxy(...) as proxy:")
        return self._port

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    def preview(self, n: int) -> list[str | None]:
        """The faults of the first `n` connections; changes nothing.

        Raises:
            TypeError, ValueError: `n` is not an integer, 1 or more.
        """
        return [self._terms(index).fault for index in range(positive_int("n", n))]

    def __repr__(self) -> str:
        rates = "".join(f", {name}={rate:g}" for name, rate in zip(FAULTS, self._rates, strict=True) if rate)
        script = f", script={self._script!r}" if self._script else ""
        return f"FaultProxy({self.upstream!r}{rates}{script}, seed={self._seed})"

    # --- its thread ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        links: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            terms = self._terms(len(self.faults))
            self.faults.append(terms.fault)
            link = asyncio.ensure_future(Link(reader, writer, self.upstream, terms).run())
            links.add(link)
            link.add_done_callback(links.discard)

        server = await asyncio.start_server(accept, self.host, 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            while links:
                for link in links:
                    link.cancel()
                await asyncio.gather(*links, return_exceptions=True)

    def _terms(self, index: int) -> Terms:
        """What a connection meets: drawn from the seed and its number, so nothing else matters."""
        rng = random.Random(f"{self._seed} {index}")
        kind, sway = rng.random(), rng.random()
        delay = self._latency + self._jitter * (2.0 * sway - 1.0)
        fault, cut_after = None, self._cut_after
        if index < len(self._script):
            fault, cut_after = self._script[index]
        else:
            for name, rate in zip(FAULTS, self._rates, strict=True):
                if kind < rate:
                    fault = name
                    break
                kind -= rate
        return Terms(fault, cut_after, delay, self._bandwidth, self._linger)


# --- what is given ----------------------------------------------------------------------------------------------------


def _address(upstream: Any) -> tuple[str, int]:
    rule = '(host, port), or text such as "127.0.0.1:8080"'
    if isinstance(upstream, str):
        host, colon, port = upstream.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit()):
            raise wrong_value("upstream", rule, upstream)
        upstream = (host.strip("[]"), int(port))
    parts = upstream if _is_list(upstream) else ()
    # What a socket tells of itself has two parts more, where the address is one of IPv6.
    if len(parts) < 2 or not isinstance(parts[0], str) or not isinstance(parts[1], int) or isinstance(parts[1], bool):
        raise wrong_type("upstream", rule, upstream)
    if not 0 < parts[1] < 65_536:
        raise wrong_value("upstream", "a port from 1 to 65535", upstream)
    return parts[0], parts[1]


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    return value


def _bytes(name: str, value: object) -> int:
    rule = "a number of bytes, 0 or more"
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, rule, value)
    if value < 0:
        raise wrong_value(name, rule, value)
    return value


def _script(script: Any, cut_after: int) -> list[tuple[str | None, int]]:
    if not _is_list(script):
        raise wrong_type("script", "a list of faults", script)
    steps: list[tuple[str | None, int]] = []
    for index, step in enumerate(script):
        name = f"script[{index}]"
        if _is_list(step) and len(step) == 2 and step[0] == "cut":
            steps.append(("cut", _bytes(name, step[1])))
        elif step is None or step in FAULTS:
            steps.append((step, cut_after))
        else:
            raise wrong_value(name, f'one of {", ".join(FAULTS)}, ("cut", bytes) or None', step)
    return steps
