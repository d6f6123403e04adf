"""Stop asking what does not answer.

Calling something that is down costs the caller a timeout and the callee its recovery. A breaker remembers, for all callers at once, that
it is down, refuses at once while it is, and lets a few calls through now and then to find out whether it still is. The decisions and their
theory are in `resilience.core.breaker`; here they get a lock, a clock and listeners.

A breaker never runs calls one at a time: it holds no lock while a call runs. While it is closed and nothing has failed, entering reads one
attribute (the permit itself) and leaving reads another.
"""

from __future__ import annotations

from resilience._checks import is_number, positive_int, seconds, wrong_value
from resilience._runtime import is_cancellation
from resilience._scope import cut_by_us
from resilience.core.breaker import REFUSED, Circuit, CircuitState, Settled
from resilience.core.trip import Consecutive, SlowRate, Trip
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
from resilience.policies._isolation import Isolation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, Literal

    from resilience.clock import Clock
    from resilience.core.verdict import Verdict
    from resilience.events import Event
    from resilience.matching import On

__all__ = ["CircuitBreaker"]

_TELL_ALL = -2
"""Equal to no permit: every success is told."""


class CircuitBreaker(GatePolicy):
    """Refuse calls to what has been failing, until it has recovered.

    One object is shared by all threads, event loops and call forms; no lock is held while a call runs.

    Args:
        trip: when to open: an int for so many failures in a row, a `FailureRate`, a `SlowRate`, or a tuple of which any suffices.
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

    __slots__ = ("_cancel_fails", "_circuit", "_isolated_for", "_last_error", "_matcher")

    kind = "circuit_breaker"
    _form = "5, on=ConnectionError"

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
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        if on is None:
            raise TypeError("on must be an exception type, a tuple of them or a predicate, got None")
        self._matcher = Matcher(on, ignore, on_result)
        rest = seconds("cooldown", cooldown)
        lease = rest if trial_lease is None else seconds("trial_lease", trial_lease)
        if on_cancel not in ("ignore", "failure"):
            raise wrong_value("on_cancel", '"ignore" or "failure"', on_cancel)
        self._cancel_fails = on_cancel == "failure"
        trips = _trips(trip)
        self._circuit = Circuit(trips, rest, positive_int("trials", trials), lease)
        self._timed = any(isinstance(each, SlowRate) for each in trips)
        self._last_error: tuple[str, str] | None = None
        self._isolated_for = ""
        self._permit = 0
        self._clean = _TELL_ALL
        self._setup(name, clock, arguments)
        self._publish()

    # --- calls ------------------------------------------------------------------------------------------------------------

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now = self._clock.now()
        circuit = self._circuit
        with self._lock:
            permit = circuit.acquire(now)
            if circuit.changes or circuit.short_leases:
                self._publish()
            if permit == REFUSED:
                state, wait, last = circuit.state, circuit.retry_after(), self._last_error
        self._channel.deliver()
        if permit != REFUSED:
            return permit
        if self._channel.heard:
            self._send(CallRejected, reason=state.value, retry_after=wait)
        raise CircuitOpen(self.name, wait, state, last)

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._admit(args, kwargs)

    def _returned(self, permit: int, result: object, started: float) -> None:
        verdict = SUCCESS
        reason: tuple[str, str] | None = None
        try:
            if self._matcher.result(result) is not None:
                verdict, reason = FAILURE, ("result", _short(result))
        except BaseException:
            self._settle(permit, IGNORED, None, 0.0)
            raise
        self._settle(permit, verdict, reason, self._elapsed(started))

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        verdict, elapsed = IGNORED, 0.0
        try:
            if isinstance(error, Exception):
                if self._matcher.error(error) is not None:
                    verdict, elapsed = FAILURE, self._elapsed(started)
            elif is_cancellation(error):
                # A call that was cut for being slow failed; one whose caller went away says only how long it has lasted.
                elapsed = self._elapsed(started)
                if self._cancel_fails or cut_by_us():
                    verdict = FAILURE
        except BaseException:
            self._settle(permit, IGNORED, None, 0.0)
            raise
        self._settle(permit, verdict, (type(error).__name__, _short(error)) if verdict is FAILURE else None, elapsed)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        elapsed = 0.0 if verdict is IGNORED else self._elapsed(started)
        self._settle(permit, verdict, None if reason is None else ("fail", reason), elapsed)

    def _elapsed(self, started: float) -> float:
        return self._clock.now() - started if self._timed else 0.0

    def _settle(self, permit: int, verdict: Verdict, reason: tuple[str, str] | None, elapsed: float) -> None:
        now = self._clock.now()
        channel, circuit = self._channel, self._circuit
        with self._lock:
            settled = circuit.settle(permit, verdict, now, elapsed)
            if reason is not None and settled is Settled.COUNTED:
                self._last_error = reason
            self._publish()
        if channel.heard:
            if settled is Settled.LATE:
                channel.put(LateResult(self.name, self.kind, now, verdict=verdict))
            elif verdict is SUCCESS:
                channel.put(CallSucceeded(self.name, self.kind, now, attempts=1))
        channel.deliver()

    # --- state ------------------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Bring what is read without the lock up to date, and queue an event for each transition. Called with the lock held."""
        circuit = self._circuit
        closed = circuit.state is CircuitState.CLOSED
        self._permit = circuit.generation if closed else ASK
        quiet = closed and circuit.clean and not (self._timed or self._channel.heard or self._judges_results)
        self._clean = circuit.generation if quiet else _TELL_ALL
        for previous, state in circuit.changes:
            if self._channel.heard:
                self._channel.put(self._transition(previous, state))
        circuit.changes.clear()
        if circuit.short_leases:
            circuit.short_leases = False
            if self._channel.heard:
                self._channel.put(LeaseTooShort(self.name, self.kind, circuit.since or 0.0, lease=circuit.lease))

    def _transition(self, previous: CircuitState, state: CircuitState) -> Event:
        about: dict[str, Any] = {"previous": previous, "state": state}
        kind: type[Event]
        if state is CircuitState.OPEN:
            kind = CircuitOpened
            about["last_error"] = self._last_error
        elif state is CircuitState.ISOLATED:
            kind = CircuitIsolated
            about["reason"] = self._isolated_for
        else:
            kind = CircuitClosed if state is CircuitState.CLOSED else CircuitHalfOpened
        return kind(self.name, self.kind, self._circuit.since or 0.0, **about)

    def _change(self, verb: Callable[..., Any], *arguments: object) -> Any:
        now = self._clock.now()
        with self._lock:
            answer = verb(*arguments, now)
            self._publish()
        self._channel.deliver()
        return answer

    @property
    def state(self) -> CircuitState:
        """The present state. Time takes effect when somebody looks: an open circuit whose cooldown is over becomes half-open here."""
        answer: CircuitState = self._change(self._circuit.look)
        return answer

    def open(self) -> None:
        """Open by hand, and start the cooldown anew. Does nothing while isolated."""
        self._change(self._circuit.open)

    def close(self) -> None:
        """Close by hand, and forget every failure. Does nothing while isolated."""
        self._change(self._circuit.close)

    def reset(self) -> None:
        """Drop every isolation and close, clean."""
        self._change(self._circuit.reset)

    def isolate(self, reason: str = "") -> Isolation:
        """Refuse every call until the isolation is released: `with breaker.isolate("deploy"):`, or `.release()`.

        Isolations are counted: the circuit closes, clean, when the last one is released. Forgetting one releases nothing.
        """
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a string, got {reason!r}")
        self._isolated_for = reason
        token: int = self._change(self._circuit.isolate)
        return Isolation(token, lambda given: bool(self._change(self._circuit.release, given)))

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON: one consistent view. Reads memory only; safe from any thread."""
        now = self._clock.now()
        circuit = self._circuit
        with self._lock:
            state = circuit.look(now)
            self._publish()
            failures, calls = circuit.counts()
            view = {
                "state": state.value,
                "since": circuit.since,
                "failures": failures,
                "calls": calls,
                "trials": len(circuit.leases),
                "retry_after": circuit.retry_after(),
                "last_error": None if self._last_error is None else list(self._last_error),
            }
        self._channel.deliver()
        return {**super().snapshot(), **view}

    @property
    def _judges_results(self) -> bool:
        return self._matcher.on_result is not None

    def _listeners_changed(self) -> None:
        with self._lock:
            self._publish()


def _trips(given: object) -> tuple[Trip, ...]:
    if isinstance(given, tuple):
        if not given:
            raise ValueError("trip must name at least one condition, got an empty tuple")
        return tuple(_trip(each) for each in given)
    return (_trip(given),)


def _trip(given: object) -> Trip:
    if isinstance(given, Trip):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return Consecutive(positive_int("trip", given))
    form = f"FailureRate({given})" if is_number(given) else "5, FailureRate(0.5) or SlowRate(0.8, slower_than=2.0)"
    raise TypeError(f"trip must be a number of failures in a row, a FailureRate or a SlowRate: write {form}, got {given!r}")


def _short(value: object) -> str:
    try:
        return str(value)[:200]
    except Exception as error:
        return f"<unprintable: {type(error).__name__}>"
