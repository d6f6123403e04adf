"""Cooldowns that grow, are told their length, and are extended by hints."""

from __future__ import annotations

import math

import pytest

from resilience.backoff import constant, decorrelated, exponential, fibonacci, schedule
from resilience.core.breaker import REFUSED, Circuit, CircuitState
from resilience.core.cooldown import LONGEST_HINT, Cooldown, first, measure
from resilience.core.trip import Consecutive
from resilience.core.verdict import FAILURE, SUCCESS

CLOSED, OPEN, HALF_OPEN, ISOLATED = CircuitState


def growing(lease: float | None = None, trials: int = 1) -> Circuit:
    """A circuit whose cooldowns have to be told, 4 seconds at first."""
    return Circuit((Consecutive(1),), 4.0, trials, lease, grows=True)


def fail(it: Circuit, now: float, hint: float = 0.0) -> tuple[int, float]:
    """One call that is admitted, fails, and opens the circuit; what it waits to be told."""
    it.settle(it.acquire(now), FAILURE, now, 0.0, hint)
    opening = it.unmeasured
    assert opening is not None
    return opening


def test_each_opening_is_told_its_own_length() -> None:
    """Opening by opening the number grows and the cooldown before is known; a close begins anew."""
    it = growing()
    now, seen = 0.0, []
    for seconds in (4.0, 8.0, 16.0):
        opening = fail(it, now)
        seen.append(opening)
        it.cooldown.tell(opening, seconds)
        assert it.retry_after() == seconds and it.unmeasured is None
        now += seconds
        assert it.look(math.nextafter(now, 0.0)) is OPEN and it.look(now) is HALF_OPEN
    assert seen == [(1, 0.0), (2, 4.0), (3, 8.0)]
    it.settle(it.acquire(now), SUCCESS, now)
    assert it.state is CLOSED
    assert fail(it, now) == (1, 0.0)


def test_an_opening_that_was_not_told_its_length_admits_nobody() -> None:
    """It is open, names no moment, and is told later; the time runs from the opening all the same."""
    it = growing()
    opening = fail(it, 100.0)
    assert it.acquire(1e9) == REFUSED and it.state is OPEN and it.retry_after() == math.inf
    it.cooldown.tell(opening, 5.0)
    assert it.look(1e9) is HALF_OPEN


def test_it_is_told_once() -> None:
    """Of two who say how long, the first is heard, and nobody speaks of an opening that is over."""
    it = growing()
    opening = fail(it, 0.0)
    it.cooldown.tell((7, 0.0), 1.0)
    assert it.unmeasured == opening
    it.cooldown.tell(opening, 5.0)
    it.cooldown.tell(opening, 50.0)
    assert it.retry_after() == 5.0
    it.close(1.0)
    it.cooldown.tell(opening, 50.0)
    assert it.state is CLOSED and it.unmeasured is None


def test_what_is_no_longer_open_waits_for_nothing() -> None:
    """Closed or isolated before anybody said how long, it is not asked for any more."""
    for verb in ("close", "reset", "isolate"):
        it = growing()
        fail(it, 0.0)
        it.isolate("", 0.0) if verb == "isolate" else getattr(it, verb)(0.0)
        assert it.unmeasured is None and it.state is (ISOLATED if verb == "isolate" else CLOSED)


def test_opening_by_hand_an_open_circuit_starts_the_same_cooldown_anew() -> None:
    """It is no reopening: nothing grows, and no hint stays; before the length is known, only the beginning moves."""
    it = growing()
    it.cooldown.tell(fail(it, 0.0, hint=20.0), 5.0)
    assert it.retry_after() == 20.0
    it.open(1.0)
    assert it.retry_after() == 5.0 and it.unmeasured is None
    it = growing()
    opening = fail(it, 0.0)
    it.open(1.0)
    assert it.unmeasured == opening
    it.cooldown.tell(opening, 5.0)
    assert it.retry_after() == 5.0
    it.look(6.0)
    it.open(6.0)
    assert it.unmeasured == (2, 5.0)


@pytest.mark.parametrize(("hint", "lasts"), [(0.0, 10.0), (9.9, 10.0), (25.0, 25.0), (1e9, 3600.0), (math.inf, 3600.0)])
def test_a_hint_extends_the_cooldown_it_causes(hint: float, lasts: float) -> None:
    """It is never shortened, an hour is the most, and the next opening knows nothing of it."""
    it = Circuit((Consecutive(1),), 10.0, 1, 5.0)
    it.settle(it.acquire(0.0), FAILURE, 0.0, 0.0, hint)
    assert it.retry_after() == lasts
    it.settle(it.acquire(lasts), FAILURE, lasts)
    assert it.retry_after() == 10.0
    assert LONGEST_HINT == 3600.0


def test_a_trial_may_hint_too() -> None:
    """The failure that reopens says how long."""
    it = growing()
    it.cooldown.tell(fail(it, 0.0), 4.0)
    opening = fail(it, 4.0, hint=100.0)
    it.cooldown.tell(opening, 8.0)
    assert it.retry_after() == 100.0
    assert fail(it, 104.0) == (3, 8.0), "the hint is no part of what grows"


def test_only_the_failure_that_opens_may_hint() -> None:
    """A failure before, or one that comes late, says nothing about the cooldown."""
    it = Circuit((Consecutive(2),), 10.0, 1, 5.0)
    late = it.acquire(0.0)
    it.settle(it.acquire(0.0), FAILURE, 0.0, 0.0, 99.0)
    it.settle(it.acquire(0.0), FAILURE, 0.0)
    it.settle(late, FAILURE, 1.0, 0.0, 99.0)
    assert it.retry_after() == 9.0


def test_the_lease_follows_the_cooldown() -> None:
    """Where none was given, it is the present cooldown without its hint, and not less than the first may be."""
    it = growing()
    assert it.lease == 4.0
    leases = []
    now = 0.0
    for seconds in (0.5, 6.0, 30.0):
        it.cooldown.tell(fail(it, now, hint=100.0), seconds)
        leases.append(it.lease)
        now += 100.0
    assert leases == [4.0, 6.0, 30.0]
    permit = it.acquire(now)
    assert it.leases == {permit: now + 30.0}
    it.settle(permit, SUCCESS, now)
    assert it.lease == 4.0
    fixed = growing(lease=2.0)
    fixed.cooldown.tell(fail(fixed, 0.0), 9.0)
    assert fixed.lease == 2.0
    assert Circuit((Consecutive(1),), 7.0, 1, None).lease == 7.0


def test_the_first_cooldown_of_each_backoff() -> None:
    """The most that chance may make of it."""
    assert first(exponential(2.0, cap=60)) == pytest.approx(2.0)
    assert first(constant(3.0, jitter=0.5)) == pytest.approx(4.5)
    assert first(schedule([5, 1])) == 5.0 and first(fibonacci(3.0)) == pytest.approx(3.0)
    assert first(decorrelated(1.0)) == pytest.approx(3.0)
    assert measure(lambda number, previous, u: number, 3, 0.0, 0.0) == 3.0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (-1.0, ValueError),
        (math.inf, ValueError),
        (math.nan, ValueError),
        ("5", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_a_backoff_answers_seconds(answer: object, kind: type[Exception]) -> None:
    """Anything else is said to be a mistake of the backoff's."""
    with pytest.raises(kind, match="must answer a number of seconds, 0 or more, got"):
        measure(lambda *_: answer, 1, 0.0, 0.0)


def test_cooldowns_that_do_not_grow_are_never_asked_for() -> None:
    """Their length is known from the beginning, and opening by hand starts it anew."""
    it = Cooldown(10.0, grows=False)
    it.begin(1.0, 0.0)
    assert (it.ends, it.unmeasured, it.rest) == (11.0, None, 10.0)
    it.again(5.0)
    assert it.ends == 15.0
    it.restart()
    assert it.rest == it.patience == 10.0
