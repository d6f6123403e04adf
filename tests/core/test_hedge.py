"""When a second copy is sent, and what it may cost: the pure decisions."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.hedge import Hedging

MEDIAN, TAIL = 0.010, 0.200


def two_modes(rng: random.Random, slow: float = 0.02) -> float:
    """A latency that is nearly always short, and 20 times as long in the tail."""
    return rng.gauss(TAIL, TAIL / 20) if rng.random() < slow else rng.gauss(MEDIAN, MEDIAN / 10)


def replay(hedging: Hedging, calls: int, latency) -> tuple[list[float], int]:
    """Latencies of so many calls, one after another, and copies sent."""
    totals, sent = [], 0
    for _ in range(calls):
        hedging.began()
        total, delay = latency(), hedging.delay()
        if delay is not None and total > delay and hedging.spend():
            sent += 1
            total = min(total, delay + latency())
        hedging.succeeded(total)
        totals.append(total)
    return totals, sent


def quantile(values: list[float], q: float) -> float:
    """The q-quantile of some values."""
    return sorted(values)[int(len(values) * q)]


@pytest.mark.parametrize("seed", range(5))
def test_a_long_tail_is_cut_in_half_for_a_twentieth_more_calls(seed, capsys):
    """With p99 = 20 x median, hedging costs at most 5.5 % extra calls and the p99 is at most half."""
    rng = random.Random(seed)
    plain = [two_modes(rng) for _ in range(20_000)]
    hedged, sent = replay(Hedging(0.05, None), 20_000, lambda: two_modes(rng))
    extra, gain = sent / 20_000, quantile(hedged, 0.99) / quantile(plain, 0.99)
    with capsys.disabled():
        print(f"\n  hedge, seed {seed}: {extra:.2%} extra calls (<= 5.5 %), p99 {gain:.2f} of the plain one (<= 0.5)")
    assert quantile(plain, 0.99) > 15 * quantile(plain, 0.5)
    assert extra <= 0.055
    assert gain <= 0.5


@pytest.mark.parametrize("after", [0.0, 0.001])
def test_the_cap_holds_with_a_fixed_delay(after):
    """However early copies are wanted, at most the share and ten more are sent."""
    rng = random.Random(1)
    _, sent = replay(Hedging(0.05, after), 10_000, lambda: two_modes(rng))
    assert sent <= 0.05 * 10_000 + 10


def test_the_cap_holds_when_everything_becomes_slow():
    """A service that slows down by 20 times is not sent more than the share on top."""
    rng, hedging = random.Random(2), Hedging(0.05, None)
    replay(hedging, 2_000, lambda: rng.gauss(MEDIAN, MEDIAN / 10))
    _, sent = replay(hedging, 2_000, lambda: rng.gauss(TAIL, TAIL / 10))
    assert sent <= 0.05 * 2_000 + 10


def test_nothing_is_known_before_a_share_can_be_told():
    """No copy is timed before there are enough answers to tell one in twenty."""
    hedging = Hedging(0.05, None)
    for seen in range(20):
        assert hedging.delay() is None, seen
        hedging.succeeded(0.01)
    assert hedging.delay() == 0.01


def test_the_delay_is_the_quantile_of_the_recent_answers():
    """Of 1 to 100 milliseconds, five in a hundred are later than the delay."""
    hedging = Hedging(0.05, None)
    answers = [n / 1000 for n in range(1, 101)]
    random.Random(3).shuffle(answers)
    for answer in answers:
        hedging.succeeded(answer)
    assert sum(answer > hedging.delay() for answer in answers) == 4


def test_old_answers_are_forgotten():
    """Only the last 256 answers count, also equal ones."""
    hedging = Hedging(0.5, None)
    for answer in [9.0] * 300 + [1.0] * 256:
        hedging.succeeded(answer)
    assert hedging.delay() == 1.0
    assert len(hedging._sorted) == 256


@given(share=st.sampled_from([0.01, 0.05, 0.1, 0.2, 1 / 3, 0.7, 1.0]), wants=st.lists(st.booleans(), max_size=300))
def test_credit_is_exact(share, wants):
    """The credit is that of exact arithmetic: a share per call, one per copy, at most ten kept."""
    hedging, credit = Hedging(share, 0.0), Fraction(0)
    exact = Fraction(share).limit_denominator(1000)
    for want in wants:
        hedging.began()
        credit = min(Fraction(10), credit + exact)
        if want:
            granted = hedging.spend()
            assert granted == (credit >= 1)
            credit -= granted
        assert hedging.credit == pytest.approx(float(credit), abs=1e-9)


def test_a_copy_that_was_not_sent_costs_nothing():
    """What was paid for a copy that a budget refused comes back."""
    hedging = Hedging(1.0, 0.0)
    hedging.began()
    assert hedging.spend()
    hedging.give_back()
    assert hedging.spend()
    assert not hedging.spend()


def test_half_a_note_is_made_good() -> None:
    """What an interrupt has left between the recent answers and their order is put right with the next answer."""
    hedging = Hedging(0.5, None)
    for number in range(20):
        hedging.succeeded(float(number))
    hedging._recent.append(1000.0)
    hedging.succeeded(1.0)
    assert hedging._sorted == sorted(hedging._recent)
