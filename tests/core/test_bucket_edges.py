"""The token bucket at its edges: the exact value of a floor, the last places of a sum, the first second of a clock."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nextafter

import pytest

from resilience.core.bucket import FULL, Bucket, Sums, beyond, gap, plus

PAIR = plus(100.0, -0.1)
"""The floor of a tenth of a token when the line stands at 100: two floats."""


def test_a_state_that_is_two_floats_is_compared_by_both() -> None:
    """It has passed a line that lies below their sum, and no other."""
    assert not beyond((3.0, 0.0), 3.0) and not beyond((3.0, -1e-17), 3.0)
    assert beyond((3.0, 1e-17), 3.0) and beyond((3.0, -1e-17), 2.5)
    assert not beyond((3.0, 1e-17), 3.5)
    assert not beyond(3.0, 3.0) and beyond(3.0, 2.5)
    assert gap((3.0, 0.25), 1.0) == 2.25 and gap(3.0, 1.0) == 2.0


def test_each_sum_has_its_amount() -> None:
    """Too few of them or too many are refused."""
    sums = Sums(2)
    sums.add((1.0, 2.0))
    sums.add((0.25, 0.5), -1.0)
    assert sums.values() == [0.75, 1.5]
    for amounts in [(1.0,), (1.0, 2.0, 3.0)]:
        with pytest.raises(ValueError, match="zip"):
            sums.add(amounts)


def test_a_sum_is_shifted_where_one_float_holds_it() -> None:
    """The first one, and the others stay; where it is not one float, nothing is done."""
    sums = Sums(2)
    sums.add((3.0, 7.0))
    assert sums.shift(2.0) is True and sums.values() == [5.0, 7.0]
    assert sums.shift(0.1) is False and sums.sole() == 5.0
    assert sums.shift(-4.0) is True and sums.sole() == 1.0
    sums.put(0.1)
    assert sums.shift(100.0) is False and sums.values() == [0.1, 7.0]
    sums.add((100.0, 0.0))
    assert sums.sole() is None and sums.shift(1.0) is False
    sums.put(4.0)
    assert sums.sole() == 4.0 and sums.values() == [4.0, 7.0]


def test_what_a_full_bucket_is() -> None:
    """Its state lies the burst below the line, exactly where the clock has come that far."""
    bucket = Bucket(1.0, 1.0, 4.0)
    assert [bucket.floor(line) for line in (1.0, 4.0, 10.0)] == [-3.0, 0.0, 6.0]
    assert Bucket(1.0, 1.0, 0.1).floor(100.0) == PAIR and isinstance(PAIR, tuple)


def test_early_in_the_life_of_a_clock_the_last_token_is_there() -> None:
    """A floor that would be rounded up is rounded down, by one last place and where it is needed."""
    bucket = Bucket(1.0, 1.0, 3.0)
    assert 0.1 - 3.0 + 3.0 > 0.1
    assert bucket.floor(0.1) == nextafter(0.1 - 3.0, -inf)
    assert bucket.floor(0.25) == -2.75


@pytest.mark.parametrize(("burst", "floor"), [(0.1, PAIR), (4.0, 96.0)])
def test_a_bucket_at_its_floor_is_full(burst: float, floor: float | tuple[float, float]) -> None:
    """A last place above it is not."""
    bucket = Bucket(1.0, 1.0, burst)
    assert bucket.is_full(floor, 100.0) and bucket.is_full(FULL, 100.0)
    assert bucket.is_full(plus(floor, -1e-15), 100.0)
    assert not bucket.is_full(plus(floor, 1e-15), 100.0)
    assert bucket.charge(plus(floor, -1.0), 1.0, 100.0) == plus(floor, 1.0)


def test_what_takes_longer_than_a_clock_can_say_takes_for_ever() -> None:
    """Also at a rate that is no float."""
    bucket = Bucket(0.1, 0.3, 1.0)
    assert bucket.times == 0.0
    assert bucket.reached_at(1e308, 0.0, 0.0) == inf
    assert bucket.wait(1e308, 1.0, 0.0) == inf


@pytest.mark.parametrize(
    ("rate", "times", "over"),
    [((2.0, 1.0), 2.0, 1.0), ((1.0, 3.0), 1.0, 3.0), ((2.0, 3.0), 1.0, 1.5), ((0.1, 0.3), 0.0, 1.0)],
)
def test_the_line_is_the_nearest_float(rate: tuple[float, float], times: float, over: float) -> None:
    """Also where neither the rate nor its inverse is a float."""
    bucket = Bucket(*rate, 4.0)
    assert (bucket.times, bucket.over) == (times, over)
    for tick in range(1, 300):
        now = tick * 0.37
        assert bucket.at(now) == float(Fraction(now) * Fraction(rate[0]) / Fraction(rate[1]))
        state = bucket.charge(FULL, 3.0, now)
        assert bucket.take(state, 1.0, now) is not None and bucket.take(state, 1.25, now) is None


def test_what_is_taken_is_added_exactly() -> None:
    """Where the floor or the sum is no float, two of them hold it."""
    assert Bucket(1.0, 1.0, 0.1).take(FULL, 0.0625, 100.0) == plus(PAIR, 0.0625)
    assert Bucket(1.0, 1.0, 200.0).take(0.1, 100.0, 200.0) == plus(0.1, 100.0)
    assert isinstance(plus(0.1, 100.0), tuple)


def test_no_more_than_the_burst_is_there() -> None:
    """Less what must remain and what is spoken for, also before the clock has reached the burst."""
    bucket = Bucket(1.0, 1.0, 10.0)
    for now in (1.0, 100.0):
        assert bucket.take(FULL, 10.0, now) is not None and bucket.wait(FULL, 10.0, now) == 0.0
        assert bucket.take(FULL, 11.0, now) is None
        assert bucket.take(FULL, 8.0, now, 4.0) is None and bucket.take(FULL, 8.0, now, 2.0) is not None
        assert bucket.take(FULL, 5.0, now, 0.0, 8.0) is None
    assert bucket.wait(95.0, 1.0, 100.0) == 0.0 and bucket.wait(95.0, 6.0, 100.0) == 1.0


def test_a_wait_is_rounded_up_where_the_sum_would_fall_short() -> None:
    """At now + wait the tokens are there."""
    bucket, now = Bucket(1.0, 1.0, 5.0), 2.0**-53
    wait = bucket.wait(2.0**-52, 1.0, now)
    assert bucket.take(2.0**-52, 1.0, now + wait) == 1.0 + 2.0**-52


def test_when_there_will_be_enough_goes_by_the_rate() -> None:
    """Two a second are there in half the time."""
    bucket = Bucket(2.0, 1.0, 6.0)
    assert bucket.when(100.0, 4.0) == 52.0 and bucket.when(100.0, 4.0, 2.0) == bucket.full_at(100.0) == 53.0
