"""Reservations of one key: tokens that somebody was told to use at a time to come.

Whoever reserves acts at the time promised, whatever becomes of those around. So until then the tokens are *owed*:
they count as spoken for, and at that time they are taken, as of that time. Promises keep the order of their times,
which is not always that of their making, since a higher rank is promised an earlier time and an amount that is given
back lets a later reservation in before.

Waiters who stood in line before a reservation was made are ahead of it, and are not held up by what is owed to it.
Its time was computed with them before it, so both fit, unless others have set those waiters back meanwhile. Then the
promise comes first: `broken_by` asks whether a waiter that takes now would leave too little for it.
"""

from __future__ import annotations

import heapq
from math import fsum

from resilience.core.bucket import Sums
from resilience.core.ledger import Claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeGuard

    from resilience.core.ledger import Key

__all__ = ["Promises", "Waiter"]


class Waiter(Claim):
    """A claim that is not granted on the spot: it waits in line, or it was promised a time.

    Attributes:
        waits: whether it stands in line.
        owed: whether it was promised a time that has not come.
        number: its place in the order of arrival.
        deadline: the reading after which it does not want to wait any more.
        at: the reading promised.
        retry_after: set when its wait has failed: seconds that would have been enough.
    """

    __slots__ = ("at", "deadline", "number", "owed", "retry_after", "waits")

    def __init__(self, key: Key, costs: tuple[float, ...], rank: int) -> None:
        self.key = key
        self.costs = costs
        self.rank = rank
        self.marks = ()
        self.returned = ()
        self.waits = False
        self.owed = False
        self.number = 0
        self.deadline = 0.0
        self.at = 0.0
        self.retry_after: float | None = None

    def __lt__(self, other: Waiter) -> bool:
        return (self.at, self.number) < (other.at, other.number)


class Promises:
    """The promises of one key whose times have not come. Pure and unlocked.

    Attributes:
        live: how many they are.
        gaps: whether something was given back between them, so that buckets may fill up before the last of them has
        come.
    """

    __slots__ = ("_heap", "_owed", "gaps", "live")

    def __init__(self, rates: int) -> None:
        self._heap: list[Waiter] = []
        self.live = 0
        self.gaps = False
        self._owed = Sums(rates)

    def __bool__(self) -> bool:
        return self.live > 0

    @property
    def next_at(self) -> float:
        """The earliest time promised; there must be one."""
        self._clear_front()
        return self._heap[0].at

    def make(self, waiter: Waiter, at: float) -> None:
        """Promise a time."""
        waiter.owed = True
        waiter.at = at
        heapq.heappush(self._heap, waiter)
        self.live += 1
        self._owed.add(waiter.costs)

    def _drop(self, promise: Waiter) -> None:
        promise.owed = False
        self.live -= 1
        self._owed.add(promise.costs, -1.0)
        if not self.live:
            self._heap.clear()
            self.gaps = False

    def forget(self) -> None:
        """Owe nothing to anybody."""
        for promise in list(self._heap):
            if promise.owed:
                self._drop(promise)
                promise.costs = (0.0,) * len(promise.costs)

    def holds(self, claim: Claim) -> TypeGuard[Waiter]:
        """Whether a claim is a promise whose time has not come."""
        return isinstance(claim, Waiter) and claim.owed

    def amend(self, promise: Waiter, actual: Sequence[float]) -> list[float]:
        """Correct what is owed to a promise; nothing at all takes it back. Returns, per rate, by how much it grew."""
        changes = [new - old for new, old in zip(actual, promise.costs, strict=True)]
        self._owed.add(promise.costs, -1.0)
        self._owed.add(actual)
        promise.costs = tuple(actual)
        self.gaps = self.gaps or min(changes) < 0.0
        if not any(actual):
            self._drop(promise)
        return [max(0.0, change) for change in changes]

    def come(self, now: float) -> Iterator[Waiter]:
        """The promises whose time has come, in order; they are owed no longer."""
        while self.live and self.next_at <= now:
            promise = heapq.heappop(self._heap)
            self._drop(promise)
            yield promise

    def to_come(self) -> list[Waiter]:
        """All of them, in the order of their times."""
        return sorted(promise for promise in self._heap if promise.owed)

    def owed(self) -> list[float]:
        """Per rate, what is owed to all of them."""
        return self._owed.values()

    def owed_before(self, number: int) -> list[float]:
        """Per rate, what is owed to those who came before."""
        if not self.made_after(number):
            return self.owed()
        earlier = [promise.costs for promise in self._heap if promise.owed and promise.number < number]
        return [fsum(costs[index] for costs in earlier) for index in range(len(self.owed()))]

    def made_after(self, number: int) -> bool:
        """Whether one was made after somebody came as `number`."""
        return any(promise.owed and promise.number > number for promise in self._heap)

    def _clear_front(self) -> None:
        while not self._heap[0].owed:
            heapq.heappop(self._heap)
