"""One policy's way to its store.

A store is a dependency like any other: it may be down, hang, or answer nonsense, and whoever asks it on every call
would hand all of that on. So a breaker stands before it, the same that stands before anything else. After one failure
the store is left alone, but for one question every half second, until it answers; meanwhile the policy does without it,
in the way that its `on_store_error` names. What the driver raises ends here.
"""

from __future__ import annotations

import threading

from resilience.core.breaker import REFUSED, Circuit
from resilience.core.state import CircuitState
from resilience.core.trip import Consecutive
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.errors import StoreUnavailable
from resilience.events import StoreLost, StoreRecovered
from resilience.policies._store_words import WrongStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.core.verdict import Verdict
    from resilience.policies._base import Policy
    from resilience.policies._store_words import OnStoreError
    from resilience.stores import Store, Word

    Key = str | int | tuple[str | int, ...]

__all__ = ["StoreLink"]

_AGAIN = 0.5
"""Seconds after a failure until the store is asked again, by one caller."""

_PATIENCE = 1.0
"""Seconds after which a question without an end is given up, so that another may be asked."""


class StoreLink:
    """Asks one kind of question. Safe from any thread and event loop; holds no lock while it asks.

    Args:
        store: where the state is.
        kind: which kind of state.
        name: whose.
        terms: how the policy is configured, in the store's words.
        on_error: what the policy does without its store.
        read: makes of a verb and its answer what `ask` returns; may raise anything where the answer makes no sense.

    Attributes:
        on_error: the same.
    """

    __slots__ = ("_cause", "_circuit", "_kind", "_lock", "_lost", "_name", "_read", "_store", "_terms", "on_error")

    def __init__(
        self,
        store: Store,
        kind: str,
        name: str,
        terms: Sequence[Word],
        on_error: OnStoreError,
        read: Callable[[str, Sequence[Word]], Any],
    ) -> None:
        self._read = read
        self._store = store
        self._kind = kind
        self._name = name
        self._terms = terms
        self.on_error = on_error
        self._circuit = Circuit((Consecutive(1),), _AGAIN, 1, _PATIENCE)
        self._lost: float | None = None
        self._cause: str | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: nobody else holds the lock."""
        self._lock = threading.Lock()

    @property
    def lost(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return self._lost is not None

    def ask(self, policy: Policy, verb: str, given: Sequence[Word], key: Key | None = None) -> Any:
        """Ask, and return the answer; None where the store cannot be had. Blocks for no longer than the store does."""
        permit = self._knock(policy)
        if permit == REFUSED:
            return None
        try:
            answer = self._read(verb, self._store.ask(self._kind, self._whose(key), verb, self._terms, given))
        except Exception as error:
            self._failed(policy, permit, error, key)
            return None
        except BaseException:
            self._settle(policy, permit, IGNORED)
            raise
        if self._lost is not None:
            self._answered(policy, permit)
        return answer

    async def ask_async(self, policy: Policy, verb: str, given: Sequence[Word], key: Key | None = None) -> Any:
        """Do what `ask` does, without blocking the loop."""
        permit = self._knock(policy)
        if permit == REFUSED:
            return None
        try:
            words = await self._store.ask_async(self._kind, self._whose(key), verb, self._terms, given)
            answer = self._read(verb, words)
        except Exception as error:
            self._failed(policy, permit, error, key)
            return None
        except BaseException:
            self._settle(policy, permit, IGNORED)
            raise
        if self._lost is not None:
            self._answered(policy, permit)
        return answer

    def asks(self, now: float) -> bool:
        """Whether a question would reach the store now."""
        with self._lock:
            return self._lost is None or self._circuit.look(now) is CircuitState.HALF_OPEN

    def error(self) -> StoreUnavailable:
        """What to raise where a call is refused for want of the store."""
        return StoreUnavailable(self._name, self._cause)

    def _whose(self, key: Key | None) -> tuple[str | int, ...]:
        if key is None:
            return (self._name,)
        return (self._name, *key) if isinstance(key, tuple) else (self._name, key)

    def _knock(self, policy: Policy) -> int:
        if self._lost is None:
            return self._circuit.generation
        now = policy._clock.now()
        with self._lock:
            return self._circuit.acquire(now)

    def _settle(self, policy: Policy, permit: int, verdict: Verdict) -> float:
        now = policy._clock.now()
        with self._lock:
            self._circuit.settle(permit, verdict, now)
        return now

    def _failed(self, policy: Policy, permit: int, error: Exception, key: Key | None) -> None:
        if isinstance(error, WrongStore):
            self._settle(policy, permit, IGNORED)
            raise error
        cause = f"{type(error).__name__}: {error}"
        name_of = getattr(self._store, "key", None)
        if callable(name_of) and (asked := str(name_of(self._kind, self._whose(key)))) not in cause:
            # An answer that made no sense here: whoever looks for the cause has to know where to look.
            cause = f"{cause} (asked about {asked})"
        self._cause = cause
        now = policy._clock.now()
        with self._lock:
            self._circuit.settle(permit, FAILURE, now)
            first = self._lost is None and self._circuit.state is not CircuitState.CLOSED
            if first:
                self._lost = now
        if first and policy._channel.heard:
            policy._send(StoreLost, error=cause)

    def _answered(self, policy: Policy, permit: int) -> None:
        now = policy._clock.now()
        with self._lock:
            lost = self._lost
            self._circuit.settle(permit, SUCCESS, now)
            back = lost is not None and self._circuit.state is CircuitState.CLOSED
            if back:
                self._lost = self._cause = None
        if back and lost is not None and policy._channel.heard:
            policy._send(StoreRecovered, after=now - lost)
