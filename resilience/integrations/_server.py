"""The door of a server: a request is counted, and finds a place or not, before anything is done for it.

A `Limit` is a throttle with what it has to know of a request, a `Door` is what stands before the whole application.
What they find out is kept in the request's `Arrival`, from which the answer's RateLimit fields are written.
"""

from __future__ import annotations

import time

from resilience import context
from resilience._checks import callable_or_none, wrong_type, wrong_value
from resilience._shape import close_coroutine, is_awaitable, shape_of
from resilience.errors import Throttled
from resilience.integrations._arrival import PRIORITIES, Arrival, client_address, seconds_told, waited_since
from resilience.integrations._problem import limit_fields
from resilience.policies.shed import LoadShedder
from resilience.policies.throttle import Throttle
from resilience.rates import Quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from resilience.policies._guard import GateGuard
    from resilience.policies._tariff import Cost, Key

    C = TypeVar("C", bound=Callable[..., Any] | None)
    V = TypeVar("V")

__all__ = ["Door", "Limit", "limit_of"]


class Limit:
    """A throttle before a request: whose bucket, what it costs, and who is exempt. Safe from any thread.

    Args:
        throttle: the throttle.
        key: a callable that says whose bucket; by default the throttle's own, else the client's address. Where it
            says None, the address: in a bucket that no key which is a str can name.
        cost: a number, a mapping, or a callable that says either; by default the throttle's own.
        exempt_when: a callable; a true answer lets the request pass uncounted.

    Raises:
        TypeError: a parameter is of the wrong kind.
    """

    __slots__ = ("_cost", "_exempt_when", "_key", "_shared", "throttle")

    def __init__(
        self,
        throttle: Throttle,
        key: Callable[..., Key | None] | None = None,
        cost: Cost | Callable[..., Cost] | None = None,
        exempt_when: Callable[..., object] | None = None,
    ) -> None:
        own = throttle._key
        if isinstance(own, str):
            raise TypeError(f"{throttle.name}: before a server, key must be a callable of the request, got {own!r}")
        self.throttle = throttle
        self._key = _plain("key", callable_or_none("key", key) or own)
        self._cost = throttle._cost if cost is None else cost
        if callable(self._cost):
            _plain("cost", self._cost)
        self._exempt_when = _plain("exempt_when", callable_or_none("exempt_when", exempt_when))
        # To look into a store would be a round trip for each answer.
        self._shared = throttle._arguments.get("store") is not None

    def take(self, arrival: Arrival, *request: object) -> None:
        """Take what the request costs, waiting for it as long as the throttle may and the request's time lasts.

        Raises:
            Throttled: it is not there.
            StoreUnavailable: as the throttle.
        """
        terms = self._terms(arrival, request)
        if terms is None:
            return
        try:
            self.throttle.acquire(key=terms[0], cost=terms[1], max_wait=self._patience())
        except Throttled as refusal:
            self._note(arrival, terms[0], refusal)
            raise
        self._note(arrival, terms[0], None)

    async def take_async(self, arrival: Arrival, *request: object) -> None:
        """Do what `take` does; while it waits, the calling task is suspended."""
        terms = self._terms(arrival, request)
        if terms is None:
            return
        try:
            await self.throttle.acquire_async(key=terms[0], cost=terms[1], max_wait=self._patience())
        except Throttled as refusal:
            self._note(arrival, terms[0], refusal)
            raise
        self._note(arrival, terms[0], None)

    def _terms(self, arrival: Arrival, request: tuple[object, ...]) -> tuple[Key, Cost | None] | None:
        if self._exempt_when is not None and _said("exempt_when", self._exempt_when(*request)):
            return None
        key = arrival.address if self._key is None else _said("key", self._key(*request))
        cost: Any = self._cost
        if callable(cost):
            cost = _said("cost", cost(*request))
        return ("address", arrival.address) if key is None else key, cost

    def _patience(self) -> float:
        """A turn that comes too late for the request is none: it is refused at once, and told when to come back."""
        longest = self.throttle._max_wait
        left = context.remaining() if longest > 0.0 else None
        return longest if left is None else min(longest, left)

    def _note(self, arrival: Arrival, key: Key, refusal: Throttled | None) -> None:
        rates = self.throttle._tariff.rates
        if not self._shared:
            quota = self.throttle.peek(key=key)
        elif refusal is not None:
            quota = Quota(rates[0].burst, 0.0, refusal.retry_after or 0.0, refusal.retry_after or 0.0)
        else:
            return
        # Of two rates with the same burst it is the one that fills it in that time.
        alike = [each for each in rates if each.burst == quota.limit] or rates
        missing = quota.limit - quota.remaining
        rate = min(alike, key=lambda each: abs(missing * each.per / each.amount - quota.reset_after))
        arrival.limits.append(limit_fields(self.throttle.name, rate, quota))


class Door:
    """What a request passes before the application sees it. Safe from any thread.

    Raises:
        TypeError, ValueError: a parameter breaks its rule.
    """

    __slots__ = ("_limit", "_shedder", "_trust", "_trusted_proxies")

    def __init__(
        self, throttle: Throttle | None, shedder: LoadShedder | None, trusted_proxies: int, trust_priority: bool
    ) -> None:
        _check_count("trusted_proxies", trusted_proxies)
        if not isinstance(trust_priority, bool):
            raise wrong_type("trust_priority", "True or False", trust_priority)
        if throttle is not None and not isinstance(throttle, Throttle):
            raise wrong_type("throttle", "a Throttle or None", throttle)
        if shedder is not None and not isinstance(shedder, LoadShedder):
            raise wrong_type("shedder", "a LoadShedder or None", shedder)
        if shedder is not None and isinstance(shedder._user, str):
            raise wrong_type("user of a shedder before a server", "a callable of the request or None", shedder._user)
        self._limit = None if throttle is None else Limit(throttle)
        self._shedder = shedder
        self._trusted_proxies = trusted_proxies
        self._trust = trust_priority or trusted_proxies > 0

    def arrival(self, peer: str | None, header: Callable[[str], str]) -> Arrival:
        """Read a request: the address at the other end, and its header fields by their names in lower case."""
        proxies = self._trusted_proxies
        return Arrival(
            client_address(peer, header("x-forwarded-for") if proxies else "", proxies),
            seconds_told(header("x-deadline-ms")),
            PRIORITIES.get(header("x-priority").strip().lower()) if self._trust else None,
            waited_since(header("x-request-start"), time.time()) if proxies else None,
        )

    def admit(self, arrival: Arrival, *request: object) -> None:
        """Count a request, and find a place for it until its stack is closed.

        Raises:
            Rejected: there is no token or no place.
            StoreUnavailable: as the throttle.
        """
        if self._limit is not None:
            self._limit.take(arrival, *request)
        self._place(arrival, request)

    async def admit_async(self, arrival: Arrival, *request: object) -> None:
        """Do what `admit` does; while it waits, the calling task is suspended."""
        if self._limit is not None:
            await self._limit.take_async(arrival, *request)
        self._place(arrival, request)

    def _place(self, arrival: Arrival, request: tuple[object, ...]) -> None:
        shedder, stack = self._shedder, arrival.stack
        if shedder is None or stack is None:
            return
        if arrival.waited is not None:
            shedder.report(arrival.waited)
        user: Any = shedder._user
        guard: GateGuard = shedder.guard(user=None if user is None else user(*request))
        stack.enter_context(guard)


def limit_of(
    rates: tuple[Any, ...],
    key: Callable[..., Key | None] | None,
    cost: Cost | Callable[..., Cost] | None,
    exempt_when: Callable[..., object] | None,
    options: dict[str, Any],
) -> Limit:
    """A limit from rates and what else a `Throttle` takes, or from one `Throttle`.

    Raises:
        TypeError, ValueError: as `Throttle`, and for a `Throttle` with rates or options beside it.
    """
    if any(isinstance(rate, Throttle) for rate in rates):
        if len(rates) != 1 or options:
            raise TypeError("a limit takes rates and options, or one Throttle and nothing else")
        return Limit(rates[0], key, cost, exempt_when)
    if cost is not None and not callable(cost):
        options = {**options, "cost": cost}
    return Limit(Throttle(*rates, **options), key, cost, exempt_when)


def _plain(name: str, called: C) -> C:
    """Refuse what would only begin to answer: a coroutine is true, so it would exempt everybody."""
    if called is not None and shape_of(called) != "sync":
        raise wrong_type(name, "a callable that is a plain function, or None", called)
    return called


def _said(name: str, found: V) -> V:
    if is_awaitable(found):
        close_coroutine(found)
        raise TypeError(f"{name} returned a coroutine, which says nothing yet: it must be a plain function")
    return found


def _check_count(name: str, value: object) -> None:
    rule = "an integer, 0 or more"
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, rule, value)
    if value < 0:
        raise wrong_value(name, rule, value)
