"""Where a thread can be stopped: before every instruction of Python code.

The interpreter tells of each instruction before it runs it: from Python 3.12 on by `sys.monitoring`, before that by a
trace function. That is finer than what the GIL allows, and about as fine as what threads without one do. Some code is
passed over: the import system, the frozen parts of the standard library, `threading`, whose objects are taken to be
right, and the explorer itself.
"""

from __future__ import annotations

import dis
import sys
import threading
from _thread import get_ident
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any, Self

    Count = Callable[[CodeType, int], None]
    Trace = Callable[[FrameType, str, Any], Any]

__all__ = ["PASSED", "Watch", "importing"]

_HERE = Path(__file__).parent
_OURS = (
    "_cooperative.py",
    "_cooperative_turns.py",
    "_cooperative_trace.py",
    "interleave_threads.py",
    "interleave_runs.py",
)
PASSED = {threading.__file__, *(str(_HERE / name) for name in _OURS)}


class Watch:
    """Tells threads that ask for it of each of their instructions, inside a block.

    Args:
        gil: tell only of instructions before which an interpreter with a GIL looks whether another thread wants to run.
    """

    def __init__(self, *, gil: bool) -> None:
        self._counting = _counting_with_gil if gil else _counting
        self._counts: dict[int, Count] = {}
        self._monitoring: Any = getattr(sys, "monitoring", None)

    def start(self, step: Callable[[], None]) -> None:
        """Call `step` before each instruction of this thread."""
        count = self._counting(step)
        self._counts[get_ident()] = count
        if self._monitoring is None:
            sys.settrace(_tracer(count))

    def stop(self) -> None:
        """Do so no more."""
        self._counts.pop(get_ident(), None)
        if self._monitoring is None:
            sys.settrace(None)

    def __enter__(self) -> Self:
        if self._monitoring is not None:
            tools = [number for number in (4, 3, 1) if self._monitoring.get_tool(number) is None]
            if not tools:
                raise RuntimeError("sys.monitoring has no place left: another tool watches every instruction")
            self._tool = tools[0]
            instruction = self._monitoring.events.INSTRUCTION
            self._monitoring.use_tool_id(self._tool, "interleave")
            self._monitoring.register_callback(self._tool, instruction, self._tell)
            self._monitoring.set_events(self._tool, instruction)
        return self

    def __exit__(self, *_: object) -> None:
        if self._monitoring is not None:
            self._monitoring.set_events(self._tool, 0)
            self._monitoring.register_callback(self._tool, self._monitoring.events.INSTRUCTION, None)
            self._monitoring.free_tool_id(self._tool)

    def _tell(self, code: CodeType, offset: int) -> None:
        count = self._counts.get(get_ident())
        if count is not None and not _is_passed(code.co_filename):
            count(code, offset)


def _tracer(count: Count) -> Trace:
    def each(frame: FrameType, event: str, _: object) -> Trace:
        if event == "opcode":
            count(frame.f_code, frame.f_lasti)
        return each

    def enter(frame: FrameType, event: str, _: object) -> Trace | None:
        if event != "call" or _is_passed(frame.f_code.co_filename):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return each

    return enter


# --- what counts ------------------------------------------------------------------------------------------------------


def _counting(step: Callable[[], None]) -> Count:
    def count(_: CodeType, __: int) -> None:
        step()

    return count


def _counting_with_gil(step: Callable[[], None]) -> Count:
    looked = False

    def count(code: CodeType, offset: int) -> None:
        nonlocal looked
        starts, looks = _looks(code)
        if looked or offset in starts:
            step()
        looked = offset in looks

    return count


@lru_cache(4096)
def _looks(code: CodeType) -> tuple[frozenset[int], frozenset[int]]:
    """Where the interpreter looks: the offsets of what comes first in a function, and of what it looks after.

    After a call it looks if that ran C code; of a function in Python, it does so at the start and not at the end.
    """
    instructions = list(dis.get_instructions(code))
    starts = {after.offset for each, after in pairwise(instructions) if each.opname == "RESUME"}
    looks = {each.offset for each in instructions if each.opname.startswith("CALL") or "JUMP_BACKWARD" in each.opname}
    return frozenset(starts), frozenset(looks)


@lru_cache(4096)
def _is_passed(filename: str) -> bool:
    return filename in PASSED or filename.startswith("<frozen ") or "importlib" in Path(filename).parts


def importing() -> bool:
    """Whether the calling thread is inside an import, which holds locks that nobody can see."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
