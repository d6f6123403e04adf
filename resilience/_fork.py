"""Policies across `fork`.

A thread that holds a lock when another one forks is not there in the child, and neither is anybody to release it. So all locks of all
policies are taken before a fork, which also means that no state is copied half-written, and given back on both sides. No lock of ours is
ever held across a call to somebody else's code, so taking them cannot deadlock with a well-behaved program; a signal handler that forks
in the middle of one of our critical sections would, so the wait is bounded and the child starts with fresh locks in any case.
"""

from __future__ import annotations

import os
import threading

from resilience._hub import HUB, live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.policies._base import Policy

_PATIENCE = 0.1
_held: list[threading.Lock] = []
_policies: list[Policy[object]] = []


def _before() -> None:
    _policies[:] = list(live)
    for lock in (HUB.lock, *(policy._lock for policy in _policies)):
        if lock.acquire(timeout=_PATIENCE):
            _held.append(lock)


def _release() -> None:
    for lock in _held:
        lock.release()
    _held.clear()


def _in_parent() -> None:
    _release()
    _policies.clear()


def _in_child() -> None:
    _held.clear()
    HUB.lock = threading.Lock()
    for policy in _policies:
        policy._lock = threading.Lock()
        policy._channel.after_fork()
        policy._after_fork()
    _policies.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
