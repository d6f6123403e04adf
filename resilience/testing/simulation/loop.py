"""An event loop in which nothing takes time.

The simulator runs the policies themselves, bound to a coroutine as in a service, so that what it finds out is true of
them and not of a copy. Some ask their runtime for tasks, futures, timers and cancellation, and asyncio's own tasks and
futures need very little of a loop: a queue of what can run and a heap of what will. Here is that much and no more. No
socket is watched and no thread can call in, so when the queue is empty, time is wherever the heap says next, and a
simulated second costs what happens in it. What needs no task has the heap alone, which is the cheapest way there is.

Everything happens in one order, by time and then by the order in which it was asked for: with the dice seeded, a run
repeats exactly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager
    from typing import Any, TypeAlias

    Event: TypeAlias = tuple[float, float, Callable[[Any], object] | None, Any]
    """When, in which order, and what to call with what."""

__all__ = ["Loop", "LoopClock", "Time"]

TURNS = 1_000_000
"""Steps at one instant after which time is said to stand still."""

LAST = inf
"""After every number in a row."""


class Timer:
    """What `call_later` gives back: something to cancel."""

    __slots__ = ("_args", "_callback", "_context", "_when")

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._when = when
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context

    def cancel(self) -> None:
        """Never ring."""
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled, or has rung."""
        return self._callback is None

    def when(self) -> float:
        """The reading at which it rings."""
        return self._when

    def ring(self) -> None:
        """Call back, unless cancelled."""
        callback, args = self._callback, self._args
        if callback is not None:
            self.cancel()
            self._context.run(callback, *args)


class Loop:
    """As much of an event loop as tasks and futures use, on virtual time. For one thread."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: deque[tuple[Context | None, Callable[..., object], tuple[Any, ...]]] = deque()
        self.due: list[Event] = []
        self.serial: Callable[[], int] = count().__next__
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None

    # --- for whoever simulates ----------------------------------------------------------------------------------------

    def at(self, when: float, callback: Callable[[Any], object], argument: object = None) -> None:
        """Call back at a moment, with that argument; cannot be cancelled, and is cheaper for it."""
        heappush(self.due, (when, self.serial(), callback, argument))

    def nap(self, seconds: float) -> asyncio.Future[None]:
        """Something to await for so long."""
        future = self.create_future()
        heappush(self.due, (self.now + seconds, self.serial(), _rise, future))
        return future

    def fail(self, error: BaseException) -> None:
        """End the run with an error, the first of them, as soon as the callback that runs is done."""
        self._error = self._error or error

    def run(self, until: float) -> None:
        """Let everything happen until that moment, itself included.

        Raises:
            RuntimeError: time stands still, for there is always something to do at once.
        """
        with self.running():
            self.play(until)

    def running(self) -> AbstractContextManager[object]:
        """A block in which this is the running loop, for `play`."""
        return _Running(self)

    def play(self, until: float) -> None:
        """Do what `run` does, in a block of `running`."""
        ready, due, now, turns = self._ready, self.due, self.now, 0
        # What is due last at that moment, and no callback, says that the moment is over.
        end: Event = (until, LAST, None, None)
        heappush(due, end)
        try:
            while True:
                if ready:
                    self._catch_up()
                when, _, callback, argument = heappop(due)
                if when > now:
                    self.now = now = when
                    turns = 0
                else:
                    turns += 1
                    if turns > TURNS:
                        raise self._stands_still()
                if callback is None:
                    break
                callback(argument)
        finally:
            if end in due:
                due.remove(end)
                heapify(due)

    def close(self) -> None:
        """Cancel every task and let them all end, which takes them as long as it does."""
        with self.running():
            for task in list(self._tasks):
                task.cancel()
            while self._tasks and (self._ready or self.due):
                self.play(self.now if self._ready else self.due[0][0])
        self.due.clear()

    def _catch_up(self) -> None:
        """Do all that is to be done at once, and what comes of it."""
        ready, turns = self._ready, 0
        while ready:
            context, callback, args = ready.popleft()
            if context is None:
                callback(*args)
            else:
                context.run(callback, *args)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            turns += 1
            if turns > TURNS:
                raise self._stands_still()

    def _stands_still(self) -> RuntimeError:
        return RuntimeError(
            f"simulated time stands still at {self.now:g} s: something calls again and again without any wait, such as "
            "a retry without a backoff and without a bound"
        )

    # --- what tasks and futures ask of a loop -------------------------------------------------------------------------

    def time(self) -> float:
        """The present reading."""
        return self.now

    def get_debug(self) -> bool:
        """Whether to keep tracebacks of where everything was made: no."""
        return False

    def is_running(self) -> bool:
        """Whether it runs right now."""
        running: object = asyncio._get_running_loop()
        return running is self

    def is_closed(self) -> bool:
        """Whether it is of no more use: never."""
        return False

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        loop: Any = self
        return asyncio.Future(loop=loop)

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        """Run a coroutine as a task of this loop."""
        loop: Any = self
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        """Call back in this instant, after what is due already."""
        self._ready.append((context, callback, args))

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        """Call back at a moment, unless the timer is cancelled before."""
        timer = Timer(when, callback, args, copy_context() if context is None else context)
        heappush(self.due, (when, self.serial(), Timer.ring, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        """Call back after so many seconds, unless the timer is cancelled before."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Take an error that nobody has asked for: it ends the run."""
        self.fail(context.get("exception") or RuntimeError(context.get("message")))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The same."""
        self.call_exception_handler(context)


def _rise(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Time:
    """The time of a loop as a `Clock`, but for how a call sleeps."""

    __slots__ = ("_loop",)

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def now(self) -> float:
        """The present reading, in seconds."""
        return self._loop.now

    def sleep(self, seconds: float, /) -> None:
        """Refuse: one thread simulates everybody, so nobody may block it.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a policy would block the simulation; in it every call is asynchronous")


class LoopClock(Time):
    """The time of a loop as a `Clock`, for `clock=`, where calls are tasks."""

    __slots__ = ()

    async def sleep_async(self, seconds: float, /) -> None:
        """Suspend the calling task for `seconds`."""
        await self._loop.nap(seconds)


class _Running:
    """Makes a loop the running one, also where another runs already, and gives that one its place back."""

    __slots__ = ("_before", "_loop", "_task")

    def __init__(self, loop: Loop) -> None:
        self._loop: Any = loop

    def __enter__(self) -> None:
        self._before = asyncio._get_running_loop()
        self._task = None if self._before is None else asyncio.current_task()
        if self._before is not None and self._task is not None:
            asyncio.tasks._leave_task(self._before, self._task)
        asyncio._set_running_loop(self._loop)

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(self._before)
        if self._before is not None and self._task is not None:
            asyncio.tasks._enter_task(self._before, self._task)
