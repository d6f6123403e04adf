"""A throttle whose buckets are in a store.

What a call costs, whose bucket it is and how long it may wait are decided as ever; only the taking is the store's. So
this is the throttle with its last step replaced, and with the step before as what it falls back on: without the store
it is an ordinary throttle again, of a share of the rate and the burst.

Whoever may wait takes at once, into debt, and sleeps until the tokens are there: so the order is the order of coming,
over all processes, without anybody who would have to be woken. A waiter that gives up gives back.
"""

from __future__ import annotations

from math import inf

from resilience.core.ledger import Claim
from resilience.events import CallRejected
from resilience.policies._reservation import Reservation
from resilience.policies._store_claim import SharedClaim
from resilience.policies._store_gate import SharedByArgument, SharedGuard, bind_shared, shielded
from resilience.policies._store_reservation import SharedReservation, unused
from resilience.policies._store_taking import StoreTaking, key_of
from resilience.policies._tariff import rank_of_caller
from resilience.policies._throttle_gate import PAID
from resilience.policies.throttle import Throttle
from resilience.rates import Quota, Rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import Any

    from resilience.core.verdict import Verdict
    from resilience.policies._tariff import Cost, Costs, Key
    from resilience.stores import Word

__all__ = ["SharedThrottle"]


class SharedThrottle(StoreTaking):
    """What `Throttle(store=...)` makes."""

    __slots__ = ()

    def _rebuild(self, arguments: dict[str, Any]) -> Any:
        return _rebuilt(arguments)

    # --- asking by hand ----------------------------------------------------------------------------------------------

    def try_acquire(self, *, key: Key | None = None, cost: Cost | None = None) -> bool:
        """Take the tokens if they are there; blocks for no longer than the store's timeout."""
        if cost is None and self._leases is not None and self._at_hand(key):
            return True
        claim = SharedClaim(self._claim_of(key, cost))
        return self._tried(claim, self._decide(claim, 0.0))

    async def try_acquire_async(self, *, key: Key | None = None, cost: Cost | None = None) -> bool:
        """Do what `try_acquire` does, without blocking the loop."""
        if cost is None and self._leases is not None and self._at_hand(key):
            return True
        claim = SharedClaim(self._claim_of(key, cost))
        return self._tried(claim, await self._decide_async(claim, 0.0))

    def _tried(self, claim: SharedClaim, wait: float | None) -> bool:
        if wait is None:
            if self._link.on_error == "deny":
                return False
            wait = self._ask(Claim(claim.key, claim.costs, claim.rank)) if self._alone() else -1.0
            if wait is None:
                self._stray(claim.key, claim.costs)
                wait = -1.0
        if wait == -1.0:
            return True
        if self._channel.heard:
            self._send(CallRejected, reason="rate", retry_after=wait)
        return False

    def _pass(self, claim: Claim, patience: float) -> Claim:
        shared = SharedClaim(claim)
        wait = self._decide(shared, patience)
        if wait is None:
            return self._strayed(super()._pass(claim, patience)) if self._alone() else claim
        if wait != -1.0:
            self._refuse(wait)
        if shared.delay:
            self._wait_out(shared)
        return shared

    async def _pass_async(self, claim: Claim, patience: float) -> Claim:
        shared = SharedClaim(claim)
        wait = await self._decide_async(shared, patience)
        if wait is None:
            return self._strayed(await super()._pass_async(claim, patience)) if self._alone() else claim
        if wait != -1.0:
            self._refuse(wait)
        if shared.delay:
            try:
                await self._line.wait_async(shared, self._clock)
            except GeneratorExit:
                raise
            except BaseException:
                await shielded(lambda: self._correct_async(shared, self._nothing))
                raise
        return shared

    def _wait_out(self, claim: SharedClaim) -> None:
        from resilience._runtime import blocks_a_loop

        if not self._blocked_before and blocks_a_loop():
            self._warn_of_blocking()
        try:
            self._line.wait(claim, self._clock)
        except BaseException:
            self._correct(claim, self._nothing)
            raise

    def reserve(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta = inf
    ) -> Reservation:
        """Take tokens in advance, for the moment in which they will be there, and do not wait."""
        claim, patience = SharedClaim(self._claim_of(key, cost)), self._patience(max_wait)
        return self._reserved(claim, patience, self._decide(claim, patience))

    async def reserve_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta = inf
    ) -> Reservation:
        """Do what `reserve` does, without blocking the loop."""
        claim, patience = SharedClaim(self._claim_of(key, cost)), self._patience(max_wait)
        return self._reserved(claim, patience, await self._decide_async(claim, patience))

    def _reserved(self, claim: SharedClaim, patience: float, wait: float | None) -> Reservation:
        if wait is None:
            if self._alone():
                self._stray(claim.key, claim.costs)
                return super().reserve(key=key_of(claim), cost=self._as_cost(claim.costs), max_wait=patience)
            return Reservation(0.0, unused)
        if wait != -1.0:
            self._refuse(wait)
        return SharedReservation(self, claim)

    def _as_cost(self, costs: Costs) -> Cost:
        return {rate.of: cost for rate, cost in zip(self._tariff.rates, costs, strict=True) if cost}

    def guard(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> SharedGuard:
        """A block behind this throttle, with `with` or `async with`; takes what `acquire` takes. Single use."""
        return SharedGuard(self, {"key": key, "cost": cost, "max_wait": max_wait})

    # --- looking and resetting ---------------------------------------------------------------------------------------

    def peek(self, *, key: Key | None = None) -> Quota:
        """What is left in the store, or locally where the store cannot be had; takes nothing."""
        self._check_key(key)
        answer = self._link.ask(self, "peek", self._look_words(), key)
        return super().peek(key=key) if answer is None else self._quota(answer)

    async def peek_async(self, *, key: Key | None = None) -> Quota:
        """Do what `peek` does, without blocking the loop."""
        self._check_key(key)
        answer = await self._link.ask_async(self, "peek", self._look_words(), key)
        return super().peek(key=key) if answer is None else self._quota(answer)

    def _look_words(self) -> list[Word]:
        return [*self._tariff.one, *self._tariff.keeps[rank_of_caller()]]

    def _quota(self, views: Sequence[float]) -> Quota:
        quotas = [Quota(rate.burst, *views[3 * place : 3 * place + 3]) for place, rate in enumerate(self._tariff.rates)]
        worst = max(quotas, key=lambda quota: quota.retry_after)
        return worst if worst.retry_after else min(quotas, key=lambda quota: quota.remaining / quota.limit)

    def reset(self, *, key: Key | None = None) -> None:
        """Fill the buckets of `key`, in the store and here."""
        self._check_key(key)
        self._forget_lease(key)
        if self._link.ask(self, "reset", [], key) is None and self._link.on_error == "deny":
            raise self._link.error()
        super().reset(key=key)

    async def reset_async(self, *, key: Key | None = None) -> None:
        """Do what `reset` does, without blocking the loop."""
        self._check_key(key)
        self._forget_lease(key)
        if await self._link.ask_async(self, "reset", [], key) is None and self._link.on_error == "deny":
            raise self._link.error()
        super().reset(key=key)

    def _forget_lease(self, key: Key | None) -> None:
        if self._leases is not None:
            with self._lock:
                self._leases.forget(key)

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON, from memory: what is left is known to the store alone."""
        view = super().snapshot()
        for rate in view["rates"]:
            rate.pop("remaining", None)
        return {**view, "shared": True, "store_lost": self._link.lost}

    def _at_rest(self) -> bool:
        with self._lock:
            held = self._leases is not None and self._leases.unused > 0
        return not held and super()._at_rest()

    # --- calls -------------------------------------------------------------------------------------------------------

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        if isinstance(self._key, str):
            return bind_shared(SharedByArgument(self, self._key, fn), fn)
        return bind_shared(self, fn)

    def _admit_for(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if self._settle is None and self._cost is None and self._at_hand(key):
            return PAID
        return super()._admit_for(key, args, kwargs)

    async def _admit_for_async(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if self._settle is None and self._cost is None and self._at_hand(key):
            return PAID
        return await super()._admit_for_async(key, args, kwargs)

    async def _returned_async(self, permit: int, result: object, started: float) -> None:
        filed = self._pending.pop(permit, None)
        if filed is not None:
            claim, settle = filed
            if settle is not None:
                await self._settle_async(claim, self._tariff.settled(settle(result), claim.costs))

    async def _raised_async(self, permit: int, error: BaseException, started: float) -> None:
        self._pending.pop(permit, None)

    async def _told_async(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        self._pending.pop(permit, None)

    def _check_actual(self, permit: int, actual: Cost) -> None:
        filed = self._pending.get(permit)
        if filed is not None:
            self._tariff.settled(actual, filed[0].costs)

    async def _charge_async(self, permit: int, actual: Cost) -> None:
        filed = self._pending.pop(permit, None)
        if filed is not None:
            await self._settle_async(filed[0], self._tariff.settled(actual, filed[0].costs))


def _rebuilt(arguments: dict[str, Any]) -> Throttle:
    options = {name: value for name, value in arguments.items() if name != "rates"}
    rates = arguments["rates"]
    return Throttle(*((rates,) if isinstance(rates, str | Rate) else rates), **options)
