"""Everything that can go wrong with a provider, each behind a switch.

    latency     seconds before each answer
    errors      the next N answers are errors, with `status` (503 unless set)
    throttled   every answer is a 429
    down        connections are cut without a word
    hang        connections stay open and nothing comes, until the switch is turned off
    drip        an answer begins and never ends: one byte of a header every 0.2 s
    skew        seconds by which the provider's clock is ahead
    paths       only these paths are hit, by prefix; empty for all

Rotations are no faults: keys change, and everything goes on. They are in `control.py`.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field, fields
from typing import Any

LONGEST_HANG = 120.0
"""Seconds after which even a hanging connection is dropped, so that no forgotten switch leaves a thread behind."""


@dataclass
class Faults:
    """The switches. `change` sets them from outside; `apply` is asked before each answer."""

    latency: float = 0.0
    errors: int = 0
    status: int = 503
    throttled: bool = False
    down: bool = False
    hang: bool = False
    drip: bool = False
    skew: float = 0.0
    paths: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        """Make what the switches need that is no switch."""
        self._lock = threading.Lock()
        self._changed = threading.Event()

    def change(self, wanted: dict[str, Any]) -> None:
        """Turn switches, and wake whoever hangs.

        Raises:
            ValueError: an unknown switch, or a value of the wrong kind. Nothing is turned then.
        """
        for name, value in wanted.items():
            if name not in _KINDS:
                raise ValueError(f"there is no switch {name!r}: there are {', '.join(_KINDS)}")
            if type(value) not in _KINDS[name]:
                raise ValueError(f"{name} takes a {_KINDS[name][0].__name__}, got {value!r}")
        for name, value in wanted.items():
            setattr(self, name, value)
        with self._lock:
            self._changed.set()
            self._changed = threading.Event()

    def clear(self) -> None:
        """Turn everything off."""
        self.change(Faults().as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The position of every switch."""
        return {name: getattr(self, name) for name in _KINDS}

    def hits(self, path: str) -> bool:
        """Whether `path` is one that faults apply to."""
        return not self.paths or path.startswith(tuple(self.paths))

    def wait_while(self, switch: str, pulse: float = LONGEST_HANG) -> bool:
        """Wait up to `pulse` seconds for a change; whether `switch` is still on."""
        with self._lock:
            changed = self._changed
        if getattr(self, switch):
            changed.wait(pulse)
        return bool(getattr(self, switch))

    def take_error(self) -> int | None:
        """The status to answer with instead, while errors are left."""
        with self._lock:
            if self.errors <= 0:
                return None
            self.errors -= 1
            return self.status


_KINDS: dict[str, tuple[type, ...]] = {
    name: (float, int) if kind is float else (kind,)
    for name, kind in ((f.name, type(getattr(Faults(), f.name))) for f in fields(Faults))
}


def cut(connection: socket.socket | None) -> None:
    """Close a connection in the middle of a request."""
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def drip(connection: socket.socket | None, faults: Faults) -> None:
    """Send a header, a byte at a time, for as long as the switch is on and somebody reads."""
    if connection is None:
        return
    gives_up = time.monotonic() + LONGEST_HANG
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while time.monotonic() < gives_up and faults.wait_while("drip", 0.2):
            connection.sendall(b".")
    except OSError:
        return
