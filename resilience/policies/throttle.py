"""So many calls a second, and not one more.

A throttle keeps to a rate that somebody else has set, or that a service has set for its callers. What goes through is
decided by a token bucket (`resilience.core.bucket`): up to a burst at once, and in the long run the rate, exactly.
What does not go through is refused at once with the time after which it would, or waits for its turn where it may, in
order, across threads and event loops (`_waiting`).

    api = Throttle("100/s", max_wait=1)                              # what the other side allows
    users = Throttle("10/minute burst 20", key="user")               # each user alone
    model = Throttle("500 calls/minute; 200_000 tokens/minute", cost=estimate, settle=usage)      # both or neither
"""

from __future__ import annotations

from math import inf

from resilience._checks import callable_or_none, positive_int, seconds, share, text_or_none
from resilience.core.desk import Desk
from resilience.policies._desk_gate import NO_ROOM
from resilience.policies._guard import GateGuard
from resilience.policies._reservation import Reservation
from resilience.policies._store_words import way_out
from resilience.policies._tariff import Tariff, checked_key, headroom_by_rank, rank_of_caller, with_burst
from resilience.policies._throttle_gate import ThrottleGate
from resilience.policies._waiting import Parked
from resilience.rates import Quota, Rate, rates_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from typing import Any, Self

    from resilience.clock import Clock
    from resilience.context import Priority
    from resilience.policies._store_words import OnStoreError
    from resilience.policies._tariff import Cost, Key
    from resilience.stores import Store

__all__ = ["Reservation", "Throttle"]


class Throttle(ThrottleGate):
    """Keep to a rate, or to several at once.

    One object is shared by all threads, event loops and call forms. Calls that wait are served first come, first
    served within a key and a priority; a call that waits holds no lock, and cancelling it leaves no trace.

    Args:
        rates: text such as "100/s" or "500 calls/minute; 200_000 tokens/minute burst 1000", or `Rate` objects.
            Several are one check: a call takes from all or from none.
        burst: tokens that may be taken at once, where there is one rate that does not say so itself; its amount by
        default.
        max_wait: seconds that a call may wait for its turn; 0 refuses at once, `math.inf` waits as long as it takes.
        cost: what a call costs: a number of "calls" (or of the only resource there is), a mapping such as {"calls":
            1, "tokens": 900}, or a callable of the call's arguments that returns either.
        settle: a callable of the result that returns what a decorated call really cost; the difference is charged or
        given back.
        key: whose bucket it is: the name of a parameter, or a callable of the call's arguments that returns a str, an
            int or a tuple of them. Each key has its own buckets.
        headroom: by priority, the share of the burst that such calls may not touch, so that what matters less gives
            way first. A priority that is not named keeps what the next higher one keeps.
        max_keys: keys remembered at most. Full buckets are forgotten; when none is full, an unknown key is refused.
        store: where the buckets are, for many processes to share (`resilience.stores`); this process by default. Then
            `name` is required: it is the key, and two throttles of one name share their buckets.
        lease: tokens taken in one round trip to the store; what one process does not use of them, others do without.
        on_store_error: what to do while the store cannot be had: "local" decides by buckets of this process, "allow"
            lets everything through, "deny" raises `StoreUnavailable`.
        local_share: the share of the rates and bursts that this process may use meanwhile; 1 / processes keeps the sum.
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default. In plain code, a wait under another clock is
        its `sleep`.

    Raises:
        Throttled: from a call that is refused, with a `retry_after` that is enough.
        StoreUnavailable: from a call, where the store cannot be had and `on_store_error` is "deny".
        TypeError, ValueError: a parameter breaks its rule, or a cost could never pass; the message says what and why.
    """

    __slots__ = ()

    kind = "throttle"
    _form = '"100/s"'

    if not TYPE_CHECKING:

        def __new__(cls, *args, store=None, **kwargs):
            """Build what keeps its state in the store, where one is given."""
            if store is not None and cls is Throttle:
                from resilience.policies._store_throttle import SharedThrottle

                return super().__new__(SharedThrottle, *args, **kwargs)
            return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        *rates: str | Rate,
        burst: float | None = None,
        max_wait: float | timedelta = 0.0,
        cost: Cost | Callable[..., Cost] = 1,
        settle: Callable[[Any], Cost] | None = None,
        key: str | Callable[..., Key] | None = None,
        headroom: Mapping[Priority, float] | None = None,
        max_keys: int = 100_000,
        store: Store | None = None,
        lease: int = 1,
        on_store_error: OnStoreError = "local",
        local_share: float = 1.0,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        tariff = Tariff(with_burst(rates_from(rates), burst), headroom_by_rank(headroom))
        self._max_wait = seconds("max_wait", max_wait, zero=True, infinite=True)
        self._settle = callable_or_none("settle", settle, rule="a callable of the result")
        self._key = checked_key(key)
        self._open(Desk(tariff.buckets, tariff.keeps, int(positive_int("max_keys", max_keys))), tariff, cost)
        terms = int(positive_int("lease", lease)), way_out(on_store_error), share("local_share", local_share)
        if store is not None:
            self._join_store(store, text_or_none("name", name), *terms)
        self._setup(name, clock, arguments)

    def _join_store(self, store: Store, name: str | None, lease: int, on_error: OnStoreError, local: float) -> None:
        raise TypeError(
            f"{type(self).__name__} is a class of its own and keeps to this process: write Throttle(store=)"
        )

    # --- asking by hand ----------------------------------------------------------------------------------------------

    def try_acquire(self, *, key: Key | None = None, cost: Cost | None = None) -> bool:
        """Take the tokens if they are there; never waits.

        Raises:
            TypeError, ValueError: no key where one is needed, a key or cost of the wrong kind, a cost that could
            never pass.
        """
        if key is None and cost is None:
            ledger = self._bare
            if ledger is not None:
                line = self._clock.now() * self._times
                # The short way of `_quick` once more, without the call, for whole numbers. Here, too, from the test of
                # `brisk` to the write is one step. Below 2**53 what is subtracted leaves no rest.
                if ledger.brisk:
                    state: float = ledger.sole
                    if state < line - self._burst:
                        if line < 9007199254740992.0:
                            ledger.sole = line - self._spare
                            return True
                    else:
                        unit = self._unit
                        taken = state + unit
                        if taken <= line and taken - state == unit:
                            ledger.sole = taken
                            return True
            elif self._held is not None:
                # The same for interpreters whose threads run at once.
                line = self._clock.now() * self._times
                unit = self._unit
                floor = line - self._burst
                with self._lock:
                    ledger = self._held
                    if ledger.brisk and line < 9007199254740992.0:
                        state = ledger.sole
                        start = floor if state < floor else state
                        taken = start + unit
                        if taken <= line and taken - start == unit:
                            ledger.sole = taken
                            return True
            if self._short and self._take_quickly():
                return True
        wait = self._ask(self._claim_of(key, cost), tell=self._channel.heard)
        if wait is None:
            return True
        self._tell(wait)
        return False

    def acquire(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> None:
        """Take the tokens, waiting for them up to `max_wait` seconds (the throttle's own by default).

        Raises:
            Throttled: they would not be there in time; `retry_after` is enough.
            TypeError, ValueError: as `try_acquire`.
        """
        if key is None and cost is None and max_wait is None and self._short and self._take_quickly():
            return
        self._pass(self._claim_of(key, cost), self._patience(max_wait))

    async def try_acquire_async(self, *, key: Key | None = None, cost: Cost | None = None) -> bool:
        """Do what `try_acquire` does, without blocking the loop where that takes time."""
        return self.try_acquire(key=key, cost=cost)

    async def acquire_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> None:
        """Do what `acquire` does; while it waits, the calling task of asyncio or trio is suspended."""
        if key is None and cost is None and max_wait is None:
            line = self._desk.lines.get(None)
            if line is not None and self._fare is not None:
                waiter = self._follow(line, self._fare, rank_of_caller(), self._max_wait)
                if waiter is not None:
                    try:
                        await waiter.bed
                    except BaseException as error:
                        self._fall(waiter, error)
                        raise
                    if waiter.retry_after is not None or not waiter.lot.members:
                        self._go_on(waiter)
                    return
            elif self._short and self._take_quickly():
                return
        await self._pass_async(self._claim_of(key, cost), self._patience(max_wait))

    def reserve(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta = inf
    ) -> Reservation:
        """Take tokens in advance, for the moment in which they will be there, and do not wait.

        Raises:
            Throttled: that moment is more than `max_wait` seconds away.
            TypeError, ValueError: as `try_acquire`.
        """
        asked, patience = self._claim_of(key, cost), self._patience(max_wait)
        claim = Parked(asked.key, asked.costs, asked.rank)
        now = self._clock.now()
        desk = self._desk
        with self._lock:
            delay = None
            if desk.has_room(claim.key, now):
                delay = 0.0 if desk.take(claim, now) else desk.reserve(claim, now, patience)
            after = self._aftermath()
        self._clear_up(after)
        if delay is None:
            self._refuse(NO_ROOM if claim.retry_after is None else claim.retry_after)
        return Reservation(delay, lambda actual: self._amend(claim, actual))

    async def reserve_async(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta = inf
    ) -> Reservation:
        """Do what `reserve` does, without blocking the loop where that takes time."""
        return self.reserve(key=key, cost=cost, max_wait=max_wait)

    def guard(
        self, *, key: Key | None = None, cost: Cost | None = None, max_wait: float | timedelta | None = None
    ) -> GateGuard:
        """A block behind this throttle, with `with` or `async with`; takes what `acquire` takes. Single use.

        In the block, `g.settle(n)` says what it really cost.
        """
        return GateGuard(self, {"key": key, "cost": cost, "max_wait": max_wait})

    # --- looking and resetting ---------------------------------------------------------------------------------------

    def peek(self, *, key: Key | None = None) -> Quota:
        """What is left for a call of the caller's priority; takes nothing.

        Of several rates, the one that refuses longest, else the one with the least share left.

        Raises:
            TypeError: no key where one is needed, or none of the right kind.
        """
        self._check_key(key)
        now, rank = self._clock.now(), rank_of_caller()
        with self._lock:
            outlook = self._desk.outlook(key, self._tariff.one, rank, now)
            after = self._aftermath()
        self._clear_up(after)
        quotas = [Quota(rate.burst, *view) for rate, view in zip(self._tariff.rates, outlook, strict=True)]
        worst = max(quotas, key=lambda quota: quota.retry_after)
        return worst if worst.retry_after else min(quotas, key=lambda quota: quota.remaining / quota.limit)

    def reset(self, *, key: Key | None = None) -> None:
        """Fill the buckets, of `key` where there are keys, and forget its reservations. Those who wait go on in order.

        Raises:
            TypeError: no key where one is needed, or none of the right kind.
        """
        self._check_key(key)
        now = self._clock.now()
        with self._lock:
            self._desk.reset(key, now)
            after = self._aftermath()
        self._clear_up(after)

    async def peek_async(self, *, key: Key | None = None) -> Quota:
        """Do what `peek` does, without blocking the loop where that takes time."""
        return self.peek(key=key)

    async def reset_async(self, *, key: Key | None = None) -> None:
        """Do what `reset` does, without blocking the loop where that takes time."""
        self.reset(key=key)

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON: one consistent view. Reads memory only; safe from any
        thread.

        `remaining` of a rate is left out where each key has its own.
        """
        now = self._clock.now()
        desk = self._desk
        with self._lock:
            outlook = desk.outlook(None, self._tariff.one, 0, now)
            view: dict[str, Any] = {"keys": len(desk.ledger.states), "waiting": desk.waiting}
            after = self._aftermath()
        self._clear_up(after)
        view["rates"] = [
            {"of": rate.of, "amount": rate.amount, "per": rate.per, "burst": rate.burst}
            | ({"remaining": remaining} if self._key is None else {})
            for rate, (remaining, _, _) in zip(self._tariff.rates, outlook, strict=True)
        ]
        return {**super().snapshot(), **view}

    def _at_rest(self) -> bool:
        """Whether every bucket is full, nobody waits, no reservation is to come and no call is still to be settled."""
        now = self._clock.now()
        desk = self._desk
        with self._lock:
            # A line is closed when somebody looks at it; until then it may hold reservations whose time has come.
            for key in list(desk.lines):
                desk.outlook(key, self._tariff.one, 0, now)
            ledger = desk.ledger
            rests = not (self._pending or desk.lines) and all(
                bucket.is_full(state, now)
                for key in (None, *ledger.states)
                for bucket, state in zip(ledger.buckets, ledger.load(key), strict=True)
            )
            after = self._aftermath()
        self._clear_up(after)
        return rests

    def _rebuild(self, arguments: dict[str, Any]) -> Self:
        options = {name: value for name, value in arguments.items() if name != "rates"}
        rates = arguments["rates"]
        return type(self)(*((rates,) if isinstance(rates, str | Rate) else rates), **options)

    def __repr__(self) -> str:
        given = {**self._arguments}
        rates = ", ".join(repr(rate) for rate in given.pop("rates"))
        options = [f", {name}={value!r}" for name, value in given.items() if value != _DEFAULTS.get(name)]
        return f"Throttle({rates}{''.join(options)})"


_DEFAULTS: dict[str, object] = Throttle.__init__.__kwdefaults__ or {}
