"""The circuit breaker's decisions.

Theory of operation
-------------------
A breaker watches calls to something that may be down. While it is *closed*, calls go through and are tallied; when the tally trips, it is
*open* and refuses them, so that the caller hears at once what it would otherwise hear after a timeout, and the callee is left alone to
recover. After a cooldown it is *half-open*: a few calls, the trials, go through to find out. If they succeed it closes; if one fails it
opens again.

    state      | call arrives          | success        | failure          | lease ends     | by hand
    -----------+-----------------------+----------------+------------------+----------------+-----------------
    closed     | permit = generation   | tally          | tally; trip: OPEN|  -             | open, isolate
    open       | refuse; after the     | (late)         | (late)           |  -             | close, isolate
               | cooldown: HALF-OPEN   |                |                  |                |
    half-open  | permit = new trial if | one more; all: | OPEN             | place is free, | open, close,
               | a place is left       | CLOSED         |                  | counts nothing | isolate
    isolated   | refuse                | (late)         | (late)           |  -             | last release:
               |                       |                |                  |                | CLOSED

The difficulty is not the table. It is that calls last, and end when they like: a call admitted before the outage ends in the middle of
it, a trial hangs, a trial's caller goes away. Three devices make every ending harmless.

A *permit* is an integer that says what the call was admitted as. While closed, it is the number of the generation: all calls share it,
and admitting one writes nothing. When the circuit moves on, the number is used up, and whoever comes back with it is *late*: heard of,
but without effect. In half-open each trial has an integer of its own, drawn from the same counter, so no two permits are ever alike.

A *lease* bounds how long a trial may occupy its place. A trial that has not ended by then gives the place back and counts neither way;
its result, should it come, is late. So half-open cannot be wedged by a call that never returns.

A *place* is taken only for what is still needed: trials under way and trials that have succeeded together never exceed `trials`. So
exactly `trials` successes close the circuit, however their endings interleave.

Time never runs backwards in here: a reading older than the newest one seen is raised to it.
"""

from __future__ import annotations

import enum

from resilience.core.trip import SlowRate
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.trip import Tally, Trip
    from resilience.core.verdict import Verdict

__all__ = ["REFUSED", "Circuit", "CircuitState", "Settled"]

REFUSED = -1
"""What `acquire` returns instead of a permit."""


class CircuitState(str, enum.Enum):
    """The four states of a circuit; each is equal to its lower-case name."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"

    def __str__(self) -> str:
        return self.value


class Settled(enum.Enum):
    """What became of a settled permit."""

    COUNTED = "counted"
    LATE = "late"


class Circuit:
    """One circuit: a state machine without a clock or a lock. Not thread-safe by itself; a policy holds its lock around each call.

    Args:
        trips: what opens it; any one suffices.
        cooldown: seconds from opening to half-open.
        trials: calls admitted in half-open at a time, and successes that close it.
        lease: seconds after which a trial that has not ended gives its place back.

    Attributes:
        state: the state after the last call of a method; ask `look` first for the present one.
        since: when that state began.
        generation: the permit of calls admitted while closed.
        changes: (previous, new) states since it was last emptied, in order.
        short_leases: whether the last two trials to give their place back both did so by their lease ending.
    """

    __slots__ = (
        "_isolations",
        "_lapses",
        "_latest",
        "_passed",
        "_serial",
        "_slow_above",
        "_trials_at",
        "changes",
        "cooldown",
        "generation",
        "lease",
        "leases",
        "short_leases",
        "since",
        "state",
        "tallies",
        "trials",
        "trips",
    )

    def __init__(self, trips: tuple[Trip, ...], cooldown: float, trials: int, lease: float) -> None:
        self.trips = trips
        self.cooldown = cooldown
        self.trials = trials
        self.lease = lease
        slow = [trip.slower_than for trip in trips if isinstance(trip, SlowRate)]
        self._slow_above = min(slow) if slow else None
        self.state = CircuitState.CLOSED
        self.since: float | None = None
        self.generation = 0
        self.tallies: list[Tally] = [trip.start() for trip in trips]
        self.leases: dict[int, float] = {}
        self.changes: list[tuple[CircuitState, CircuitState]] = []
        self.short_leases = False
        self._serial = 0
        self._passed = 0
        self._lapses = 0
        self._isolations: set[int] = set()
        self._trials_at = 0.0
        self._latest = float("-inf")

    # --- calls ------------------------------------------------------------------------------------------------------------

    def acquire(self, now: float) -> int:
        """A permit for one call, or REFUSED."""
        self.look(now)
        if self.state is CircuitState.CLOSED:
            return self.generation
        if self.state is not CircuitState.HALF_OPEN or len(self.leases) + self._passed >= self.trials:
            return REFUSED
        permit = self._draw()
        self.leases[permit] = self._latest + self.lease
        return permit

    def settle(self, permit: int, verdict: Verdict, now: float, elapsed: float = 0.0) -> Settled:
        """Take a permit back with the verdict on its call, which took `elapsed` seconds.

        A call that ended for no reason of its own (IGNORED) is neutral, unless it had already run longer than a `SlowRate` allows: pass
        its time as `elapsed` to count that, or leave it 0.0.
        """
        self.look(now)
        if permit in self.leases:
            self._settle_trial(permit, verdict, elapsed)
            return Settled.COUNTED
        if permit != self.generation or self.state is not CircuitState.CLOSED:
            return Settled.LATE
        # Every tally sees the call, also when the first has tripped already.
        if any([tally.record(verdict, elapsed, self._latest) for tally in self.tallies]):
            self._open()
        return Settled.COUNTED

    def _settle_trial(self, permit: int, verdict: Verdict, elapsed: float) -> None:
        del self.leases[permit]
        self._lapses = 0
        slow = self._slow_above is not None and elapsed > self._slow_above
        if verdict is FAILURE or slow:
            self._open()
        elif verdict is SUCCESS:
            self._passed += 1
            if self._passed >= self.trials:
                self._close()

    # --- time -------------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> CircuitState:
        """Let time take effect: the end of the cooldown, the ends of leases. Returns the present state."""
        if now > self._latest:
            self._latest = now
        if self.state is CircuitState.OPEN and self._latest >= self._trials_at:
            self._move(CircuitState.HALF_OPEN)
        elif self.state is CircuitState.HALF_OPEN and self.leases:
            for permit in [permit for permit, end in self.leases.items() if end <= self._latest]:
                del self.leases[permit]
                self._lapses += 1
                if self._lapses >= 2:
                    self._lapses = 0
                    self.short_leases = True
        return self.state

    def retry_after(self) -> float | None:
        """Seconds from the newest reading until asking again may help; None while closed or isolated."""
        if self.state is CircuitState.OPEN:
            return max(0.0, self._trials_at - self._latest)
        if self.state is CircuitState.HALF_OPEN:
            return max(0.0, min(self.leases.values()) - self._latest) if self.leases else 0.0
        return None

    @property
    def clean(self) -> bool:
        """Whether the circuit is closed and one more success would change nothing."""
        return self.state is CircuitState.CLOSED and all(tally.clean for tally in self.tallies)

    def counts(self) -> tuple[int, int]:
        """(failures, calls) that count at present: the worst of the tallies while closed; (0, successes) in half-open."""
        if self.state is CircuitState.HALF_OPEN:
            return 0, self._passed
        return max(tally.counts(self._latest) for tally in self.tallies)

    # --- by hand ----------------------------------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Open, and start the cooldown anew. Does nothing while isolated."""
        self.look(now)
        if self.state is not CircuitState.ISOLATED:
            self._open()

    def close(self, now: float) -> None:
        """Close, and forget every failure. Does nothing while isolated."""
        self.look(now)
        if self.state is not CircuitState.ISOLATED:
            self._close()

    def reset(self, now: float) -> None:
        """Drop every isolation and close, clean."""
        self.look(now)
        self._isolations.clear()
        self._close()

    def isolate(self, now: float) -> int:
        """Refuse every call until what is returned here has been given to `release`."""
        self.look(now)
        token = self._draw()
        self._isolations.add(token)
        self._move(CircuitState.ISOLATED)
        return token

    def release(self, token: int, now: float) -> bool:
        """Take one isolation back; after the last the circuit is closed and clean. False if it was taken back before."""
        self.look(now)
        if token not in self._isolations:
            return False
        self._isolations.remove(token)
        if not self._isolations:
            self._close()
        return True

    # --- transitions ------------------------------------------------------------------------------------------------------

    def _draw(self) -> int:
        self._serial += 1
        return self._serial

    def _open(self) -> None:
        self._trials_at = self._latest + self.cooldown
        self._move(CircuitState.OPEN)

    def _close(self) -> None:
        self._move(CircuitState.CLOSED)
        self.tallies = [trip.start() for trip in self.trips]

    def _move(self, state: CircuitState) -> None:
        # Also without a change of state: what was admitted before a reset by hand is of an older generation.
        self.generation = self._draw()
        self.leases.clear()
        self._passed = 0
        self._lapses = 0
        if state is not self.state:
            self.changes.append((self.state, state))
            self.state = state
            self.since = self._latest
