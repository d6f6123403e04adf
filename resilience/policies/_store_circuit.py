"""What a breaker knows of a circuit that is in a store, and the local one that stands in for it.

The local circuit begins where the shared one was last seen, and is forgotten when that is back. Events are told by the
process that caused the transition, once.
"""

from __future__ import annotations

import collections
import threading

from resilience.core.breaker import CircuitState
from resilience.core.cooldown import measure
from resilience.core.trip import Consecutive
from resilience.events import CircuitClosed, CircuitHalfOpened, CircuitIsolated, CircuitOpened, LeaseTooShort
from resilience.policies._gate import ASK
from resilience.policies._store_link import StoreLink
from resilience.policies._store_words import check_store, numbers_of
from resilience.policies.breaker import CircuitBreaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience.core.verdict import Verdict
    from resilience.events import Event
    from resilience.policies._store_words import OnStoreError
    from resilience.stores import Store, Word

    Reason = tuple[str, str] | None
    Judged = tuple[int, Verdict, float, Reason, float]

__all__ = ["Seen", "StoreCircuit"]

_STATES = tuple(CircuitState)
_TELL_ALL = -2
_ROUNDS = 3
"""How often a length of a cooldown is told in one call: once, and more where others open the circuit meanwhile."""
_EVENTS: dict[CircuitState, type[Event]] = {
    CircuitState.CLOSED: CircuitClosed,
    CircuitState.OPEN: CircuitOpened,
    CircuitState.HALF_OPEN: CircuitHalfOpened,
    CircuitState.ISOLATED: CircuitIsolated,
}


class _Judgements(threading.local):
    """Verdicts that the present thread has reached and not told: on a loop, telling is another step."""

    untold: list[Judged] | None = None


class Seen:
    """What the store said of the circuit."""

    __slots__ = (
        "answer",
        "before",
        "changes",
        "counts",
        "learnt",
        "lease",
        "opening",
        "reason",
        "retry_after",
        "short",
        "since",
        "state",
        "trials",
    )

    def __init__(self, answer: Sequence[Word]) -> None:
        numbers = numbers_of(answer[:12], 12)
        self.answer = int(numbers[0])
        self.state = _STATES[int(numbers[1])]
        self.learnt = 0.0
        self.since = None if numbers[2] < 0 else numbers[2] - numbers[11]
        self.retry_after = None if numbers[3] < 0 else numbers[3]
        self.opening, self.before = int(numbers[4]), numbers[5]
        self.counts = int(numbers[6]), int(numbers[7])
        self.trials = int(numbers[8])
        self.lease = numbers[9]
        self.short = numbers[10] > 0
        steps = [_STATES[int(word)] for word in str(answer[12]).split()]
        self.changes = list(zip(steps[::2], steps[1::2], strict=True))
        self.reason = str(answer[13])


class StoreCircuit(CircuitBreaker):
    """The inner half of `SharedBreaker`."""

    __slots__ = ("_calm", "_carries", "_dropped", "_in_a_row", "_judgements", "_link", "_seen", "_trials")

    def _join_store(self, store: Store, name: str | None, terms: Sequence[Word], on_error: OnStoreError) -> None:
        self._link = StoreLink(store, "breaker", check_store("CircuitBreaker", store, name), terms, on_error, _read)
        self._seen: Seen | None = None
        self._in_a_row = all(isinstance(trip, Consecutive) for trip in self._circuit.trips)
        self._calm = -1
        self._carries = False
        self._judgements = _Judgements()
        self._trials: set[int] = set()
        self._dropped: collections.deque[int] = collections.deque()

    def _publish(self) -> None:
        # Not even for a moment what the base would publish: whoever reads without the lock would pass by the store.
        self._permit, self._clean, self._steady = ASK, _TELL_ALL, _TELL_ALL
        self._shut = self._window = self._watches = None
        circuit = self._circuit
        if self._channel.heard:
            for previous, state in circuit.changes:
                self._put_transition(previous, state)
            if circuit.short_leases:
                self._put(LeaseTooShort, lease=circuit.lease)
        circuit.changes.clear()
        circuit.short_leases = False

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask_store(self, verb: str, *given: Word, reason: Reason = None) -> Seen | None:
        answer = self._link.ask(self, verb, given)
        if answer is None:
            self._calm = -1
            return None
        seen = first = self._learn(answer, reason)
        for _ in range(_ROUNDS):
            if not seen.opening:
                break
            answer = self._link.ask(self, "tell", [seen.opening, seen.before, self._cooldown_of(seen)])
            if answer is None:
                break
            seen = self._learn(answer)
        seen.answer = first.answer
        return seen

    async def _ask_store_async(self, verb: str, *given: Word, reason: Reason = None) -> Seen | None:
        answer = await self._link.ask_async(self, verb, given)
        if answer is None:
            self._calm = -1
            return None
        seen = first = self._learn(answer, reason)
        for _ in range(_ROUNDS):
            if not seen.opening:
                break
            answer = await self._link.ask_async(self, "tell", [seen.opening, seen.before, self._cooldown_of(seen)])
            if answer is None:
                break
            seen = self._learn(answer)
        seen.answer = first.answer
        return seen

    def _cooldown_of(self, seen: Seen) -> float:
        if self._backoff is None:
            return self._first
        return measure(self._backoff, seen.opening, seen.before, self._rng())

    def _learn(self, seen: Seen, reason: Reason = None) -> Seen:
        now = self._clock.now()
        # By the clock here: the readings of the other mean nothing to anybody else.
        seen.learnt = now
        seen.since = None if seen.since is None else now + seen.since
        with self._lock:
            self._seen = seen
            self._calm = -1
            if reason is not None:
                # Before the events, since that of an opening tells it.
                self._last_error = reason
            if self._carries:
                self._carries = False
                self._circuit.reset(now)
                self._quietly()
            if self._channel.heard:
                for previous, state in seen.changes:
                    self._put_shared(previous, state, seen, now)
                if seen.short:
                    self._queue(LeaseTooShort, now, lease=seen.lease)
        self._channel.deliver()
        return seen

    def _put_shared(self, previous: CircuitState, state: CircuitState, seen: Seen, now: float) -> None:
        fields: dict[str, object] = {"previous": previous, "state": state}
        if state is CircuitState.OPEN:
            fields["last_error"] = self._last_error
        elif state is CircuitState.ISOLATED:
            fields["reason"] = seen.reason
        self._queue(_EVENTS[state], now, **fields)

    def _queue(self, event: type[Event], now: float, **fields: object) -> None:
        self._channel.put(event(self.name, self.kind, now, **fields))

    def _quietly(self) -> None:
        """Take over a change of the local circuit that is none of the breaker's. Called with the lock held."""
        self._circuit.changes.clear()
        self._publish()

    def _alone(self) -> bool:
        """The store cannot be had: True to decide by the local circuit, False to let through."""
        if self._link.on_error != "local":
            if self._link.on_error == "deny":
                raise self._link.error()
            return False
        now, seen = self._clock.now(), self._seen
        with self._lock:
            if not self._carries:
                self._carries = True
                if seen is not None and seen.state is CircuitState.ISOLATED:
                    self._circuit.isolate(seen.reason, now)
                elif seen is not None and seen.state is not CircuitState.CLOSED:
                    self._circuit.open(now)
                self._quietly()
        return True


def _read(_: str, answer: Sequence[Word]) -> Seen:
    return Seen(answer)
