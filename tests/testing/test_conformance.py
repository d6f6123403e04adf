"""The laws, held against our own policies, against good ones written by hand, and against ten broken ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import resilience
from resilience import Clock, FailureRate, Priority, Rate, Reservation, RetryBudget, SlowRate, backoff
from resilience.stores import MemoryStore
from resilience.testing import conformance
from resilience.testing.conformance import Violation
from tests.testing import broken

Check = Callable[..., None]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 20))]
FEW = 60


def the_throttle(kind: type[broken.Throttle], **keywords: Any) -> None:
    conformance.throttle(lambda clock: kind(10.0, 5.0, clock=clock), rate="10/s burst 5", **keywords)


def the_breaker(kind: type[broken.Breaker], **keywords: Any) -> None:
    conformance.breaker(lambda clock: kind(3, cooldown=30.0, clock=clock), **keywords)


def the_retry(kind: type[broken.Retry], **keywords: Any) -> None:
    conformance.retry(
        lambda clock, rng, budget: kind(ConnectionError, attempts=9, within=100.0, clock=clock, rng=rng, budget=budget),
        **keywords,
    )


def the_bulkhead(kind: type[broken.Bulkhead], **keywords: Any) -> None:
    conformance.bulkhead(lambda _: kind(2, queue=3), **keywords)


BROKEN = [
    (the_breaker, broken.LateResultCounted, "B2"),
    (the_breaker, broken.TrialLeakedOnCancel, "B4"),
    (the_breaker, broken.EventTwice, "B3"),
    (the_throttle, broken.RefusalConsumes, "T6"),
    (the_throttle, broken.IntegerSeconds, "T3: T4"),
    (the_retry, broken.JitterBeforeCap, "jitter"),
    (the_retry, broken.SleepsPastTheDeadline, "within"),
    (the_retry, broken.BudgetPerAttempt, "budget"),
    (the_bulkhead, broken.UnfairQueue, "fifo"),
    (the_bulkhead, broken.SlotLostInTheGrantTick, "place"),
]


@pytest.mark.parametrize(("check", "kind", "law"), BROKEN, ids=[kind.__name__ for _, kind, _ in BROKEN])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_broken_policy_is_caught(check: Check, kind: type, law: str, seed: int) -> None:
    """A policy with one mistake is caught, whatever the seed, and the violation names the law that it breaks."""
    with pytest.raises(Violation) as caught:
        check(kind, seed=seed)
    assert caught.value.law.split(":")[0] in law.split(": ")
    assert caught.value.seen in str(caught.value)


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (the_breaker, broken.Breaker),
        (the_throttle, broken.Throttle),
        (the_retry, broken.Retry),
        (the_bulkhead, broken.Bulkhead),
    ],
    ids=["breaker", "throttle", "retry", "bulkhead"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_policy_of_somebody_elses_passes(check: Check, kind: type, seed: int) -> None:
    """The policies that the broken ones are made of keep all the laws, so what is caught is the mistake alone."""
    check(kind, seed=seed)


BREAKERS: dict[str, dict[str, Any]] = {
    "consecutive": {"trip": 3, "cooldown": 30},
    "three trials": {"trip": 2, "trials": 3, "trial_lease": 2.2, "cooldown": 7.3},
    "failure rate": {"trip": FailureRate(0.5, calls=10), "on": OSError, "trials": 2},
    "growing cooldown": {"trip": 2, "trials": 3, "cooldown": backoff.exponential(3)},
    "ramp": {"trip": 2, "ramp": 10, "on_cancel": "failure"},
    "slow rate": {"trip": (SlowRate(0.5, slower_than=1, calls=10), 4)},
}


@pytest.mark.parametrize("options", BREAKERS.values(), ids=BREAKERS.keys())
def test_our_breaker_keeps_its_laws(options: dict[str, Any]) -> None:
    """The circuit breaker keeps B1 to B5 with every kind of trip and cooldown."""
    options = dict(options)
    trip = options.pop("trip")
    conformance.breaker(
        lambda clock, rng: resilience.CircuitBreaker(trip, rng=rng, clock=clock, **options), examples=FEW
    )


THROTTLES: dict[str, tuple[tuple[str | Rate, ...], dict[str, Any]]] = {
    "plain": (("10/s",), {}),
    "small burst": (("7 per 3 seconds burst 4",), {}),
    "two rates": (("10/s burst 3; 100/minute",), {"max_wait": 3}),
    "slower than its burst": ((Rate(1 / 3, burst=1.5),), {}),
    "headroom": (("10/s",), {"headroom": {Priority.DEFAULT: 0.5}}),
    "keyed": (("10/s",), {"key": "user"}),
}


@pytest.mark.parametrize(("rates", "options"), THROTTLES.values(), ids=THROTTLES.keys())
def test_our_throttle_keeps_its_laws(rates: tuple[str | Rate, ...], options: dict[str, Any]) -> None:
    """The throttle keeps T1 to T9 with one rate and several, with keys and with headroom."""
    conformance.throttle(lambda clock: resilience.Throttle(*rates, clock=clock, **options), examples=FEW)


RETRIES: dict[str, dict[str, Any]] = {
    "plain": {"on": OSError, "attempts": 5},
    "within": {"on": Exception, "attempts": 100, "within": 10},
    "decorrelated": {"on": OSError, "attempts": 50, "backoff": backoff.decorrelated(1, cap=5)},
    "no delay": {"on": OSError, "backoff": 0, "attempts": 20},
}


@pytest.mark.parametrize("options", RETRIES.values(), ids=RETRIES.keys())
def test_our_retry_keeps_its_laws(options: dict[str, Any]) -> None:
    """The retry keeps its laws with every kind of bound."""
    conformance.retry(
        lambda clock, rng, budget: resilience.Retry(clock=clock, rng=rng, budget=budget, **options), examples=FEW
    )
    conformance.retry(lambda clock: resilience.Retry(clock=clock, **options), examples=FEW)


@pytest.mark.parametrize(("limit", "queue"), [(3, 0), (1, 3), (4, 2)])
def test_our_bulkhead_keeps_its_laws(limit: int, queue: int) -> None:
    """The bulkhead keeps its laws with a queue and without one."""
    conformance.bulkhead(lambda clock: resilience.Bulkhead(limit, queue=queue, clock=clock), examples=FEW)


def test_a_store_is_checked_through_its_policies() -> None:
    """Policies that keep their state in a store keep the same laws, so a store is checked by them."""
    conformance.breaker(
        lambda clock: resilience.CircuitBreaker(3, store=MemoryStore(clock=clock.now), name="api", clock=clock),
        examples=FEW,
    )
    conformance.retry(
        lambda clock: resilience.Retry(
            on=OSError, budget=RetryBudget(store=MemoryStore(clock=clock.now), name="api", clock=clock), clock=clock
        ),
        examples=FEW,
    )


def test_a_state_that_is_decided_when_a_call_comes_will_do() -> None:
    """A breaker that says "open" until somebody calls, or spells its states in its own way, is not blamed for that."""

    class Lazy(broken.Breaker):
        @property
        def seen(self) -> str:
            return {"half_open": "Half-Open"}.get(self._now.value, self._now.value)

    conformance.breaker(lambda clock: Lazy(3, cooldown=30.0, clock=clock), state=lambda breaker: breaker.seen)


def test_the_script_is_short_and_readable() -> None:
    """What breaks a law is cut down to the few steps that it takes."""
    with pytest.raises(Violation) as caught:
        the_breaker(broken.TrialLeakedOnCancel)
    assert len(caught.value.script) <= 5
    assert caught.value.script[0] == "while closed: begin().end('fail')"
    assert "cancel" in str(caught.value)


def test_a_seed_finds_the_same_again() -> None:
    """The same seed ends in the same violation, to the letter."""
    found = []
    for _ in range(2):
        with pytest.raises(Violation) as caught:
            the_throttle(broken.IntegerSeconds, seed=7)
        found.append(str(caught.value))
    assert found[0] == found[1]


def test_what_is_not_known_is_asked_for() -> None:
    """A policy that does not say what a check has to know gets an error that says what to pass."""

    class Mute:
        def call(self, fn: Callable[[], Any]) -> Any:
            return fn()

    with pytest.raises(TypeError, match=r"cooldown=\.\.\."):
        conformance.breaker(lambda _: Mute())
    with pytest.raises(TypeError, match="pass state=lambda"):
        conformance.breaker(lambda _: Mute(), cooldown=30)
    with pytest.raises(TypeError, match="pass rate="):
        conformance.throttle(lambda _: Mute())
    with pytest.raises(TypeError, match=r"attempts=\.\.\."):
        conformance.retry(lambda _: Mute())
    with pytest.raises(TypeError, match=r"limit=\.\.\."):
        conformance.bulkhead(lambda _: Mute())


def test_a_refund_is_made_once() -> None:
    """Tokens that were given back twice are tokens from nothing."""

    class Generous(broken.Throttle):
        def reserve(self, *, cost: float = 1.0) -> Reservation:
            self.take(cost)
            return Reservation(0.0, lambda _: self.give(cost))

        def give(self, cost: float) -> bool:
            self._spent -= cost
            return True

    with pytest.raises(Violation, match="T1: a refund never gives more") as caught:
        the_throttle(Generous)
    assert caught.value.script[-2:] == ("turn.cancel()", "turn.cancel()")


def test_a_refund_makes_no_tokens() -> None:
    """Tokens that are given back to a bucket that has filled meanwhile are tokens from nothing."""

    class Overfull(broken.Throttle):
        def __init__(self, rate: float, burst: float, *, clock: Clock) -> None:
            super().__init__(rate, burst, clock=clock)
            self.extra = 0.0

        def reserve(self, *, cost: float = 1.0) -> Reservation:
            self.take(cost)
            given: list[float] = []
            return Reservation(0.0, lambda _: not given and self.give(cost, given))

        def give(self, cost: float, given: list[float]) -> bool:
            given.append(cost)
            self.extra += cost
            return True

        def take(self, cost: float) -> float:
            if self.extra >= cost:
                self.extra -= cost
                return 0.0
            return super().take(cost)

    with pytest.raises(Violation, match="T1: a refund never gives more") as caught:
        the_throttle(Overfull)
    assert "were granted then" in caught.value.seen


def test_a_decorator_can_be_checked() -> None:
    """A policy that is nothing but a decorator is checked through it."""

    def leaky(fn: Callable[[], Any]) -> Callable[[], Any]:
        return fn

    with pytest.raises(Violation, match="limit: never more than"):
        conformance.bulkhead(lambda _: leaky, limit=2)


def test_the_checks_are_for_plain_code() -> None:
    """Called where a loop runs, a check that needs one of its own says so."""
    import asyncio

    async def main() -> None:
        conformance.bulkhead(lambda _: broken.Bulkhead(2, queue=1))

    with pytest.raises(RuntimeError, match="an event loop runs here"):
        asyncio.run(main())


def test_the_kinds_of_function_can_be_chosen() -> None:
    """Of the two kinds of function only those asked for are used, and a word that is neither is refused."""
    check = partial(conformance.breaker, lambda clock: broken.Breaker(3, cooldown=30.0, clock=clock))
    check(colours=["async"], examples=20)
    with pytest.raises(ValueError, match="colours must be some of"):
        check(colours=["trio"])
