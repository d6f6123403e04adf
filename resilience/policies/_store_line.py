"""Who waits here for tokens that a store has promised, and moves up when somebody ahead gives back.

Whoever may wait takes its tokens in the store at once, and was told when they will be there. When one of those ahead
gives up, or turns out cheaper, the store's bucket is the fuller for it, and so everybody behind is due earlier: whoever
kept to the old moment would wait for tokens that nobody has taken, and start together with the next who comes. What was
given back lies at the mark of its claim, and a mark of the store says how far a claim is from the beginning, so it is
known who was behind.

That holds for those who wait in this process, by this policy. One that waits elsewhere keeps its moment, which was
right when it was told and is never too early.

Waiters sleep as those of the throttle of one process do (`_waiting`): in lots, one of each runtime, with one alarm.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from math import inf

from resilience.policies._lots import lot_for_task
from resilience.policies._waiting import Parked, lot_for_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from resilience.clock import Clock
    from resilience.policies._store_claim import SharedClaim
    from resilience.policies._waiting import Lot
    from resilience.rates import Rate

__all__ = ["StoreLine"]


class _Place(Parked):
    """Somebody who waits; `at` is when it may go."""

    __slots__ = ("claim", "keeps")

    def __init__(self, claim: SharedClaim, keeps: Sequence[float], at: float) -> None:
        super().__init__(claim.key, claim.costs, claim.rank)
        self.claim = claim
        self.keeps = keeps
        self.at = self.deadline = at
        self.waits = True


class StoreLine:
    """The waiters of one throttle. Safe from any thread and event loop.

    Attributes:
        alarm: the reading at which somebody is due; inf where nobody waits.
    """

    __slots__ = (
        "_clock",
        "_desk",
        "_heap",
        "_keeps",
        "_left",
        "_lock",
        "_lots",
        "_places",
        "_rates",
        "_serial",
        "alarm",
    )

    def __init__(self, rates: Sequence[Rate], keeps: Sequence[Sequence[float]]) -> None:
        self._rates = [rate.amount / rate.per for rate in rates]
        self._keeps = keeps
        self._clock: Any = None
        self._desk: Any = self
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: nobody waits here, and nobody holds the lock."""
        self._lock = threading.Lock()
        self._lots: dict[object, Lot] = {}
        self._places: dict[object, dict[_Place, None]] = {}
        self._heap: list[tuple[float, int, _Place]] = []
        self._left: deque[_Place] = deque()
        self._serial = 0
        self.alarm = inf

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, claim: SharedClaim, clock: Clock) -> None:
        """Block until a claim is due; raises what interrupts it."""
        place = self._place(claim, clock)
        place.lot = lot = lot_for_thread(self)
        try:
            self._enter(place)
            lot.sleep(place)
        finally:
            self._part(place)

    async def wait_async(self, claim: SharedClaim, clock: Clock) -> None:
        """Suspend the task until a claim is due; raises what cancels it."""
        place = self._place(claim, clock)
        place.lot = lot = lot_for_task(self)
        try:
            self._enter(place)
            await lot.sleep(place)
        except GeneratorExit:
            # The garbage collector may be at it, in the middle of anything: whoever comes next lets it go.
            self._left.append(place)
            raise
        except BaseException:
            self._part(place)
            raise
        self._part(place)

    def _place(self, claim: SharedClaim, clock: Clock) -> _Place:
        self._clock = clock
        return _Place(claim, self._keeps[claim.rank], clock.now() + claim.delay)

    def _enter(self, place: _Place) -> None:
        place.lot.make_bed(place)
        with self._lock:
            self._let_go()
            place.lot.enter(place)
            self._places.setdefault(place.key, {})[place] = None
            self._push(place)
            lots = self._look()
        self._arm(lots)

    def _part(self, place: _Place) -> None:
        with self._lock:
            if place.waits:
                place.claim.forget_behind()
            heir = self._remove(place)
            lots = self._look()
        if heir is not None:
            heir.lot.wake(heir)
        self._arm(lots)

    def _remove(self, place: _Place) -> Parked | None:
        place.waits = False
        others = self._places.get(place.key)
        if others is not None:
            others.pop(place, None)
            if not others:
                del self._places[place.key]
        return place.lot.leave(place)

    def _let_go(self) -> None:
        while self._left:
            self._remove(self._left.popleft())

    # --- time ---------------------------------------------------------------------------------------------------------

    def _push(self, place: _Place) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (place.at, self._serial, place))

    def _look(self) -> Sequence[Lot]:
        """Find out when somebody is due; returns whom to tell."""
        heap = self._heap
        while heap and (not heap[0][2].waits or heap[0][0] != heap[0][2].at):
            heapq.heappop(heap)
        self.alarm = heap[0][0] if heap else inf
        return tuple(self._lots.values())

    def _arm(self, lots: Sequence[Lot]) -> None:
        for lot in lots:
            if self.alarm < lot.armed:
                lot.arm(self.alarm)

    def _pump(self) -> float:
        """Let go whoever is due; returns the reading."""
        now: float = self._clock.now()
        due: list[_Place] = []
        with self._lock:
            self._let_go()
            lots = self._look()
            while self.alarm <= now:
                place = self._heap[0][2]
                place.waits = False
                due.append(place)
                lots = self._look()
        for place in due:
            place.lot.wake(place)
        self._arm(lots)
        return now

    # --- moving up ----------------------------------------------------------------------------------------------------

    def move_up(self, claim: SharedClaim, answer: Sequence[float]) -> None:
        """A claim was settled, with this answer: whoever is behind it is due earlier by what has come back."""
        rates = len(self._rates)
        back, sums = answer[1 : rates + 1], answer[rates + 1 :]
        if len(sums) != rates or not any(back) or not claim.has_marks(rates):
            return
        with self._lock:
            for place in tuple(self._places.get(claim.key, ())):
                if place.waits and place.claim is not claim and place.claim.has_marks(rates):
                    self._move(place, claim, back, sums)
            lots = self._look()
        self._arm(lots)

    def _move(self, place: _Place, claim: SharedClaim, back: Sequence[float], sums: Sequence[float]) -> None:
        own = place.claim
        before = self._due(place)
        for rate, amount in enumerate(back):
            if not amount or own.sum_before(rate) >= sums[rate]:
                # It came after that, though the answers have come the other way round.
                continue
            if own.mark(rate) > claim.mark(rate):
                own.ahead[rate] += amount
            else:
                own.behind[rate] += amount
        gained = before - self._due(place)
        if gained > 0.0:
            place.at -= gained
            self._push(place)

    def _due(self, place: _Place) -> float:
        """When its tokens are there, by the clock of the store."""
        claim, due = place.claim, -inf
        for rate, per_second in enumerate(self._rates):
            if claim.costs[rate]:
                due = max(due, (claim.mark(rate) + place.keeps[rate]) / per_second)
        return due
