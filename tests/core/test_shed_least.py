"""What a call takes when nothing waits: learnt from the calls that show it, and from no others."""

from __future__ import annotations

import pytest

from resilience.core.least import Least


def cohort(least: Least, latency: float, crowd: int, calls: int = 100) -> None:
    """So many calls, each admitted as one of `crowd` and answered after `latency` seconds."""
    for _ in range(calls):
        least.leave(least.enter(crowd), latency, crowd)


def known(latency: float = 0.1, crowd: int = 10) -> Least:
    """A least that was learnt from enough calls at this crowd."""
    least = Least()
    for _ in range(10):
        cohort(least, latency, crowd)
    assert least.seconds == pytest.approx(latency)
    return least


def test_the_first_calls_show_it() -> None:
    """Nothing is known before the first eight calls are back, and then something is."""
    least = Least()
    permits = [least.enter(1) for _ in range(8)]
    for permit in permits[:-1]:
        least.leave(permit, 0.1, 1)
    assert least.seconds is None
    least.leave(permits[-1], 0.1, 1)
    assert least.seconds == pytest.approx(0.1)


def test_a_cohort_is_waited_for() -> None:
    """Calls admitted after a cohort is full belong to none, and quick ones among them do not make it quicker."""
    least = Least()
    permits = [least.enter(1) for _ in range(8)]
    for _ in range(50):
        later = least.enter(9)
        assert later % 2 == 1
        least.leave(later, 0.001, 8)
    for permit in permits:
        least.leave(permit, 0.2, 1)
    assert least.seconds == pytest.approx(0.2)


def test_a_cohort_is_not_waited_for_for_ever() -> None:
    """A call that does not come back does not keep the others from being learnt from."""
    least = Least()
    permits = [least.enter(1) for _ in range(8)]
    for permit in permits[1:]:
        least.leave(permit, 0.1, 1)
    for _ in range(200):
        least.leave(least.enter(2), 0.1, 1)
    assert least.seconds == pytest.approx(0.1)
    before = least.cohort
    least.leave(permits[0], 1000.0, 1)
    assert (least.seconds, least.cohort) == (pytest.approx(0.1), before)


def test_a_cohort_that_hangs_altogether_is_given_up() -> None:
    """Where none of a cohort comes back, the next one begins, and nothing is learnt."""
    least = Least()
    for _ in range(8):
        least.enter(1)
    for _ in range(500):
        least.leave(least.enter(2), 0.1, 1)
    assert least.seconds == pytest.approx(0.1)


def test_quicker_is_learnt_whatever_the_crowd() -> None:
    """Calls that take less than the least show that it was too high."""
    least = known(0.1, 10)
    for _ in range(20):
        cohort(least, 0.05, 50)
    assert least.seconds == pytest.approx(0.05, rel=0.02)


def test_a_queue_is_not_learnt() -> None:
    """Calls that take longer in a greater crowd wait, however slowly the crowd grew and however long it lasts."""
    least = known(0.1, 10)
    for step in range(5000):
        crowd = 10 + step // 100
        cohort(least, 0.1 * crowd / 10, crowd)
    assert least.seconds == pytest.approx(0.1, rel=0.02)


def test_a_queue_that_comes_and_goes_is_not_learnt() -> None:
    """With half the crowd a queue takes half as long, so that is no reason to believe in it."""
    least = known(0.1, 10)
    for _ in range(500):
        cohort(least, 0.8, 80)
        cohort(least, 0.4, 40)
    assert least.seconds == pytest.approx(0.1, rel=0.02)


def test_slower_in_no_greater_crowd_is_learnt() -> None:
    """Where nothing waited then, nothing waits now: the calls themselves take longer."""
    least = known(0.1, 10)
    for _ in range(20):
        cohort(least, 0.2, 10)
    assert least.seconds == pytest.approx(0.2, rel=0.02)


def test_as_slow_in_half_the_crowd_is_learnt() -> None:
    """What does not get quicker when half of the crowd is gone was no queue."""
    least = known(0.1, 10)
    cohort(least, 0.5, 50)
    for _ in range(20):
        cohort(least, 0.5, 20)
    assert least.seconds == pytest.approx(0.5, rel=0.03)


def test_where_room_was_made_nothing_waits() -> None:
    """The cohort after most callers were turned away is believed at once, if the crowd has become smaller."""
    least = known(0.1, 10)
    cohort(least, 1.0, 100)
    trusted = least.make_room()
    assert trusted == least.cohort + 2
    cohort(least, 0.7, 60)
    cohort(least, 0.3, 30)
    assert least.seconds == pytest.approx(0.3)
    least.make_room()
    cohort(least, 0.9, 90)
    cohort(least, 0.8, 80)
    assert least.seconds == pytest.approx(0.3)


def test_calls_can_be_forgotten() -> None:
    """After a restart, the calls of before count in no cohort."""
    least = known(0.1, 10)
    old = least.enter(1)
    least.restart(least.cohort + 10)
    assert least.cohort > old + 10
    cohort(least, 0.1, 10, calls=99)
    least.leave(old, 1000.0, 1)
    assert least.seconds == pytest.approx(0.1)


def test_calls_that_were_cut_short_teach_nothing() -> None:
    """A call without a latency is not waited for and not counted, and a cohort of nothing else is none."""
    least = Least()
    for _ in range(8):
        least.leave(least.enter(1), None, 0)
    assert (least.seconds, least.cohort) == (None, 4)
    permits = [least.enter(1) for _ in range(8)]
    for permit in permits[:4]:
        least.leave(permit, None, 0)
    for permit in permits[4:]:
        least.leave(permit, 0.2, 0)
    assert least.seconds == pytest.approx(0.2)
