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

Three things bend the table a little. With a *ramp*, a circuit that has closed refuses a shrinking share of the calls
for a while (`resilience.core.ramp`). Where a `SlowRate` is set, each call of a closed circuit has a number of its own,
so that one that hangs is seen to be slow, and may trip, before it ends (`resilience.core.watch`). And a cooldown may
*grow* with each opening since the last close; how long it is must then be told to the open circuit
(`resilience.core.cooldown`), which until then admits nobody.

Time never runs backwards in here: a reading older than the newest one seen is raised to it. And an interrupt from the
keyboard may tear off any method at any call that it makes: a change first takes away (permits, places), and gives (a
state, and what announces it) in one line of assignments at the end, so a half-made one can lose a verdict but never
wedge the circuit.
"""

from __future__ import annotations

from math import inf

from resilience.core.cooldown import Cooldown, until
from resilience.core.ramp import Ramp
from resilience.core.state import CircuitState, Settled
from resilience.core.trip import SlowRate
from resilience.core.verdict import FAILURE, SUCCESS
from resilience.core.watch import Watches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.trip import Trip
    from resilience.core.verdict import Verdict

__all__ = ["REFUSED", "Circuit", "CircuitState", "Settled"]

REFUSED = -1
"""What `acquire` returns instead of a permit."""


class Circuit:
    """One circuit: a state machine without a clock or a lock. A policy holds its own lock around each of these methods.

    Args:
        trips: what opens it; any one suffices.
        cooldown: seconds from opening to half-open; of the first opening, at most, where it grows.
        trials: calls admitted in half-open at a time, and successes that close it.
        lease: seconds after which a trial that has not ended gives its place back; None for the present cooldown.
        grows: whether the length of each cooldown has to be told.
        ramp: seconds after a close over which the share of calls admitted grows from nothing to all; None for none.

    Attributes:
        state: the state after the last call of a method; ask `look` first for the present one.
        since: when that state began; None while it is the first.
        latest: the newest reading of the clock.
        generation: the permit of calls admitted while closed.
        serial: the number drawn last; permits are drawn once.
        leases: the trials under way, and when each lease ends.
        changes: (previous, new) states since it was last emptied, in order.
        ramp: what the circuit goes through since it closed; None where everything is let through.
        short_leases: whether the last two trials to give their place back both did so by their lease ending.
    """

    __slots__ = (
        "_isolations",
        "_lapses",
        "_lease",
        "_passed",
        "_ramp_seconds",
        "_slow_above",
        "changes",
        "cooldown",
        "generation",
        "latest",
        "leases",
        "ramp",
        "serial",
        "short_leases",
        "since",
        "state",
        "tallies",
        "trials",
        "trips",
        "watches",
    )

    def __init__(
        self,
        trips: tuple[Trip, ...],
        cooldown: float,
        trials: int,
        lease: float | None,
        *,
        grows: bool = False,
        ramp: float | None = None,
    ) -> None:
        self.trips = trips
        self.cooldown = Cooldown(cooldown, grows)
        self.trials = trials
        self._lease = lease
        self._ramp_seconds = ramp
        bounds = [trip.slower_than for trip in trips if isinstance(trip, SlowRate)]
        self._slow_above = min(bounds, default=inf)
        self.state = CircuitState.CLOSED
        self.since: float | None = None
        self.latest = -inf
        self.generation = 0
        self._count_anew()
        self.ramp: Ramp | None = None
        self.leases: dict[int, float] = {}
        self.changes: list[tuple[CircuitState, CircuitState]] = []
        self.short_leases = False
        self.serial = 0
        self._isolations: dict[int, str] = {}

    # --- calls --------------------------------------------------------------------------------------------------------

    def acquire(self, now: float, u: float = 0.0) -> int:
        """A permit for one call, or REFUSED; `u` in [0, 1) is its chance in a ramp."""
        self.look(now)
        if self.state is CircuitState.CLOSED:
            if self.ramp is not None and not self.ramp.admits(self.latest, u):
                return REFUSED
            return self.generation if self.watches is None else self.watches.begin(self.draw(), self.latest)
        if self.state is not CircuitState.HALF_OPEN or not self._places():
            return REFUSED
        permit = self.draw()
        self.leases[permit] = self.latest + self.lease
        return permit

    def settle(self, permit: int, verdict: Verdict, now: float, elapsed: float = 0.0, hint: float = 0.0) -> Settled:
        """Take a permit back with the verdict on its call, which took `elapsed` seconds.

        A call that ended for no reason of its own (IGNORED) is neutral, unless it had already run longer than a
        `SlowRate` allows: pass its time as `elapsed` to count that, or leave it 0.0. If this call opens the circuit, it
        stays open for `hint` seconds at least, up to `LONGEST_HINT`.
        """
        generation, tallies = self.generation, self.tallies
        current = permit == generation
        if self.watches is not None:
            # Before time takes effect: what nobody has seen being slow so far is judged by its end.
            current = permit in self.watches
            tallies = self.watches.end(permit, tallies)
        self.look(now)
        if permit in self.leases:
            self._settle_trial(permit, verdict, elapsed, hint)
            return Settled.COUNTED
        if not current or generation != self.generation:
            return Settled.LATE
        # Every tally sees the call, also when the first has tripped already, and none sees it twice.
        tripped = [tally.record(verdict, elapsed, self.latest) for tally in tallies]
        if any(tripped):
            self._open(hint)
        return Settled.COUNTED

    def _places(self) -> int:
        return self.trials - self._passed - len(self.leases)

    def _settle_trial(self, permit: int, verdict: Verdict, elapsed: float, hint: float) -> None:
        del self.leases[permit]
        self._lapses = 0
        if verdict is FAILURE or elapsed > self._slow_above:
            self._open(hint)
        elif verdict is SUCCESS:
            if self._passed + 1 < self.trials:
                self._passed += 1
            else:
                self._close()

    # --- time ---------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> CircuitState:
        """Let time take effect: slow calls, the ends of a cooldown, of leases, of a ramp. Returns the present state."""
        self.latest = max(self.latest, now)
        if self.watches is not None and self.watches.due < self.latest and self.watches.look(self.latest, self.serial):
            self._open()
        if self.ramp is not None and self.ramp.over(self.latest):
            self.ramp = None
        if self.state is CircuitState.OPEN and self.latest >= self.cooldown.ends:
            self._move(CircuitState.HALF_OPEN)
        for permit in [permit for permit, end in self.leases.items() if end <= self.latest]:
            del self.leases[permit]
            self._lapses += 1
            if self._lapses >= 2:
                self._lapses = 0
                self.short_leases = True
        return self.state

    def retry_after(self) -> float | None:
        """Seconds from the newest reading until asking again may help; None while closed or isolated. While a cooldown
        is unmeasured there is no such moment, and this is infinite.

        Enough to the last bit: the newest reading plus these seconds is not before that moment.
        """
        if self.state is CircuitState.OPEN:
            return until(self.cooldown.ends, self.latest)
        if self.state is CircuitState.HALF_OPEN:
            return 0.0 if self._places() else until(min(self.leases.values()), self.latest)
        return None

    @property
    def lease(self) -> float:
        """Seconds that a trial may take at present."""
        return self.cooldown.patience if self._lease is None else self._lease

    @property
    def unmeasured(self) -> tuple[int, float] | None:
        """(number of the opening since the last close, cooldown before) while it waits to be told its cooldown."""
        return self.cooldown.unmeasured if self.state is CircuitState.OPEN else None

    def at_rest(self, now: float) -> bool:
        """Whether no verdict would be lost if the circuit were made anew. Only looks.

        Failures that have not tripped are no verdict: else strangers could fill a table with names that failed once.
        """
        if self.state is not CircuitState.CLOSED or (self.watches is not None and self.watches.under_way):
            return False
        return self.ramp is None or self.ramp.over(max(self.latest, now))

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
        """Drop every isolation and close, clean, without a ramp."""
        self.look(now)
        self._isolations.clear()
        self._close()
        self.ramp = None

    def isolate(self, reason: str, now: float) -> int:
        """Refuse every call until what is returned here has been given to `release`."""
        self.look(now)
        token = self.draw()
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

    def forget_calls(self, but: Circuit | None = None) -> None:
        """Watch no call any more but those that another circuit watches: the rest will come back late, if at all."""
        if self.watches is not None:
            self.watches.keep(but.watches.under_way if but is not None and but.watches is not None else ())

    # --- transitions --------------------------------------------------------------------------------------------------

    def draw(self) -> int:
        """A number that no permit has had and none will."""
        self.serial = serial = self.serial + 1
        return serial

    def _open(self, hint: float = 0.0) -> None:
        if self.state is CircuitState.OPEN:
            self.cooldown.again(self.latest)
        else:
            self.cooldown.begin(self.latest, hint)
        self._move(CircuitState.OPEN)

    def _close(self) -> None:
        self._count_anew()
        ramp = self.ramp
        if self._ramp_seconds is not None and self.state is not CircuitState.CLOSED:
            ramp = Ramp(self.latest, self._ramp_seconds)
        self._move(CircuitState.CLOSED)
        self.cooldown.restart()
        self.ramp = ramp

    def _count_anew(self) -> None:
        started = [(trip, trip.start()) for trip in self.trips]
        self.tallies = [tally for _, tally in started]
        slow = [(tally, trip.slower_than) for trip, tally in started if isinstance(trip, SlowRate)]
        self.watches = Watches(slow) if slow else None

    def _move(self, state: CircuitState) -> None:
        # Also without a change of state: what was admitted before a reset is of an older generation.
        self.generation = self.draw()
        self.leases.clear()
        self.forget_calls()
        self._passed = 0
        self._lapses = 0
        if state is not CircuitState.CLOSED:
            self.ramp = None
        if state is not self.state:
            self.changes.append((self.state, state))
            self.state = state
            self.since = self.latest
