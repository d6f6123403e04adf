"""Who has taken what: the buckets of many keys, over one rate or several, in a bounded table.

A *claim* is one request for tokens. It is checked against every rate at once, and either takes from all of them or
from none. What it took it can hand back later, in part or whole; for that it remembers the marks that
`resilience.core.bucket` explains.

Forgetting. A bucket that has filled up is like one that never was, so it is forgotten, and only such a bucket:
forgetting any other would forgive what was taken. Nothing watches for buckets to fill. The table is swept when it has
doubled since the last sweep, which costs a constant per key ever added. At its bound that would not do, since a flood
of unknown keys would sweep for each; so then, and only then, the keys are kept in a heap by the time at which they
will be full. Taking only puts that time off, so an entry of the heap is never too late, and a stale one is put right
when it comes up. When nothing comes up, no bucket is full, and the unknown key is refused.

Handing back. A refund lowers what others see, so the marks of claims made before it are too high from then on by what
was refunded. The sums of refunds are kept for those keys that had any, a forgotten key's for as long as a mark from
before could still count.
"""

from __future__ import annotations

import heapq
from math import inf, nextafter, ulp

from resilience.core.bucket import FULL, gap, plus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from resilience.core.bucket import Bucket, State

    Key: TypeAlias = object

__all__ = ["Claim", "Ledger"]

_SMALL = 64
"""Fewer keys than these are not worth a sweep."""


class Claim:
    """One request for tokens, and what became of it.

    Args:
        key: whose bucket; None where there is one for all.
        costs: tokens per rate; 0.0 where it needs none.
        rank: 0 for the highest priority.

    Attributes:
        marks: the states right after it was granted.
        returned: the sums of refunds on its key at that time.
    """

    __slots__ = ("costs", "key", "marks", "rank", "returned")

    def __init__(self, key: Key, costs: tuple[float, ...], rank: int) -> None:
        self.key = key
        self.costs = costs
        self.rank = rank
        self.marks: Sequence[State] = ()
        self.returned: Sequence[float] = ()


class Ledger:
    """The states of all keys. Pure and unlocked; `now` must come from one clock.

    Args:
        buckets: the rates; a claim has a cost for each.
        keeps: per rank, the tokens of each bucket that its claims may not touch.
        max_keys: keys remembered at most, those of debts settled late aside.

    Attributes:
        sole: the state for the key None, which has no place in the table.
        at_hand: whether that may be read and written from outside, as one step; `load` takes it away.
        brisk: whether, besides, it is one float and not below 0.0, as the bucket has been full since the clock began.
        states: the states by key; of several rates, a tuple.
        episode: how many times it has begun to turn unknown keys away.
    """

    __slots__ = (
        "_by_fullness",
        "_fresh",
        "_past",
        "_refunds",
        "_sweep_at",
        "_turns_away",
        "at_hand",
        "brisk",
        "buckets",
        "episode",
        "keeps",
        "max_keys",
        "sole",
        "states",
    )

    def __init__(self, buckets: Sequence[Bucket], keeps: Sequence[Sequence[float]], max_keys: int) -> None:
        self.buckets = tuple(buckets)
        self.keeps = tuple(tuple(keep) for keep in keeps)
        self.max_keys = max_keys
        self._fresh: Any = FULL if len(self.buckets) == 1 else (FULL,) * len(self.buckets)
        self.sole: Any = self._fresh
        self.at_hand = self.brisk = False
        self.states: dict[Key, Any] = {}
        self._refunds: dict[Key, _Refunds] = {}
        self._past: list[tuple[float, int, Key]] = []
        self._sweep_at = min(max_keys, _SMALL)
        self._by_fullness: list[tuple[float, int, Key]] = []
        self._turns_away = False
        self.episode = 0

    # --- states ------------------------------------------------------------------------------------------------------

    @property
    def has_refunds(self) -> bool:
        """Whether anything was handed back that could still count."""
        return bool(self._refunds)

    def load(self, key: Key) -> tuple[State, ...]:
        """The states of a key, one per rate."""
        if key is None:
            self.at_hand = self.brisk = False
            kept = self.sole
        else:
            kept = self.states.get(key, self._fresh)
        return (kept,) if len(self.buckets) == 1 else kept

    def store(self, key: Key, states: Sequence[State]) -> None:
        """Put back the states of a key."""
        kept = states[0] if len(states) == 1 else tuple(states)
        if key is None:
            self.sole = kept
        elif self._by_fullness and key not in self.states:
            self.states[key] = kept
            self._push(key)
        else:
            self.states[key] = kept

    def save(self) -> tuple[Any, ...]:
        """A copy of all states, for `restore`."""
        return self.sole, dict(self.states), {key: refunds.copy() for key, refunds in self._refunds.items()}

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Put back what `save` returned; it must not be used again."""
        self.at_hand = self.brisk = False
        self.sole, self.states, self._refunds = saved
        self._by_fullness.clear()
        self._past = [(FULL, id(key), key) for key in self._refunds if key not in self.states]
        self._sweep_at = min(self.max_keys, max(_SMALL, 2 * len(self.states)))

    # --- claims ------------------------------------------------------------------------------------------------------

    def taken_by(self, claim: Claim, now: float, ahead: Sequence[float] | None = None) -> Sequence[State] | None:
        """The states after granting a claim, or None when a rate refuses. Writes nothing.

        Args:
            claim: the request.
            now: the present reading.
            ahead: per rate, tokens that are spoken for.
        """
        keeps = self.keeps[claim.rank]
        if len(keeps) == 1:
            state: State = self.load(claim.key)[0]
            after = self.buckets[0].take(state, claim.costs[0], now, keeps[0], ahead[0] if ahead else 0.0)
            return None if after is None else (after,)
        taken: list[State] = []
        for index, state in enumerate(self.load(claim.key)):
            cost = claim.costs[index]
            if cost:
                after = self.buckets[index].take(state, cost, now, keeps[index], ahead[index] if ahead else 0.0)
                if after is None:
                    return None
                taken.append(after)
            else:
                taken.append(state)
        return taken

    def grant(self, claim: Claim, taken: Sequence[State]) -> None:
        """Write what `taken_by` found."""
        self.store(claim.key, taken)
        claim.marks = taken
        if self._refunds:
            refunds = self._refunds.get(claim.key)
            claim.returned = tuple(refunds.sums) if refunds else ()

    def wait(self, claim: Claim, now: float, ahead: Sequence[float] | None = None) -> float:
        """Seconds until a claim would be granted, if nobody else takes."""
        keeps = self.keeps[claim.rank]
        longest = 0.0
        for index, state in enumerate(self.load(claim.key)):
            cost = claim.costs[index]
            if cost:
                spoken = ahead[index] if ahead else 0.0
                longest = max(longest, self.buckets[index].wait(state, cost, now, keeps[index], spoken))
        return longest

    def charge(self, claim: Claim, now: float) -> None:
        """Grant a claim as of `now` whatever is there."""
        taken = [
            bucket.charge(state, cost, now) if cost else state
            for bucket, state, cost in zip(self.buckets, self.load(claim.key), claim.costs, strict=True)
        ]
        self.grant(claim, taken)

    def settle(self, claim: Claim, actual: Sequence[float], now: float) -> None:
        """Correct a granted claim to what it really cost: refund what is still owed to it, or go into debt."""
        states = list(self.load(claim.key))
        refunds = [0.0] * len(states)
        for index, bucket in enumerate(self.buckets):
            change = actual[index] - claim.costs[index]
            if change > 0.0:
                # A bucket that was forgotten was full: at least so far behind the line as to have caught up with the
                # mark.
                before = claim.marks[index] if states[index] == FULL else states[index]
                # Nor did the claim take from a bucket that nobody has used: what it costs there, it costs now.
                states[index] = bucket.charge(before, change, now) if before == FULL else plus(before, change)
            elif change < 0.0:
                refunds[index] = min(-change, bucket.owing(self._mark(claim, index), now))
        claim.costs = tuple(actual)
        if any(refunds):
            lower = [plus(state, -refund) if refund else state for state, refund in zip(states, refunds, strict=True)]
            self._lower(claim.key, states, lower, refunds)
        elif states != list(self.load(claim.key)):
            self.store(claim.key, states)

    def forgive(self, key: Key, now: float) -> None:
        """Fill the buckets of a key. Claims made before have nothing more to hand back."""
        states = self.load(key)
        full = [bucket.floor(bucket.at(now)) for bucket in self.buckets]
        refunds = [bucket.owing(state, now) for bucket, state in zip(self.buckets, states, strict=True)]
        if any(refunds):
            self._lower(key, states, full, refunds)

    def _mark(self, claim: Claim, index: int) -> State:
        refunds = self._refunds.get(claim.key)
        if refunds is None:
            return claim.marks[index]
        before = claim.returned[index] if claim.returned else 0.0
        return plus(claim.marks[index], min(0.0, before - refunds.sums[index]))

    def _lower(self, key: Key, states: Sequence[State], lower: Sequence[State], refunds: Sequence[float]) -> None:
        account = self._refunds.setdefault(key, _Refunds(len(states)))
        for index, refund in enumerate(refunds):
            if refund:
                account.peaks[index] = max(gap(account.peaks[index], 0.0), gap(states[index], 0.0))
                account.sums[index] += refund
        self.store(key, lower)
        if self._by_fullness and key is not None:
            self._push(key)

    # --- forgetting --------------------------------------------------------------------------------------------------

    def has_room(self, key: Key, now: float) -> bool:
        """Whether a key is known or can be; makes room where that is possible."""
        size = len(self.states)
        if size < self._sweep_at or key is None or key in self.states:
            return True
        if size >= self.max_keys:
            room = self._evict(now)
            self.episode += not room and not self._turns_away
            self._turns_away = not room
            return room
        self._close_accounts(now)
        for known in [known for known in self.states if self._is_idle(known, now)]:
            self._forget(known)
        self._by_fullness.clear()
        self._sweep_at = min(self.max_keys, max(_SMALL, 2 * len(self.states)))
        return True

    def _evict(self, now: float) -> bool:
        self._close_accounts(now)
        heap = self._by_fullness
        if not heap:
            heap += [(self._full_at(known), id(known), known) for known in self.states]
            heapq.heapify(heap)
        while heap and heap[0][0] <= now:
            _, order, known = heap[0]
            if known not in self.states:
                heapq.heappop(heap)
            elif self._is_idle(known, now):
                heapq.heappop(heap)
                self._forget(known)
                return True
            else:
                heapq.heapreplace(heap, (max(self._full_at(known), nextafter(now, inf)), order, known))
        return False

    def _push(self, key: Key) -> None:
        if len(self._by_fullness) > 2 * self.max_keys:
            self._by_fullness.clear()
        else:
            heapq.heappush(self._by_fullness, (self._full_at(key), id(key), key))

    def _full_at(self, key: Key) -> float:
        """The reading at which a key may be forgotten, or a little earlier: what is looked at too early is put back."""
        when = self._filled(self.load(key))
        return when - 4.0 * ulp(when)

    def _filled(self, states: Sequence[State]) -> float:
        return max(bucket.full_at(state) for bucket, state in zip(self.buckets, states, strict=True))

    def _is_idle(self, key: Key, now: float) -> bool:
        full = all(bucket.is_full(state, now) for bucket, state in zip(self.buckets, self.load(key), strict=True))
        return full and (key not in self._refunds or len(self._past) < self.max_keys)

    def _forget(self, key: Key) -> None:
        del self.states[key]
        account = self._refunds.get(key)
        if account is not None:
            when = self._filled(account.peaks)
            heapq.heappush(self._past, (when + 4.0 * ulp(when), id(key), key))

    def _close_accounts(self, now: float) -> None:
        """Forget the refunds of keys that are forgotten, once no mark from before them can count any more."""
        while self._past and self._past[0][0] <= now:
            key = heapq.heappop(self._past)[2]
            if key not in self.states:
                self._refunds.pop(key, None)


class _Refunds:
    """What was refunded on one key, per rate, and the highest state before any of it."""

    __slots__ = ("peaks", "sums")

    def __init__(self, rates: int) -> None:
        self.peaks: list[State] = [FULL] * rates
        self.sums = [0.0] * rates

    def copy(self) -> _Refunds:
        other = _Refunds(0)
        other.peaks, other.sums = list(self.peaks), list(self.sums)
        return other
