"""A client that is used as it is, and bounded from outside.

A cluster client finds its nodes, follows their redirections and opens its own connections, in its own time. In plain
code nothing can cut it short, so it runs in a thread and is left behind when its time is up. The threads are kept, and
there are few of them: when all of them hang, so does the server, and whoever comes next hears it at once.
"""

from __future__ import annotations

import queue
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Borrowed", "BorrowedAsync"]

_MOST = 16


class Borrowed:
    """A client for plain code. Safe from any thread, if the client is."""

    __slots__ = ("_client", "_idle", "_jobs", "_lock", "_threads")

    def __init__(self, client: Any) -> None:
        self._client = client
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the threads: they are the parent's."""
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def send(self, until: float, *words: str | bytes) -> Any:
        """Send one command and return the answer by then, as `time.monotonic` reads.

        Raises whatever the driver does, or TimeoutError.
        """
        done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def job() -> None:
            try:
                done.put((self._client.execute_command(*words), None))
            except BaseException as error:
                done.put((None, error))

        with self._lock:
            if not self._idle:
                if self._threads >= _MOST:
                    raise TimeoutError(f"all {_MOST} threads wait for the server")
                self._threads += 1
                threading.Thread(target=self._work, daemon=True, name="resilience store").start()
            else:
                self._idle -= 1
        self._jobs.put(job)
        try:
            answer, error = done.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError("no answer in time") from None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return answer

    def _work(self) -> None:
        while True:
            self._jobs.get()()
            with self._lock:
                self._idle += 1

    def drop(self) -> None:
        """Leave the client's connections to it."""


class BorrowedAsync:
    """A client for asyncio. The caller bounds the time."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client

    def after_fork(self) -> None:
        """Leave the client's connections to it."""

    async def send(self, *words: str | bytes) -> Any:
        """Send one command and return the answer; raises whatever the driver does."""
        return await self._client.execute_command(*words)

    async def close(self) -> None:
        """Leave the client to whoever made it."""
