"""The arithmetic of one bucket, held against fractions."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise
from math import inf, nextafter, ulp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.bucket import FULL, Bucket, Sums, beyond, gap, plus

READINGS = st.floats(0.0, 1e9) | st.integers(0, 10**6).map(float) | st.integers(0, 2**40).map(lambda n: n / 2**20)
RATES = st.sampled_from(
    [(1.0, 1.0), (10.0, 60.0), (100.0, 60.0), (1.5, 1.0), (0.1, 1.0), (7.0, 3.0), (1e6, 1.0), (1.0, 49.0)]
)
COSTS = st.sampled_from([1.0, 2.0, 0.1, 0.3, 2.5, 1e-6]) | st.floats(0.001, 20.0)


def exactly(state: float | tuple[float, float]) -> Fraction:
    """The value of a state."""
    return sum(map(Fraction, state), Fraction()) if isinstance(state, tuple) else Fraction(state)


def one_place(now: float, rate: Fraction, burst: float) -> Fraction:
    """One unit in the last place of the line, or of the burst where that is larger."""
    return Fraction(ulp(max(float(abs(Fraction(now) * rate)), burst)))


# --- numbers


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30))
def test_sums_lose_nothing(amounts: list[float]) -> None:
    """A sum of floats is exact to twice their precision."""
    state: float | tuple[float, float] = amounts[0]
    for amount in amounts[1:]:
        state = plus(state, amount)
    wanted = sum(map(Fraction, amounts))
    assert abs(exactly(state) - wanted) <= Fraction(max(map(abs, amounts))) * Fraction(2) ** -95


def test_sums_that_fit_stay_one_float() -> None:
    """A pair is made only where one float does not hold the sum."""
    assert plus(1.0, 2.5) == 3.5
    assert plus(2.0**53, 1.0) == (2.0**53, 1.0)
    assert plus((2.0**53, 1.0), 1.0) == 2.0**53 + 2.0


@given(st.lists(COSTS, max_size=20))
def test_what_was_added_and_taken_away_leaves_nothing(amounts: list[float]) -> None:
    """Running sums come back to exactly zero."""
    sums = Sums(2)
    for amount in amounts:
        sums.add([amount, 1.0])
    for amount in reversed(amounts):
        sums.add([amount, 1.0], -1.0)
    assert sums.values() == [0.0, 0.0]


def test_comparisons_see_the_second_float() -> None:
    """A pair that is above a line only by its second float is above it."""
    line = 2.0**53
    assert beyond((line, 1e-9), line) and not beyond((line, -1e-9), line) and not beyond(line, line)
    assert gap((line, 1.0), line) == 1.0


@given(READINGS, RATES)
def test_the_line_is_rounded_once(now: float, rate: tuple[float, float]) -> None:
    """The line is the float nearest to now * amount / per, whatever the rate."""
    exact = Fraction(now) * Fraction(rate[0]) / Fraction(rate[1])
    assert Bucket(*rate, 1.0).at(now) == float(exact)


# --- taking


def test_a_full_bucket_holds_its_burst() -> None:
    """As much as the burst can be taken at once, and then nothing."""
    bucket, state = Bucket(10.0, 1.0, 5.0), FULL
    for _ in range(5):
        taken = bucket.take(state, 1.0, 1000.1)
        assert taken is not None
        state = taken
    assert bucket.take(state, 1.0, 1000.1) is None
    assert bucket.level(state, 1000.1) == 0.0


def test_one_and_a_half_a_second_for_ten_seconds_admit_burst_and_fifteen() -> None:
    """A fractional rate loses nothing between two calls."""
    bucket, state, granted = Bucket(1.5, 1.0, 1.5), FULL, 0
    for tick in range(10_001):
        taken = bucket.take(state, 0.5, 1e6 + tick / 1000)
        if taken is not None:
            state, granted = taken, granted + 1
    assert granted * 0.5 == 1.5 + 15


@pytest.mark.parametrize("seconds", [3, 7, 49, 60, 86400])
def test_a_token_is_there_at_the_very_second(seconds: int) -> None:
    """One call every so many seconds passes exactly that often, and not one place of the clock before."""
    bucket = Bucket(1.0, float(seconds), 1.0)
    state = FULL
    for turn in range(1, 50):
        now = float(turn * seconds)
        if turn > 1:
            assert bucket.take(state, 1.0, nextafter(now, 0.0)) is None
        taken = bucket.take(state, 1.0, now)
        assert taken is not None
        state = taken


def test_a_clock_that_stands_still_or_steps_back_mints_nothing() -> None:
    """An older reading sees less, never more."""
    bucket = Bucket(10.0, 1.0, 10.0)
    state = bucket.take(FULL, 4.0, 100.0)
    assert state is not None
    levels = [bucket.level(state, now) for now in (100.0, 100.0, 99.9, 99.0, 0.0)]
    assert all(later <= earlier for earlier, later in pairwise(levels))
    assert bucket.take(state, 6.0, 99.9) is None and bucket.take(state, 6.0, 100.0) is not None


def test_counts_beyond_the_precision_of_a_float_still_count() -> None:
    """Where one token is less than the last place of the line, tokens are not given away."""
    bucket, state, granted = Bucket(1e9, 1.0, 64.0), FULL, 0
    for _ in range(1000):
        taken = bucket.take(state, 1.0, 1e9)
        if taken is not None:
            state, granted = taken, granted + 1
    assert granted == 64


def test_what_is_kept_and_what_is_spoken_for_is_not_given() -> None:
    """A call gets what the bucket holds less what must stay in it and what others are owed."""
    bucket = Bucket(1.0, 1.0, 10.0)
    state = bucket.take(FULL, 2.0, 100.0)
    assert state is not None
    assert bucket.take(state, 5.0, 100.0, keep=3.0) is not None
    assert bucket.take(state, 5.0, 100.0, keep=3.0, ahead=0.5) is None
    assert bucket.wait(state, 5.0, 100.0, 3.0, 0.5) == 0.5
    assert bucket.wait(FULL, 5.0, 100.0, 3.0, 2.5) == inf


# --- waiting


@given(READINGS, RATES, COSTS, st.floats(0.0, 1.0), st.sampled_from([0.0, 0.25]))
def test_a_wait_is_enough_and_hardly_more(
    now: float, rate: tuple[float, float], cost: float, used: float, share: float
) -> None:
    """At exactly now + wait the call passes; some places of the clock before it does not."""
    bucket = Bucket(*rate, 40.0)
    keep = 40.0 * share
    state = bucket.charge(FULL, 40.0 * (1.0 + used), now)
    wait = bucket.wait(state, cost, now, keep)
    later = now + wait
    assert bucket.take(state, cost, later, keep) is not None
    early = later - 4 * ulp(later) - 8 * float(one_place(now, Fraction(bucket.rate), 40.0)) / bucket.rate
    if early > now:
        assert bucket.take(state, cost, early, keep) is None


@pytest.mark.parametrize("rate", [(1.0, 1.0), (10.0, 60.0), (1e6, 1.0), (0.3, 7.0)])
def test_a_wait_is_enough_after_thirty_years(rate: tuple[float, float]) -> None:
    """Where the clock has a coarse last place, the wait is rounded up to it."""
    bucket = Bucket(*rate, 3.0)
    for step in range(2000):
        now = 1e9 + step * 0.0123
        state = bucket.charge(FULL, 3.7, now)
        assert bucket.take(state, 1.0, now + bucket.wait(state, 1.0, now)) is not None


def test_a_wait_is_enough_where_both_sums_are_rounded_down() -> None:
    """The wait is rounded up when adding it to now would fall short by half a place."""
    bucket, now = Bucket(1.0, 1.0, 5.0), 2.0**-53
    wait = bucket.wait(2.0**-52, 1.0, now)
    assert bucket.take(2.0**-52, 1.0, now + wait) == 1.0 + 2.0**-52
    assert now + nextafter(wait, 0.0) < 1.0 + 2.0**-52


# --- exactness


def arrivals(seed: int, count: int, mean: float, start: float) -> list[float]:
    """Random times, some of them the same, some after a long pause."""
    source, now, times = random.Random(seed), start, []
    for _ in range(count):
        chance = source.random()
        now += 0.0 if chance < 0.1 else 50 * mean * source.random() if chance > 0.99 else source.expovariate(1 / mean)
        times.append(now)
    return times


SCENES = [
    (100.0, 1.0, 100.0, (1.0,), 0.0),
    (100.0, 60.0, 100.0, (1.0, 5.0), 1e6),
    (10.0, 60.0, 10.0, (1.0, 0.1), 1e9),
    (1.5, 1.0, 1.5, (1.0, 0.1, 0.3), 0.0),
    (0.1, 1.0, 1.0, (0.1, 0.25, 0.7), 12345.678),
    (7.0, 3.0, 20.0, (1.0, 2.5, 0.1, 19.9), 77.7),
    (1000.0, 1.0, 1.1, (0.1, 1.1), 5.0),
    (1e6, 1.0, 1e6, (1.0, 1e5), 1e9),
]


@pytest.mark.parametrize(("amount", "per", "burst", "costs", "start"), SCENES)
def test_exact_over_a_million_arrivals(
    amount: float, per: float, burst: float, costs: tuple[float, ...], start: float
) -> None:
    """Not one call too many and not one too few, beyond one unit in the last place of now * rate."""
    count = 1_000_000 // len(SCENES)
    bucket, rate = Bucket(amount, per, burst), Fraction(amount) / Fraction(per)
    source = random.Random(7)
    mean = sum(costs) / len(costs) / float(rate) * 0.9
    capacity, exact_costs = Fraction(burst), {cost: Fraction(cost) for cost in costs}
    state, exact = FULL, None
    granted = 0
    for now in arrivals(11, count, mean, start):
        cost = source.choice(costs)
        line = Fraction(now) * rate
        base = line - capacity if exact is None or exact < line - capacity else exact
        wanted = base + exact_costs[cost]
        taken = bucket.take(state, cost, now)
        if (taken is not None) != (wanted <= line):
            assert abs(wanted - line) <= one_place(now, rate, burst)
        if taken is not None:
            state, exact, granted = taken, wanted, granted + 1
    assert count // 3 < granted < count


@given(st.lists(st.tuples(st.integers(0, 64), COSTS), min_size=1, max_size=60), RATES, st.sampled_from([0.0, 1e6, 1e9]))
def test_exact_at_boundary_times(steps: list[tuple[int, float]], rate: tuple[float, float], start: float) -> None:
    """Also where calls come at the very times at which tokens do."""
    bucket, exact_rate = Bucket(*rate, 20.0), Fraction(rate[0]) / Fraction(rate[1])
    state, exact, now = FULL, None, start
    for pause, cost in steps:
        now += pause / 8 / float(exact_rate)
        line = Fraction(now) * exact_rate
        base = line - 20 if exact is None or exact < line - 20 else exact
        wanted = base + Fraction(cost)
        taken = bucket.take(state, cost, now)
        if (taken is not None) != (wanted <= line):
            assert abs(wanted - line) <= one_place(now, exact_rate, 20.0)
        if taken is not None:
            state, exact = taken, wanted


# --- giving back


def test_what_comes_back_is_bounded_by_what_filled_up() -> None:
    """A refund is exact while the bucket was not full, and nothing once the tokens would have been there anyhow."""
    bucket = Bucket(1.0, 1.0, 10.0)
    mark = bucket.take(FULL, 4.0, 100.0)
    assert mark is not None
    assert [bucket.owing(mark, now) for now in (100.0, 101.0, 103.5, 104.0, 200.0)] == [4.0, 3.0, 0.5, 0.0, 0.0]


def test_full_is_full() -> None:
    """A bucket that nobody took from is full, one that has just filled up is full, one place before it is not."""
    bucket = Bucket(1.0, 1.0, 10.0)
    state = bucket.take(FULL, 4.0, 100.0)
    assert state is not None
    assert bucket.is_full(FULL, 0.0) and bucket.is_full(state, 104.0)
    assert not bucket.is_full(state, nextafter(104.0, 0.0))
    assert bucket.full_at(state) == 104.0
