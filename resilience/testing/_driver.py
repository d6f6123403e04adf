"""Virtual time for an asyncio loop that is running already.

A loop asks its selector to wait until a socket is ready or the first timer is due. Here the selector does not wait: it
looks at the sockets, and if nothing has come, the loop comes to rest on the timeline until its first timer is due. With
`loop.time()` read from the same timeline, whatever is built on timers is virtual: `asyncio.sleep`, `call_later`,
`asyncio.timeout`. Two attributes of the loop and one of its selector are set, and taken away again afterwards; a timer
that is set then keeps the time that it had left.

Real messages are on their way for a while. After one has come through a socket, time does not jump until there was
silence for `SILENCE` seconds of real time.

A loop that can never go on, and one that never comes to rest, are told apart from slow ones and reported with the tasks
that wait: into the task that began virtual time, where the error is caught by the block, or else out of the loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio.selector_events import BaseSelectorEventLoop
from math import inf

from resilience.testing._bell import nobody
from resilience.testing._timeline import Stuck
from resilience.testing._whereabouts import awaited, lines_in_policies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sized
    from typing import Any

    from resilience.testing._timeline import Timeline

__all__ = ["Driver"]

SILENCE = 0.02
TURNS = 100_000


class Driver:
    """One asyncio loop on a timeline, from `attach` to `detach`."""

    def __init__(self, loop: Any, timeline: Timeline, task: asyncio.Task[Any] | None) -> None:
        self._loop = loop
        if not isinstance(loop, BaseSelectorEventLoop):
            raise RuntimeError(  # noqa: TRY004 - no argument is of the wrong type
                f"virtual time drives asyncio's own event loops, and {type(loop).__qualname__} is another: "
                "run this test on asyncio.SelectorEventLoop"
            )
        self.error: RuntimeError | None = None
        self.ends_block: Callable[[], None] = nobody
        self._timeline = timeline
        self._task = task
        self._undo: list[Callable[[], None]] = []
        self._selector: Any = self._loop._selector
        self._wake_fd: int = self._loop._ssock.fileno()
        self._watched: Sized = self._selector.get_map()
        self._really_select = self._selector.select
        self._heard = -inf
        self._turns = 0
        self._turned = timeline.now

    def attach(self) -> None:
        """Take the loop's time over. Called on the loop's thread."""
        self._shift_timers(self._timeline.now - self._loop.time())
        self._undo = [
            _set(self._loop, "time", lambda: self._timeline.now),
            _set(self._loop, "run_in_executor", self._run_in_executor(self._loop.run_in_executor)),
            _set(self._selector, "select", self._select),
            _set(self._loop, "close", self._close(self._loop.close)),
        ]

    def detach(self) -> None:
        """Give the loop its own time back. Called from any thread, once."""
        if self._loop.is_closed() or not self._loop.is_running() or asyncio._get_running_loop() is self._loop:
            self._give_back()
            return
        done = threading.Event()

        def give_back() -> None:
            self._give_back()
            done.set()

        self._loop.call_soon_threadsafe(give_back)
        done.wait(1.0)

    def leave(self, error: BaseException | None) -> None:
        """End the block that began in a task of this loop; `error` is what it ended with."""
        if self.error is not None and isinstance(error, asyncio.CancelledError) and self._task is not None:
            self._task.uncancel()

    def _give_back(self) -> None:
        for undo in self._undo:
            undo()
        if not self._loop.is_closed():
            self._shift_timers(self._loop.time() - self._timeline.now)

    def _shift_timers(self, seconds: float) -> None:
        for timer in self._loop._scheduled:
            timer._when += seconds

    def _close(self, really: Callable[[], None]) -> Callable[[], None]:
        def close() -> None:
            self.ends_block()  # a task that goes on through its cancellation never leaves the block
            really()

        return close

    def _run_in_executor(self, really: Callable[..., Any]) -> Callable[..., Any]:
        def run_in_executor(executor: Any, func: Callable[..., Any], *args: Any) -> Any:
            from concurrent.futures import ThreadPoolExecutor

            if executor is not None and not isinstance(executor, ThreadPoolExecutor):
                return really(executor, func, *args)
            known, back = self._timeline.hand_over(func)
            try:
                future = really(executor, known, *args)
            except BaseException:
                back(None)
                raise
            future.add_done_callback(back)
            return future

        return run_in_executor

    # --- the selector's wait ------------------------------------------------------------------------------------------

    def _select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        # The one descriptor that a loop watches for itself is how other threads wake it.
        alone = len(self._watched) <= 1
        busy = timeout is not None and timeout <= 0
        events = [] if busy and alone else self._listen(0.0)
        if events or busy:
            self._count_turn()
            return events
        self._turns = 0
        timers = self._loop._scheduled
        due = timers[0]._when if timers else inf
        silence = self._heard + SILENCE - time.monotonic()
        if silence > 0 and (events := self._listen(silence)):
            return events
        try:
            return self._timeline.rest(due, self._listen, self._loop._write_to_self, alone) or []
        except Stuck:
            self._report("nothing can run and no timer is set")
            return []

    def _listen(self, longest: float) -> list[tuple[Any, int]]:
        events: list[tuple[Any, int]] = self._really_select(longest)
        if any(key.fd != self._wake_fd for key, _ in events):
            self._heard = time.monotonic()
            self._turns = 0
        return events

    def _count_turn(self) -> None:
        if self._timeline.now != self._turned:
            self._turned, self._turns = self._timeline.now, 0
        self._turns += 1
        if self._turns > TURNS:
            self._turns = 0
            self._report(f"{TURNS:,} turns at one instant")

    def _report(self, reason: str) -> None:
        error = RuntimeError(f"virtual time stands still: {reason}. Waiting:\n{self._waiting()}")
        if self.error is None and self._task is not None and not self._task.done():
            self.error = error
            self._task.cancel("virtual time stands still")
        else:
            raise error

    def _waiting(self) -> str:
        lines: list[str] = []
        for task in sorted(asyncio.all_tasks(self._loop), key=lambda task: task.get_name()):
            frames = task.get_stack(limit=1)
            where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
            coroutine = task.get_coro()
            name = getattr(coroutine, "__qualname__", "?")
            lines.append(f"  {task.get_name()}: {name}{where}{awaited(coroutine)}")
        return "\n".join([*(lines or ["  no task at all"]), *lines_in_policies()])


def _set(target: object, name: str, value: object) -> Callable[[], None]:
    """Set an attribute of an instance, and return what leaves the instance as it was."""
    attributes = vars(target)
    own = name in attributes
    before: object = attributes.get(name)
    setattr(target, name, value)
    return lambda: setattr(target, name, before) if own else delattr(target, name)
