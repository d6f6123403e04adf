"""Which event loop is this?

The library serves asyncio and trio and imports neither: whoever runs inside one has imported it already, so it is found
in `sys.modules`. A trio task is looked for first, because trio can run as a guest on top of an asyncio loop, while the
reverse needs a bridge (trio-asyncio) that itself says which of the two a task belongs to.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

__all__ = ["blocks_a_loop", "current_runtime", "is_cancellation"]


def current_runtime() -> Literal["asyncio", "trio"]:
    """Name the event loop that runs the calling task.

    Raises:
        RuntimeError: neither trio nor asyncio is running here.
    """
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            return "trio"
    if _asyncio_loop_runs():
        return "asyncio"
    raise RuntimeError(
        "no event loop is running here: await this inside an asyncio or a trio task, or use the sync form"
    )


def blocks_a_loop() -> bool:
    """Whether a blocking wait on this thread would stall an event loop."""
    try:
        current_runtime()
    except RuntimeError:
        return False
    return True


def _asyncio_loop_runs() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` is how asyncio or trio cancels a task; a group of them counts."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return True
    trio = sys.modules.get("trio")
    if trio is not None and isinstance(error, trio.Cancelled):
        return True
    # A nursery may collect the cancellation of one child beside the ordinary error of another.
    parts = _parts(error)
    return any(map(is_cancellation, parts)) and not any(map(_holds_exit, parts))


def _holds_exit(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit) or any(map(_holds_exit, _parts(error)))


def _parts(error: BaseException) -> tuple[BaseException, ...]:
    """The parts of a group that is more than an ordinary error."""
    group: Any = error
    if not isinstance(group, BaseExceptionGroup) or isinstance(group, Exception):
        return ()
    parts: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return parts
