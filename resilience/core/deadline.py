"""Moments on a monotonic clock.

A deadline is a moment, not a duration: a duration starts again in every function that it is handed to, a moment does not. Everything
here is one line; it stands apart so that the one rule that matters, *a wait that would end at the deadline is already too long*, is
written once. Work that starts at its deadline has no time to run, so the comparison is strict.
"""

from __future__ import annotations

__all__ = ["ends_at", "fits", "remaining"]


def ends_at(now: float, seconds: float) -> float:
    """The moment `seconds` after `now`."""
    return now + seconds


def remaining(deadline: float, now: float) -> float:
    """Seconds left until `deadline`, never below zero."""
    return max(0.0, deadline - now)


def fits(delay: float, left: float | None) -> bool:
    """Whether a wait of `delay` seconds ends while there is time left to work; None means no deadline."""
    return left is None or delay < left
