"""One connection through the proxy: two directions, and what befalls them.

The way there is a plain copy. On the way back each piece of an answer is due its delay after it came, as on a long
line: a delay makes an answer late and not slow. Bandwidth makes it slow. How many pieces may be on the way is bounded,
and when that is full the server is not read from, so no memory grows.

Whichever way a connection ends, both of its sockets are gone when `run` returns.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

__all__ = ["FAULTS", "Link", "Terms"]

FAULTS = ("reset", "half_close", "black_hole", "slow_close", "cut")

_PIECE = 65_536
_PIECES = 16
_SLICES = 100
"""How many writes a bounded direction makes in a second."""
_AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Terms:
    """What a connection meets. Times in seconds, bandwidth in bytes a second."""

    fault: str | None
    cut_after: int
    delay: float
    bandwidth: float | None
    linger: float


class Link:
    """A client, and the server behind it where the fault lets anything through."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, upstream: tuple[str, int], terms: Terms) -> None:
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self._terms = terms
        self._writers = [writer]

    async def run(self) -> None:
        """Serve the connection to its end."""
        try:
            await self._serve()
        except* OSError:
            # One side is gone, or the server cannot be reached: the client is to see that, as it would without us.
            self._reset()
        finally:
            for writer in self._writers:
                writer.transport.abort()
            for writer in self._writers:
                with suppress(OSError):
                    await writer.wait_closed()

    async def _serve(self) -> None:
        fault = self._terms.fault
        if fault == "black_hole":
            while await self._reader.read(_PIECE):
                pass
            await asyncio.Event().wait()
        elif fault == "reset":
            if await self._reader.read(_PIECE):
                self._reset()
        elif fault == "half_close":
            if await self._reader.read(_PIECE):
                self._writer.write_eof()
            while await self._reader.read(_PIECE):
                pass
        else:
            await self._forward()

    def _reset(self) -> None:
        """Have the socket closed by a reset, and not by an end."""
        with suppress(OSError):  # it may be closed already
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    # --- through to the server ----------------------------------------------------------------------------------------

    async def _forward(self) -> None:
        reader, writer = await asyncio.open_connection(*self._upstream)
        self._writers.append(writer)
        answers: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
        async with asyncio.TaskGroup() as both:
            there = both.create_task(self._ask(writer))
            back = both.create_task(self._receive(reader, answers))
            if await self._answer(answers):
                there.cancel()
                back.cancel()
        self._writer.close()
        await self._writer.wait_closed()

    async def _ask(self, server: StreamWriter) -> None:
        while piece := await self._reader.read(_PIECE):
            server.write(piece)
            await server.drain()
        server.write_eof()

    async def _receive(self, server: StreamReader, answers: asyncio.Queue[tuple[float, bytes]]) -> None:
        now = asyncio.get_running_loop().time
        piece = b"-"
        while piece:
            piece = await server.read(_PIECE)
            await answers.put((now() + self._terms.delay, piece))

    async def _answer(self, answers: asyncio.Queue[tuple[float, bytes]]) -> bool:
        """Send the answers when they are due, until they end; True when they were cut."""
        now = asyncio.get_running_loop().time
        left = self._terms.cut_after if self._terms.fault == "cut" else None
        while True:
            due, piece = await answers.get()
            if due > now():
                await asyncio.sleep(due - now())
            if not piece:
                break
            await self._send(piece if left is None else piece[:left])
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    return True
        if self._terms.fault == "slow_close":
            await asyncio.sleep(self._terms.linger)
        self._writer.write_eof()
        return False

    async def _send(self, piece: bytes) -> None:
        bandwidth = self._terms.bandwidth
        size = len(piece) if bandwidth is None else max(1, int(bandwidth / _SLICES))
        for start in range(0, len(piece), size or 1):
            part = piece[start : start + size]
            self._writer.write(part)
            await self._writer.drain()
            if bandwidth is not None:
                await asyncio.sleep(len(part) / bandwidth)
