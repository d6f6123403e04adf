"""How many retries the calls of a service have earned.

Theory of operation
-------------------
A retry is an extra call, made at the moment when the other side can bear it least. A bound on the attempts of one call
does not bound their sum: with three attempts each, an outage triples the load, and three services in a row make it
twenty-seven. So the extra calls of *all* callers together are paid from one bucket of tokens.

    a call succeeds    + ratio          once for the call, however many attempts it took
    time passes        + per_second     each second, so that whoever calls rarely may retry too
    a retry, a hedge   - 1              refused where less than one token is left
    at most            capacity         which is also what it begins with

In any stretch of time, extra calls <= capacity + ratio * successes + per_second * seconds. When nothing succeeds any
more, that is the trickle alone: the retries stop by themselves just when they would do harm, and begin again with the
first successes.

The level is never counted up and down, since a tenth added ten times is not one. The bucket remembers the last moment
at which it was full, and what came and went since as whole numbers:

    level = capacity - spent + ratio * deposits + per_second * seconds        all three counted from that moment

so each reading is rounded once, and nothing accumulates. Only a withdrawal has to know the level, and between two
withdrawals it only rises; hence a deposit need not look at the time, and the bound at `capacity` may wait until then. A
deposit into a bucket that is full anyhow changes nothing: `short` says whether it would.

Time never runs backwards in here: a reading older than the newest one seen is raised to it.
"""

from __future__ import annotations

from math import inf

__all__ = ["Budget"]


class Budget:
    """One bucket: arithmetic without a clock or a lock.

    Not thread-safe by itself: a policy holds its lock around each method, unless threads take turns and the method is a
    straight line.

    Args:
        ratio: tokens that a successful call deposits, 0 or more.
        per_second: tokens that trickle in each second, 0 or more.
        capacity: the most tokens it holds, and what it begins with; 1 or more.

    Attributes:
        short: whether a deposit would count; False means that the bucket is full without it.
    """

    __slots__ = (
        "_deposits",
        "_full_at",
        "_full_deposits",
        "_latest",
        "_spent",
        "capacity",
        "per_second",
        "ratio",
        "short",
    )

    def __init__(self, ratio: float, per_second: float, capacity: float) -> None:
        self.ratio = ratio
        self.per_second = per_second
        self.capacity = capacity
        self.short = False
        # Whole numbers, as floats: mixed arithmetic is slower, and they are exact up to 2**53 calls.
        self._deposits = 0.0
        self._spent = 0.0
        self._full_deposits = 0.0
        self._full_at = 0.0
        self._latest = -inf

    def deposit(self) -> None:
        """Add what one successful call has earned. A straight line without a call, as `withdraw` is."""
        if self.short:
            self._deposits += 1.0
            self.short = (self._deposits - self._full_deposits) * self.ratio < self._spent

    def withdraw(self, now: float) -> bool:
        """Take one token; False, and no change, where there is none.

        A straight line without a call: where threads take turns, none comes in between.
        """
        if now > self._latest:
            self._latest = now
        earned = (self._deposits - self._full_deposits) * self.ratio + (self._latest - self._full_at) * self.per_second
        level = self.capacity - self._spent + earned
        if self._spent == 0.0 or level >= self.capacity:
            self._spent = 0.0
            self._full_deposits = self._deposits
            self._full_at = self._latest
        elif level < 1.0:
            return False
        self._spent += 1.0
        if self.ratio > 0.0:
            self.short = True
        return True

    def level(self, now: float) -> float:
        """The tokens in the bucket, from 0 to `capacity`."""
        if now > self._latest:
            self._latest = now
        earned = (self._deposits - self._full_deposits) * self.ratio + (self._latest - self._full_at) * self.per_second
        level = self.capacity - self._spent + earned
        return min(max(0.0, level), self.capacity) if self._spent else self.capacity
