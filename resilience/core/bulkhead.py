"""How many at once, and who is next.

Theory of operation
-------------------
A ship is divided by bulkheads so that one hole does not sink it. A service has a fixed number of threads, connections
and bytes, and one slow dependency can hold all of them; a limit on how many calls may be in that dependency *at the
same time* leaves the rest to others.

There are `limit` places and, before them, a queue of at most `queue` callers. Every caller that is let in gets a number
of its own, which is never used again; once it has a place, the number is its permit. It is always in one of three
states:

    waiting    in the queue, in the order of arrival, until a reading of its own at the latest
    held       has a place
    gone       neither; whatever is said of it now is without effect

    acquire    a place is free: held      else refused, and then perhaps
    join       the queue has room: waiting, else refused
    leave      waiting: gone              held: gone, and the first in the queue gets its place
    pump       waiting, and its reading has come: gone

`leave` is the one way out, whatever the reason: the call has ended, the caller went away while it waited, or it went
away in the same moment in which it was given a place. In the last case the place goes to the next, because by then the
number is one that holds. That is the whole answer to the lost place: who has it is decided here, under one lock, and
not by who woke up first.

While anybody waits, no place is free. So a newcomer never overtakes the queue, and order is order of arrival.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Caller(Protocol):
        """One who may wait; `key` says whose it is, the places fill in the rest."""

        key: object
        number: int
        waits: bool
        deadline: float


__all__ = ["REFUSED", "Places"]

REFUSED = -1
"""What `acquire` returns instead of a number."""


class Places:
    """The places of one bulkhead and the queue before them.

    Not thread-safe by itself; a policy holds its lock around each call.

    Args:
        limit: how many may hold a place at once; 1 or more.
        queue: how many may wait for one; 0 or more.

    Attributes:
        ended: callers whose wait has ended, with a place or without, for somebody to take away and wake.
    """

    __slots__ = ("_alarms", "_held", "_serial", "_waiting", "ended", "limit", "queue")

    def __init__(self, limit: int, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self.ended: list[Caller] = []
        self._serial = 0
        self._held: dict[int, object] = {}
        self._waiting: OrderedDict[int, Caller] = OrderedDict()
        self._alarms: list[tuple[float, int]] = []

    @property
    def in_flight(self) -> int:
        """How many places are taken."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    # --- coming and going ---------------------------------------------------------------------------------------------

    def acquire(self, owner: object) -> int:
        """The number of a new caller that has a place, or REFUSED. `keep_only` tells owners apart."""
        if len(self._held) >= self.limit:
            return REFUSED
        self._serial = number = self._serial + 1
        self._held[number] = owner
        return number

    def take(self, caller: Caller, now: float) -> bool:
        """Do for a caller that may wait what `acquire` does; False where it is refused."""
        number = self.acquire(caller.key)
        if number != REFUSED:
            caller.number = number
        return number != REFUSED

    def join(self, caller: Caller, now: float, max_wait: float) -> bool:
        """Let a caller that was refused wait, for `max_wait` seconds at most; False where the queue is full."""
        if len(self._waiting) >= self.queue:
            return False
        self._serial = number = self._serial + 1
        caller.number = number
        caller.waits = True
        caller.deadline = now + max_wait
        self._waiting[number] = caller
        if caller.deadline < inf:
            heapq.heappush(self._alarms, (caller.deadline, number))
            if len(self._alarms) > 2 * self.queue:
                # Most are of callers who left before their time.
                self._alarms = [alarm for alarm in self._alarms if alarm[1] in self._waiting]
                heapq.heapify(self._alarms)
        return True

    def leave(self, number: int) -> None:
        """Let a caller go, whether it waits or has a place."""
        caller = self._waiting.pop(number, None)
        if caller is not None:
            caller.waits = False
        elif self._held.pop(number, None) is not None:
            self._fill()

    def withdraw(self, caller: Caller, now: float) -> None:
        """Let a caller go that does not want to wait any more, whatever has become of it."""
        self.leave(caller.number)

    def holds(self, number: int) -> bool:
        """Whether a caller has a place."""
        return number in self._held

    def _fill(self) -> None:
        while self._waiting and len(self._held) < self.limit:
            number, caller = self._waiting.popitem(last=False)
            self._held[number] = caller.key
            caller.waits = False
            self.ended.append(caller)

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def alarm(self) -> float:
        """The earliest reading at which somebody gives up waiting; inf where nobody will."""
        alarms = self._alarms
        while alarms and alarms[0][1] not in self._waiting:
            heapq.heappop(alarms)
        return alarms[0][0] if alarms else inf

    def pump(self, now: float) -> None:
        """Let those go whose wait is over, in the order in which it ended; give out what is free."""
        while self.alarm <= now:
            caller = self._waiting.pop(heapq.heappop(self._alarms)[1])
            caller.waits = False
            self.ended.append(caller)
        self._fill()

    # --- after a fork -------------------------------------------------------------------------------------------------

    def keep_only(self, owner: object) -> None:
        """Free every place but those of one owner; `pump` gives them out."""
        self._held = {number: holder for number, holder in self._held.items() if holder == owner}

    def abandon(self, stays: Iterable[Caller], now: float) -> None:
        """Forget whoever waits, but for these."""
        kept = {caller.number for caller in stays}
        for number in [number for number in self._waiting if number not in kept]:
            self.leave(number)
