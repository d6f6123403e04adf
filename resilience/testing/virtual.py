"""Virtual time for everything at once.

`VirtualClock` is for code that takes a clock. This is for the rest: a service whose policies were built at import, code
that calls `asyncio.sleep`, a library that sets its own timeouts. Inside the block no time passes but virtual time.

    async with virtual_time() as clock:
        await fetch_with_retries()      # a minute of backoff, in no time
    assert clock.sleeps == [1.0, 2.0, 4.0]

Every policy without a clock of its own reads one shared object, so swapping the functions inside it reaches all of
them, however long ago they were built. An asyncio loop is driven as a whole, timers included; trio brings a mock clock
of its own, which is followed; threads that sleep share one timeline (`_timeline.py`, `_driver.py`).

Afterwards nothing has happened: the clock is the machine's again, loops have their own time, and every policy that was
alive on entry has the state that it had then, whatever happened inside.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from functools import partial

from resilience._checks import seconds as checked
from resilience._hub import live
from resilience._runtime import current_runtime, is_cancellation
from resilience.clock import default
from resilience.testing._timeline import Timeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Any

    from resilience.clock import Clock
    from resilience.testing._driver import Driver
    from resilience.testing._follower import Follower

__all__ = ["Block", "VirtualTime", "virtual_time"]

_ONE_AT_A_TIME = threading.Lock()


def virtual_time() -> Block:
    """Make all time virtual inside a block.

        with virtual_time() as clock:       # or async with

    The clock starts at the machine's present reading and jumps whenever nobody could do anything before the next due
    time. It is one for the whole process and does not nest. Entered on an asyncio loop, it drives that loop; on trio,
    the run needs a mock clock: `trio.run(main, clock=trio.testing.MockClock())`. Entered before a loop runs, it takes
    over each loop in which a policy first sleeps. Other threads may sleep inside the block; the exit lets them go.

    When nothing can run and no timer is set, or 100,000 turns of a loop pass at one instant, the block ends with an
    error that names the tasks that wait.

    Raises:
        RuntimeError: virtual time is on already, the loop is not one that can be driven, or virtual time stood still.
    """
    return Block()


class VirtualTime:
    """The clock of a `virtual_time` block, a `Clock` like any other. Safe from any thread and event loop.

    Attributes:
        sleeps: the seconds of each sleep that a policy or this object has slept to its end, in the order of the ends.
    """

    def __init__(self, start: float) -> None:
        self.sleeps: list[float] = []
        self._timeline = Timeline(start)
        self._drivers: dict[asyncio.AbstractEventLoop, Driver] = {}
        self._follower: Follower | None = None
        self._whole: Driver | Follower | None = None

    def now(self) -> float:
        """The present reading, in seconds."""
        follower = self._follower
        return self._timeline.now if follower is None else follower.now()

    def advance(self, seconds: float | timedelta, /) -> None:
        """Move time by `seconds` at once, and let go whoever is due by then.

        Raises:
            TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
        """
        (self._follower or self._timeline).advance(checked("seconds", seconds, zero=True))

    def sleep(self, seconds: float | timedelta, /) -> None:
        """Block the calling thread until `seconds` have passed.

        Raises:
            TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
        """
        span = checked("seconds", seconds, zero=True)
        if self._follower is None:
            self._timeline.sleep(span)
        else:
            self._follower.advance(span)
        self.sleeps.append(span)

    @property
    def wakes(self) -> bool:
        """Whether a thread can be woken from its sleep at present, by what another thread does."""
        return self._follower is None and not self._timeline.over

    def wait(self, seconds: float, due: float, wait: Callable[[float], bool], poke: Callable[[], object]) -> None:
        """Block the calling thread until the reading `due`, which is a sleep of `seconds`, or until `wait` is True.

        Args:
            seconds: what to write down where it is slept to its end.
            due: when to go on; infinity for when somebody brings something.
            wait: really waits, at most so many seconds; not at all for 0.
            poke: makes `wait` come back; called from any thread.

        Raises:
            RuntimeError: virtual time stands still: there is nobody left who could bring it.
        """
        if not self._timeline.wait(wait, due, poke) and self.now() >= due:
            self.sleeps.append(seconds)

    def stir(self, thread: threading.Thread, poke: Callable[[], object]) -> None:
        """Say that a thread which waits was just brought what it waits for."""
        self._timeline.stir(thread, poke)

    async def sleep_async(self, seconds: float | timedelta, /) -> None:
        """Suspend the calling task, of asyncio or trio, until `seconds` have passed.

        Raises:
            RuntimeError: no event loop is running here, or not one that can be driven.
            TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
        """
        span = checked("seconds", seconds, zero=True)
        runtime = current_runtime()
        self._take_over(runtime)
        await sys.modules[runtime].sleep(span)
        self.sleeps.append(span)

    def _take_over(self, runtime: str, *, whole: bool = False) -> None:
        taken = self._follow(whole) if runtime == "trio" else self._drive(whole)
        if whole:
            self._whole = taken

    def _ends_with(self, end: Callable[[], None]) -> None:
        if self._whole is not None:
            self._whole.ends_block = end

    def _drive(self, whole: bool) -> Driver:
        asyncio = sys.modules["asyncio"]
        loop = asyncio.get_running_loop()
        if self._follower is not None:
            # The trio run is over, or it would be the one that runs here.
            self._timeline.now = self._follower.now()
            self._follower = None
        driver = self._drivers.get(loop)
        if driver is None:
            from resilience.testing._driver import Driver

            driver = Driver(loop, self._timeline, asyncio.current_task() if whole else None)
            driver.attach()
            self._drivers[loop] = driver
        return driver

    def _follow(self, whole: bool) -> Follower:
        clock = sys.modules["trio"].lowlevel.current_clock()
        if self._follower is not None and self._follower.clock is clock:
            return self._follower
        from resilience.testing._follower import Follower

        follower = Follower(self.now(), whole)
        follower.attach()
        self._follower = follower
        return follower

    def _give_back(self) -> None:
        self._timeline.close()
        while self._drivers:
            self._drivers.popitem()[1].detach()
        if self._follower is not None:
            self._follower.detach()


class Block:
    """What `virtual_time()` returns: enter it with `with` or with `async with`, once.

    A harness that brings the clock itself also looks after its policies itself: with `keep=False`, they are left alone.
    """

    def __init__(self, clock: VirtualTime | None = None, *, keep: bool = True) -> None:
        self._clock = clock
        self._keep = keep
        self._undo: list[Callable[[], None]] = []
        self._on = False

    def __enter__(self) -> VirtualTime:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            raise RuntimeError("virtual time is on already: it is one for the whole process, so it does not nest")
        clock = self._clock = self._clock or VirtualTime(time.monotonic())
        try:
            self._undo = [*(_keep_policies() if self._keep else ()), _point_default_at(default)]
            try:
                runtime = current_runtime()
            except RuntimeError:
                pass  # no loop runs here
            else:
                clock._take_over(runtime, whole=True)
                clock._ends_with(partial(self._end, clock))
            _point_default_at(clock)()
            self._on = True
        except BaseException:
            _ONE_AT_A_TIME.release()
            raise
        return clock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock, self._clock = self._clock, None
        if clock is None:
            raise RuntimeError("this block of virtual time was never entered, or left already")
        self._end(clock)
        if (whole := clock._whole) is not None:
            whole.leave(error)
            if whole.error is not None and (error is None or is_cancellation(error)):
                raise whole.error from None

    def _end(self, clock: VirtualTime) -> None:
        if not self._on:
            return
        self._on = False
        try:
            clock._give_back()
        finally:
            while self._undo:
                self._undo.pop()()
            _ONE_AT_A_TIME.release()

    async def __aenter__(self) -> VirtualTime:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _point_default_at(clock: Clock) -> Callable[[], None]:
    """What makes the shared clock read as `clock` reads now."""
    return partial(default.become, clock.now, clock.sleep, clock.sleep_async)


def _keep_policies() -> list[Callable[[], None]]:
    """What gives each policy that is alive now, and still is then, its present state."""
    undo: list[Callable[[], None]] = []
    for policy in list(live):
        freeze: Any = getattr(policy, "_freeze", None)
        if freeze is not None:
            undo.append(_thaw_later(weakref.ref(policy), freeze()))
    return undo


def _thaw_later(policy: weakref.ref[Any], state: object) -> Callable[[], None]:
    def thaw() -> None:
        alive = policy()
        if alive is not None:
            alive._thaw(state)

    return thaw
