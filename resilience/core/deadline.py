"""Moments on a monotonic clock.

A deadline is a moment, not a duration: a duration starts again in every function that it is handed to, a moment does
not. Everything here is one line; it stands apart so that the one rule that matters, *a wait that would end at the
deadline is already too long*, is written once. Work that starts at its deadline has no time to run, so the comparison
is strict.
"""

from __future__ import annotations

from math import inf

__all__ = ["ends_at", "fits"]


def ends_at(now: float, seconds: float | None) -> float:
    """The moment `seconds` after `now`; without a bound, never."""
    return inf if seconds is None else now + seconds


def fits(delay: float, left: float) -> bool:
    """Whether a wait of `delay` seconds ends while there is time left to work, where `left` seconds are left now."""
    return delay < left
