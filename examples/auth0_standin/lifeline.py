"""A program that was started by another one, and ends with it.

The parent holds the writing end of the child's standard input and never writes. However the parent ends, the system
closes that end, and the child reads the end of its input. No signal has to arrive and no process id has to be
remembered.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn


def exit_on_sigterm(status: int = 0) -> None:
    """Leave on SIGTERM as on any other exit: through every `finally`, so that nothing is left behind."""

    def leave(_: int, __: FrameType | None) -> NoReturn:
        sys.exit(status)

    signal.signal(signal.SIGTERM, leave)


def end_with_the_parent() -> None:
    """Terminate this process, as by SIGTERM, when its standard input ends."""
    threading.Thread(target=_wait_for_the_end, name="lifeline", daemon=True).start()


def _wait_for_the_end() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
