"""Hedging at its edges: a fixed delay, the fewest answers, the smallest shares, and what may be saved."""

from __future__ import annotations

import pytest

from resilience.core.hedge import Hedging


def test_a_fixed_delay_is_known_from_the_beginning() -> None:
    """Where the delay was given, it is that one, before any answer and after many."""
    hedging = Hedging(0.05, 0.001)
    assert hedging.delay() == 0.001
    for _ in range(300):
        hedging.succeeded(5.0)
    assert hedging.delay() == 0.001


@pytest.mark.parametrize(("share", "fewest"), [(1.0, 10), (0.5, 10), (0.1, 10), (0.05, 20), (0.01, 100), (0.001, 256)])
def test_the_fewest_answers_that_tell_a_share(share: float, fewest: int) -> None:
    """A delay is known from the answer on that stands for the share: ten at least, 256 at most."""
    hedging = Hedging(share, None)
    for seen in range(fewest):
        assert hedging.delay() is None, seen
        hedging.succeeded(0.01)
    assert hedging.delay() == 0.01


@pytest.mark.parametrize("share", [0.01, 0.001, 1e-17])
def test_a_share_smaller_than_one_answer_waits_for_the_slowest(share: float) -> None:
    """Where the share is no more than one of the answers, the delay is the longest of them."""
    hedging = Hedging(share, None)
    count = 100 if share == 0.01 else 256
    for answer in range(count):
        hedging.succeeded(float(answer))
    assert hedging.delay() == count - 1


def test_the_oldest_answer_is_the_one_forgotten() -> None:
    """Of answers that all differ, the delay is the quantile of the last 256, whichever way they went."""
    for answers in (range(1000), range(1000, 0, -1), [(7 * n) % 1000 for n in range(1000)]):
        hedging = Hedging(0.5, None)
        for seen, answer in enumerate(answers, start=1):
            hedging.succeeded(float(answer))
            if seen > 256:
                assert hedging.delay() == sorted(answers[seen - 256 : seen])[128]


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_ten_copies_are_saved_and_no_more(share: float) -> None:
    """After any number of calls without a copy, ten copies may be sent at once and then none."""
    hedging = Hedging(share, 0.0)
    for _ in range(1000):
        hedging.began()
    assert hedging.credit == pytest.approx(10.0)
    assert sum(hedging.spend() for _ in range(20)) in {9, 10}  # nine where ten is rounded down
    for _ in range(20):
        hedging.began()
    assert hedging.spend()
