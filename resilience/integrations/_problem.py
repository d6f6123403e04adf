"""What a caller is told when a request is not served: a status, when to come back, and a problem document (RFC 9457).

A framework that knows nothing of policies answers 500 to all of them, which says that the service is broken and that
nobody knows for how long. Both are wrong: it is doing what it was told to do, and often knows to the second.

    Throttled                     429   it is the caller who should slow down
    every other Rejected          503   it is us, and it was not tried
    StoreUnavailable              503
    TimedOut                      504

An `AdaptiveThrottle` holds back on behalf of a service behind us, so what it refuses is a 503 as well. Every sentence
here is fixed. Nothing that a caller sent, and no name of what is behind us, is repeated, so there is nothing to inject
and nothing to learn. The names of limits, which callers are told, are cut down to printable ASCII.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from math import ceil, isfinite

from resilience.errors import Rejected, StoreUnavailable, Throttled, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from resilience.rates import Quota, Rate

__all__ = ["Problem", "limit_fields", "problem_of"]

_A_MOMENT = 1
"""Seconds to come back after, where nobody knows better."""
_LONGEST = 86_400 * 365
_LARGEST = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651)."""

_DETAILS = {
    429: "That is too much at once.",
    503: "This cannot be done at present.",
    504: "The time for this request is up.",
}


class Problem:
    """An answer that says why a request was not served. Immutable.

    Attributes:
        status: 429, 503 or 504.
        reason: what HTTP calls that status.
        headers: the fields of the answer, without the rate limit's.
        body: the document.
    """

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(self, status: int, retry_after: float | None) -> None:
        self.status = status
        self.reason = HTTPStatus(status).phrase
        document = {"type": "about:blank", "title": self.reason, "status": status, "detail": _DETAILS[status]}
        self.body = json.dumps(document).encode()
        self.headers = [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Retry-After", str(_whole_seconds(retry_after))),
        ]


def problem_of(error: BaseException) -> Problem | None:
    """The answer that an error stands for; None where it is none of ours.

    A group of errors has one when all of its leaves do: the first one's.
    """
    group: Any = error
    if isinstance(error, BaseExceptionGroup):
        found = [problem_of(each) for each in group.exceptions]
        return found[0] if all(found) else None
    if isinstance(error, Throttled):
        return Problem(503 if error.reason == "backend" else 429, error.retry_after)
    if isinstance(error, Rejected):
        return Problem(503, error.retry_after)
    if isinstance(error, StoreUnavailable):
        return Problem(503, None)
    return Problem(504, None) if isinstance(error, TimedOut) else None


def limit_fields(name: str, rate: Rate, quota: Quota) -> tuple[str, str]:
    """One member each of RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers).

    While nothing remains, `t` is the time until the next call passes, which is what a caller waits for; else until all
    of it is back.
    """
    label, policy = _policy(name, rate)
    after = quota.reset_after if quota.remaining >= 1.0 else quota.retry_after
    return policy, f"{label};r={_whole(quota.remaining, down=True)};t={_whole(after)}"


@lru_cache(maxsize=256)
def _policy(name: str, rate: Rate) -> tuple[str, str]:
    label = '"' + "".join(f"\\{c}" if c in '"\\' else c for c in name if " " <= c <= "~") + '"'
    window = max(1, _whole(rate.burst * rate.per / rate.amount))
    return label, f"{label};q={_whole(rate.burst, down=True)};w={window}"


def _whole_seconds(retry_after: float | None) -> int:
    if retry_after is None or not isfinite(retry_after):
        return _A_MOMENT
    return min(_LONGEST, max(_A_MOMENT, ceil(retry_after)))


def _whole(value: float, *, down: bool = False) -> int:
    if not value < _LARGEST:
        return _LARGEST
    return max(0, int(value) if down else ceil(value))
