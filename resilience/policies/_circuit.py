"""A circuit that callers share: the machine of `resilience.core.breaker` with a lock, a clock and listeners.

What a call means is for the breaker to judge; here its verdict is taken to the circuit, and what that changes is told.
Two things are read without the lock, the permit of a closed circuit and the number that a success may leave without a
word, so both are brought up to date before the lock is let go. Events are queued under the lock, so in the order of
what happened, and delivered after it.

Nothing of others' runs under the lock. Of a cooldown that grows, the backoff and the random number may both be theirs:
the circuit opens at once, and whoever opened it then works out how long for. Anybody who comes in between, sees that it
is not known yet, and does the same; so no refusal and no snapshot ever shows half an opening.
"""

from __future__ import annotations

import collections
import sys
from math import inf

from resilience.core.breaker import Circuit, CircuitState, Settled
from resilience.core.cooldown import measure
from resilience.core.trip import steady_window
from resilience.core.verdict import IGNORED, SUCCESS
from resilience.events import (
    CallSucceeded,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    LateResult,
    LeaseTooShort,
)
from resilience.policies._gate import ASK, GatePolicy
from resilience.policies._isolation import Isolation, checked_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from resilience.core.backoff import Backoff
    from resilience.core.verdict import Verdict
    from resilience.core.watch import Watches
    from resilience.core.window import LastCalls, LastSeconds
    from resilience.events import Event

    T = TypeVar("T")

    Shut = tuple[float, float, tuple[str, str] | None]
    """What refusals say that need no lock: when the cooldown ends, the newest reading, the last failure."""

__all__ = ["SharedCircuit"]

_TELL_ALL = -2
"""Equal to no permit: every success is told."""

TICKS = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a success may be counted without the lock, by the one who made the call."""


class SharedCircuit(GatePolicy):
    """The base of the circuit breaker: its state, what may be done with it by hand, and what is told of it."""

    __slots__ = (
        "_abandoned",
        "_backoff",
        "_circuit",
        "_first",
        "_last_error",
        "_rng",
        "_shut",
        "_steady",
        "_watches",
        "_window",
    )

    _state = ("_circuit", "_last_error")

    def _share(self, circuit: Circuit, backoff: Backoff | None, first: float, rng: Callable[[], float]) -> None:
        """Begin with this circuit, whose cooldown is `first` seconds, or grows from there by `backoff`."""
        self._circuit = circuit
        self._backoff = backoff
        self._first = first
        self._rng = rng
        self._last_error: tuple[str, str] | None = None
        self._shut: Shut | None = None
        self._steady = _TELL_ALL
        self._window: LastCalls | LastSeconds | None = None
        self._watches: Watches | None = None
        self._abandoned: collections.deque[tuple[int, float]] = collections.deque()

    # --- calls --------------------------------------------------------------------------------------------------------

    def _settle(
        self,
        permit: int,
        verdict: Verdict,
        elapsed: float = 0.0,
        reason: tuple[str, str] | None = None,
        hint: float = 0.0,
    ) -> None:
        now = self._clock.now()
        with self._lock:
            if self._abandoned:
                self._take_back()
            self._bar()
            self._count(permit, verdict, now, elapsed, reason, hint)
        if self._backoff is not None:
            self._measure()
        self._channel.deliver()

    def _count(
        self,
        permit: int,
        verdict: Verdict,
        now: float,
        elapsed: float = 0.0,
        reason: tuple[str, str] | None = None,
        hint: float = 0.0,
    ) -> None:
        settled = self._circuit.settle(permit, verdict, now, elapsed, hint)
        if reason is not None and settled is Settled.COUNTED:
            self._last_error = reason
        self._publish()
        if self._channel.heard:
            if settled is Settled.LATE:
                self._put(LateResult, verdict=verdict)
            elif verdict is SUCCESS:
                self._put(CallSucceeded, attempts=1)

    def _abandon(self, permit: int) -> None:
        """Give back the permit of a call that was thrown away.

        That may happen in a collection of garbage, on a thread that is inside a block of ours and holds the lock. So it
        is never waited for: whoever takes it next, this thread or another, gives back what lies here before anything
        else.
        """
        self._abandoned.append((permit, self._clock.now()))
        if not self._lock.locked():
            self._change(Circuit.look)

    def _take_back(self) -> None:
        """Settle what was abandoned. Called with the lock held; the ways that need none are open afterwards."""
        while self._abandoned:
            permit, now = self._abandoned.popleft()
            self._bar()
            self._count(permit, IGNORED, now)

    # --- state --------------------------------------------------------------------------------------------------------

    def _bar(self) -> None:
        """Bar the ways that need no lock. Called with the lock held, before anything is read that they change."""
        self._steady = _TELL_ALL
        watches = self._circuit.watches
        if watches is not None:
            watches.until = -inf
            watches.gather()

    def _publish(self) -> None:
        """Bring what is read without the lock up to date, and queue what has happened. Called with the lock held."""
        circuit, heard = self._circuit, self._channel.heard
        closed = circuit.state is CircuitState.CLOSED
        self._permit = circuit.generation if closed and circuit.ramp is None and not self._timed else ASK
        quiet = closed and circuit.clean and not (self._timed or heard or self._judges_results)
        self._clean = circuit.generation if quiet else _TELL_ALL
        self._shut = None
        counts = closed and not (heard or self._judges_results)
        self._bar()
        self._window = window = steady_window(circuit.tallies) if counts else None
        self._watches = watches = circuit.watches
        if window is not None:
            if watches is None:
                self._steady = circuit.generation
            elif circuit.ramp is None:
                if watches.number < 0:
                    watches.number = circuit.draw()
                watches.window, watches.until = window, min(watches.due, window.ends)
        if heard:
            for previous, state in circuit.changes:
                self._put_transition(previous, state)
            if circuit.short_leases:
                self._put(LeaseTooShort, lease=circuit.lease)
        circuit.changes.clear()
        circuit.short_leases = False

    def _put_transition(self, previous: CircuitState, state: CircuitState) -> None:
        if state is CircuitState.OPEN:
            self._put(CircuitOpened, previous=previous, state=state, last_error=self._last_error)
        elif state is CircuitState.ISOLATED:
            self._put(CircuitIsolated, previous=previous, state=state, reason=self._circuit.reason())
        elif state is CircuitState.HALF_OPEN:
            self._put(CircuitHalfOpened, previous=previous, state=state)
        else:
            self._put(CircuitClosed, previous=previous, state=state)

    def _put(self, event: type[Event], **fields: object) -> None:
        """Queue an event of this moment. Called with the lock held, so the queue has the order of what happened."""
        self._channel.put(event(self.name, self.kind, self._circuit.latest, **fields))

    def _change(self, verb: Callable[..., T], *arguments: object) -> T:
        now = self._clock.now()
        with self._lock:
            if self._abandoned:
                self._take_back()
            self._bar()
            answer = verb(self._circuit, *arguments, now)
            self._publish()
        if self._backoff is not None:
            self._measure()
        self._channel.deliver()
        return answer

    def _measure(self) -> None:
        """Tell an open circuit how long it stays so, where that grows. Without the lock: it runs others' code.

        One that fails is heard, by the caller whose access opened the circuit; the cooldown is then the one before.
        """
        circuit, backoff = self._circuit, self._backoff
        opening = circuit.unmeasured
        if opening is None or backoff is None:
            return
        seconds = opening[1] or self._first
        try:
            seconds = measure(backoff, *opening, self._rng())
        except BaseException:
            self._channel.deliver()
            raise
        finally:
            with self._lock:
                circuit.cooldown.tell(opening, seconds)

    @property
    def state(self) -> CircuitState:
        """The present state. Time takes effect on a look: an open circuit whose cooldown is over is half-open here."""
        return self._change(Circuit.look)

    def open(self) -> None:
        """Open by hand, and start the cooldown anew. Does nothing while isolated."""
        self._change(Circuit.open)

    def close(self) -> None:
        """Close by hand, and forget every failure. Does nothing while isolated."""
        self._change(Circuit.close)

    def reset(self) -> None:
        """Drop every isolation and close, clean."""
        self._change(Circuit.reset)

    def isolate(self, reason: str = "") -> Isolation:
        """Refuse every call until the isolation is released: `with breaker.isolate("deploy"):`, or `.release()`.

        Isolations are counted: the circuit closes, clean, when the last is released. Forgetting one releases nothing.
        """
        token = self._change(Circuit.isolate, checked_reason(reason))
        return Isolation(token, lambda given: self._change(Circuit.release, given))

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON: one consistent view, from memory; safe from any thread."""
        view = self._change(self._view)
        while view is None:
            view = self._change(self._view)
        return {**super().snapshot(), **view}

    def _view(self, circuit: Circuit, now: float) -> dict[str, Any] | None:
        state = circuit.look(now)
        if circuit.unmeasured is not None:
            return None
        failures, calls = circuit.counts()
        return {
            "state": state.value,
            "since": circuit.since,
            "failures": failures,
            "calls": calls,
            "trials": len(circuit.leases),
            "retry_after": circuit.retry_after(),
            "last_error": None if self._last_error is None else list(self._last_error),
        }

    def _listeners_changed(self) -> None:
        with self._lock:
            self._publish()

    def _freeze(self) -> dict[str, Any]:
        from copy import deepcopy

        with self._lock:
            self._bar()
            frozen = {field: deepcopy(getattr(self, field)) for field in self._state}
            self._publish()
        return frozen

    def _thaw(self, frozen: dict[str, Any]) -> None:
        with self._lock:
            self._bar()
            # Numbers are drawn once: a call that was admitted meanwhile comes back late, never as somebody else.
            frozen["_circuit"].serial = self._circuit.serial
            # And what has come back meanwhile is not under way any more.
            frozen["_circuit"].forget_calls(self._circuit)
            # In the same block: a call that began in between would have a number that is drawn again.
            for field, value in frozen.items():
                setattr(self, field, value)
        self._listeners_changed()

    def _at_rest(self) -> bool:
        now = self._clock.now()
        with self._lock:
            self._bar()
            rests = not self._abandoned and self._circuit.at_rest(now)
            self._publish()
        self._channel.deliver()
        return rests

    def _after_fork(self) -> None:
        # Threads that are not here bring nothing back, and a call of theirs must not look as if it hung.
        self._circuit.forget_calls()
