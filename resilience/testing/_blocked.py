"""In which system call a thread waits, so that it can be seen when it was woken.

A thread that was woken and has not had its turn yet stands on the same instruction as before, so Python cannot tell
it from one that still waits. Linux can: it names the call in which a thread waits, with its arguments. Elsewhere
nothing of the kind can be read, and a thread that was found to be away stays so until it comes to rest itself.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

__all__ = ["RUNNING", "waits_in"]

RUNNING = b"running\n"


def waits_in(thread: threading.Thread) -> bytes:
    """The system call in which a thread waits, or `RUNNING`; empty where nothing is known."""
    if thread.native_id is None:
        return b""
    try:
        file = os.open(f"/proc/self/task/{thread.native_id}/syscall", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 256)
    except OSError:
        return b""
    finally:
        os.close(file)
