"""Locks that give way.

Where only one thread may run at a time, a thread that waits for a lock in the operating system would wait for ever: who
holds the lock is not allowed to run. These locks ask first. A thread that takes turns and finds its lock taken says so,
lets another one run, and tries again when it is its turn once more; so the explorer also knows who waits for what, and
sees a deadlock at once. For every other thread they are what they stand for, since each has a real lock inside: what
was built while exploring goes on working afterwards.

`swapped()` puts them in the place of `threading.Lock` and `threading.RLock`, in every module that has taken either by
name, and puts everything back.
"""

from __future__ import annotations

import sys
import threading
from _thread import allocate_lock, get_ident
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Protocol

    class Seat(Protocol):
        """The place of one thread among those that take turns."""

        def give_way(self, lock: CooperativeLock, timeout: float) -> bool:
            """Let others run until `lock` may be tried again; False when `timeout` is over instead."""
            ...


__all__ = ["SEATS", "CooperativeLock", "CooperativeRLock", "swapped"]

SEATS: dict[int, Seat] = {}
"""The threads that take turns, by identity."""


_BELOW = (__file__, threading.__file__)


class CooperativeLock:
    """Stands in for `threading.Lock`."""

    def __init__(self) -> None:
        self._real = allocate_lock()
        self.owner: int | None = None
        """The thread that took it last, if it is taken."""
        frame = sys._getframe(1)
        while frame.f_code.co_filename in _BELOW and frame.f_back is not None:
            frame = frame.f_back
        self.made = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `threading.Lock.acquire` does."""
        me = get_ident()
        seat = SEATS.get(me)
        if seat is None or not blocking:
            taken = self._real.acquire(blocking, timeout)
        else:
            taken = self._real.acquire(blocking=False)
            while not taken and seat.give_way(self, timeout):
                taken = self._real.acquire(blocking=False)
        if taken:
            self.owner = me
        return taken

    def release(self) -> None:
        """Free the lock, from any thread."""
        self.owner = None
        self._real.release()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._real.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self.owner = None
        self._real = allocate_lock()

    def __repr__(self) -> str:
        return f"<{'locked' if self.locked() else 'free'} lock made at {self.made}>"


class CooperativeRLock(CooperativeLock):
    """Stands in for `threading.RLock`."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, once more if this thread has it."""
        if self.owner != get_ident() and not super().acquire(blocking, timeout):
            return False
        self._count += 1
        return True

    def release(self) -> None:
        """Give it back once; only the thread that has it may."""
        if self.owner != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            super().release()

    # What a Condition asks of a lock that can be held more than once.

    def _is_owned(self) -> bool:
        return self.owner == get_ident()

    def _release_save(self) -> int:
        count, self._count = self._count, 1
        self.release()
        return count

    def _acquire_restore(self, count: int) -> None:
        self.acquire()
        self._count = count

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self._count = 0


def _allocate_lock() -> CooperativeLock:
    """Stands in for `_thread.allocate_lock`, which conditions use and newer versions tell from `threading.Lock`."""
    return CooperativeLock()


@contextmanager
def swapped() -> Generator[None, None, None]:
    """Replace the two kinds of lock, wherever they are known by name, until the block ends.

    A lock that was made before stays what it is. What a module has taken by name meanwhile is put back too.
    """
    places: list[tuple[Any, Any]] = [
        (allocate_lock, _allocate_lock),
        (threading.Lock, CooperativeLock),
        (threading.RLock, CooperativeRLock),
    ]
    _replace({id(real): (real, stand_in) for real, stand_in in places})
    try:
        yield
    finally:
        _replace({id(stand_in): (stand_in, real) for real, stand_in in places})


def _replace(by: dict[int, tuple[Any, Any]]) -> None:
    """Replace objects, found by their identity, in the globals of every module but those that live below threads."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("_thread", "importlib", __name__)):
            continue
        names: dict[str, Any] = getattr(module, "__dict__", {})
        # A hundred thousand globals are looked through; nearly all modules have neither.
        if by.keys().isdisjoint(map(id, list(names.values()))):
            continue
        for key, value in list(names.items()):
            if id(value) in by:
                names[key] = by[id(value)][1]
