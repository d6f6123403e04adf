"""Virtual time for a trio run: follow the mock clock that it was started with.

trio takes its clock from whoever starts the run, and has one for tests that jumps as soon as every task waits. So there
is nothing to drive here, only to read: the reading goes on from where it was when the run was found. What the mock
clock does not do is to notice that time stands still for good; an instrument counts the turns in which it did.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from math import inf

from resilience.testing._bell import nobody
from resilience.testing._timeline import PATIENCE
from resilience.testing._whereabouts import awaited, lines_in_policies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

__all__ = ["Follower"]

TURNS = 100_000


class Follower:
    """One trio run, from `attach` to `leave`; built in a task of it."""

    def __init__(self, now: float, whole: bool) -> None:
        trio = sys.modules["trio"]
        self.clock: Any = trio.lowlevel.current_clock()
        if not (hasattr(self.clock, "jump") and hasattr(self.clock, "autojump_threshold")):
            raise RuntimeError(
                "virtual time on trio follows a mock clock: trio.run(main, clock=trio.testing.MockClock())"
            )
        self.error: RuntimeError | None = None
        self.ends_block: Callable[[], None] = nobody
        self._lowlevel: Any = trio.lowlevel
        self._over: type[Exception] = trio.RunFinishedError
        self._token: Any = trio.lowlevel.current_trio_token()
        self._body: Any = trio.CancelScope() if whole else None
        self._offset = now - self.clock.current_time()
        self._threshold: float = self.clock.autojump_threshold
        self._turned: float = self.clock.current_time()
        self._turns = 0
        self._went_on = time.monotonic()

    def now(self) -> float:
        """The present reading, in seconds; from any thread."""
        reading: float = self._offset + self.clock.current_time()
        return reading

    def advance(self, seconds: float) -> None:
        """Move the run's time; from any thread."""
        self.clock.jump(seconds)
        with suppress(self._over):
            self._token.run_sync_soon(lambda: None)  # the run may wait for a thread: have it look at the time again

    def attach(self) -> None:
        """Have the clock jump by itself, and watch that it does."""
        if self._threshold == inf:
            self.clock.autojump_threshold = 0.0
        self._lowlevel.add_instrument(self)
        if self._body is not None:
            self._body.__enter__()

    def detach(self) -> None:
        """Leave the run as it was; from any thread."""
        with suppress(self._over):
            if self._is_here():
                self._give_back()
            else:
                self._token.run_sync_soon(self._give_back)

    def leave(self, error: BaseException | None) -> None:
        """End the block that began in this run; `error` is what it ended with."""
        if self._body is not None:
            self._body.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def _give_back(self) -> None:
        self.clock.autojump_threshold = self._threshold
        self._lowlevel.remove_instrument(self)

    def _is_here(self) -> bool:
        try:
            return self._lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    # --- standing still -----------------------------------------------------------------------------------------------

    def before_io_wait(self, timeout: float) -> None:
        """Count a turn; trio calls this once in each, with the seconds that it is about to wait."""
        if (now := self.clock.current_time()) != self._turned:
            self._turned, self._turns, self._went_on = now, 0, time.monotonic()
        elif timeout == 0:
            self._turns += 1
            if self.clock.autojump_threshold > 0:
                self._went_on = time.monotonic()
        still = time.monotonic() - self._went_on > PATIENCE
        if (self._turns > TURNS and (still or self._is_alone())) or (still and timeout > 0 and self._is_idle()):
            self._turns = 0
            self._report(
                "nothing can run and no timer is set" if self._is_idle() else f"{TURNS:,} turns at one instant"
            )

    def _is_idle(self) -> bool:
        statistics: Any = self._lowlevel.current_statistics()
        return not statistics.tasks_runnable and statistics.seconds_to_next_deadline == inf

    def _is_alone(self) -> bool:
        io: Any = self._lowlevel.current_statistics().io_statistics
        waiting = sum(getattr(io, f"tasks_waiting{kind}", 0) for kind in ("", "_read", "_write"))
        # One task always waits on a socket: trio's own, which other threads wake the run by.
        return waiting <= 1 and threading.active_count() == 1

    def _report(self, reason: str) -> None:
        error = RuntimeError(f"virtual time stands still: {reason}. Waiting:\n{self._waiting()}")
        if self._body is not None and self.error is None:
            self.error = error
            self._body.cancel()
        else:
            self._token.run_sync_soon(_raise, error)

    def _waiting(self) -> str:
        lines: list[str] = []
        for task in _family(self._lowlevel.current_root_task()):
            code = getattr(task.coro, "cr_code", None)
            if code is not None and "trio" not in code.co_filename.replace("\\", "/").split("/"):
                where = f"{code.co_filename}:{task.coro.cr_frame.f_lineno}"
                lines.append(f"  {task.name} at {where}{awaited(task.coro)}")
        return "\n".join([*(lines or ["  no task at all"]), *lines_in_policies()])


def _family(task: Any) -> Iterator[Any]:
    if task is not None:
        yield task
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                yield from _family(child)


def _raise(error: RuntimeError) -> NoReturn:
    raise error
