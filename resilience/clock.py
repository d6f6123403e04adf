"""Where time comes from.

Every policy reads time through a `Clock`, and every policy that was not given one reads it through the one object
below, `default`. The object is shared and never captured by value: a test that wants virtual time swaps the three
functions *inside* it, and policies that were built long before, wrappers already compiled included, follow at the next
call. That costs one attribute read, which is what reading `time.monotonic` from its module costs anyway.

Only differences of readings mean anything. The default is `time.monotonic`: a wall clock that is set back or forward by
a day changes no decision of any policy.
"""

from __future__ import annotations

import sys
import time

from resilience._runtime import current_runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Protocol

    from resilience.testing.virtual import VirtualTime
else:
    Protocol = object

__all__ = ["Clock", "SystemClock", "default", "is_machine", "virtual_of"]


class Clock(Protocol):
    """Monotonic time in seconds, and the two ways to let it pass.

    Any object with these three methods will do. They are called from any thread and from any event loop, never while a
    lock of ours is held. A reading that stands still or steps back is safe: no policy mints anything from it.
    """

    def now(self) -> float:
        """The present reading, in seconds from an arbitrary origin."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread for `seconds`."""
        ...

    async def sleep_async(self, seconds: float, /) -> None:
        """Suspend the calling task for `seconds`, under asyncio or trio."""
        ...


async def _sleep_async(seconds: float, /) -> None:
    await sys.modules[current_runtime()].sleep(seconds)


class SystemClock:
    """The machine's monotonic clock.

    The three functions are attributes of the instance, so that reading the time costs one attribute and one C call.
    Safe from any thread and event loop.
    """

    __slots__ = ("now", "sleep", "sleep_async")

    if TYPE_CHECKING:
        # As methods, for this is how the checkers compare them with those of `Clock`.
        def now(self) -> float: ...  # noqa: D102
        def sleep(self, seconds: float, /) -> None: ...  # noqa: D102
        async def sleep_async(self, seconds: float, /) -> None: ...  # noqa: D102

    def __init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        """Point the three functions at the machine's clock again."""
        self.become(time.monotonic, time.sleep, _sleep_async)

    def become(
        self,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        sleep_async: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        """Point the three functions elsewhere: every policy that was given no clock follows at its next reading."""
        for name, function in zip(self.__slots__, (now, sleep, sleep_async), strict=True):
            setattr(self, name, function)


default = SystemClock()
"""The clock of every policy that was given none."""


def is_machine(clock: Clock) -> bool:
    """Whether a clock is the machine's at present, so that waits of the operating system and of event loops agree with
    it.
    """
    return isinstance(clock, SystemClock) and clock.now is time.monotonic


def virtual_of(clock: Clock) -> VirtualTime | None:
    """The virtual time that this clock reads, where threads can be woken from their sleep in it."""
    sleeper: Any = getattr(clock.sleep, "__self__", None)
    wakes: bool = getattr(sleeper, "wakes", False)
    return sleeper if wakes else None
