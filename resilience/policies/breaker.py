"""Stop asking what does not answer.

Calling something that is down costs the caller a timeout and the callee its recovery. A breaker remembers, for all
callers at once, that it is down, refuses at once while it is, and lets a few calls through now and then to find out
whether it still is. The decisions and their theory are in `resilience.core.breaker`; here they get a lock, a clock and
listeners.

A breaker never runs calls one at a time: it holds no lock while a call runs. While it is closed and nothing has failed,
entering reads one attribute (the permit itself) and leaving reads another.
"""

from __future__ import annotations

import collections

from resilience._checks import positive_int, seconds, wrong_type, wrong_value
from resilience._runtime import is_cancellation
from resilience._scope import cut_by_us
from resilience.core import trip as _trip
from resilience.core.breaker import REFUSED, Circuit, CircuitState, Settled
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.errors import CircuitOpen
from resilience.events import (
    CallRejected,
    CallSucceeded,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    LateResult,
    LeaseTooShort,
)
from resilience.matching import Matcher
from resilience.policies._gate import ASK, GatePolicy
from resilience.policies._isolation import Isolation, checked_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, Literal, TypeVar

    from resilience.clock import Clock
    from resilience.core.trip import Trip
    from resilience.core.verdict import Verdict
    from resilience.events import Event
    from resilience.matching import On

    T = TypeVar("T")

__all__ = ["CircuitBreaker"]

_TELL_ALL = -2
"""Equal to no permit: every success is told."""


class CircuitBreaker(GatePolicy):
    """Refuse calls to what has been failing, until it has recovered.

    One object is shared by all threads, event loops and call forms; no lock is held while a call runs.

    Args:
        trip: what opens it: so many failures in a row, a `FailureRate`, a `SlowRate`, or a tuple of which any suffices.
        on: the errors that count: a type, a tuple of types, or a predicate. Others are neutral.
        ignore: errors that never count, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means that it counts as a failure.
        cooldown: seconds from opening to half-open.
        trials: calls admitted in half-open, and successes that close it.
        trial_lease: seconds after which a trial that has not ended frees its place; the cooldown by default.
        on_cancel: the verdict on a call whose caller went away, "ignore" or "failure".
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        CircuitOpen: from a call that is refused.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_abandoned", "_cancel_fails", "_circuit", "_last_error", "_matcher")

    kind = "circuit_breaker"
    _form = "5, on=ConnectionError"
    _state = ("_circuit", "_last_error")

    def __init__(
        self,
        trip: int | Trip | tuple[Trip | int, ...] = 5,
        *,
        on: On = Exception,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        cooldown: float | timedelta = 30.0,
        trials: int = 1,
        trial_lease: float | timedelta | None = None,
        on_cancel: Literal["ignore", "failure"] = "ignore",
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key != "self"}
        if on is None:
            raise wrong_type("on", "an exception type, a tuple of them or a predicate", on)
        self._matcher = Matcher(on, ignore, on_result)
        rest = seconds("cooldown", cooldown)
        lease = rest if trial_lease is None else seconds("trial_lease", trial_lease)
        if on_cancel not in ("ignore", "failure"):
            raise wrong_value("on_cancel", '"ignore" or "failure"', on_cancel)
        self._cancel_fails = on_cancel == "failure"
        trips = _trip.coerce(trip)
        self._circuit = Circuit(trips, rest, positive_int("trials", trials), lease)
        self._timed = any(isinstance(each, _trip.SlowRate) for each in trips)
        self._last_error: tuple[str, str] | None = None
        self._abandoned: collections.deque[tuple[int, float]] = collections.deque()
        self._setup(name, clock, arguments)
        self._listeners_changed()

    # --- calls --------------------------------------------------------------------------------------------------------

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now = self._clock.now()
        refused: tuple[float | None, CircuitState, tuple[str, str] | None] | None = None
        with self._lock:
            if self._abandoned:
                self._take_back()
            circuit = self._circuit
            permit = circuit.acquire(now)
            if circuit.changes or circuit.short_leases:
                self._publish()
            if permit == REFUSED:
                refused = circuit.retry_after(), circuit.state, self._last_error
                if self._channel.heard:
                    self._put(CallRejected, reason=circuit.state.value, retry_after=refused[0])
        self._channel.deliver()
        if refused is not None:
            raise CircuitOpen(self.name, *refused)
        return permit

    def _returned(self, permit: int, result: object, started: float) -> None:
        verdict, reason = SUCCESS, None
        try:
            if self._matcher.result(result) is not None:
                verdict, reason = FAILURE, ("result", _short(result))
        except BaseException:
            self._settle(permit, IGNORED)
            raise
        self._settle(permit, verdict, self._elapsed(started), reason)

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        if isinstance(error, GeneratorExit):
            self._abandon(permit)
            return
        verdict, elapsed, reason = IGNORED, 0.0, None
        try:
            if isinstance(error, Exception):
                if self._matcher.error(error) is not None:
                    verdict, elapsed = FAILURE, self._elapsed(started)
            elif is_cancellation(error):
                # A call cut for being slow failed; one whose caller went away says only how long it has lasted.
                elapsed = self._elapsed(started)
                if self._cancel_fails or cut_by_us():
                    verdict = FAILURE
            if verdict is FAILURE:
                reason = (type(error).__name__, _short(error))
        except BaseException:
            self._settle(permit, IGNORED)
            raise
        self._settle(permit, verdict, elapsed, reason)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        elapsed = 0.0 if verdict is IGNORED else self._elapsed(started)
        self._settle(permit, verdict, elapsed, None if reason is None else ("fail", _short(reason)))

    def _elapsed(self, started: float) -> float:
        return self._clock.now() - started if self._timed else 0.0

    def _settle(
        self, permit: int, verdict: Verdict, elapsed: float = 0.0, reason: tuple[str, str] | None = None
    ) -> None:
        now = self._clock.now()
        with self._lock:
            if self._abandoned:
                self._take_back()
            self._count(permit, verdict, now, elapsed, reason)
        self._channel.deliver()

    def _count(
        self, permit: int, verdict: Verdict, now: float, elapsed: float = 0.0, reason: tuple[str, str] | None = None
    ) -> None:
        settled = self._circuit.settle(permit, verdict, now, elapsed)
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
        while self._abandoned:
            permit, now = self._abandoned.popleft()
            self._count(permit, IGNORED, now)

    # --- state --------------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Bring what is read without the lock up to date, and queue what has happened. Called with the lock held."""
        circuit, heard = self._circuit, self._channel.heard
        closed = circuit.state is CircuitState.CLOSED
        self._permit = circuit.generation if closed else ASK
        quiet = closed and circuit.clean and not (self._timed or heard or self._judges_results)
        self._clean = circuit.generation if quiet else _TELL_ALL
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
            answer = verb(self._circuit, *arguments, now)
            self._publish()
        self._channel.deliver()
        return answer

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
        return {**super().snapshot(), **self._change(self._view)}

    def _view(self, circuit: Circuit, now: float) -> dict[str, Any]:
        state = circuit.look(now)
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

    @property
    def _judges_results(self) -> bool:
        return self._matcher.on_result is not None

    def _listeners_changed(self) -> None:
        with self._lock:
            self._publish()

    def _thaw(self, frozen: dict[str, Any]) -> None:
        # Numbers are drawn once: a call that was admitted meanwhile comes back late, never as somebody else.
        frozen["_circuit"].serial = self._circuit.serial
        super()._thaw(frozen)


def _short(value: object) -> str:
    try:
        return str(value)[:200]
    except Exception as error:
        return f"<unprintable: {type(error).__name__}>"
