"""A breaker whose circuit is in a store.

What the end of a call means is judged here as ever; the circuit that hears of it is shared. So ten processes learn of
an outage together, and after it one of them sends the trial.

A call costs two questions, one before and one after. But where failures in a row are what trips, and the store knew of
none when the call began, one that ends well has nothing to say: a success may count from any moment between the begin
and the end of its call, and from the begin it changes nothing.

The permit says whose it is: the store's, that of the local circuit that stands in for it during an outage, or nobody's.
So a call that began under the one and ends under the other changes nothing that it does not belong to. The local
circuit begins where the shared one was last seen, and is forgotten when that is back.

Events are told by the process that caused the transition, once. What this process knows of the circuit without asking
is what it was told last.
"""

from __future__ import annotations

from functools import partial

from resilience.core.breaker import Circuit, CircuitState
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.errors import CircuitOpen
from resilience.events import CallRejected, CallSucceeded, LateResult
from resilience.policies._store_circuit import StoreCircuit
from resilience.policies._store_gate import SharedGuard, bind_shared, shielded
from resilience.policies.breaker import CircuitBreaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from resilience.core.verdict import Verdict
    from resilience.policies._store_circuit import Seen
    from resilience.stores import Word

    T = TypeVar("T")

__all__ = ["SharedBreaker"]

_CODES = {SUCCESS: 0, FAILURE: 1, IGNORED: 2}
_SHARED, _LOCAL, _FREE = 0, 1, 2


class SharedBreaker(StoreCircuit):
    """What `CircuitBreaker(store=...)` makes."""

    __slots__ = ()

    def _rebuild(self, arguments: dict[str, Any]) -> Any:
        return CircuitBreaker(**arguments)

    # --- calls --------------------------------------------------------------------------------------------------------

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        return bind_shared(self, fn)

    def guard(self) -> SharedGuard:
        """A block behind this gate, with `with` or `async with`. Single use; raises as a call would when refused."""
        return SharedGuard(self, {})

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        while self._dropped:
            self._ask_store("settle", self._dropped.popleft(), _CODES[IGNORED], 0.0, 0.0)
        seen = self._ask_store("acquire", self._rng() if self._ramps else 0.0)
        if seen is None:
            return self._admit_alone(args, kwargs)
        return self._admitted(seen)

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        while self._dropped:
            await self._ask_store_async("settle", self._dropped.popleft(), _CODES[IGNORED], 0.0, 0.0)
        seen = await self._ask_store_async("acquire", self._rng() if self._ramps else 0.0)
        if seen is None:
            return self._admit_alone(args, kwargs)
        return self._admitted(seen)

    async def _claim_async(self) -> int:
        return await self._admit_async((), {})

    def _admit_alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return super()._admit(args, kwargs) * 3 + _LOCAL if self._alone() else _FREE

    def _admitted(self, seen: Seen) -> int:
        if seen.answer >= 0:
            if seen.state is CircuitState.HALF_OPEN:
                self._trials.add(seen.answer)
            elif self._in_a_row and not seen.counts[0]:
                self._calm = seen.answer
            return seen.answer * 3 + _SHARED
        if self._channel.heard:
            reason = "ramp" if seen.state is CircuitState.CLOSED else seen.state.value
            self._send(CallRejected, reason=reason, retry_after=seen.retry_after)
        raise CircuitOpen(self.name, seen.retry_after, seen.state, self._last_error)

    def _settle(
        self,
        permit: int,
        verdict: Verdict,
        elapsed: float = 0.0,
        reason: tuple[str, str] | None = None,
        hint: float = 0.0,
    ) -> None:
        number, whose = divmod(permit, 3)
        untold = self._judgements.untold
        if whose == _LOCAL:
            super()._settle(number, verdict, elapsed, reason, hint)
        elif whose == _SHARED and number == self._calm and verdict is not FAILURE:
            if verdict is SUCCESS and self._channel.heard:
                self._send(CallSucceeded, attempts=1)
        elif whose == _SHARED and untold is not None:
            untold.append((number, verdict, elapsed, reason, hint))
        elif whose == _SHARED:
            self._trials.discard(number)
            told = reason if verdict is FAILURE else None
            seen = self._ask_store("settle", number, _CODES[verdict], elapsed, hint, reason=told)
            self._settled(seen, verdict, elapsed, reason)

    def _settled(self, seen: Seen | None, verdict: Verdict, elapsed: float, reason: tuple[str, str] | None) -> None:
        if seen is None:
            if reason is not None and verdict is FAILURE:
                with self._lock:
                    self._last_error = reason
            if self._link.on_error == "local" and self._alone():
                super()._settle(self._circuit.generation, verdict, elapsed, reason)
        elif self._channel.heard:
            if not seen.answer:
                self._send(LateResult, verdict=verdict)
            elif verdict is SUCCESS:
                self._send(CallSucceeded, attempts=1)

    async def _told_later(self, judge: Callable[[], None]) -> None:
        """Judge at once, and tell what came of it, whoever cancels meanwhile."""
        judgements = self._judgements
        outer, judgements.untold = judgements.untold, []
        try:
            judge()
        finally:
            untold, judgements.untold = judgements.untold, outer
            for number, verdict, elapsed, reason, hint in untold:
                self._trials.discard(number)
                given = (number, _CODES[verdict], elapsed, hint)
                told = reason if verdict is FAILURE else None
                seen = await shielded(partial(self._ask_store_async, "settle", *given, reason=told))
                self._settled(seen, verdict, elapsed, reason)

    async def _returned_async(self, permit: int, result: object, started: float) -> None:
        await self._told_later(lambda: self._returned(permit, result, started))

    async def _raised_async(self, permit: int, error: BaseException, started: float) -> None:
        await self._told_later(lambda: self._raised(permit, error, started))

    async def _told_async(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        await self._told_later(lambda: self._told(permit, verdict, reason, started))

    def _abandon(self, permit: int) -> None:
        number, whose = divmod(permit, 3)
        if whose == _LOCAL:
            super()._abandon(number)
        elif whose == _SHARED and number in self._trials:
            # In a collection of garbage nobody can ask; the next caller does, or the lease ends.
            self._trials.discard(number)
            self._dropped.append(number)

    # --- by hand ------------------------------------------------------------------------------------------------------

    def _change(self, verb: Callable[..., T], *arguments: object) -> Any:
        if verb not in _BY_HAND or (verb is Circuit.look and self._abandoned):
            return super()._change(verb, *arguments)
        local: Any = None
        if verb is Circuit.release:
            number, whose = divmod(int(str(arguments[0])), 3)
            if whose == _LOCAL:
                return super()._change(verb, number)
            local, arguments = False, (number,)
        seen = self._ask_store(_BY_HAND[verb], *_words(arguments))
        if seen is None:
            if not self._alone() or local is not None:
                return local if verb is not Circuit.look else self._known
            answer: Any = super()._change(verb, *arguments)
            return answer * 3 + _LOCAL if verb is Circuit.isolate else answer
        shared: Any = seen.state
        if verb is Circuit.isolate:
            shared = seen.answer * 3 + _SHARED
        elif verb is Circuit.release:
            shared = bool(seen.answer)
        return shared

    @property
    def _known(self) -> Any:
        return CircuitState.CLOSED if self._seen is None else self._seen.state

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON, from memory: what the store said last."""
        return {**super().snapshot(), "shared": True, "store_lost": self._link.lost}

    def _view(self, circuit: Circuit, now: float) -> dict[str, Any] | None:
        seen = self._seen
        if seen is None or self._carries:
            return super()._view(circuit, now)
        failures, calls = seen.counts
        wait = None
        if seen.retry_after is not None:
            wait = max(0.0, seen.retry_after - max(0.0, now - seen.learnt))
        return {
            "state": seen.state.value,
            "since": seen.since,
            "failures": failures,
            "calls": calls,
            "trials": seen.trials,
            "retry_after": wait,
            "last_error": None if self._last_error is None else list(self._last_error),
        }

    def _at_rest(self) -> bool:
        return not self._trials and super()._at_rest()

    def _freeze(self) -> dict[str, Any]:
        return {**super()._freeze(), "_seen": self._seen, "_calm": -1}

    def _after_fork(self) -> None:
        super()._after_fork()
        self._link.after_fork()
        self._trials.clear()
        self._dropped.clear()


_BY_HAND: dict[Callable[..., Any], str] = {
    Circuit.look: "look",
    Circuit.open: "open",
    Circuit.close: "close",
    Circuit.reset: "reset",
    Circuit.isolate: "isolate",
    Circuit.release: "release",
}


def _words(arguments: tuple[Any, ...]) -> tuple[Word, ...]:
    return arguments
