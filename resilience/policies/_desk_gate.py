"""A gate with a desk: the lock around its decisions, and the waking of those who wait.

Each step has the same three parts. Read the clock. With the lock held, let the desk decide. Without it, wake those
whose wait has ended by that, and see that every lot with waiters looks again in time. Nothing that can block, raise
or call out runs in the middle part.
"""

from __future__ import annotations

import sys
from collections import deque
from math import inf

from resilience._runtime import blocks_a_loop
from resilience.core.single_file import follow
from resilience.errors import BlockingWarning
from resilience.policies._gate import GatePolicy
from resilience.policies._lots import AsyncioLot, lot_for_task, wake_all
from resilience.policies._waiting import Parked, lot_for_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from resilience.core.desk import Desk
    from resilience.core.ledger import Claim
    from resilience.core.line import Line
    from resilience.policies._waiting import Lot

    Aftermath: TypeAlias = tuple[Sequence[Parked], float, Sequence[Lot]]

__all__ = ["IN_TIME", "NO_ROOM", "DeskGate"]

IN_TIME = -2.0
NO_ROOM = -1.0
"""What `_ask` answers besides a time."""


class DeskGate(GatePolicy):
    """The base of policies that let callers wait. A subclass makes the claims."""

    __slots__ = ("_blocked_before", "_desk", "_grain", "_left", "_lots", "_near")

    def _open_desk(self, desk: Desk) -> None:
        self._desk = desk
        self._lots: dict[object, Lot] = {}
        self._grain = 0.0
        self._near: AsyncioLot | None = None
        self._left: deque[Parked] = deque()
        self._blocked_before = False

    # --- claims ------------------------------------------------------------------------------------------------------

    def _ask(self, claim: Claim, patience: float = 0.0, *, tell: bool = True) -> float | None:
        """Take at once, or hear how it stands.

        None when it is granted, IN_TIME when its turn may come within `patience` seconds, NO_ROOM when its key is one
        too many; else the seconds after which to come back, if somebody wants to know.
        """
        now = self._clock.now()
        desk = self._desk
        answer: float | None = None
        with self._lock:
            if not desk.has_room(claim.key, now):
                answer = NO_ROOM
            elif not desk.take(claim, now):
                # Where it is a matter of the last place, joining decides.
                if patience and desk.wait(claim, now) <= patience * 1.001:
                    answer = IN_TIME
                else:
                    answer = desk.come_back(claim, now) if tell else inf
            after = self._aftermath()
        self._clear_up(after)
        return answer

    def _wait(self, claim: Claim, max_wait: float) -> Parked:
        """Block until a claim is granted, or will not be: then `retry_after` of what is returned is set."""
        waiter = Parked(claim.key, claim.costs, claim.rank)
        if not self._blocked_before and blocks_a_loop():
            self._warn_of_blocking()
        waiter.lot = lot = lot_for_thread(self)
        try:
            if self._join(waiter, max_wait):
                lot.sleep(waiter)
            # Who is interrupted here has not handed over the lead, so that is done once more.
            self._part(waiter, undo=False)
        except BaseException:
            self._part(waiter, undo=True)
            raise
        return waiter

    async def _wait_async(self, claim: Claim, max_wait: float) -> Parked:
        """Suspend the task until a claim is granted, or will not be: then `retry_after` of what is returned is set."""
        waiter = Parked(claim.key, claim.costs, claim.rank)
        waiter.lot = lot = lot_for_task(self)
        if isinstance(lot, AsyncioLot):
            lot.grain = self._grain
            # Whoever comes next looks for its lot here first.
            self._near = lot
        try:
            if self._join(waiter, max_wait):
                await lot.sleep(waiter)
            self._part(waiter, undo=False)
        except BaseException as error:
            self._fall(waiter, error)
            raise
        return waiter

    def _follow(self, line: Line, costs: tuple[float, ...], rank: int, max_wait: float) -> Parked | None:
        """Stand in line behind others who wait on this loop, where that changes nothing for anybody else.

        None where it is not as simple as that; else await the bed of what is returned.
        """
        lot = self._near
        # Only trio itself can tell whether this is one of its tasks.
        if lot is None or lot.running() is not lot.runtime[0] or "trio" in sys.modules:
            found = lot_for_task(self)
            if not isinstance(found, AsyncioLot):
                return None
            lot = found
        if lot.armed == inf:
            return None
        waiter = Parked(line.key, costs, rank)
        waiter.lot = lot
        waiter.bed = lot.spread()
        now = 0.0
        if max_wait < inf:
            now = self._clock.now()
            if line.alarm <= now:
                # Somebody there is due, which anybody may see to.
                now = self._pump()
        with self._lock:
            # A line that was closed meanwhile has an alarm in the past.
            if lot.members and follow(line, waiter, now, max_wait, lot.armed):
                lot.members[waiter] = None
                return waiter
        return None

    def _fall(self, waiter: Parked, error: BaseException) -> None:
        """Undo the claim of a waiter whose sleep ends with an error."""
        if isinstance(error, GeneratorExit):
            self._part_later(waiter)
        else:
            self._part(waiter, undo=True)

    def _join(self, waiter: Parked, max_wait: float) -> bool:
        waiter.lot.make_bed(waiter)
        now = self._clock.now()
        desk = self._desk
        with self._lock:
            joined = not desk.take(waiter, now) and desk.join(waiter, now, max_wait)
            if joined:
                waiter.lot.enter(waiter)
            after = self._aftermath()
        self._clear_up(after)
        return joined

    def _warn_of_blocking(self) -> None:
        import warnings

        self._blocked_before = True
        warnings.warn(
            f"{self.name} waits on a thread that runs an event loop, and everything on that loop waits too: "
            f"use the async form",
            BlockingWarning,
            stacklevel=4,
        )

    # --- those who wait ----------------------------------------------------------------------------------------------

    def _pump(self) -> float:
        """Grant whoever is due, and wake those; returns the reading."""
        now = self._clock.now()
        with self._lock:
            self._forget_left(now)
            self._desk.pump(now)
            after = self._aftermath()
        self._clear_up(after)
        return now

    def _part(self, waiter: Parked, *, undo: bool) -> None:
        """Let a waiter go, its claim undone or not."""
        now = self._clock.now() if undo else 0.0
        with self._lock:
            if undo:
                self._desk.withdraw(waiter, now)
            lot = waiter.lot
            heir = lot.leave(waiter)
            if self._near is lot and not lot.members:
                self._near = None
            after = self._aftermath() if undo else None
        if heir is not None:
            heir.lot.wake(heir)
        self._clear_up(after)

    def _part_later(self, waiter: Parked) -> None:
        """Undo the claim of a waiter that is being finalised.

        The garbage collector does that in the middle of anything, so this thread may hold the lock already. Then the
        next alarm, which is set as long as the waiter stands in line, comes upon it.
        """
        self._left.append(waiter)
        if self._lock.acquire(blocking=False):
            self._lock.release()
            self._pump()

    def _forget_left(self, now: float) -> None:
        while self._left:
            waiter = self._left.popleft()
            self._desk.withdraw(waiter, now)
            waiter.lot.leave(waiter)

    def _aftermath(self) -> Aftermath | None:
        """What is to be done when the lock is released. Called with the lock held."""
        if not self._lots:
            return None
        desk = self._desk
        ended: Sequence[Parked] = ()
        if desk.ended:
            ended = desk.ended
            desk.ended = []
        return ended, desk.alarm, tuple(self._lots.values())

    def _clear_up(self, after: Aftermath | None) -> None:
        """Wake those whose wait has ended, and set the alarms. Called without the lock."""
        while after is not None:
            ended, alarm, lots = after
            lost = wake_all(ended)
            for lot in lots:
                if alarm < lot.armed:
                    lot.arm(alarm)
            # What was granted to those goes to whoever is behind them, who may be lost as well.
            after = self._undo(lost) if lost else None

    def _undo(self, lost: Sequence[Parked]) -> Aftermath | None:
        """Undo the claims of waiters that cannot be woken."""
        now = self._clock.now()
        with self._lock:
            for waiter in lost:
                self._desk.withdraw(waiter, now)
                waiter.lot.leave(waiter)
            return self._aftermath()

    def _after_fork(self) -> None:
        """In a forked child: only the thread that forked is here, and with it its loops."""
        import threading

        here = [lot for lot in self._lots.values() if lot.thread == threading.get_ident()]
        self._lots = {lot.runtime: lot for lot in here}
        self._near = None
        self._left.clear()
        self._desk.abandon([waiter for lot in here for waiter in lot.members], self._clock.now())
        self._desk.ended = []
