"""When will whose turn be, if nothing else happens?

With one rate the answer is a sum. With several it is not: while one bucket keeps the head of a line waiting, another
may fill up, and what overflows is lost to those behind. Nor is it where reservations were taken back, since a bucket
may then fill up before those that are left have come. Then the time of each in line is computed from how the one
before it leaves the buckets.
"""

from __future__ import annotations

from math import fsum, inf, ulp

from resilience.core.bucket import beyond

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience.core.bucket import State
    from resilience.core.ledger import Claim, Ledger
    from resilience.core.promises import Waiter

__all__ = ["Forecast"]


class Forecast:
    """The buckets of one key in time to come. Serve those in line one after the other.

    Attributes:
        now: the reading at which the last one was served.
    """

    __slots__ = ("_ledger", "_promises", "_states", "now")

    def __init__(self, ledger: Ledger, states: Sequence[State], promises: Sequence[Waiter], now: float) -> None:
        self._ledger = ledger
        self._states = [bucket.charge(state, 0.0, now) for bucket, state in zip(ledger.buckets, states, strict=True)]
        self._promises = list(promises)
        self.now = now

    def copy(self) -> Forecast:
        """Another one that goes on from here."""
        other = Forecast.__new__(Forecast)
        other._ledger, other.now = self._ledger, self.now
        other._states, other._promises = list(self._states), list(self._promises)
        return other

    def serve(self, claim: Claim, number: float) -> float:
        """The reading at which a claim that came as `number` takes, next after those served before."""
        when = self._earliest(claim, number)
        # At the same time, to the last place, the promise comes first.
        while self._promises and (
            when > self._promises[0].at - 4.0 * ulp(self._promises[0].at) or self._breaks(claim, number, when)
        ):
            promise = self._promises.pop(0)
            self._take(promise, promise.at)
            when = self._earliest(claim, number)
        self._take(claim, when)
        self.now = when
        return when

    def _earliest(self, claim: Claim, number: float) -> float:
        earliest = self.now
        keeps = self._ledger.keeps[claim.rank]
        for index, bucket in enumerate(self._ledger.buckets):
            cost = claim.costs[index]
            if cost:
                owed = fsum(promise.costs[index] for promise in self._promises if promise.number < number)
                if owed and owed + cost + keeps[index] > bucket.burst:
                    return inf
                earliest = max(earliest, bucket.when(self._states[index], cost, owed + keeps[index]))
        return earliest

    def _breaks(self, claim: Claim, number: float, when: float) -> bool:
        """Whether taking at `when` would leave too little for a promise that was made after the claim came."""
        if all(promise.number < number for promise in self._promises):
            return False
        ahead = Forecast.copy(self)
        ahead._take(claim, when)
        return broken(self._ledger, claim, ahead._states, self._promises)

    def _take(self, claim: Claim, when: float) -> None:
        for index, bucket in enumerate(self._ledger.buckets):
            if claim.costs[index]:
                self._states[index] = bucket.charge(self._states[index], claim.costs[index], when)


def broken(ledger: Ledger, claim: Claim, states: Sequence[State], promises: Sequence[Waiter]) -> bool:
    """Whether a claim that leaves the buckets so leaves too little for promises, which are given in order of time."""
    after = list(states)
    for promise in promises:
        for index, bucket in enumerate(ledger.buckets):
            if promise.costs[index] and claim.costs[index]:
                after[index] = bucket.charge(after[index], promise.costs[index], promise.at)
                line = bucket.at(promise.at)
                # Sums of what is ahead are rounded; a last place more or less is no breach.
                if beyond(after[index], line + 4.0 * ulp(line)):
                    return True
    return False
