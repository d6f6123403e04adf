"""What a virtual clock asks of an event loop: put a task to bed, wake it, and say when nothing else is left to do.

Both loops are asked in the same words, so the clock itself has no colour. The two answers differ:

- asyncio runs its callbacks in order and shows them in `_ready`. A callback that puts itself at the end of the queue
  each turn, and one turn finds the queue empty, knows that every task waits for something.
- trio says so itself (`wait_all_tasks_blocked`), but shuffles the tasks that it wakes in one go. So sleepers are woken
  one after the other, each by the one before.

What goes on outside the loop cannot be seen from inside: a reply on its way through a socket, work in another thread.
Where a loop has sockets or threads, it counts as idle once they were quiet for `GRACE` seconds of real time.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import suppress
from functools import cache
from importlib import import_module
from weakref import WeakKeyDictionary

from resilience._runtime import current_runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any, Protocol, TypeAlias

    # trio need not be installed, so its types are not named.
    Task: TypeAlias = Any
    Token: TypeAlias = Any
else:
    Protocol = object

__all__ = ["GRACE", "Bed", "Loop", "here"]

GRACE = 0.005


class Bed(Protocol):
    """Where one task sleeps, once."""

    async def sleep(self) -> None:
        """Suspend the calling task until `wake`."""
        ...

    def wake(self) -> None:
        """Let the task go on; from any thread, and harmless when it is gone. Tasks wake in the order of these calls."""
        ...


class Loop(Protocol):
    """A running event loop."""

    def bed(self) -> Bed:
        """A bed for the calling task."""
        ...

    def when_idle(self, ask: Callable[[], bool]) -> None:
        """Call `ask` on the loop each time that no task can go on, until it returns False."""
        ...


def here() -> Loop:
    """The loop that runs the calling task.

    Raises:
        RuntimeError: neither trio nor asyncio is running here.
    """
    return _trio_loop() if current_runtime() == "trio" else _asyncio_loop()


# --- asyncio ----------------------------------------------------------------------------------------------------------

_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, _AsyncioLoop] = WeakKeyDictionary()


def _asyncio_loop() -> _AsyncioLoop:
    running = sys.modules["asyncio"].get_running_loop()
    loop = _LOOPS.get(running)
    if loop is None:
        loop = _LOOPS[running] = _AsyncioLoop()
    return loop


class _AsyncioLoop:
    """Says when an asyncio loop is idle. It does not hold the loop, which it is kept beside."""

    def __init__(self) -> None:
        self._asking: list[Callable[[], bool]] = []
        self._busy_at = 0.0

    def bed(self) -> Bed:
        return _AsyncioBed(sys.modules["asyncio"].get_running_loop())

    def when_idle(self, ask: Callable[[], bool]) -> None:
        if not self._asking:
            self._busy_at = time.monotonic()
            sys.modules["asyncio"].get_running_loop().call_soon(self._turn)
        self._asking.append(ask)

    def _turn(self) -> None:
        loop: Any = sys.modules["asyncio"].get_running_loop()
        if self._is_idle(loop):
            self._asking = [ask for ask in self._asking if ask()]
            self._busy_at = time.monotonic()
        if self._asking:
            loop.call_soon(self._turn)

    def _is_idle(self, loop: Any) -> bool:
        now = time.monotonic()
        if getattr(loop, "_ready", None) or getattr(loop, "_stopping", False):
            self._busy_at = now
            return False
        selector = getattr(loop, "_selector", None)
        # A loop watches one descriptor of its own, which other threads wake it by.
        alone = selector is not None and len(selector.get_map() or ()) <= 1 and loop._default_executor is None
        return alone or now - self._busy_at > GRACE


class _AsyncioBed:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    async def sleep(self) -> None:
        await self._future

    def wake(self) -> None:
        if sys.modules["asyncio"]._get_running_loop() is self._loop:
            self._rise()
            return
        with suppress(RuntimeError):  # the loop is closed, and its tasks are gone
            self._loop.call_soon_threadsafe(self._rise)

    def _rise(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


# --- trio -------------------------------------------------------------------------------------------------------------


@cache
def _trio_loops() -> Any:
    return sys.modules["trio"].lowlevel.RunVar("resilience.testing")


def _trio_loop() -> _TrioLoop:
    loops = _trio_loops()
    loop: _TrioLoop | None = loops.get(None)
    if loop is None:
        loop = _TrioLoop()
        loops.set(loop)
    return loop


class _TrioLoop:
    """Says when a trio run is idle, and wakes its sleepers in order."""

    def __init__(self) -> None:
        self._asking: list[Callable[[], bool]] = []
        self._steps = self._last = 0
        self._rising: deque[Task] = deque()

    def bed(self) -> Bed:
        return _TrioBed(self)

    def when_idle(self, ask: Callable[[], bool]) -> None:
        if not self._asking:
            sys.modules["trio"].lowlevel.spawn_system_task(self._watch)
        self._asking.append(ask)

    async def _watch(self) -> None:
        lowlevel, testing = sys.modules["trio"].lowlevel, import_module("trio.testing")
        lowlevel.add_instrument(self)
        try:
            while self._asking:
                await testing.wait_all_tasks_blocked(self._cushion())
                # A test may wait for the same. Then it was woken in the same turn, and goes first.
                await lowlevel.checkpoint()
                if self._last == 1:
                    self._asking = [ask for ask in self._asking if ask()]
        finally:
            lowlevel.remove_instrument(self)

    def before_io_wait(self, _: float) -> None:
        """Begin to count the steps of a turn; trio calls this before each."""
        self._last, self._steps = self._steps, 0

    def before_task_step(self, _: Task) -> None:
        """Count a step; trio calls this before each step of any task."""
        self._steps += 1

    def _cushion(self) -> float:
        trio = sys.modules["trio"]
        io: Any = trio.lowlevel.current_statistics().io_statistics
        waiting = sum(getattr(io, f"tasks_waiting{kind}", 0) for kind in ("", "_read", "_write"))
        threads = trio.to_thread.current_default_thread_limiter().borrowed_tokens
        # One task always waits on a socket: trio's own, which other threads wake the run by.
        return GRACE if waiting > 1 or threads else 0.0

    def rise(self, task: Task) -> None:
        """Let a task go on after those that rise already."""
        self._rising.append(task)
        if len(self._rising) == 1:
            sys.modules["trio"].lowlevel.reschedule(task)

    def risen(self) -> None:
        """Let the next task go on; called by one that has just woken."""
        self._rising.popleft()
        if self._rising:
            sys.modules["trio"].lowlevel.reschedule(self._rising[0])

    def gone(self, task: Task) -> None:
        """Forget a task that was cancelled while others rose before it."""
        if task in self._rising:
            self._rising.remove(task)


class _TrioBed:
    def __init__(self, loop: _TrioLoop) -> None:
        lowlevel = sys.modules["trio"].lowlevel
        self._loop = loop
        self._token: Token = lowlevel.current_trio_token()
        self._task: Task = lowlevel.current_task()
        self._over = False

    async def sleep(self) -> None:
        lowlevel = sys.modules["trio"].lowlevel

        def abort(_: object) -> object:
            self._over = True
            self._loop.gone(self._task)
            return lowlevel.Abort.SUCCEEDED

        await lowlevel.wait_task_rescheduled(abort)
        self._loop.risen()

    def wake(self) -> None:
        lowlevel = sys.modules["trio"].lowlevel
        try:
            here = lowlevel.current_trio_token()
        except RuntimeError:
            here = None
        if here is self._token:
            self._rise()
            return
        with suppress(sys.modules["trio"].RunFinishedError):  # the run is over, and its tasks are gone
            self._token.run_sync_soon(self._rise)

    def _rise(self) -> None:
        if not self._over:
            self._over = True
            self._loop.rise(self._task)
