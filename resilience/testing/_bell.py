"""What a thread that comes to rest in virtual time is woken by."""

from __future__ import annotations

import threading
from _thread import allocate_lock
from contextlib import suppress

__all__ = ["Bells", "nobody"]


class _Bell:
    """What an `Event` is used for here, as one bare lock: a thread sleeps a million times, and rings as often."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def wait(self, longest: float) -> None:
        """Wait until it rings. One that nobody has heard is heard by who waits next, who then looks once in vain."""
        self._lock.acquire(timeout=longest)

    def ring(self) -> None:
        """Wake who waits. Twice is as good as once."""
        with suppress(RuntimeError):
            self._lock.release()


class Bells(threading.local):
    """One bell for each thread that sleeps."""

    def __init__(self) -> None:
        self.of_this_thread = _Bell()


def nobody() -> None:
    """Nobody has to be woken."""
