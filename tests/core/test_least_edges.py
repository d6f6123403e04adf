"""The least latency at its edges: how large cohorts are, how long one is waited for, and what lies on a bound."""

from __future__ import annotations

import pytest

from resilience.core.least import Least
from tests.core.test_shed_least import cohort


def one_of(least: Least, latency: float, crowd: int) -> None:
    """A whole cohort of which a single call says how long it took, so that no sum is rounded."""
    permit, number = least.enter(crowd), least.cohort
    least.leave(permit, latency, crowd)
    while least.cohort == number:
        least.leave(least.enter(crowd), None, crowd)


def known(latency: float, crowd: int) -> Least:
    """A least that was learnt from six whole cohorts, with the seventh about to begin."""
    least = Least()
    for _ in range(6):
        one_of(least, latency, crowd)
    return least


def test_cohorts_double_up_to_a_hundred() -> None:
    """The first cohort is of eight calls, each next one is twice as large, and none is of more than a hundred."""
    least, sizes = Least(), []
    for _ in range(7):
        number, size = least.cohort, 0
        while least.cohort == number:
            least.leave(least.enter(1), 0.1, 1)
            size += 1
        sizes.append(size)
    assert sizes == [8, 16, 32, 64, 100, 100, 100]


def test_numbers_never_fall() -> None:
    """A later call never has a smaller number, in a cohort or in none, and a new cohort's is above all before."""
    least, numbers = Least(), []
    for _ in range(3):
        permits = [least.enter(1) for _ in range(40)]
        numbers += permits
        for permit in permits:
            least.leave(permit, 0.1, 1)
    assert numbers == sorted(numbers)
    assert numbers[0] == 2
    least.restart(least.cohort)
    assert least.enter(1) > max(numbers)


@pytest.mark.parametrize("in_flight", [1, 5])
def test_how_long_a_cohort_is_waited_for(in_flight: int) -> None:
    """It is given up once more than ten times as many others have ended as it has calls and are in flight."""
    for _ in range(2):
        least = Least()
        permits = [least.enter(1) for _ in range(8)]
        for permit in permits[1:]:
            least.leave(permit, 0.1, in_flight)
        for _ in range(10 * (8 + in_flight)):
            least.leave(least.enter(2), 0.1, in_flight)
        assert least.seconds is None
        least.leave(least.enter(2), 0.1, in_flight)
        assert least.seconds == pytest.approx(0.1)
        assert least.cohort == permits[0] + 2


def test_a_crowd_is_a_mean() -> None:
    """Cohorts of different sizes are as crowded as their calls were on average."""
    least = Least()
    cohort(least, 0.1, 10, calls=8)
    cohort(least, 0.3, 10, calls=16)
    assert least.seconds == pytest.approx((0.1 * 8 + 0.3 * 16) / 24)
    cohort(least, 0.5, 11, calls=32)
    assert least.seconds == pytest.approx((0.1 * 8 + 0.3 * 16) / 24)


def test_a_least_of_nothing_stays() -> None:
    """Calls that take no time, as by a virtual clock, have a least of 0.0 seconds."""
    least = Least()
    for _ in range(3):
        cohort(least, 0.0, 1)
    assert least.seconds == 0.0


def test_as_quick_in_a_greater_crowd_says_nothing_of_that_crowd() -> None:
    """A crowd in which calls took exactly the least is not one in which slower calls are believed afterwards."""
    least = known(0.5, 10)
    one_of(least, 0.5, 20)
    assert least.seconds == 0.5
    for _ in range(5):
        one_of(least, 1.0, 20)
    assert least.seconds == 0.5


@pytest.mark.parametrize(("latency", "learnt"), [(0.65, False), (0.66, True)])
def test_what_fell_in_step_with_the_crowd_may_be_a_queue(latency: float, learnt: bool) -> None:
    """With less than half of the crowd, up to 0.65 of the latency may still be a queue, and more is not."""
    least = known(0.125, 10)
    one_of(least, 1.0, 50)
    one_of(least, latency, 20)
    assert (least.seconds != 0.125) == learnt


@pytest.mark.parametrize("crowd", [100, 99])
def test_the_largest_crowd_is_the_latest_of_its_kind(crowd: int) -> None:
    """In a crowd as large as the largest, or a hundredth smaller, what calls take is compared with from then on."""
    least = known(0.125, 10)
    one_of(least, 1.0, 100)
    one_of(least, 2.0, crowd)
    one_of(least, 0.8, 40)
    assert least.seconds == 0.125
    one_of(least, 1.4, 40)
    assert least.seconds > 0.125


def test_a_smaller_crowd_is_not_compared_with() -> None:
    """Two hundredths below the largest crowd, what calls take changes nothing about the largest."""
    least = known(0.125, 10)
    one_of(least, 1.0, 100)
    one_of(least, 2.0, 98)
    one_of(least, 0.8, 40)
    assert least.seconds is not None
    assert least.seconds > 0.125


def test_the_largest_crowd_fades() -> None:
    """Each cohort in a smaller crowd takes a hundredth from the largest, so that in the end half of it is less."""
    for cohorts, learnt in ((1, True), (10, False)):
        least = known(0.125, 10)
        one_of(least, 1.0, 100)
        for _ in range(cohorts):
            one_of(least, 0.9, 60)
        one_of(least, 0.9, 48)
        assert (least.seconds != 0.125) == learnt
