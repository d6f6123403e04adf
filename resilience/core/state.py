"""The words in which a circuit says what it is and what it did: its states, and the fates of a permit.

They stand apart from the machine that moves between them, since errors, events and status pages need the words alone.
"""

from __future__ import annotations

import enum

__all__ = ["CircuitState", "Settled"]


class CircuitState(enum.StrEnum):
    """The four states of a circuit; each is equal to its lower-case name."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"


class Settled(enum.Enum):
    """What became of a settled permit."""

    COUNTED = "counted"
    LATE = "late"
