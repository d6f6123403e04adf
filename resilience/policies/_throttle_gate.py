"""How calls pass a throttle: from the terms of a call to a claim, and from the answer to a result or an error.

What a call is charged, and whose bucket it is, may depend on its arguments, and what it really cost on its result.
All of that is other people's code, so it is asked before the lock is taken and after it is released.
"""

from __future__ import annotations

from resilience._checks import seconds
from resilience._compile import Layer
from resilience._drivers import bind_gate
from resilience.core.ledger import Claim
from resilience.errors import Throttled
from resilience.events import CallRejected, KeysFull
from resilience.policies._by_argument import ByArgument
from resilience.policies._desk_gate import IN_TIME, NO_ROOM, DeskGate
from resilience.policies._gate import ASK
from resilience.policies._quick import take_locked, take_quickly, take_unlocked
from resilience.policies._tariff import check_key, rank_of_caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, NoReturn

    from resilience.core.desk import Desk
    from resilience.core.verdict import Verdict
    from resilience.policies._desk_gate import Aftermath
    from resilience.policies._tariff import Cost, Costs, Key, Tariff
    from resilience.policies._waiting import Parked

    Pending = tuple[Claim, Callable[[Any], Cost] | None]

__all__ = ["ThrottleGate"]

_GRAIN = 0.0005

PAID = 0
"""The permit of a call that has nothing to settle."""


class ThrottleGate(DeskGate):
    """The inner half of `Throttle`."""

    __slots__ = (
        "_bare",
        "_burst",
        "_cost",
        "_costs",
        "_fare",
        "_flat",
        "_held",
        "_key",
        "_ledger",
        "_max_wait",
        "_pending",
        "_serial",
        "_settle",
        "_short",
        "_spare",
        "_tariff",
        "_times",
        "_told_full",
        "_unit",
    )

    _key: str | Callable[..., Key] | None
    _max_wait: float
    _settle: Callable[[Any], Cost] | None

    def _open(self, desk: Desk, tariff: Tariff, cost: object) -> None:
        self._open_desk(desk)
        self._tariff = tariff
        self._cost: Callable[..., Any] | None = None
        self._costs: Costs | None = None
        if callable(cost):
            self._cost = cost
        else:
            self._costs = tariff.costs(cost)
            for rank in range(len(tariff.keeps)):
                tariff.check_burst(self._costs, rank)
        self._pending: dict[int, Pending] = {}
        self._serial = PAID
        self._told_full = 0
        self._permit, self._clean, self._timed = ASK, PAID, False
        self._ledger = desk.ledger
        bucket = tariff.buckets[0]
        self._times, self._burst = bucket.times, bucket.burst
        self._unit = self._costs[0] if self._costs else 0.0
        kept = any(any(keep) for keep in tariff.keeps)
        # The sum of a line and a burst that is no integer may not come out exactly, and that would not be noticed.
        exact = bucket.times > 0.0 and bucket.over == 1.0 and bucket.burst % 1.0 == 0.0
        self._short = len(tariff.buckets) == 1 and self._key is None and self._unit > 0.0 and exact and not kept
        self._flat = self._short and self._settle is None
        # With whole numbers, what `try_acquire` subtracts comes out exactly; and it is what a lock is not needed for.
        plain = self._short and self._unit % 1.0 == 0.0
        self._bare = desk.ledger if plain and type(self)._take_quickly is take_unlocked else None
        self._held = desk.ledger if plain and type(self)._take_quickly is take_locked else None
        self._spare = self._burst - self._unit
        # The usual loops round a sleep up to a millisecond, so this is as fine; and no bucket overflows meanwhile.
        self._grain = _GRAIN if all(bucket.burst >= 4.0 * _GRAIN * bucket.rate for bucket in tariff.buckets) else 0.0
        # What a follower pays; a store has its own way to wait.
        own = self._key is None and self._max_wait > 0.0 and type(self)._pass_async is ThrottleGate._pass_async
        self._fare = self._costs if own else None

    # --- claims ------------------------------------------------------------------------------------------------------

    _take_quickly = take_quickly

    def _aftermath(self) -> Aftermath | None:
        ledger = self._desk.ledger
        if self._short and None not in self._desk.lines:
            state = ledger.sole
            if not isinstance(state, tuple):
                ledger.at_hand = True
                ledger.brisk = state >= 0.0
        return super()._aftermath()

    def _claim_of(self, key: Key | None, cost: Cost | None) -> Claim:
        self._check_key(key)
        rank = rank_of_caller()
        if cost is None:
            costs = self._costs
            if costs is None:
                raise TypeError(f"{self.name} takes its cost from the call's arguments: without a call, say cost=")
        else:
            costs = self._tariff.costs(cost)
            self._tariff.check_burst(costs, rank)
        return Claim(key, costs, rank)

    def _check_key(self, key: Key | None) -> None:
        if key is not None:
            check_key(key)
        elif self._key is not None:
            raise TypeError(f"{self.name} has a bucket for each key: without a call, say key=")

    def _patience(self, max_wait: float | timedelta | None) -> float:
        return self._max_wait if max_wait is None else seconds("max_wait", max_wait, zero=True, infinite=True)

    def _pass(self, claim: Claim, patience: float) -> Claim:
        """Have a claim granted, waiting for it up to `patience` seconds, or raise `Throttled`."""
        wait = self._ask(claim, patience)
        if wait is None:
            return claim
        if wait != IN_TIME:
            self._refuse(wait)
        waiter = self._wait(claim, patience)
        if waiter.retry_after is not None:
            self._refuse(waiter.retry_after)
        return waiter

    async def _pass_async(self, claim: Claim, patience: float) -> Claim:
        line = self._desk.lines.get(claim.key) if patience else None
        if line is not None:
            follower = self._follow(line, claim.costs, claim.rank, patience)
            if follower is not None:
                try:
                    await follower.bed
                except BaseException as error:
                    self._fall(follower, error)
                    raise
                self._go_on(follower)
                return follower
        wait = self._ask(claim, patience)
        if wait is None:
            return claim
        if wait != IN_TIME:
            self._refuse(wait)
        waiter = await self._wait_async(claim, patience)
        if waiter.retry_after is not None:
            self._refuse(waiter.retry_after)
        return waiter

    def _go_on(self, waiter: Parked) -> None:
        """What a follower does that was woken."""
        if not waiter.lot.members:
            self._part(waiter, undo=False)
        if waiter.retry_after is not None:
            self._refuse(waiter.retry_after)

    def _refuse(self, wait: float) -> NoReturn:
        self._tell(wait)
        if wait == NO_ROOM:
            raise Throttled(self.name, None, "keys")
        raise Throttled(self.name, wait, "rate")

    def _tell(self, wait: float) -> None:
        """Tell those who listen that a claim was refused."""
        heard = self._channel.heard
        if wait != NO_ROOM:
            if heard:
                self._send(CallRejected, reason="rate", retry_after=wait)
            return
        with self._lock:
            episode = self._desk.ledger.episode
            first, self._told_full = episode > self._told_full, episode
        if heard:
            if first:
                self._send(KeysFull, max_keys=self._desk.ledger.max_keys)
            self._send(CallRejected, reason="keys", retry_after=None)

    # --- calls -------------------------------------------------------------------------------------------------------

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature.

        Raises:
            TypeError: `key` names a parameter that the function does not have.
        """
        if isinstance(self._key, str):
            return bind_gate(ByArgument(self, self._key, fn), fn)
        return super().bind(fn)

    def _inline(self) -> Layer | None:
        if self._key is not None or self._cost is not None:
            # They are asked of the arguments as the caller gave them.
            return None
        if not self._flat or type(self)._admit is not ThrottleGate._admit:
            return Layer("gate", "throttle", {})
        if take_quickly is take_locked:
            return Layer("locked_toll", "throttle", {"quick": take_quickly})
        terms = {"times": self._times, "burst": self._burst, "unit": self._unit}
        return Layer("toll", "throttle", {"clock": self._clock, "ledger": self._ledger, **terms})

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if self._flat and self._take_quickly():
            return PAID
        return self._admit_for(self._key(*args, **kwargs) if callable(self._key) else None, args, kwargs)

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if self._flat and self._take_quickly():
            return PAID
        key = self._key(*args, **kwargs) if callable(self._key) else None
        return await self._admit_for_async(key, args, kwargs)

    def _admit_for(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        claim = self._claim_of(key, None if self._cost is None else self._cost(*args, **kwargs))
        claim = self._pass(claim, self._max_wait)
        return PAID if self._settle is None else self._file(claim, self._settle)

    async def _admit_for_async(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        claim = self._claim_of(key, None if self._cost is None else self._cost(*args, **kwargs))
        claim = await self._pass_async(claim, self._max_wait)
        return PAID if self._settle is None else self._file(claim, self._settle)

    def _claim(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> int:
        claim = self._pass(self._claim_of(key, cost), self._patience(max_wait))
        return self._file(claim, None)

    async def _claim_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> int:
        claim = await self._pass_async(self._claim_of(key, cost), self._patience(max_wait))
        return self._file(claim, None)

    # --- settling ----------------------------------------------------------------------------------------------------

    def _file(self, claim: Claim, settle: Callable[[Any], Cost] | None) -> int:
        """Keep a claim until its call has ended; returns the permit."""
        with self._lock:
            self._serial = permit = self._serial + 1
            self._pending[permit] = claim, settle
        return permit

    def _returned(self, permit: int, result: object, started: float) -> None:
        filed = self._pending.pop(permit, None)
        if filed is not None:
            claim, settle = filed
            if settle is not None:
                self._correct(claim, self._tariff.settled(settle(result), claim.costs))

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        self._pending.pop(permit, None)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        self._pending.pop(permit, None)

    def _charge(self, permit: int, actual: Cost) -> bool:
        filed = self._pending.get(permit)
        if filed is None:
            return False
        costs = self._tariff.settled(actual, filed[0].costs)
        if self._pending.pop(permit, None) is None:
            return False
        self._correct(filed[0], costs)
        return True

    def _amend(self, claim: Parked, actual: Cost | None) -> bool:
        """Settle a reservation, or cancel it; once."""
        costs = (0.0,) * len(claim.costs) if actual is None else self._tariff.settled(actual, claim.costs)
        with self._lock:
            if claim.closed:
                return False
            claim.closed = True
        self._correct(claim, costs)
        return True

    def _correct(self, claim: Claim, costs: Costs) -> None:
        now = self._clock.now()
        with self._lock:
            self._desk.settle(claim, costs, now)
            after = self._aftermath()
        self._clear_up(after)

    # --- for virtual time --------------------------------------------------------------------------------------------

    def _freeze(self) -> dict[str, Any]:
        with self._lock:
            return {"ledger": self._desk.ledger.save()}

    def _thaw(self, frozen: dict[str, Any]) -> None:
        with self._lock:
            self._desk.ledger.restore(frozen["ledger"])
            for line in self._desk.lines.values():
                line.promises.forget()
            self._aftermath()
        self._listeners_changed()
