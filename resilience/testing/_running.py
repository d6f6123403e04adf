"""Whether a thread that stands still would go on if there were a processor for it.

Where a thread stands says nothing about why. On a busy machine one that was just let go stays where it is for as long
as others have the processors, and looks like one that waits. The kernel knows better, and on Linux it says so.
"""

from __future__ import annotations

import threading
from pathlib import Path

__all__ = ["would_run"]

_THREADS = Path("/proc/self/task")


def would_run(thread: threading.Thread) -> bool:
    """Whether a thread waits for a processor or has one. False where that cannot be seen, or the thread is gone."""
    try:
        words = (_THREADS / str(thread.native_id) / "stat").read_bytes()
    except OSError:
        return False
    # The name of a thread comes before its state, in brackets, and may hold brackets itself.
    return words[words.rfind(b")") + 2 : words.rfind(b")") + 3] == b"R"
