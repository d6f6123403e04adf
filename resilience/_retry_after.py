"""The Retry-After header, which the matching of every policy reads, and so must not cost what all of HTTP would."""

from __future__ import annotations

import math
import time

__all__ = ["parse_retry_after", "sane_seconds"]


def parse_retry_after(value: object, now: float | None = None) -> float | None:
    """Read a Retry-After header: seconds to wait, or None where it is no such thing.

    Both forms of RFC 9110, section 10.2.3: a number of seconds (a fraction is accepted, as some servers send one) and
    an HTTP date in any of the three formats of section 5.6.7. A date that has passed is 0.0.

    Args:
        value: the header's value, as `str`, `bytes` or a number.
        now: the present in seconds since the epoch, for dates; the machine's wall clock by default.
    """
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    if isinstance(value, str):
        text = value.strip()
        return sane_seconds(text) if text[:1].isdigit() else _until(text, now)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _sane(value)
    return None


def sane_seconds(text: str) -> float | None:
    """A number of 0 or more in plain decimal digits, or None."""
    return _sane(float(text)) if text.isascii() and text.replace(".", "", 1).isdigit() else None


def _until(text: str, now: float | None) -> float | None:
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
        # The format of asctime() names no zone; all of HTTP's dates are in UTC.
        moment = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except Exception:  # what is raised for junk differs between versions of Python
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def _sane(seconds: float) -> float | None:
    try:
        number = float(seconds)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0.0 else None
