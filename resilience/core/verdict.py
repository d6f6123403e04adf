"""What a finished call says about the health of what was called.

There are only three answers, and the third is the one that libraries forget: a call may end without saying anything. A
caller who cancelled, a rejection by an inner policy, an error that is the caller's own fault: none of them is a success
that would clear a failure count, and none is a failure that would trip a breaker.
"""

from __future__ import annotations

import enum

__all__ = ["FAILURE", "IGNORED", "SUCCESS", "Verdict"]


class Verdict(enum.Enum):
    """The verdict on one finished call."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


SUCCESS = Verdict.SUCCESS
FAILURE = Verdict.FAILURE
IGNORED = Verdict.IGNORED
