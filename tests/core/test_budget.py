"""The arithmetic of a retry budget: by table, against exact fractions, and against a second, naive model."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilience.core.budget import Budget

_ENDLESS = 10_000
"""Tokens, and deposits, of which no budget in here has as many."""


def drained(ratio: float, per_second: float = 0.0, capacity: float = 100, now: float = 0.0) -> Budget:
    """A budget of which everything has been taken."""
    budget = Budget(ratio, per_second, capacity)
    assert granted(budget, now) >= 1
    return budget


def granted(budget: Budget, now: float = 0.0) -> int:
    """How many withdrawals succeed at one moment."""
    for count in range(_ENDLESS):
        if not budget.withdraw(now):
            return count
    raise AssertionError("there is no end of it")


def test_it_starts_full() -> None:
    """A new budget grants its capacity in whole tokens and refuses the next, whatever the clock says at first."""
    for start in (-1e9, 0.0, 1e9):
        for capacity in (1, 2.5, 100):
            assert granted(Budget(0.1, 1.0, capacity), start) == int(capacity)


def test_a_refusal_changes_nothing() -> None:
    """A withdrawal that is refused takes nothing."""
    budget = drained(0.5, capacity=1)
    for _ in range(100):
        assert not budget.withdraw(0.0)
    budget.deposit()
    budget.deposit()
    assert budget.withdraw(0.0)


@pytest.mark.parametrize(("ratio", "calls"), [(0.1, 10), (0.5, 2), (1, 1), (0.01, 100), (0.3, 4), (2.0, 1)])
def test_successes_earn_a_retry(ratio: float, calls: int) -> None:
    """One retry is granted after the first call that brings the earnings to one, and none before."""
    budget = drained(ratio)
    for _ in range(calls - 1):
        budget.deposit()
        assert not budget.withdraw(0.0)
    budget.deposit()
    assert budget.withdraw(0.0)


def test_time_earns_a_retry() -> None:
    """The trickle grants one retry after `1 / per_second` seconds, and none a moment before."""
    budget = drained(0.0, per_second=0.25)
    assert not budget.withdraw(math.nextafter(4.0, 0.0))
    assert budget.withdraw(4.0)
    assert not budget.withdraw(4.0)


def test_both_together_earn_a_retry() -> None:
    """What calls and what time have earned is one sum."""
    budget = drained(0.5, per_second=0.5)
    budget.deposit()
    assert not budget.withdraw(0.5)
    assert budget.withdraw(1.0)


def test_nothing_earns_nothing() -> None:
    """With a ratio and a trickle of zero the capacity is all there ever is."""
    budget = drained(0.0, capacity=3)
    for _ in range(10_000):
        budget.deposit()
    assert not budget.short
    assert not budget.withdraw(1e9)


@pytest.mark.parametrize(("ratio", "per_second"), [(0.1, 0.0), (0.0, 1.0), (0.1, 1.0)])
def test_it_never_holds_more_than_its_capacity(ratio: float, per_second: float) -> None:
    """However much is earned while the bucket is full, or fills it, no more than the capacity is granted at once."""
    budget = Budget(ratio, per_second, 5)
    now = 0.0
    for taken in (0, 1, 5):
        assert sum(budget.withdraw(now) for _ in range(taken)) == taken
        for _ in range(1_000):
            budget.deposit()
        now += 1_000.0
        assert budget.level(now) == 5.0
        assert granted(budget, now) == 5
        now += 1_000.0
        for _ in range(1_000):
            budget.deposit()


def test_a_full_bucket_needs_no_write() -> None:
    """`short` is False while a deposit would change nothing, and again once deposits have filled the bucket."""
    budget = Budget(0.1, 0.0, 10)
    assert not budget.short
    budget.deposit()
    assert budget.withdraw(0.0)
    assert budget.short
    deposits = 0
    while budget.short and deposits < _ENDLESS:
        budget.deposit()
        deposits += 1
    assert deposits in {10, 11}
    assert budget.level(0.0) == 10.0


def test_a_deposit_while_full_is_not_kept_for_later() -> None:
    """What is deposited into a full bucket is gone: it does not make up for a later withdrawal."""
    budget = Budget(1.0, 0.0, 2)
    for _ in range(50):
        budget.deposit()
    assert granted(budget) == 2


def test_a_clock_that_stands_still_or_steps_back_mints_nothing() -> None:
    """Only a reading later than every earlier one earns anything, and for the time past the latest alone."""
    budget = drained(0.0, per_second=1.0, now=100.0)
    for reading in (100.0, 50.0, -1e9, 100.9, 0.0, 100.9):
        assert not budget.withdraw(reading)
    assert budget.withdraw(101.0)
    assert not budget.withdraw(101.0)
    assert not budget.withdraw(1.0)
    assert not budget.withdraw(101.5)
    assert budget.withdraw(102.0)


def test_a_tenth_added_ten_times_is_one() -> None:
    """Over a million calls at a ratio of a tenth, exactly every tenth success grants a retry: nothing drifts."""
    budget = drained(0.1)
    granted_at = []
    for call in range(1, 1_000_001):
        budget.deposit()
        if budget.withdraw(0.0):
            granted_at.append(call)
    assert granted_at == list(range(10, 1_000_001, 10))


def test_a_trickle_does_not_drift() -> None:
    """A trickle of 0.1/s grants one retry every ten seconds, to the millisecond, for three hours at t = 1e9 s."""
    start = 1e9
    budget = drained(0.0, per_second=0.1, now=start)
    for second in range(10, 10_801, 10):
        due = start + second
        assert not any(budget.withdraw(due - early / 1_000) for early in range(1, 10_000, 997))
        assert not budget.withdraw(due - 0.001)
        assert budget.withdraw(due)


@pytest.mark.parametrize("ratio", [5e-324, 1e-300, 1e-12, 1e300])
def test_extreme_ratios(ratio: float) -> None:
    """No ratio overflows: the smallest earns nothing in a lifetime, the largest a full bucket at once."""
    budget = drained(ratio, capacity=3)
    for _ in range(10):
        budget.deposit()
    assert granted(budget) == (3 if ratio > 1 else 0)


def test_extreme_trickles() -> None:
    """No trickle overflows."""
    assert granted(drained(0.0, per_second=1e308, capacity=3), 1e300) == 3
    assert granted(drained(0.0, per_second=5e-324, capacity=3), 1e300) == 0


amounts = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 1.0, 3.0]), st.floats(0.0, 10.0, allow_subnormal=False))


@given(
    ratio=amounts,
    per_second=amounts,
    capacity=st.floats(1.0, 200.0),
    steps=st.lists(st.tuples(st.sampled_from("dw"), st.floats(0.0, 5.0)), max_size=200),
)
def test_it_is_exact_to_a_rounding(
    ratio: float, per_second: float, capacity: float, steps: list[tuple[str, float]]
) -> None:
    """Each decision is that of exact fractions, wherever these are further from the edge than a rounding."""
    budget = Budget(ratio, per_second, capacity)
    exact, most = Fraction(capacity), Fraction(capacity)
    spent, earned, now = 0, Fraction(0), 0.0
    for step, pause in steps:
        later = now + pause
        gain = (Fraction(later) - Fraction(now)) * Fraction(per_second)
        now = later
        if step == "d":
            budget.deposit()
            gain += Fraction(ratio)
        exact, earned = min(most, exact + gain), earned + gain
        if step == "w":
            slack = Fraction(4 * math.ulp(float(max(earned, most, spent))))
            allowed = budget.withdraw(now)
            assert allowed or exact < 1 + slack
            assert not allowed or exact >= 1 - slack
            # Where the two differ within a rounding, go on from what was granted.
            exact = max(Fraction(0), exact - 1) if allowed else exact
            spent += allowed


class AgainstANaiveModel(RuleBasedStateMachine):
    """The budget beside a level that is counted up and down, in numbers that floats hold exactly."""

    @initialize(
        ratio=st.sampled_from([0, 1, 6, 16, 64, 100]),
        per_second=st.sampled_from([0, 1, 16, 64, 640]),
        capacity=st.integers(64, 640),
    )
    def begin(self, ratio: int, per_second: int, capacity: int) -> None:
        """All in 64ths of a token; times are in eighths of a second."""
        self.ratio, self.per_second, self.capacity = ratio, per_second, capacity
        self.level = capacity * 8
        self.now = self.latest = 0
        self.budget = Budget(ratio / 64, per_second / 64, capacity / 64)

    @rule(eighths=st.integers(-80, 80))
    def time_passes(self, eighths: int) -> None:
        """Also backwards, and not at all."""
        self.now += eighths
        gained = max(0, self.now - self.latest)
        self.latest = max(self.now, self.latest)
        self.level = min(self.capacity * 8, self.level + gained * self.per_second)

    @rule(calls=st.integers(1, 30))
    def calls_succeed(self, calls: int) -> None:
        """Several at once, so that the bucket fills up now and then."""
        for _ in range(calls):
            self.budget.deposit()
            self.level = min(self.capacity * 8, self.level + self.ratio * 8)

    @rule(tries=st.integers(1, 12))
    def retries_ask(self, tries: int) -> None:
        """Several at once, so that it runs dry."""
        for _ in range(tries):
            allowed = self.level >= 512
            assert self.budget.withdraw(self.now / 8) is allowed
            self.level -= 512 * allowed

    @invariant()
    def the_levels_agree(self) -> None:
        """A look shows the same level, in 512ths."""
        if hasattr(self, "budget"):
            assert self.budget.level(self.now / 8) * 512 == self.level


TestAgainstANaiveModel = AgainstANaiveModel.TestCase


def test_extra_calls_are_bounded_in_every_window() -> None:
    """In every stretch of a random history, withdrawals keep to capacity + ratio * successes + per_second * seconds."""
    for seed in range(20):
        rng = random.Random(seed)
        ratio, per_second = rng.choice([0.0, 0.1, 0.3]), rng.choice([0.0, 1.0, 7.3])
        capacity = rng.choice([1, 10, 33.3])
        budget = Budget(ratio, per_second, capacity)
        now, history = 0.0, [(0.0, 0, 0)]
        for _ in range(400):
            now += rng.expovariate(20.0)
            _, successes, extra = history[-1]
            if rng.random() < 0.5:
                budget.deposit()
                successes += 1
            extra += budget.withdraw(now)
            history.append((now, successes, extra))
        for i, (began, earned, spent) in enumerate(history):
            for ended, earned_then, spent_then in history[i + 1 :: 7]:
                bound = capacity + ratio * (earned_then - earned) + per_second * (ended - began)
                assert spent_then - spent <= bound + 1e-9
