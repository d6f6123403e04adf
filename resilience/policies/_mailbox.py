"""Waiting for what workers do, for so long.

The caller of a function that runs on a worker has two things to wait for, the end of the work and the end of its own
patience, whichever comes first. On the machine's clock that is one wait of the operating system. A clock of somebody's
own can only be read and slept on, and cannot be woken from: so its readings are looked at every now and then, and where
time stands still until somebody sleeps, which is how virtual clocks are, the caller sleeps once nothing else seems to
happen.

Virtual time for a whole process, `resilience.testing.virtual_time`, keeps a timeline on which threads come to rest and
from which they can be woken. There the wait is exact: the timeline knows that a worker is under way until its answer
has been read.
"""

from __future__ import annotations

import collections
import threading
from contextlib import suppress
from functools import partial
from math import inf

from resilience._runtime import blocks_a_loop
from resilience.clock import is_machine
from resilience.policies._outcome import outcome_of
from resilience.policies._workers import pool_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Protocol, Self

    from resilience.clock import Clock
    from resilience.policies._outcome import Outcome

    class Waits(Protocol):
        """A policy that waits for workers."""

        _warned: bool

        @property
        def name(self) -> str: ...


__all__ = ["Mailbox", "warn_on_a_loop"]

_GLANCE = 0.005
_PATIENCE = 20
"""So many glances at a clock that stands still, and it is taken to move only by a sleep."""


_NAP = 1.0
"""A signal that arrives just before the thread begins to wait does not end the wait; so no single one is longer."""


class Mailbox:
    """Where workers leave how calls ended, for the one thread that waits for it: `with Mailbox(clock) as mailbox`.

    On leaving, calls that no worker has begun are taken back, and what comes later is dropped.

    Args:
        clock: what the reader's patience is measured by.
    """

    __slots__ = ("_bell", "_clock", "_closed", "_items", "_orders", "_timeline")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timeline = None if is_machine(clock) else _timeline_of(clock)
        self._items: collections.deque[tuple[Outcome, Callable[[object], None]]] = collections.deque()
        self._orders: list[tuple[Callable[[], bool], Callable[[object], None]]] = []
        # No Event: that is Python code around a lock, which a KeyboardInterrupt to its waiter can leave held, and then
        # the worker that comes to ring would be lost.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for take_back, read in self._orders:
            take_back()
            read(None)
        self._orders.clear()
        self._items.clear()

    def order(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], runner: int = 0) -> None:
        """Have a worker call a function, in a copy of the caller's context, and leave here how it ended."""
        work = partial(outcome_of, fn, args, kwargs, runner, self._clock)
        known, read = (work, _nothing) if self._timeline is None else self._timeline.hand_over(work)

        def job() -> None:
            self._items.append((known(), read))
            self._ring()
            if self._closed:
                self._items.clear()

        try:
            self._orders.append((pool_here().submit(job), read))
        except BaseException:
            read(None)
            raise

    def get(self, until: float = inf) -> Outcome | None:
        """Take the oldest thing there is; None when nothing has come by the reading `until`."""
        while not self._items:
            if not self._wait(until):
                return None
        item, read = self._items.popleft()
        read(None)
        return item

    def _wait(self, until: float) -> bool:
        """Wait until there may be something; False where time is over."""
        clock = self._clock
        now = clock.now()
        if now >= until:
            return False
        if self._timeline is not None:
            found = bool(self._timeline.rest(until, self._listen, self._ring))
            if found or until < inf:
                return found
            # Virtual time is over, and nobody comes to rest in it any more.
        if until == inf or is_machine(clock):
            self._listen(until - now)
            return True
        for _ in range(_PATIENCE):
            if self._listen(min(until - now, _GLANCE)) or clock.now() != now:
                return True
        clock.sleep(until - now)
        return bool(self._items)

    def _listen(self, longest: float) -> bool:
        """Really wait, at most so many seconds; True where something has come."""
        self._bell.acquire(timeout=max(0.0, min(longest, _NAP)))
        return bool(self._items)

    def _ring(self) -> None:
        # It may be ringing already.
        with suppress(RuntimeError):
            self._bell.release()


def _nothing(_: object) -> None:
    """Nobody needs to know that it was read."""


def _timeline_of(clock: Clock) -> Any:
    """The timeline that a clock reads and sleeps on, where it has one."""
    sleeper = getattr(clock.sleep, "__self__", None)
    return None if getattr(sleeper, "_follower", None) is not None else getattr(sleeper, "_timeline", None)


def warn_on_a_loop(policy: Waits) -> None:
    """Say, once for a policy, that its callers wait for a worker on a thread that runs an event loop."""
    if policy._warned or not blocks_a_loop():
        return
    import warnings

    from resilience.errors import BlockingWarning
    from resilience.policies.retry import _frames_of_ours

    policy._warned = True
    warnings.warn(
        f"{policy.name} waits for a worker on a thread that runs an event loop: decorate an async def instead",
        BlockingWarning,
        stacklevel=_frames_of_ours() + 1,
    )
