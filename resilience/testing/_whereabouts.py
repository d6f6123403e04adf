"""Where threads and tasks stand: for finding out who still acts, and for telling who waits.

An error that says "nothing can run" sends its reader from one thread to the next. So it says where each of them waits,
in the code of whoever uses this package, and for which policy, where it waits inside one. That is read off the frames,
which costs nothing before there is something to tell.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

from resilience.policies._base import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import Any

__all__ = ["awaited", "frames_of_threads", "in_policy", "line_of", "lines_in_policies", "spot"]

_OURS = (f"{Path(__file__).parent.parent}{os.sep}", threading.__file__, "<resilience")
_BETWEEN = {"resilience", "threading", "asyncio", "trio", "outcome"}
"""Whose code stands between a policy that lets somebody wait and the wait itself."""

_ONE_PAUSES = threading.Lock()


def frames_of_threads() -> dict[int, FrameType]:
    """The frame of each thread, by its identifier.

    The frames are objects that may still have to be made, and where that sets off a collection of garbage, Python 3.11
    waits for a lock that it holds itself, for ever and with everybody else. Later versions collect between two
    instructions only.
    """
    if sys.version_info >= (3, 12):
        return sys._current_frames()
    with _ONE_PAUSES:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def spot(frame: FrameType | None) -> object:
    """Where a thread stands; never the same for one that is only just starting."""
    return object() if frame is None else (id(frame), frame.f_lasti)


def line_of(thread: threading.Thread, frame: FrameType | None) -> str:
    """A thread that waits, and where, in one line."""
    return f"  {thread.name}: {_place(frame)}{in_policy(_outwards(frame))}"


def lines_in_policies() -> list[str]:
    """A line for each thread that waits in a policy."""
    frames = frames_of_threads()
    standing = [(thread, frames.get(thread.ident or 0)) for thread in threading.enumerate()]
    del frames  # this frame is one of them
    here = threading.current_thread()
    return sorted(
        line_of(thread, frame) for thread, frame in standing if thread is not here and in_policy(_outwards(frame))
    )


def awaited(coroutine: Any) -> str:
    """For which policy a suspended coroutine waits, to be added to its line; empty where it waits for no policy."""
    return in_policy(reversed(list(_inwards(coroutine))))


def in_policy(frames: Iterable[FrameType]) -> str:
    """For which policy somebody waits whose frames these are, the innermost first."""
    for frame in frames:
        policy = frame.f_locals.get("self")
        if isinstance(policy, Policy):
            return f", waits in {policy.kind} {policy.name!r}"
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _BETWEEN:
            break
    return ""


def _place(frame: FrameType | None) -> str:
    """Where a thread stands, in words: in the code of those who use this package."""
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_qualname} at {frame.f_code.co_filename}:{frame.f_lineno}"


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _inwards(coroutine: Any) -> Iterator[FrameType]:
    while coroutine is not None:
        frame = _first(coroutine, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            yield frame
            coroutine = _first(coroutine, "cr_await", "gi_yieldfrom", "ag_await")
        else:
            # A step of an async generator, which is the only one that knows of which.
            coroutine = next((each for each in gc.get_referents(coroutine) if hasattr(each, "ag_await")), None)


def _first(coroutine: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(coroutine, name, None)) is not None), None)
