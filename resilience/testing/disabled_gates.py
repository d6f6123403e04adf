"""Gates that are disabled: what each answers its driver, so that every call passes.

See `resilience.testing.disabled_shadows` for what a shadow is. Whatever is written in one is copied into subclasses of
other classes, so there is no `super()` in it: what the policy itself would do is asked of its real class.
"""

from __future__ import annotations

from math import inf

from resilience.core.watch import Watches
from resilience.policies._base import Policy
from resilience.policies._circuit import SharedCircuit
from resilience.policies._gate import ASK, GatePolicy
from resilience.policies._hearing import HearingGate
from resilience.policies._reservation import Reservation
from resilience.policies.breaker import CircuitBreaker
from resilience.policies.shed import LoadShedder
from resilience.policies.throttle import Throttle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from resilience.core.verdict import Verdict
    from resilience.policies._desk_gate import Aftermath
    from resilience.policies._tariff import Cost, Key

__all__ = [
    "PASS",
    "BreakerShadow",
    "GateShadow",
    "HearingShadow",
    "ShedderShadow",
    "ThrottleShadow",
    "real",
    "real_class",
    "slot",
]

PASS = -3
"""The permit of a call that passes. No gate gives it out, and it equals none of the numbers that say "ask" or "tell
all"; being below 0, it is not brought back by a call that fails, nor by a block.
"""

_BARRED = Watches([])


def real_class(policy: Policy[Any]) -> type[Policy[Any]]:
    """The class of a policy that is not disabled."""
    shadow = type(policy)
    kind: type[Policy[Any]] = vars(shadow).get("_real_class", shadow)
    return kind


def real(policy: Policy[Any]) -> Any:
    """The class whose answers count, as something to call."""
    return real_class(policy)


def slot(kind: type, name: str) -> Any:
    """Where a policy keeps an attribute that its shadow answers for."""
    return vars(kind)[name]


class GateShadow(GatePolicy):
    """Any gate: gives every call `PASS`, and hears only of calls that it let in before."""

    # What is read here is a question; what is written is the state of the policy, which goes on meanwhile.
    _permit: Any = property(lambda _: ASK, lambda gate, permit: slot(GatePolicy, "_permit").__set__(gate, permit))

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return PASS

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return PASS

    def _claim(self, **options: Any) -> int:
        return PASS

    async def _claim_async(self, **options: Any) -> int:
        return PASS

    def _returned(self, permit: int, result: object, started: float) -> None:
        if permit != PASS:
            real(self)._returned(self, permit, result, started)

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        if permit != PASS:
            real(self)._raised(self, permit, error, started)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        if permit != PASS:
            real(self)._told(self, permit, verdict, reason, started)

    # Gates whose state is in a store hear of the end of a coroutine's call by these.

    async def _returned_async(self, permit: int, result: object, started: float, /) -> None:
        if permit != PASS:
            await real(self)._returned_async(self, permit, result, started)

    async def _raised_async(self, permit: int, error: BaseException, started: float, /) -> None:
        if permit != PASS:
            await real(self)._raised_async(self, permit, error, started)

    async def _told_async(self, permit: int, verdict: Verdict, reason: str | None, started: float, /) -> None:
        if permit != PASS:
            await real(self)._told_async(self, permit, verdict, reason, started)


class BreakerShadow(CircuitBreaker):
    """A breaker: turns nobody away, and has no short way for a call to be counted."""

    _shut: Any = property(lambda _: None, lambda gate, shut: slot(SharedCircuit, "_shut").__set__(gate, shut))
    _watches: Any = property(lambda _: _BARRED, lambda gate, it: slot(SharedCircuit, "_watches").__set__(gate, it))


class HearingShadow(HearingGate):
    """A gate that learns: learns nothing from calls that passed."""

    def _settle(self, permit: int, verdict: Verdict, started: float) -> None:
        if permit != PASS:
            real(self)._settle(self, permit, verdict, started)


class ShedderShadow(LoadShedder):
    """A shedder: looks at no user, and hears no reports."""

    def _admit_user(self, whose: Callable[[], object] | None) -> int:
        return PASS

    def report(self, delay: float | timedelta) -> None:
        """Learn nothing."""


class ThrottleShadow(Throttle):
    """A throttle: takes no tokens. Arguments that are wrong stay wrong: they are no matter of being let in."""

    def _admit_for(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return PASS

    async def _admit_for_async(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return PASS

    def _claim(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> int:
        self.acquire(key=key, cost=cost, max_wait=max_wait)
        return PASS

    async def _claim_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> int:
        self.acquire(key=key, cost=cost, max_wait=max_wait)
        return PASS

    def try_acquire(self, *, key: Key | None = None, cost: Cost | None = None) -> bool:
        """Take nothing; True."""
        self._claim_of(key, cost)
        return True

    async def try_acquire_async(self, *, key: Key | None = None, cost: Cost | None = None) -> bool:
        """Take nothing; True."""
        return self.try_acquire(key=key, cost=cost)

    def acquire(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> None:
        """Take nothing, at once."""
        self._claim_of(key, cost)
        self._patience(max_wait)

    async def acquire_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> None:
        """Take nothing, at once."""
        self.acquire(key=key, cost=cost, max_wait=max_wait)

    def reserve(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta = inf
    ) -> Reservation:
        """Take nothing, for now."""
        self.acquire(key=key, cost=cost, max_wait=max_wait)
        open_ = [True]
        return Reservation(0.0, lambda _: bool(open_ and open_.pop()))

    async def reserve_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta = inf
    ) -> Reservation:
        """Take nothing, for now."""
        return self.reserve(key=key, cost=cost, max_wait=max_wait)

    def _aftermath(self) -> Aftermath | None:
        after: Aftermath | None = real(self)._aftermath(self)
        # The short way through grants what is at hand without asking anybody.
        self._desk.ledger.at_hand = False
        return after

    def _charge(self, permit: int, actual: Cost) -> bool:
        if permit != PASS:
            return bool(real(self)._charge(self, permit, actual))
        self._tariff.settled(actual, self._costs or self._tariff.one)
        return True
