"""Taking tokens from a store, or from a share of one's own where the store cannot be had.

When the store is back, what was taken here and the local buckets have not refilled by then is charged to the shared
ones, with the next question. The local ones are left as they are. So outages that follow each other hand out one burst
between them, and what was within the rate is not held against anybody.
"""

from __future__ import annotations

from functools import partial
from math import inf

from resilience.core.bucket import Bucket
from resilience.core.desk import Desk
from resilience.core.ledger import Claim
from resilience.policies._store_claim import SharedClaim
from resilience.policies._store_gate import shielded
from resilience.policies._store_lease import Leases
from resilience.policies._store_line import StoreLine
from resilience.policies._store_link import StoreLink
from resilience.policies._store_words import check_store, numbers_of, rate_words
from resilience.policies._tariff import rank_of_caller
from resilience.policies.throttle import Throttle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from resilience.policies._store_words import OnStoreError
    from resilience.policies._tariff import Costs
    from resilience.stores import Store, Word

__all__ = ["StoreTaking", "key_of"]


class StoreTaking(Throttle):
    """The inner half of `SharedThrottle`."""

    __slots__ = ("_leases", "_line", "_link", "_nothing", "_strays")

    def _join_store(self, store: Store, name: str | None, lease: int, on_error: OnStoreError, local: float) -> None:
        rates = self._tariff.rates
        whose = check_store("Throttle", store, name)
        read = partial(_read, len(rates))
        self._link = StoreLink(store, "bucket", whose, rate_words(rates), on_error, read)
        usual = self._costs or self._tariff.one
        # A share of a small burst may be less than a call costs, and would let nobody pass for ever.
        bursts = [max(rate.burst * local, cost) for rate, cost in zip(rates, usual, strict=True)]
        buckets = [Bucket(rate.amount * local, rate.per, burst) for rate, burst in zip(rates, bursts, strict=True)]
        keeps = [
            tuple(min(keep * local, burst - cost) for keep, burst, cost in zip(kept, bursts, usual, strict=True))
            for kept in self._tariff.keeps
        ]
        most = self._desk.ledger.max_keys
        self._desk = Desk(buckets, keeps, most)
        self._ledger = self._desk.ledger
        self._short = self._flat = False
        self._strays: dict[object, Costs] = {}
        self._nothing = (0.0,) * len(rates)
        self._line = StoreLine(rates, self._tariff.keeps)
        whole = max(rate.burst * rate.per / rate.amount for rate in rates)
        self._leases = None if lease == 1 else Leases(lease, whole, most)

    # --- one decision ------------------------------------------------------------------------------------------------

    def _at_hand(self, key: object) -> bool:
        """Serve a call of the usual cost from a lease, in the shortest way."""
        leases = self._leases
        if leases is None or not (key is None or type(key) is str) or (key is None and self._key is not None):
            return False
        lease = leases.held.get((key, rank_of_caller()))
        if lease is None or lease.costs is not self._costs or self._clock.now() >= lease.ends:
            return False
        with self._lock:
            if lease.calls <= 0:
                return False
            lease.calls -= 1
        return True

    def _from_lease(self, claim: SharedClaim) -> int:
        """0 where a lease has served the claim, else how many calls' worth to ask for."""
        leases = self._leases
        if leases is None:
            return 1
        now = self._clock.now()
        with self._lock:
            if leases.take(claim, now):
                return 0
            leases.sweep(now)
            return leases.begin(claim)

    def _end_lease(self, claim: SharedClaim, calls: int) -> None:
        leases = self._leases
        if leases is not None:
            now = self._clock.now()
            with self._lock:
                leases.end(claim, calls, now)

    def _question(self, claim: Claim, calls: int, patience: float) -> tuple[list[Word], Sequence[float]]:
        owed = self._to_charge(claim.key) if self._strays else self._nothing
        return [*claim.costs, *self._tariff.keeps[claim.rank], *owed, float(calls), patience], owed

    def _understood(self, claim: SharedClaim, answer: Sequence[float], calls: int, patience: float) -> float:
        """Read an answer: seconds to wait if it was refused, else -1.0."""
        granted, delay = int(answer[0]), answer[1]
        if granted:
            # Whatever a store says, nobody waits for longer than he would.
            claim.delay = min(delay, patience)
            claim.marks = answer[2:]
        if calls > 1:
            self._end_lease(claim, granted - 1)
        return -1.0 if granted else delay

    def _decide(self, claim: SharedClaim, patience: float) -> float | None:
        """-1.0 where the claim is granted, else seconds to come back after; None where the store cannot be had."""
        calls = self._from_lease(claim)
        if not calls:
            return -1.0
        given, owed = self._question(claim, calls, patience)
        answer = None
        try:
            answer = self._link.ask(self, "take", given, key_of(claim))
        finally:
            if answer is None:
                self._not_asked(claim, calls, owed)
        return None if answer is None else self._understood(claim, answer, calls, patience)

    async def _decide_async(self, claim: SharedClaim, patience: float) -> float | None:
        calls = self._from_lease(claim)
        if not calls:
            return -1.0
        given, owed = self._question(claim, calls, patience)
        answer = None
        try:
            answer = await self._link.ask_async(self, "take", given, key_of(claim))
        finally:
            if answer is None:
                self._not_asked(claim, calls, owed)
        return None if answer is None else self._understood(claim, answer, calls, patience)

    def _not_asked(self, claim: SharedClaim, calls: int, owed: Sequence[float]) -> None:
        if calls > 1:
            self._end_lease(claim, 0)
        if any(owed):
            self._stray(claim.key, owed)

    # --- without the store -------------------------------------------------------------------------------------------

    def _alone(self) -> bool:
        """The store cannot be had: True to decide by the local buckets, False to let through."""
        if self._link.on_error == "deny":
            raise self._link.error()
        return self._link.on_error == "local"

    def _strayed(self, claim: Claim) -> Claim:
        self._stray(claim.key, claim.costs)
        return claim

    def _stray(self, key: object, costs: Sequence[float]) -> None:
        """Remember what was taken here and not in the store."""
        with self._lock:
            strays = self._strays
            if len(strays) >= self._desk.ledger.max_keys and key not in strays:
                # A bucket that is forgotten was full: there is nothing to be charged for.
                known = self._desk.ledger.states
                self._strays = strays = {other: owed for other, owed in strays.items() if other in known}
            before = strays.get(key, self._nothing)
            strays[key] = tuple(old + new for old, new in zip(before, costs, strict=True))

    def _to_charge(self, key: object) -> Sequence[float]:
        """What was taken here of late and the local buckets have not refilled."""
        now = self._clock.now()
        with self._lock:
            if key not in self._strays or not self._link.asks(now):
                return self._nothing
            taken, ledger = self._strays.pop(key), self._desk.ledger
            states: Any = zip(ledger.buckets, ledger.load(_any(key)), taken, strict=True)
            return tuple(max(0.0, min(cost, bucket.burst - bucket.level(state, now))) for bucket, state, cost in states)

    # --- settling -----------------------------------------------------------------------------------------------------

    async def _settle_async(self, claim: Claim, costs: Costs) -> None:
        await shielded(lambda: self._correct_async(claim, costs))

    def _correct(self, claim: Claim, costs: Costs) -> None:
        if isinstance(claim, SharedClaim):
            answer = self._link.ask(self, "settle", _settle_words(claim, costs), key_of(claim))
            if answer is not None:
                self._line.move_up(claim, answer)
        elif self._link.on_error == "local":
            super()._correct(claim, costs)

    async def _correct_async(self, claim: Claim, costs: Costs) -> None:
        if isinstance(claim, SharedClaim):
            answer = await self._link.ask_async(self, "settle", _settle_words(claim, costs), key_of(claim))
            if answer is not None:
                self._line.move_up(claim, answer)
        elif self._link.on_error == "local":
            super()._correct(claim, costs)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._link.after_fork()
        self._line.after_fork()
        if self._leases is not None:
            # What the parent holds is the parent's: two that spend it would spend it twice.
            self._leases = self._leases.emptied()


def _any(value: Any) -> Any:
    return value


def key_of(claim: Any) -> Any:
    """Whose tokens a claim is about."""
    return claim.key


def _read(rates: int, verb: str, answer: Sequence[Word]) -> list[float]:
    """An answer in numbers, none of which is below nothing, where that could be taken for a grant or a wait."""
    numbers = numbers_of(answer, {"take": 2, "peek": 3 * rates}.get(verb, 1))
    senseless = verb in ("take", "peek") and min(numbers[: 2 if verb == "take" else 3 * rates]) < 0.0
    if senseless or (verb == "take" and numbers[0] and (max(numbers[:2]) == inf or len(numbers) < 2 + 5 * rates)):
        raise ValueError(f"the store answered {answer!r}")
    return numbers


def _settle_words(claim: SharedClaim, costs: Costs) -> list[Word]:
    marks: Any = claim.marks
    return [*claim.costs, *costs, *marks]
