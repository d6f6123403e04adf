"""The circuit breaker's decisions.

Theory of operation
-------------------
A breaker watches calls to something that may be down. While it is *closed*, calls go through and are tallied; when the
tally trips, it is *open* and refuses them, so that the caller hears at once what it would otherwise hear after a
timeout, and the callee is left alone to recover. After a cooldown it is *half-open*: a few calls, the trials, go
through to find out. If they succeed it closes; if one fails it opens again.

    state      | call arrives          | success        | failure          | lease ends     | by hand
    -----------+-----------------------+----------------+------------------+----------------+-----------------
    closed     | permit = generation   | tally          | tally; trip: OPEN|  -             | open, isolate
    open       | refuse; after the     | (late)         | (late)           |  -             | close, isolate
               | cooldown: HALF-OPEN   |                |                  |                |
    half-open  | permit = new trial if | one more; all: | OPEN             | place is free, | open, close,
               | a place is left       | CLOSED         |                  | counts nothing | isolate
    isolated   | refuse                | (late)         | (late)           |  -             | last release:
               |                       |                |                  |                | CLOSED

The difficulty is not the table. It is that calls last, and end when they like: a call admitted before the outage ends
in the middle of it, a trial hangs, a trial's caller goes away. Three devices make every ending harmless.

A *permit* is an integer that says what the call was admitted as. While closed, it is the number of the generation: all
calls share it, and admitting one writes nothing. When the circuit moves on, the number is used up, and whoever comes
back with it is *late*: heard of, but without effect. In half-open each trial has an integer of its own, drawn from the
same counter, so no two permits are ever alike.

A *lease* bounds how long a trial may occupy its place. A trial that has not ended by then gives the place back and
counts neither way; its result, should it come, is late. So half-open cannot be wedged by a call that never returns.

A *place* is taken only for what is still needed: trials under way and trials that have succeeded together never exceed
`trials`. So exactly `trials` successes close the circuit, however their endings interleave.

Time never runs backwards in here: a reading older than the newest one seen is raised to it. And an interrupt from the
keyboard may tear off any method at any call that it makes: a change first takes away (permits, places), and gives (a
state, and what announces it) in one line of assignments at the end, so a half-made one can lose a verdict but never
wedge the circuit.
"""

from __future__ import annotations

import enum
import math

from resilience.core.trip import SlowRate
from resilience.core.verdict import FAILURE, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.trip import Tally, Trip
    from resilience.core.verdict import Verdict

__all__ = ["REFUSED", "Circuit", "CircuitState", "Settled"]

REFUSED = -1
"""What `acquire` returns instead of a permit."""


class CircuitState(enum.StrEnum):
    """The four states of a circuit; each is equal to its lower-case name."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"


class Settled(enum.Enum):
    """What became of a settled permit."""

    COUNTED = "counted"
    LATE = "late"


class Circuit:
    """One circuit: a state machine without a clock or a lock. A policy holds its own lock around each of these methods.

    Args:
        trips: what opens it; any one suffices.
        cooldown: seconds from opening to half-open.
        trials: calls admitted in half-open at a time, and successes that close it.
        lease: seconds after which a trial that has not ended gives its place back.

    Attributes:
        state: the state after the last call of a method; ask `look` first for the present one.
        since: when that state began; None while it is the first.
        latest: the newest reading of the clock.
        generation: the permit of calls admitted while closed.
        serial: the number drawn last; permits are drawn once.
        leases: the trials under way, and when each lease ends.
        changes: (previous, new) states since it was last emptied, in order.
        short_leases: whether the last two trials to give their place back both did so by their lease ending.
    """

    __slots__ = (
        "_isolations",
        "_lapses",
        "_passed",
        "_slow_above",
        "_trials_at",
        "changes",
        "cooldown",
        "generation",
        "latest",
        "lease",
        "leases",
        "serial",
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
        self.latest = float("-inf")
        self.generation = 0
        self.tallies: list[Tally] = [trip.start() for trip in trips]
        self.leases: dict[int, float] = {}
        self.changes: list[tuple[CircuitState, CircuitState]] = []
        self.short_leases = False
        self.serial = 0
        self._passed = 0
        self._lapses = 0
        self._isolations: dict[int, str] = {}
        self._trials_at = 0.0

    # --- calls --------------------------------------------------------------------------------------------------------

    def acquire(self, now: float) -> int:
        """A permit for one call, or REFUSED."""
        self.look(now)
        if self.state is CircuitState.CLOSED:
            return self.generation
        if self.state is not CircuitState.HALF_OPEN or not self._places():
            return REFUSED
        permit = self._draw()
        self.leases[permit] = self.latest + self.lease
        return permit

    def settle(self, permit: int, verdict: Verdict, now: float, elapsed: float = 0.0) -> Settled:
        """Take a permit back with the verdict on its call, which took `elapsed` seconds.

        A call that ended for no reason of its own (IGNORED) is neutral, unless it had already run longer than a
        `SlowRate` allows: pass its time as `elapsed` to count that, or leave it 0.0.
        """
        self.look(now)
        if permit in self.leases:
            self._settle_trial(permit, verdict, elapsed)
            return Settled.COUNTED
        # Only a closed generation's number is ever given to a call.
        if permit != self.generation:
            return Settled.LATE
        # Every tally sees the call, also when the first has tripped already.
        tripped = [tally.record(verdict, elapsed, self.latest) for tally in self.tallies]
        if any(tripped):
            self._open()
        return Settled.COUNTED

    def _places(self) -> int:
        return self.trials - self._passed - len(self.leases)

    def _settle_trial(self, permit: int, verdict: Verdict, elapsed: float) -> None:
        del self.leases[permit]
        self._lapses = 0
        slow = self._slow_above is not None and elapsed > self._slow_above
        if verdict is FAILURE or slow:
            self._open()
        elif verdict is SUCCESS:
            if self._passed + 1 < self.trials:
                self._passed += 1
            else:
                self._close()

    # --- time ---------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> CircuitState:
        """Let time take effect: the end of the cooldown, the ends of leases. Returns the present state."""
        self.latest = max(self.latest, now)
        if self.state is CircuitState.OPEN and self.latest >= self._trials_at:
            self._move(CircuitState.HALF_OPEN)
        for permit in [permit for permit, end in self.leases.items() if end <= self.latest]:
            del self.leases[permit]
            self._lapses += 1
            if self._lapses >= 2:
                self._lapses = 0
                self.short_leases = True
        return self.state

    def retry_after(self) -> float | None:
        """Seconds from the newest reading until asking again may help; None while closed or isolated.

        Enough to the last bit: the newest reading plus these seconds is not before that moment.
        """
        if self.state is CircuitState.OPEN:
            return _until(self._trials_at, self.latest)
        if self.state is CircuitState.HALF_OPEN:
            return 0.0 if self._places() else _until(min(self.leases.values()), self.latest)
        return None

    @property
    def clean(self) -> bool:
        """Whether the circuit is closed and one more success would change nothing."""
        return self.state is CircuitState.CLOSED and all(tally.clean for tally in self.tallies)

    def counts(self) -> tuple[int, int]:
        """(failures, calls) that count at present: of the worst tally while closed, of the trials in half-open."""
        if self.state is CircuitState.HALF_OPEN:
            return 0, self._passed
        return max(tally.counts(self.latest) for tally in self.tallies)

    def reason(self) -> str:
        """Why it is isolated: what the newest isolation gave, "" without one."""
        return next(reversed(self._isolations.values()), "")

    # --- by hand ------------------------------------------------------------------------------------------------------

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

    def isolate(self, reason: str, now: float) -> int:
        """Refuse every call until what is returned here has been given to `release`."""
        self.look(now)
        token = self._draw()
        self._isolations[token] = reason
        self._move(CircuitState.ISOLATED)
        return token

    def release(self, token: int, now: float) -> bool:
        """Take one isolation back; after the last the circuit is closed, clean. False if it was taken back before."""
        self.look(now)
        if token not in self._isolations:
            return False
        del self._isolations[token]
        if not self._isolations:
            self._close()
        return True

    # --- transitions --------------------------------------------------------------------------------------------------

    def _draw(self) -> int:
        self.serial += 1
        return self.serial

    def _open(self) -> None:
        self._trials_at = self.latest + self.cooldown
        self._move(CircuitState.OPEN)

    def _close(self) -> None:
        self.tallies = [trip.start() for trip in self.trips]
        self._move(CircuitState.CLOSED)

    def _move(self, state: CircuitState) -> None:
        # Also without a change of state: what was admitted before a reset by hand is of an older generation.
        self.generation = self._draw()
        self.leases.clear()
        self._passed = 0
        self._lapses = 0
        if state is not self.state:
            change = (self.state, state)
            self.state = state
            self.since = self.latest
            self.changes.append(change)


def _until(moment: float, now: float) -> float:
    wait = moment - now
    while now + wait < moment:
        wait = math.nextafter(wait, math.inf)
    return wait
