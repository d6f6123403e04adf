"""Where waiters sleep, and who wakes them.

One line of waiters may hold threads and tasks of several event loops. Who may go, and when, is decided at the desk;
here they sleep, each in
its own runtime: a *lot* is all waiters of one runtime, be it the threads of this process, an asyncio loop or a trio
run.

A line needs one alarm, for its head. Each lot with waiters sets it once, for the earliest of all lines, and whichever
rings first serves
everybody: so a runtime that is held up delays only itself, and ten thousand waiters cost one timer. An asyncio loop
has timers. A thread or a trio task has to sleep in somebody's person, so one of the waiters of such a lot is its
*leader*: it sleeps until the alarm, serves all who are due, and when its own turn comes, hands the lead to the next.
With a clock that is not the machine's, asyncio waiters do the same, since then only the clock can tell when it is
time.

Nobody is woken with the lock held. A waiter that is woken looks whether its wait has ended, so a wake too many does
no harm. One that is cancelled, or interrupted, in the moment in which it was granted hands the tokens back as if it
had never had them. And one whose loop is
closed cannot be woken: then its tokens go back, and the next one is served.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from contextlib import suppress
from math import inf, nextafter

from resilience.clock import is_machine, virtual_of
from resilience.core.promises import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from resilience.clock import Clock
    from resilience.core.desk import Desk
    from resilience.core.ledger import Key

    class Owner(Protocol):
        """A policy that lets callers wait."""

        _clock: Clock
        _desk: Desk
        _lock: threading.Lock
        _lots: dict[object, Lot]

        def _pump(self) -> float:
            """Grant whoever is due and wake those; returns the reading."""
            ...


__all__ = ["Led", "Lot", "Parked", "ThreadLot", "lot_for_thread"]


class Parked(Waiter):
    """A waiter with a place to sleep.

    Attributes:
        lot: where it sleeps.
        bed: what wakes it, of a kind that its lot knows.
        closed: whether it was settled or cancelled by its holder.
    """

    __slots__ = ("bed", "closed", "lot")

    lot: Lot
    bed: Any

    def __init__(self, key: Key, costs: tuple[float, ...], rank: int) -> None:
        # Once more what `Waiter` does, since ten thousand of these may come at once.
        self.key = key
        self.costs = costs
        self.rank = rank
        self.marks = ()
        self.returned = ()
        self.waits = self.owed = self.closed = False
        self.number = 0
        self.deadline = self.at = 0.0
        self.retry_after = None


class Lot:
    """The waiters of one runtime. What it holds changes with the owner's lock held, unless said otherwise.

    Attributes:
        runtime: the key under which the owner keeps it.
        thread: the thread that runs it; None for the lot of all threads.
        armed: the reading at which it will look at the desk by itself; inf for never.
        members: who sleeps here, in order of arrival.
    """

    __slots__ = ("armed", "members", "owner", "runtime", "thread")

    def __init__(self, owner: Owner, runtime: Any, thread: int | None) -> None:
        self.owner = owner
        self.runtime = runtime
        self.thread = thread
        self.armed = inf
        self.members: dict[Parked, None] = {}

    def make_bed(self, waiter: Parked) -> None:
        """Prepare for `waiter` to sleep: from here on it can be woken. Without the lock."""
        raise NotImplementedError

    def wake(self, waiter: Parked) -> bool:
        """Wake one; False when its runtime is gone. From any thread, without the lock."""
        raise NotImplementedError

    def arm(self, when: float) -> None:
        """Look at the desk at `when` or before. From any thread, without the lock."""
        raise NotImplementedError

    def enter(self, waiter: Parked) -> None:
        """Take in one who waits."""
        self.members[waiter] = None
        self.owner._lots[self.runtime] = self

    def leave(self, waiter: Parked) -> Parked | None:
        """Let one go, and with the last the lot. Returns somebody to wake, if need be."""
        self.members.pop(waiter, None)
        if not self.members and self.owner._lots.get(self.runtime) is self:
            del self.owner._lots[self.runtime]
        return None


class Led(Lot):
    """A lot in which one of the waiters keeps the time for all."""

    __slots__ = ("leader",)

    def __init__(self, owner: Owner, runtime: Any, thread: int | None) -> None:
        super().__init__(owner, runtime, thread)
        self.leader: Parked | None = None

    def arm(self, when: float) -> None:
        """Wake the leader, to set its alarm anew."""
        leader = self.leader
        if leader is not None:
            self.wake(leader)

    def leave(self, waiter: Parked) -> Parked | None:
        """Let one go, and hand over the lead."""
        super().leave(waiter)
        if self.leader is not None and self.leader is not waiter:
            return None
        self.leader = None
        self.armed = inf
        return next(iter(self.members), None)

    def watch(self, waiter: Parked) -> float | None:
        """Serve all who are due.

        Returns how long `waiter` should sleep: inf if another leads, None if its wait has ended.
        """
        now = self.owner._pump()
        with self.owner._lock:
            if not waiter.waits:
                return None
            if self.leader is None:
                self.leader = waiter
            if self.leader is not waiter:
                return inf
            self.armed = self.owner._desk.alarm
            span = max(0.0, self.armed - now)
        while now + span < self.armed:
            span = nextafter(span, inf)
        return span


class _Bed:
    """Where one thread sleeps: a lock that is taken.

    Attributes:
        lock: the lock.
        thread: whose it is.
        stir: tells virtual time that this thread goes on, as soon as it sleeps there.
    """

    __slots__ = ("lock", "stir", "thread")

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.lock.acquire()
        self.thread = threading.current_thread()
        self.stir: Callable[[threading.Thread, Callable[[], object]], None] | None = None

    def wait(self, longest: float) -> bool:
        """Sleep, at most so many seconds; whether somebody rang."""
        return self.lock.acquire(timeout=min(max(0.0, longest), threading.TIMEOUT_MAX))

    def ring(self) -> None:
        """Wake who sleeps here; once or twice."""
        with suppress(RuntimeError):
            self.lock.release()


class ThreadLot(Led):
    """The threads of this process."""

    __slots__ = ()

    def make_bed(self, waiter: Parked) -> None:
        """Prepare for `waiter` to sleep."""
        waiter.bed = _Bed()

    def wake(self, waiter: Parked) -> bool:
        """Wake one."""
        bed: _Bed = waiter.bed
        # First of all, for once it has heard the bell it may sleep somewhere else.
        if bed.stir is not None:
            bed.stir(bed.thread, bed.ring)
        bed.ring()
        return True

    def sleep(self, waiter: Parked) -> None:
        """Sleep until the wait has ended."""
        bed: _Bed = waiter.bed
        clock = self.owner._clock
        while (span := self.watch(waiter)) is not None:
            by_machine = is_machine(clock)
            virtual = None if by_machine else virtual_of(clock)
            if virtual is not None:
                bed.stir = virtual.stir
                virtual.wait(span, inf if span == inf else self.armed, bed.wait, bed.ring)
                continue
            if span < inf and not by_machine:
                clock.sleep(span)
                continue
            if span == inf and by_machine:
                # It will be woken, unless whoever was about to do it was interrupted: so it looks once more when it
                # is late.
                span = waiter.deadline - clock.now() + 1.0
            bed.wait(span)


def lot_for_thread(owner: Owner) -> ThreadLot:
    """The lot of the threads of this process."""
    lot = owner._lots.get("threads")
    return lot if isinstance(lot, ThreadLot) else ThreadLot(owner, "threads", None)
