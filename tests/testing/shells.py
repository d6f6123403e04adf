"""What every exploration of one of our own policies needs: callers, a way to take its lock away, and what is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilience.testing import VirtualClock
from resilience.testing.interleave_threads import InterleavingError, interleave

__all__ = ["NoLock", "Use", "found"]


def found(*callables: Callable[..., object], **options: Any) -> InterleavingError:
    """The failure that an exploration of at most 1,000 runs ends with."""
    with pytest.raises(InterleavingError) as caught:
        interleave(*callables, runs=1_000, **options)
    return caught.value


class NoLock:
    """What a policy has if somebody forgets its lock."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def locked(self) -> bool:
        return False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take nothing, as before a fork."""
        return True

    def release(self) -> None:
        """Give nothing back."""


class Use:
    """Three callers at once of a policy that has room for fewer."""

    room = 1

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.policy = self.build()
        self.inside = 0
        self.most = 0
        self.granted: list[None] = []

    def build(self) -> Any:
        raise NotImplementedError

    def unlock(self) -> Any:
        self.policy._lock = NoLock()
        return self

    def body(self) -> None:
        # Two calls can only be seen together if each leaves the other the time to come.
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.policy.snapshot()
        self.inside -= 1

    def call(self) -> None:
        raise NotImplementedError

    def kept(self) -> bool:
        return len(self.granted) == self.room
