"""Policies across `fork`.

A thread that holds a lock when another one forks is not there in the child, and neither is anybody to release it. So
all locks of all policies are taken before a fork, which also means that no state is copied half-written, and given back
on both sides. No lock of ours is ever held across a call to somebody else's code, so taking them cannot deadlock with a
well-behaved program; a signal handler that forks in the middle of one of our critical sections would, so the wait is
bounded and the child starts with fresh locks in any case.

Several threads may fork at once, and each gives back what it took itself.
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


class _Fork:
    """One fork under way: the policies that there are, and the locks that were taken for it."""

    __slots__ = ("held", "policies")

    def __init__(self) -> None:
        self.held: list[Lock] = []
        self.policies: list[Policy[object]] = list(live)


_under_way: dict[int, list[_Fork]] = {}
"""By thread. There is more than one where a signal handler forks in the middle of a fork."""


def _before() -> None:
    fork = _Fork()
    _under_way.setdefault(threading.get_ident(), []).append(fork)
    locks: list[Lock] = [HUB.lock, *(policy._lock for policy in fork.policies)]
    for lock in locks:
        if lock.acquire(timeout=_PATIENCE):
            fork.held.append(lock)


def _ended() -> _Fork:
    forks = _under_way[threading.get_ident()]
    fork = forks.pop()
    if not forks:
        del _under_way[threading.get_ident()]
    return fork


def _in_parent() -> None:
    for lock in _ended().held:
        lock.release()


def _in_child() -> None:
    policies = _ended().policies
    _under_way.clear()
    HUB.lock = threading.RLock()
    for policy in policies:
        policy._lock = threading.Lock()
        policy._channel.after_fork()
        policy._after_fork()


def protect() -> None:
    """See to it, once for the process, that a fork finds no policy in the middle of something."""
    if _protected.acquire(blocking=False) and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


_protected = threading.Lock()
"""Taken by whoever comes first, and never given back."""
