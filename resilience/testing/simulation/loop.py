"""An event loop in which nothing takes time.

The simulator runs the policies themselves, bound to a coroutine as in a service, so that what it finds out is true of
them and not of a copy. They ask their runtime for tasks, futures, timers and cancellation, and asyncio's own tasks and
futures need very little of a loop: a queue of what can run and a heap of what will. Here is that much and no more. No
socket is watched and no thread can call in, so when the queue is empty, time is wherever the heap says next, and a
simulated second costs what happens in it.

Everything happens in one order, by time and then by the order in which it was asked for: with the dice seeded, a run
repeats exactly.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextvars import Context, copy_context
from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

__all__ = ["Loop", "LoopClock"]

TURNS = 1_000_000
"""Steps at one instant after which time is said to stand still."""


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
        self._due: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._serial: Iterator[int] = count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None

    # --- for whoever simulates ----------------------------------------------------------------------------------------

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back at a moment; cannot be cancelled, and is cheaper for it."""
        heapq.heappush(self._due, (when, next(self._serial), callback, args))

    def nap(self, seconds: float) -> asyncio.Future[None]:
        """Something to await for so long."""
        future = self.create_future()
        heapq.heappush(self._due, (self.now + seconds, next(self._serial), _rise, (future,)))
        return future

    def fail(self, error: BaseException) -> None:
        """End the run with an error, the first of them, as soon as the callback that runs is done."""
        self._error = self._error or error

    def run(self, until: float) -> None:
        """Let everything happen until that moment, itself included.

        Raises:
            RuntimeError: time stands still, for there is always something to do at once.
        """
        with _Running(self):
            self._run(until)

    def close(self) -> None:
        """Cancel every task and let them all end."""
        with _Running(self):
            for task in list(self._tasks):
                task.cancel()
            while self._tasks and (self._ready or self._due):
                self._run(self.now if self._ready else self._due[0][0])
        self._due.clear()

    def _run(self, until: float) -> None:
        ready, due, turns = self._ready, self._due, 0
        while True:
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
                    raise RuntimeError(
                        f"simulated time stands still at {self.now:g} s: something calls again and again without any "
                        "wait, such as a retry without a backoff and without a bound"
                    )
            if not due or due[0][0] > until:
                break
            when, _, callback, args = heapq.heappop(due)
            if when > self.now:
                self.now = when
                turns = 0
            callback(*args)
        self.now = max(self.now, until)

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
        heapq.heappush(self._due, (when, next(self._serial), timer.ring, ()))
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


class LoopClock:
    """The time of a loop as a `Clock`, for `clock=`."""

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
