"""Stop asking what does not answer.

Calling something that is down costs the caller a timeout and the callee its recovery. A breaker remembers, for all
callers at once, that it is down, refuses at once while it is, and lets a few calls through now and then to find out
whether it still is. The decisions and their theory are in `resilience.core.breaker`; here they get a lock, a clock and
listeners.

A breaker never runs calls one at a time: it holds no lock while a call runs. While it is closed and nothing has failed,
entering reads one attribute (the permit itself) and leaving reads another.
"""

from __future__ import annotations

from resilience._checks import (
    callable_or_none,
    is_number,
    is_timedelta,
    positive_int,
    seconds,
    seconds_or_none,
    text_or_none,
    wrong_type,
    wrong_value,
)
from resilience._compile import Layer
from resilience._runtime import is_cancellation
from resilience._scope import cut_by_us
from resilience.backoff import coerce
from resilience.core import trip as _trip
from resilience.core.backoff import Schedule
from resilience.core.breaker import REFUSED, Circuit, CircuitState
from resilience.core.cooldown import first, until
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.errors import CircuitOpen
from resilience.events import CallRejected
from resilience.matching import Matcher, hint_of
from resilience.policies._circuit import TICKS, SharedCircuit
from resilience.policies._store_words import trip_words, way_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import Any, Literal

    from resilience.clock import Clock
    from resilience.core.backoff import Backoff
    from resilience.core.trip import Trip
    from resilience.core.verdict import Verdict
    from resilience.core.watch import Watches
    from resilience.matching import On
    from resilience.policies._circuit import Shut
    from resilience.policies._store_words import OnStoreError
    from resilience.stores import Store, Word

__all__ = ["CircuitBreaker"]

_OPEN = CircuitState.OPEN
_unfilled = CircuitOpen.__new__

# A subclass that does one of these in its own way is asked about every success.
_COUNTING = ("_admit", "_admit_async", "_returned", "_settle", "_count", "_publish")


class CircuitBreaker(SharedCircuit):
    """Refuse calls to what has been failing, until it has recovered.

    One object is shared by all threads, event loops and call forms; no lock is held while a call runs.

    Args:
        trip: what opens it: so many failures in a row, a `FailureRate`, a `SlowRate`, or a tuple of which any suffices.
        on: the errors that count: a type, a tuple of types, or a predicate. Others are neutral.
        ignore: errors that never count, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means that it counts as a failure.
        cooldown: seconds from opening to half-open. A backoff or a sequence of seconds makes it grow with each opening,
            until the circuit has closed. An error that says when to come back may extend the cooldown that it causes,
            to an hour at most.
        trials: calls admitted in half-open, and successes that close it.
        trial_lease: seconds after which a trial that has not ended frees its place; the cooldown by default. Where that
            grows it is the present one, and not less than the first may be.
        on_cancel: the verdict on a call whose caller went away, "ignore" or "failure".
        ramp: seconds after a close over which the share of calls admitted grows in a straight line to all of them; None
            for all at once.
        store: where the circuit is, for many processes to share (`resilience.stores`); this process by default. Then
            `name` is required: it is the key, and two breakers of one name share their circuit. A slow call is then
            counted when it ends.
        on_store_error: what to do while the store cannot be had: "local" decides by a circuit of this process, "allow"
            lets everything through, "deny" raises `StoreUnavailable`.
        name: for events, errors and the registry.
        rng: where the jitter of a cooldown and the choice in a ramp come from: a function that returns numbers in
            [0, 1).
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        CircuitOpen: from a call that is refused.
        StoreUnavailable: from a call, where the store cannot be had and `on_store_error` is "deny".
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_cancel_fails", "_matcher", "_ramps")

    kind = "circuit_breaker"
    _form = "5, on=ConnectionError"

    if not TYPE_CHECKING:

        def __new__(cls, *args, store=None, **kwargs):
            """Build what keeps its state in the store, where one is given."""
            if store is not None and cls is CircuitBreaker:
                from resilience.policies._store_breaker import SharedBreaker

                return super().__new__(SharedBreaker, *args, **kwargs)
            return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        trip: int | Trip | tuple[Trip | int, ...] = 5,
        *,
        on: On = Exception,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        cooldown: Backoff | float | timedelta | Sequence[float | timedelta] = 30.0,
        trials: int = 1,
        trial_lease: float | timedelta | None = None,
        on_cancel: Literal["ignore", "failure"] = "ignore",
        ramp: float | timedelta | None = None,
        store: Store | None = None,
        on_store_error: OnStoreError = "local",
        name: str | None = None,
        rng: Callable[[], float] | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        if on is None:
            raise wrong_type("on", "an exception type, a tuple of them or a predicate", on)
        self._matcher = Matcher(on, ignore, on_result)
        backoff, longest = _growth(cooldown)
        lease = seconds_or_none("trial_lease", trial_lease)
        rising = seconds_or_none("ramp", ramp)
        if on_cancel not in ("ignore", "failure"):
            raise wrong_value("on_cancel", '"ignore" or "failure"', on_cancel)
        self._cancel_fails = on_cancel == "failure"
        trips = _trip.coerce(trip)
        places = positive_int("trials", trials)
        self._timed = any(isinstance(each, _trip.SlowRate) for each in trips)
        self._ramps = rising is not None
        chance = callable_or_none("rng", rng) or _default_rng()
        circuit = Circuit(trips, longest, places, lease, grows=backoff is not None, ramp=rising)
        self._share(circuit, backoff, longest, chance)
        on_error = way_out(on_store_error)
        if store is not None:
            terms: list[Word] = [longest, float(backoff is not None), places, -1 if lease is None else lease]
            terms += [-1 if rising is None else rising, *trip_words(trips)]
            self._join_store(store, text_or_none("name", name), terms, on_error)
        self._setup(name, clock, arguments)
        self._listeners_changed()

    def _join_store(self, store: Store, name: str | None, terms: Sequence[Word], on_error: OnStoreError) -> None:
        raise TypeError(
            f"{type(self).__name__} is a class of its own and keeps to this process: write CircuitBreaker(store=)"
        )

    # --- calls --------------------------------------------------------------------------------------------------------

    def _inline(self) -> Layer:
        rates = [trip for trip in self._circuit.trips if isinstance(trip, _trip.FailureRate | _trip.SlowRate)]
        own = all(getattr(type(self), name) is getattr(CircuitBreaker, name) for name in _COUNTING)
        if not TICKS or len(rates) != 1 or not own:
            return Layer("timed_breaker" if self._timed else "breaker", "breaker", {})
        if self._timed:
            return Layer("watching_breaker", "breaker", {"clock": self._clock})
        if rates[0].calls is not None:
            return Layer("counting_breaker", "breaker", {})
        return Layer("clocked_breaker", "breaker", {"clock": self._clock})

    def _refused(self, shut: Shut, now: float) -> CircuitOpen:
        """The refusal of a call where that is simple: the circuit is open, stays so for now, and nobody listens.

        While something is down, this is what a service does most. So what a refusal says was noted with the lock held,
        is read without it, and the attributes are set without the calls of constructors.
        """
        ends, latest, last_error = shut
        if now < latest:
            now = latest
        wait = ends - now
        if now + wait < ends:
            wait = until(ends, now)
        refusal = _unfilled(CircuitOpen)
        refusal.policy = self._name or self.kind
        refusal.retry_after = wait
        refusal.state = _OPEN
        refusal.last_error = last_error
        return refusal

    # --- calls that are watched: the short ways of a written-out wrapper, each one step without a call in it ----------

    def _enter(self, watches: Watches, started: float) -> int:
        """Admit a call that is not alone."""
        if started <= watches.until:
            circuit = self._circuit
            permit = circuit.serial = circuit.serial + 1
            watches.running[permit] = started
            return permit
        return self._admit((), {})

    def _leave(self, watches: Watches, permit: int, result: object, started: float, now: float) -> None:
        """A call that was not alone, or is not any more, has returned."""
        if now <= watches.until and watches.window is not None and permit in watches.running:
            del watches.running[permit]
            watches.window.ticks += 1
        else:
            self._returned(permit, result, started)

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now = self._clock.now()
        shut = self._shut
        if shut is not None and now < shut[0]:
            raise self._refused(shut, now)
        u = self._rng() if self._ramps else 0.0
        refused: tuple[float | None, CircuitState, tuple[str, str] | None] | None = None
        while True:
            with self._lock:
                if self._abandoned:
                    self._take_back()
                if self._timed:
                    self._bar()
                circuit = self._circuit
                ramp = circuit.ramp
                permit = circuit.acquire(now, u)
                if self._timed or circuit.changes or circuit.short_leases or circuit.ramp is not ramp:
                    self._publish()
                if self._backoff is None or circuit.unmeasured is None:
                    if permit == REFUSED:
                        refused = self._refusal(circuit)
                    break
            self._measure()
        self._channel.deliver()
        if refused is not None:
            raise CircuitOpen(self.name, *refused)
        return permit

    def _refusal(self, circuit: Circuit) -> tuple[float | None, CircuitState, tuple[str, str] | None]:
        ramp, state = circuit.ramp, circuit.state
        wait = circuit.retry_after() if ramp is None else ramp.wait
        heard = self._channel.heard
        if state is _OPEN and not heard:
            self._shut = circuit.cooldown.ends, circuit.latest, self._last_error
        if heard:
            self._put(CallRejected, reason=state.value if ramp is None else "ramp", retry_after=wait)
        return wait, state, self._last_error

    def _returned(self, permit: int, result: object, started: float) -> None:
        verdict, reason, hint = SUCCESS, None, None
        try:
            hint = self._matcher.result(result)
            if hint is not None:
                verdict, reason = FAILURE, ("result", _short(result))
        except BaseException:
            self._settle(permit, IGNORED)
            raise
        self._settle(permit, verdict, self._elapsed(started), reason, hint or 0.0)

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        if isinstance(error, GeneratorExit):
            self._abandon(permit)
            return
        verdict, elapsed, reason, hint = IGNORED, 0.0, None, None
        try:
            if isinstance(error, Exception):
                hint = self._matcher.error(error)
                if hint is not None:
                    verdict, elapsed, hint = FAILURE, self._elapsed(started), max(hint, hint_of(error))
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
        self._settle(permit, verdict, elapsed, reason, hint or 0.0)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        elapsed = 0.0 if verdict is IGNORED else self._elapsed(started)
        self._settle(permit, verdict, elapsed, None if reason is None else ("fail", _short(reason)))

    def _elapsed(self, started: float) -> float:
        return self._clock.now() - started if self._timed else 0.0

    @property
    def _judges_results(self) -> bool:
        return self._matcher.on_result is not None


def _short(value: object) -> str:
    try:
        return str(value)[:200]
    except Exception as error:
        return f"<unprintable: {type(error).__name__}>"


def _default_rng() -> Callable[[], float]:
    # The module's own generator is seeded anew in a forked child.
    from random import random

    return random


def _growth(cooldown: object) -> tuple[Backoff | None, float]:
    """The backoff by which a cooldown grows, None where all are alike; and the most that the first may be."""
    if is_number(cooldown) or is_timedelta(cooldown):
        return None, seconds("cooldown", cooldown)
    backoff = coerce(cooldown, "cooldown")
    longest = first(backoff)
    if not longest or (isinstance(backoff, Schedule) and not all(backoff.delays)):
        raise wrong_value("cooldown", "longer than 0 seconds each time", cooldown)
    return backoff, longest
