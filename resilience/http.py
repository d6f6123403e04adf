"""HTTP meaning without I/O.

What a status line or a header says is the same for every client, so it is decided here, on plain strings, and imports no client.
"""

from __future__ import annotations

import math
import time

__all__ = ["parse_retry_after"]


def parse_retry_after(value: object, now: float | None = None) -> float | None:
    """Read a Retry-After header: seconds to wait, or None where it is no such thing.

    Both forms of RFC 9110, section 10.2.3: a number of seconds (a fraction is accepted, as some servers send one) and an HTTP date. A
    date that has passed is 0.0.

    Args:
        value: the header's value, as `str`, `bytes` or a number.
        now: the present in seconds since the epoch, for dates; the machine's wall clock by default.
    """
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return _parse_text(value.strip(), now)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _sane(value)
    return None


def _parse_text(text: str, now: float | None) -> float | None:
    if text[:1].isdigit():
        return _sane(float(text)) if text.isascii() and text.replace(".", "", 1).isdigit() else None
    from email.utils import mktime_tz, parsedate_tz

    try:
        parts = parsedate_tz(text)
        moment = None if parts is None else mktime_tz(parts)
    except (ValueError, OverflowError, TypeError):
        return None
    if moment is None:
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def _sane(seconds: float) -> float | None:
    try:
        number = float(seconds)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0.0 else None
