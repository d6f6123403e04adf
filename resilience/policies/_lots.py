"""Where tasks sleep: the lots of event loops.

See `resilience.policies._waiting` for what a lot is. An asyncio loop under the machine's clock has a timer of its own
and its waiters await a bare future each. In a trio run, and under a clock that only its own `sleep_async` can tell, a
leader keeps the time: it sleeps until the alarm or until it is woken, whichever comes first. The race needs a child
task where the clock is not the runtime's own; it lives no longer than that one sleep.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from math import inf

from resilience._runtime import current_runtime
from resilience.clock import is_machine
from resilience.policies._waiting import Led, Lot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.policies._waiting import Owner, Parked

__all__ = ["AsyncioLot", "lot_for_task", "wake_all"]


def lot_for_task(owner: Owner) -> AsyncioLot | LedTasks:
    """The lot of the event loop that runs the calling task.

    Raises:
        RuntimeError: neither trio nor asyncio is running here.
    """
    loop: object
    kind: type[AsyncioLot | LedTasks]
    # Which loop runs here is a system call on some Pythons, so it is asked once where that is enough.
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None or "trio" in sys.modules else asyncio._get_running_loop()
    if loop is None and current_runtime() == "trio":
        loop, kind = sys.modules["trio"].lowlevel.current_trio_token(), TrioLot
    else:
        loop = loop or sys.modules["asyncio"].get_running_loop()
        kind = AsyncioLot if is_machine(owner._clock) else ClockedAsyncioLot
    lot = owner._lots.get((loop, kind))
    return lot if isinstance(lot, _FOR_TASKS) else kind(owner, (loop, kind), threading.get_ident())


class _OnAsyncio(Lot):
    """What lots on an asyncio loop have in common. A bed is a future."""

    __slots__ = ()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self.runtime[0]
        return loop

    def make_bed(self, waiter: Parked) -> None:
        waiter.bed = self.loop.create_future()

    def wake(self, waiter: Parked) -> bool:
        if self.is_here():
            _rise(waiter.bed)
            return True
        try:
            self.loop.call_soon_threadsafe(_rise, waiter.bed)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def is_here(self) -> bool:
        """Whether the caller runs on this very loop."""
        return sys.modules["asyncio"]._get_running_loop() is self.loop


def wake_all(waiters: Sequence[Parked]) -> list[Parked]:
    """Wake some; returns those whose runtime is gone. From any thread, without the lock."""
    asyncio = sys.modules.get("asyncio")
    here = None if asyncio is None or not waiters else asyncio._get_running_loop()
    lost: list[Parked] = []
    near: Lot | None = None
    for waiter in waiters:
        lot = waiter.lot
        if lot is not near:
            if here is None or not isinstance(lot, AsyncioLot) or lot.runtime[0] is not here:
                if not lot.wake(waiter):
                    lost.append(waiter)
                continue
            near = lot
        # What `AsyncioLot.rouse` does, since there may be many.
        lot.members.pop(waiter, None)
        bed = waiter.bed
        if not bed.done():
            bed.set_result(None)
    return lost


def _rise(bed: asyncio.Future[None], _: object = None) -> None:
    if not bed.done():
        bed.set_result(None)


class AsyncioLot(_OnAsyncio):
    """The tasks of one asyncio loop under the machine's clock, with one timer.

    Who is woken is a member no more, so it needs no lock to go, but for the last. Whoever undoes waiters of a loop that
    is gone holds the lock, and sees this one still there or closes the lot.

    Attributes:
        grain: the least seconds for which a timer is set, so that those who are due almost at once go together.
        running: tells which loop runs here.
        spread: makes a bed.
    """

    __slots__ = ("_timer", "grain", "running", "spread")

    def __init__(self, owner: Owner, runtime: Any, thread: int | None) -> None:
        super().__init__(owner, runtime, thread)
        self._timer: asyncio.TimerHandle | None = None
        self.grain = 0.0
        self.running: Callable[[], object] = sys.modules["asyncio"]._get_running_loop
        self.spread: Callable[[], Any] = _maker_of_futures(self.loop)

    def wake(self, waiter: Parked) -> bool:
        """Wake one."""
        if self.is_here():
            self.rouse(waiter)
            return True
        try:
            self.loop.call_soon_threadsafe(self.rouse, waiter)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def rouse(self, waiter: Parked) -> None:
        """Wake one, in its own loop."""
        self.members.pop(waiter, None)
        _rise(waiter.bed)

    async def sleep(self, waiter: Parked) -> None:
        """Sleep until the wait has ended."""
        await waiter.bed

    def leave(self, waiter: Parked) -> Parked | None:
        """Let one go, and the timer with the last."""
        super().leave(waiter)
        if not self.members and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.armed = inf
        return None

    def arm(self, when: float) -> None:
        """Set the timer, if it is not set for an earlier time."""
        if self.is_here():
            self._set(when)
            return
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._set, when)

    def _set(self, when: float) -> None:
        if when >= self.armed or not self.members:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.armed = when
        self._timer = self.loop.call_later(max(self.grain, when - self.owner._clock.now()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.armed = inf
        self.owner._pump()


def _maker_of_futures(loop: asyncio.AbstractEventLoop) -> Callable[[], Any]:
    """What makes a future of a loop; where that is all that the loop does, without asking it."""
    asyncio = sys.modules["asyncio"]
    if type(loop).create_future is asyncio.BaseEventLoop.create_future:
        return partial(asyncio.Future, loop=loop)
    return loop.create_future


class LedTasks(Led):
    """Tasks that keep the time themselves."""

    __slots__ = ()

    async def sleep(self, waiter: Parked) -> None:
        """Sleep until the wait has ended."""
        while (span := self.watch(waiter)) is not None:
            await self.rest(waiter.bed, span)
            self.make_bed(waiter)

    async def rest(self, bed: Any, span: float) -> None:
        """Sleep for `span` seconds or until woken."""
        raise NotImplementedError


class ClockedAsyncioLot(_OnAsyncio, LedTasks):
    """The tasks of one asyncio loop under a clock of their own."""

    __slots__ = ()

    async def rest(self, bed: asyncio.Future[None], span: float) -> None:
        """Sleep for `span` seconds or until woken."""
        if span == inf:
            await bed
            return
        nap = self.loop.create_task(_nap(self.owner, span))
        nap.add_done_callback(lambda _: _rise(bed))
        try:
            await bed
        except GeneratorExit:
            # Whoever is thrown away awaits nothing any more, and its loop may be gone.
            with suppress(RuntimeError):
                nap.cancel()
            raise
        except BaseException:
            await self._end(nap)
            raise
        await self._end(nap)
        if not nap.cancelled():
            nap.result()

    @staticmethod
    async def _end(nap: asyncio.Task[None]) -> None:
        nap.cancel()
        await sys.modules["asyncio"].wait([nap])


class TrioLot(LedTasks):
    """The tasks of one trio run. A bed is an event."""

    __slots__ = ()

    @property
    def token(self) -> Any:
        """What runs something in this trio run."""
        return self.runtime[0]

    def make_bed(self, waiter: Parked) -> None:
        """Prepare for `waiter` to sleep."""
        waiter.bed = sys.modules["trio"].Event()

    def wake(self, waiter: Parked) -> bool:
        """Wake one."""
        trio = sys.modules["trio"]
        if threading.get_ident() == self.thread:
            with suppress(RuntimeError):  # no trio runs here at the moment
                if trio.lowlevel.current_trio_token() is self.token:
                    waiter.bed.set()
                    return True
        try:
            self.token.run_sync_soon(waiter.bed.set)
        except trio.RunFinishedError:
            return False
        return True

    async def rest(self, bed: Any, span: float) -> None:
        """Sleep for `span` seconds or until woken."""
        trio = sys.modules["trio"]
        if span == inf:
            await bed.wait()
        elif is_machine(self.owner._clock):
            with trio.move_on_after(span):
                await bed.wait()
        else:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_nap, self.owner, span, bed.set)
                    await bed.wait()
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                # That there was a nursery is nobody's concern: a cancellation arrives bare, and so does an error of
                # the clock.
                raise group.exceptions[0] from None


async def _nap(owner: Owner, span: float, then: Any = None) -> None:
    await owner._clock.sleep_async(span)
    if then is not None:
        then()


_FOR_TASKS = (AsyncioLot, LedTasks)
