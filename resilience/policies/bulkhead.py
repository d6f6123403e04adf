"""Not more than so many at the same time.

What a slow dependency takes from a service is not the calls that fail but the threads, connections and memory of those
that wait for it, until there is nothing left for anything else. A bulkhead is a limit on how much one dependency can
hold: so many calls in flight, a short queue before them, and for the rest an honest refusal at once.

Who gets a place, and who is next, is decided in `resilience.core.bulkhead`; how waiters of threads, asyncio and trio
stand in one queue and are woken each in its own runtime, in `resilience.policies._waiting`.
"""

from __future__ import annotations

from math import inf
from threading import get_ident

from resilience._checks import positive_int, seconds, wrong_type, wrong_value
from resilience._scope import time_left
from resilience.core.bulkhead import REFUSED, Places
from resilience.core.ledger import Claim
from resilience.errors import BulkheadFull
from resilience.events import CallRejected, CallSucceeded
from resilience.policies._desk_gate import DeskGate
from resilience.policies._gate import ASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

    from resilience.clock import Clock
    from resilience.core.verdict import Verdict
    from resilience.policies._waiting import Parked

__all__ = ["Bulkhead"]

_TELL_ALL = -2
"""Equal to no permit: every success is told, since a place comes back with it."""


class Bulkhead(DeskGate):
    """At most `limit` calls in flight; at most `queue` more wait for a place, first come, first served.

    One object is shared by all threads and event loops, whose waiters stand in one queue; no lock is held while a call
    runs. A blocking wait ends at the caller's deadline too. In a forked child only the places of the thread that forked
    are taken.

    Args:
        limit: calls in flight at the same time, 1 or more.
        queue: callers that may wait for a place; 0 refuses at once.
        max_wait: seconds that a caller waits at most; `math.inf` waits as long as it takes.
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default. In plain code, a wait of `max_wait` under
            another clock is its `sleep`.

    Raises:
        BulkheadFull: from a call that found no place in time.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_max_wait", "_places")

    kind = "bulkhead"
    _form = "10"

    def __init__(
        self,
        limit: int,
        *,
        queue: int = 0,
        max_wait: float | timedelta = inf,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self._places = Places(int(positive_int("limit", limit)), _length(queue))
        self._max_wait = seconds("max_wait", max_wait, zero=True, infinite=True)
        self._permit = ASK
        self._clean = _TELL_ALL
        self._timed = False
        desk: Any = self._places
        self._open_desk(desk)
        self._setup(name, clock, arguments)

    # --- coming -------------------------------------------------------------------------------------------------------

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        permit = self._enter()
        if permit != REFUSED:
            return permit
        left = time_left()
        patience = self._max_wait if left is None else min(self._max_wait, max(0.0, left))
        if not self._may_wait(patience):
            raise self._full(0.0)
        return self._outcome(self._wait(Claim(get_ident(), (), 0), patience), patience)

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        permit = self._enter()
        if permit != REFUSED:
            return permit
        # A deadline cuts the task while it waits; nobody has to look at it here.
        patience = self._max_wait
        if not self._may_wait(patience):
            raise self._full(0.0)
        return self._outcome(await self._wait_async(Claim(get_ident(), (), 0), patience), patience)

    def _enter(self) -> int:
        owner = get_ident()
        if self._left:
            self._pump()
        with self._lock:
            return self._places.acquire(owner)

    def _may_wait(self, patience: float) -> bool:
        return patience > 0.0 and self._places.queued < self._places.queue

    def _outcome(self, waiter: Parked, patience: float) -> int:
        if self._places.holds(waiter.number):
            return waiter.number
        # Whoever was let in and has no place has waited to the end.
        raise self._full(patience if waiter.number else 0.0)

    def _full(self, waited: float) -> BulkheadFull:
        if self._channel.heard:
            self._send(CallRejected, reason="max_wait" if waited else "full", retry_after=None)
        return BulkheadFull(self.name, None, self._places.limit, self._places.queue, waited)

    # --- going --------------------------------------------------------------------------------------------------------

    def _leave(self, permit: int) -> None:
        with self._lock:
            self._places.leave(permit)
            after = self._aftermath()
        self._clear_up(after)
        if self._left:
            self._pump()

    def _returned(self, permit: int, result: object, started: float) -> None:
        self._leave(permit)
        if self._channel.heard:
            self._send(CallSucceeded, attempts=1)

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        self._leave(permit)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        self._leave(permit)

    # --- state --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON. Reads memory only; safe from any thread."""
        places = self._places
        with self._lock:
            view = {"in_flight": places.in_flight, "queued": places.queued}
        return {**super().snapshot(), "limit": places.limit, "queue": places.queue, **view}

    def _at_rest(self) -> bool:
        with self._lock:
            return not (self._places.in_flight or self._places.queued)

    def _after_fork(self) -> None:
        self._places.keep_only(get_ident())
        super()._after_fork()
        self._pump()


def _length(queue: object) -> int:
    rule = "an integer, 0 or more"
    if not isinstance(queue, int) or isinstance(queue, bool):
        raise wrong_type("queue", rule, queue)
    if queue < 0:
        raise wrong_value("queue", rule, queue)
    return queue
