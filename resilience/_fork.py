"""Policies across `fork`.

A thread that holds a lock when another one forks is not there in the child, and neither is anybody to release it. So
all locks of all policies are taken before a fork, which also means that no state is copied half-written, and given back
on both sides. No lock of ours is ever held across a call to somebody else's code, so taking them cannot deadlock with a
well-behaved program; a signal handler that forks in the middle of one of our critical sections would, so the wait is
bounded and the child starts with fresh locks in any case.
"""

from __future__ import annotations

import os
import threading

from resilience._hub import HUB, live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from resilience.policies._base import Policy

    class Lock(Protocol):
        """Any of the locks of `threading`."""

        def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...
        def release(self) -> None: ...


_PATIENCE = 0.1
_held: list[Lock] = []
_policies: list[Policy[object]] = []


def _before() -> None:
    _policies[:] = list(live)
    locks: list[Lock] = [HUB.lock, *(policy._lock for policy in _policies)]
    _held.extend(lock for lock in locks if lock.acquire(timeout=_PATIENCE))


def _release() -> None:
    for lock in _held:
        lock.release()
    _held.clear()


def _in_parent() -> None:
    _release()
    _policies.clear()


def _in_child() -> None:
    _held.clear()
    HUB.lock = threading.RLock()
    for policy in _policies:
        policy._lock = threading.Lock()
        policy._channel.after_fork()
        policy._after_fork()
    _policies.clear()


def protect() -> None:
    """See to it, once for the process, that a fork finds no policy in the middle of something."""
    if _protected.acquire(blocking=False) and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


_protected = threading.Lock()
"""Taken by whoever comes first, and never given back."""
