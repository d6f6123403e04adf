"""Every decision of a throttle in one place: who takes now, who waits, who is told when to come back.

The desk is what a throttle is without a clock, a lock and a way to wake anybody. A claim that comes is first put
behind those heads of its line whose turn has come, so no caller profits from a timer that is late. Whatever a step
did to others, whose wait has ended by it, is left in `ended` for somebody to take away and wake; when the desk wants
to be looked at again, at the latest, is its `alarm`.

Keys have nothing to do with one another, so each has a line of its own, which exists while somebody stands in it or
is owed something.
"""

from __future__ import annotations

import heapq
from math import inf

from resilience.core.ledger import Ledger
from resilience.core.line import Line
from resilience.core.single_file import let_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from resilience.core.bucket import Bucket
    from resilience.core.ledger import Claim, Key
    from resilience.core.promises import Waiter

__all__ = ["Desk"]


class Desk:
    """The state of one throttle. Pure and unlocked; readings must come from one clock.

    Args:
        buckets: the rates; a claim has a cost for each.
        keeps: per rank, the tokens of each bucket that its claims may not touch; a lower rank keeps no less.
        max_keys: keys remembered at most.

    Attributes:
        ledger: who has taken what.
        lines: who comes back later, by key.
        ended: waiters whose wait has ended, granted or (with `retry_after` set) failed.
    """

    __slots__ = ("_alarms", "_count", "ended", "ledger", "lines")

    def __init__(self, buckets: Sequence[Bucket], keeps: Sequence[Sequence[float]], max_keys: int) -> None:
        self.ledger = Ledger(buckets, keeps, max_keys)
        self.lines: dict[Key, Line] = {}
        self.ended: list[Any] = []
        self._alarms: list[tuple[float, int, Line]] = []
        self._count = 0

    # --- claims ------------------------------------------------------------------------------------------------------

    def has_room(self, key: Key, now: float) -> bool:
        """Whether a key is known or can be. Ask before anything that may grant."""
        return self.ledger.has_room(key, now)

    def take(self, claim: Claim, now: float) -> bool:
        """Grant a claim on the spot, if its turn is now."""
        line = self._line(claim.key, now)
        taken = self.ledger.taken_by(claim, now, None if line is None else line.ahead(claim.rank))
        if taken is None:
            return False
        self.ledger.grant(claim, taken)
        if line is not None:
            line.pass_by(claim, now)
            self._look(line, now)
        return True

    def wait(self, claim: Claim, now: float) -> float:
        """Seconds until the turn of a claim that was refused, if it joins now."""
        line = self.lines.get(claim.key)
        return self.ledger.wait(claim, now) if line is None else line.until_turn(claim, now)

    def come_back(self, claim: Claim, now: float) -> float:
        """Seconds that are enough for a claim that was refused and goes away, if nobody else comes meanwhile."""
        line = self.lines.get(claim.key)
        return self.ledger.wait(claim, now) if line is None else line.come_back(claim, now)

    def join(self, waiter: Waiter, now: float, max_wait: float) -> bool:
        """Let a claim that was not granted wait if its turn comes within `max_wait` seconds; else set `retry_after`."""
        line = self.lines.get(waiter.key) or self._open(waiter.key)
        joined = line.join(waiter, now, max_wait)
        if not joined or line.is_head(waiter) or line.failed:
            self._look(line, now)
        return joined

    def reserve(self, waiter: Waiter, now: float, max_wait: float) -> float | None:
        """Promise a claim that was not granted its turn, and return the seconds until then.

        None, with `retry_after` set, when that is more than `max_wait`.
        """
        line = self.lines.get(waiter.key) or self._open(waiter.key)
        delay = line.reserve(waiter, now, max_wait)
        self._look(line, now)
        return delay

    @property
    def waiting(self) -> int:
        """How many wait, on all keys."""
        return sum(line.waiting for line in self.lines.values())

    # --- afterwards --------------------------------------------------------------------------------------------------

    def settle(self, claim: Claim, actual: Sequence[float], now: float) -> None:
        """Correct a claim that was granted or promised to what it really cost."""
        line = self._line(claim.key, now)
        if line is not None and line.promises.holds(claim):
            more = line.promises.amend(claim, actual)
        else:
            more = [max(0.0, new - old) for new, old in zip(actual, claim.costs, strict=True)]
            self.ledger.settle(claim, actual, now)
        if line is not None:
            self._changed(line, more, now)

    def withdraw(self, claim: Claim, now: float) -> None:
        """Undo a claim, whatever has become of it: a waiter leaves, what was taken or promised is given back."""
        line = self._line(claim.key, now)
        if line is not None and line.holds(claim):
            line.leave(claim)
            self._look(line, now)
        elif claim.marks or (line is not None and line.promises.holds(claim)):
            self.settle(claim, [0.0] * len(claim.costs), now)

    def reset(self, key: Key, now: float) -> None:
        """Fill the buckets of a key, and owe nothing to its reservations; who waits goes on."""
        line = self._line(key, now)
        self.ledger.forgive(key, now)
        if line is not None:
            line.promises.forget()
            self._changed(line, None, now)

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def alarm(self) -> float:
        """The reading at which `pump` will next have something to do; inf while nobody waits."""
        alarms = self._alarms
        while alarms and alarms[0][0] != alarms[0][2].alarm:
            heapq.heappop(alarms)
        return alarms[0][0] if alarms else inf

    def pump(self, now: float) -> None:
        """Grant every claim whose turn has come, on every key."""
        while self.alarm <= now:
            self._look(heapq.heappop(self._alarms)[2], now)

    # --- looking -----------------------------------------------------------------------------------------------------

    def outlook(self, key: Key, costs: Sequence[float], rank: int, now: float) -> list[tuple[float, float, float]]:
        """Per rate: tokens that a claim of `rank` could take, seconds until full, seconds until `costs` are granted."""
        line = self._line(key, now)
        ahead = line.ahead(rank) if line else [0.0] * len(costs)
        everything = line.ahead(len(self.ledger.keeps) - 1) if line else ahead
        views: list[tuple[float, float, float]] = []
        states = zip(self.ledger.buckets, self.ledger.load(key), costs, self.ledger.keeps[rank], strict=True)
        for index, (bucket, state, cost, keep) in enumerate(states):
            level = bucket.level(state, now)
            wait = bucket.wait(state, cost, now, keep, ahead[index]) if cost else 0.0
            full = max(0.0, bucket.burst - level + everything[index]) / bucket.rate
            views.append((max(0.0, level - keep - ahead[index]), full, inf if cost + keep > bucket.burst else wait))
        return views

    def abandon(self, stays: Iterable[Waiter], now: float) -> None:
        """Forget every waiter but these."""
        kept = {id(waiter) for waiter in stays}
        for line in list(self.lines.values()):
            for waiter in line.waiters():
                if id(waiter) not in kept:
                    line.leave(waiter)
            self._look(line, now)

    # --- lines -------------------------------------------------------------------------------------------------------

    def _open(self, key: Key) -> Line:
        self.lines[key] = line = Line(self.ledger, key)
        return line

    def _line(self, key: Key, now: float) -> Line | None:
        """The line of a key with nobody due in it; None where nobody waits and nothing is owed."""
        line = self.lines.get(key)
        if line is not None and self._look(line, now):
            return line
        return None

    def _changed(self, line: Line, more: Sequence[float] | None, now: float) -> None:
        line.improve()
        if more is not None and any(more):
            line.displace(0, more, now)
        self._look(line, now)

    def _look(self, line: Line, now: float) -> bool:
        """Let those take whose turn has come, and set the alarm for the next. False when the line is closed by that."""
        due = let_go(line, now, self.ended)
        if due is None:
            self.ended += line.pump(now)
            if line.empty:
                line.alarm = -inf
                self.lines.pop(line.key, None)
            else:
                due = line.due(now)
        if line.failed:
            self.ended += line.failed
            line.failed = []
        if due is None:
            return False
        if due != line.alarm:
            line.alarm = due
            if due < inf:
                self._count += 1
                heapq.heappush(self._alarms, (due, self._count, line))
        return True
