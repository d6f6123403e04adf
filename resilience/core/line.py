"""Those who come back later for one key: waiters, who were promised nothing, and reservations, which were promised a
time.

Waiters stand in line, one line per rank, and reserve nothing: whoever is at the head takes as soon as the buckets
hold what it needs, and a claim of a higher rank that comes meanwhile goes first. So a line needs one alarm, for its
head, however long it is.

*Who is ahead.* A claim may take what the buckets hold less what is spoken for: what waiters of its rank and above
need, and what is owed to reservations. With one rate that lets nobody pass while somebody waits; with several, a call
that needs only what nobody waits for passes, and delays no one.

*What can be met.* What is ahead of a new waiter is a sum, so the time at which its turn comes is known when it
arrives, and a wait that is too long is refused at once. It can become too long later, but only by displacement: a
higher rank goes first, somebody reserves, a settled call goes into debt. The line keeps the least *slack* of its
waiters, the time between turn and deadline; displacement takes from it; only when it is used up is the line walked,
those that cannot be met any more fail at once, and the slack is known exactly again. With several rates one bucket
can overflow while another keeps the head waiting, and what overflows is lost to those behind. Then a sum is too
hopeful, so the turn is computed one after the other, from how the last in line will leave the buckets.
"""

from __future__ import annotations

from collections import deque
from math import inf, ulp

from resilience.core.bucket import Sums
from resilience.core.forecast import Forecast, broken
from resilience.core.promises import Promises, Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeGuard

    from resilience.core.bucket import State
    from resilience.core.ledger import Claim, Key, Ledger

__all__ = ["RANKS", "Line"]

RANKS = 3
"""How many ranks there are; 0 is the highest."""

_FEW = 16
"""Fewer waiters that have left than these are not worth clearing away."""


def _slop(now: float) -> float:
    """The rounding of a few readings: less than this is no time."""
    return 4.0 * ulp(now)


class _Rank:
    """The waiters of one rank.

    `need` is the sum of what they need, `slack` no more than the least time by which any can be set back, `gone` of
    those in the queue have left, and `end` is when the last will have taken and how it leaves the buckets, or None
    when that is to be found out anew.
    """

    __slots__ = ("end", "gone", "need", "number", "queue", "slack")

    def __init__(self, number: int, rates: int) -> None:
        self.number = number
        self.queue: deque[Waiter] = deque()
        self.clear(rates)

    def clear(self, rates: int) -> None:
        self.queue.clear()
        self.gone = 0
        self.need = Sums(rates)
        self.slack = inf
        self.end: Forecast | None = None

    def head(self) -> Waiter | None:
        queue = self.queue
        while queue:
            if queue[0].waits:
                return queue[0]
            queue.popleft()
            self.gone -= 1
        return None

    def add(self, waiter: Waiter) -> None:
        waiter.waits = True
        self.queue.append(waiter)
        self.need.add(waiter.costs)

    def remove(self, waiter: Waiter) -> None:
        waiter.waits = False
        self.gone += 1
        self.need.add(waiter.costs, -1.0)
        if self.gone == len(self.queue):
            self.clear(len(waiter.costs))
            return
        if self.gone > _FEW and 2 * self.gone > len(self.queue):
            self.queue = deque(other for other in self.queue if other.waits)
            self.gone = 0


class Line:
    """The waiters and the promises of one key. Pure and unlocked.

    Attributes:
        alarm: the reading at which `pump` will next have something to do, as it was last found.
        arrivals: how many have come; the place of the last.
        failed: waiters whose wait cannot be met any more, for somebody to take away.
        ledger: who has taken what.
    """

    __slots__ = ("_ranks", "alarm", "arrivals", "failed", "key", "ledger", "promises")

    def __init__(self, ledger: Ledger, key: Key) -> None:
        self.ledger = ledger
        self.key = key
        self._ranks = [_Rank(number, len(ledger.buckets)) for number in range(RANKS)]
        self.promises = Promises(len(ledger.buckets))
        self.arrivals = 0
        self.alarm = inf
        self.failed: list[Waiter] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(rank.queue) - rank.gone for rank in self._ranks)

    @property
    def empty(self) -> bool:
        """Whether nobody waits and nothing is owed."""
        return not self.promises and not any(rank.queue for rank in self._ranks)

    def only_rank(self) -> _Rank | None:
        """The rank of all who wait, if that is one and nothing is owed."""
        top, middle, low = self._ranks
        if self.promises.live:
            return None
        if top.queue:
            return None if middle.queue or low.queue else top
        if middle.queue:
            return None if low.queue else middle
        return low if low.queue else None

    def ahead(self, rank: int) -> list[float]:
        """Per rate, what is spoken for when a claim of `rank` arrives."""
        return self._spoken_for(self.promises.owed(), self._ranks[: rank + 1])

    @staticmethod
    def _spoken_for(owed: list[float], ranks: Sequence[_Rank]) -> list[float]:
        for rank in ranks:
            if rank.queue:
                owed = [tokens + need for tokens, need in zip(owed, rank.need.values(), strict=True)]
        return owed

    # --- arriving ----------------------------------------------------------------------------------------------------

    def join(self, waiter: Waiter, now: float, max_wait: float) -> bool:
        """Stand in line if the turn comes within `max_wait` seconds; else False, with `retry_after` set."""
        end, turn = self._turn(waiter, now, waiter.rank)
        if turn - now > max_wait + _slop(turn):
            waiter.retry_after = self.come_back(waiter, now)
            return False
        rank = self._ranks[waiter.rank]
        waiter.number = self.next_number()
        waiter.deadline = now + max_wait
        rank.add(waiter)
        rank.end = end
        rank.slack = min(rank.slack, waiter.deadline - turn)
        self.displace(waiter.rank + 1, waiter.costs, now)
        return True

    def reserve(self, waiter: Waiter, now: float, max_wait: float) -> float | None:
        """Promise the time of the turn and return how far it is; None, with `retry_after` set, if beyond `max_wait`."""
        delay = self.until_turn(waiter, now)
        if delay > max_wait + _slop(now + delay):
            waiter.retry_after = self.come_back(waiter, now)
            return None
        waiter.number = self.next_number()
        self.promises.make(waiter, now + delay)
        # A higher rank does not count those who wait, and for it there is time to spare before this promise.
        self.promises.gaps = self.promises.gaps or self.waiting > 0
        self._expect_anew(0)
        self.displace(waiter.rank + 1, waiter.costs, now)
        return delay

    def is_head(self, waiter: Waiter) -> bool:
        """Whether a waiter is the first of its rank."""
        return self._ranks[waiter.rank].head() is waiter

    def until_turn(self, claim: Claim, now: float) -> float:
        """Seconds until the turn of a claim, if it joins now."""
        if self._adds_up(claim):
            return self.ledger.wait(claim, now, self.ahead(claim.rank))
        return max(0.0, self._turn(claim, now, claim.rank)[1] - now)

    def come_back(self, claim: Claim, now: float) -> float:
        """Seconds after which a claim that goes away will be granted; all who wait go first, whatever their rank."""
        turn = self._turn(claim, now, RANKS - 1)[1]
        # Those ahead may take a last place later than they could.
        return max(0.0, turn - now) + _slop(turn)

    def _turn(self, claim: Claim, now: float, behind: int) -> tuple[Forecast | None, float]:
        if self._adds_up(claim):
            return None, now + self.ledger.wait(claim, now, self.ahead(behind))
        end = self._end(behind, now).copy()
        return end, end.serve(claim, inf)

    def _adds_up(self, claim: Claim) -> bool:
        """Whether the time of a turn follows from the sum of what is ahead."""
        return len(claim.costs) == 1 and not self.promises.gaps

    def next_number(self) -> int:
        """The place of one who arrives, in the order of arrival."""
        self.arrivals += 1
        return self.arrivals

    def pass_by(self, claim: Claim, now: float) -> None:
        """A claim has taken before those who wait."""
        self._expect_anew(0)
        self.displace(claim.rank + 1, claim.costs, now)

    def displace(self, rank: int, costs: Sequence[float], now: float) -> None:
        """Others take `costs` before the waiters of `rank` and below: those that cannot be met any more fail."""
        behind = [other for other in self._ranks[rank:] if other.queue]
        if not behind:
            return
        delay = max(cost / bucket.rate for cost, bucket in zip(costs, self.ledger.buckets, strict=True))
        self._expect_anew(rank)
        for other in behind:
            other.slack -= delay
        if self.promises or min(other.slack for other in behind) < -_slop(now):
            self._review(now)

    # --- taking ------------------------------------------------------------------------------------------------------

    def keep_promises(self, now: float) -> None:
        """Take what was reserved for times that have come, as of those times."""
        for promise in self.promises.come(now):
            self.ledger.charge(promise, promise.at)

    def pump(self, now: float) -> list[Waiter]:
        """Let every head that is due take, in order, and return those; they do not stand in line any more."""
        self.keep_promises(now)
        granted: list[Waiter] = []
        held_up = False
        for rank in self._ranks:
            while (head := rank.head()) is not None:
                taken = self.ledger.taken_by(head, now, self._before(head))
                if taken is None or self._breaks(head, taken):
                    break
                self.ledger.grant(head, taken)
                rank.remove(head)
                granted.append(head)
                if held_up:
                    self._expect_anew(0)
            if head is not None and len(head.costs) == 1:
                break
            held_up = held_up or head is not None
        return granted

    def due(self, now: float) -> float:
        """The reading at which `pump` will next have something to do; inf when nobody waits."""
        earliest = inf
        for rank in self._ranks:
            head = rank.head()
            if head is not None:
                wait = self.ledger.wait(head, now, self._before(head))
                if self.promises and wait in {0.0, inf}:
                    # It could take but for a promise, or no passing of time would do: the next promise to come
                    # changes that.
                    wait = self.promises.next_at - now
                earliest = min(earliest, now + wait)
                if len(head.costs) == 1:
                    break
        return earliest

    def _before(self, head: Waiter) -> list[float] | None:
        """Per rate, what is spoken for when the head of a rank wants to take; None for nothing."""
        above = [rank for rank in self._ranks[: head.rank] if rank.queue]
        if not above and not self.promises:
            return None
        # What is before those above is before this one, too.
        before = self.promises.owed_before(max([head.number, *(rank.queue[-1].number for rank in above)]))
        return self._spoken_for(before, above)

    def _breaks(self, head: Waiter, taken: Sequence[State]) -> bool:
        """Whether a head that takes would leave too little for a promise that was made after it came."""
        if not self.promises or not self.promises.made_after(head.number):
            return False
        return broken(self.ledger, head, taken, self.promises.to_come())

    # --- leaving ------------------------------------------------------------------------------------------------------

    def holds(self, claim: Claim) -> TypeGuard[Waiter]:
        """Whether a claim waits in this line."""
        return isinstance(claim, Waiter) and claim.waits

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter out of the line, as if it had never been there."""
        self._ranks[waiter.rank].remove(waiter)
        self.improve()

    def improve(self) -> None:
        """There is more than was expected."""
        self.promises.gaps = bool(self.promises)
        self._expect_anew(0)

    def waiters(self) -> list[Waiter]:
        """All who wait, in order."""
        return [waiter for rank in self._ranks for waiter in rank.queue if waiter.waits]

    # --- looking ahead ------------------------------------------------------------------------------------------------

    def _end(self, behind: int, now: float) -> Forecast:
        """How the last waiter of a rank and above will leave the buckets."""
        for rank in reversed(self._ranks[: behind + 1]):
            if rank.head() is not None and rank.end is None:
                self._review(now)
            if rank.head() is not None and rank.end is not None:
                return rank.end
        return self._forecast(now)

    def _forecast(self, now: float) -> Forecast:
        return Forecast(self.ledger, self.ledger.load(self.key), self.promises.to_come(), now)

    def _expect_anew(self, rank: int) -> None:
        for behind in self._ranks[rank:]:
            behind.end = None

    def _review(self, now: float) -> None:
        """Go through the line: fail those whose turn will come too late, and find the slack of the others."""
        forecast = self._forecast(now)
        failed: list[Waiter] = []
        for rank in self._ranks:
            slack = inf
            for waiter in [waiter for waiter in rank.queue if waiter.waits]:
                attempt = forecast.copy()
                turn = attempt.serve(waiter, waiter.number)
                if turn > waiter.deadline + _slop(turn):
                    rank.remove(waiter)
                    failed.append(waiter)
                else:
                    slack = min(slack, waiter.deadline - turn)
                    forecast = attempt
            if rank.queue:
                rank.slack = slack
                rank.end = forecast
        for waiter in failed:
            waiter.retry_after = self.come_back(waiter, now)
        self.failed += failed
