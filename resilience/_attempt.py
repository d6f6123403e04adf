"""Which attempt is this?

A retry that runs inside another retry's attempt multiplies load, and the only defence is to know. The number of the attempt and how many
retries are around it travel in a context variable, so that an inner retry's events can tell its depth and an HTTP client can pass the
attempt number on to the next service.
"""

from __future__ import annotations

import contextvars

__all__ = ["current_attempt"]

current_attempt: contextvars.ContextVar[tuple[int, int] | None] = contextvars.ContextVar(
    "resilience_attempt", default=None
)
"""(number of the attempt, depth of the retry that makes it); None outside of any retry, or where nobody needs to know."""
