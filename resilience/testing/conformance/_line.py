"""Waiters on an event loop: who stands in line, and in which order they come through.

Fairness and leaks are about callers that wait and go away, so they are checked with tasks. A script is played without
giving the loop a turn between its steps, but for those steps that do: so a place is granted in the very tick in which
its waiter is cancelled, as often as not.
"""

from __future__ import annotations

import asyncio

from resilience.testing.conformance._subject import own_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

__all__ = ["Waiter", "on_a_loop", "settle"]

TURNS = 12


def on_a_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function to its end on an asyncio loop of its own.

    Raises:
        RuntimeError: an event loop runs here.
    """
    with own_loop("async") as loop:
        if loop is not None:
            loop.run_until_complete(main())


async def settle() -> None:
    """Let everybody do what they can do without time passing."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Waiter:
    """A task that asks to come in.

    Attributes:
        name: its name in the script.
        cancelled: whether it was told to go away.
        task: the task.
    """

    __slots__ = ("cancelled", "name", "task")

    def __init__(self, name: str, ask: Callable[[], Awaitable[object]]) -> None:
        async def come() -> None:
            await ask()

        self.name = name
        self.cancelled = False
        self.task = asyncio.ensure_future(come())

    def cancel(self) -> None:
        """Tell it to go away."""
        self.cancelled = True
        self.task.cancel()

    @property
    def refused(self) -> BaseException | None:
        """What it raised, if it has ended in an error that is no cancellation."""
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None
