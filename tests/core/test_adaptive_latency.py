"""What some latencies say together: against the naive formulas, and against chance."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.latency import Sample, Window

latencies = st.floats(0.001, 1000.0)


def sample_of(values: list[float]) -> Sample:
    """The sample of a window that these calls have been through."""
    window = Window(1, 0.0, 0)
    for value in values:
        window.add(value)
    sample = window.sample()
    assert sample is not None
    return sample


@given(st.lists(latencies, min_size=1, max_size=50))
def test_a_sample_is_the_geometric_mean_and_its_error(values: list[float]) -> None:
    """The typical latency and its error are those of the logarithms."""
    sample, logs = sample_of(values), [math.log(value) for value in values]
    assert sample.calls == len(values)
    assert sample.typical == pytest.approx(statistics.geometric_mean(values))
    assert sample.mean == pytest.approx(statistics.mean(values))
    assert sample.error == pytest.approx(math.sqrt(statistics.pvariance(logs) / len(values)), abs=1e-6)


@given(st.lists(latencies, min_size=1, max_size=30), st.lists(latencies, min_size=1, max_size=30))
def test_two_samples_joined_are_the_sample_of_all(one: list[float], other: list[float]) -> None:
    """Joining loses nothing, as long as neither is older than it may count."""
    joined, both = sample_of(one).joined(sample_of(other), 1000), sample_of(one + other)
    assert joined.calls == both.calls
    assert joined.level == pytest.approx(both.level, abs=1e-9)
    assert joined.variance == pytest.approx(both.variance, abs=1e-9)
    assert joined.mean == pytest.approx(both.mean)


def test_what_is_new_keeps_its_say() -> None:
    """An old sample counts for so many calls, however many it was made of."""
    old, new = Sample(10_000, 0.0, 0.0, 1.0), Sample(100, 1.0, 0.0, 2.0)
    joined = old.joined(new, 100)
    assert (joined.calls, joined.level, joined.variance, joined.mean) == (200, 0.5, 0.25, 1.5)


def test_a_difference_counts_in_its_errors() -> None:
    """The same difference is much between two steady samples and nothing between two wild ones."""
    assert Sample(100, 0.3, 0.0, 1.0).above(Sample(100, 0.0, 0.0, 1.0)) > 9
    assert Sample(10, 0.3, 1.0, 1.0).above(Sample(10, 0.0, 1.0, 1.0)) < 1
    assert Sample(100, 0.0, 0.0, 1.0).above(Sample(100, 0.3, 0.0, 1.0)) < -9


def test_chance_seldom_looks_like_a_difference() -> None:
    """Two samples of one distribution are two errors apart in about one case of twenty."""
    rng = random.Random(1)
    samples = [sample_of([rng.expovariate(1) for _ in range(100)]) for _ in range(800)]
    apart = sum(abs(one.above(other)) > 2 for one, other in zip(samples[::2], samples[1::2], strict=True))
    print(f"\n  {apart} of 400 pairs of one distribution are two standard errors apart")
    assert apart <= 40


def test_a_latency_of_nothing_has_a_logarithm() -> None:
    """Calls that take no time, as in a test with a virtual clock, are taken for a microsecond."""
    assert sample_of([0.0, 0.0]).typical == pytest.approx(1e-6)


def test_a_window_counts_its_calls() -> None:
    """Calls out, ended and lost are a window's; one without a success says nothing about latency."""
    window = Window(4, 10.0, 3)
    assert window.sample() is None
    window.out, window.lost = 2, 1
    window.add(0.5, calls=3)
    assert (window.calls, window.ended, window.peak, window.permit) == (6, 3, 3, 4)
    window.begin(11.0, 7)
    assert (window.opened, window.peak, window.busy) == (11.0, 7, 0.0)


def test_a_sample_shows_itself() -> None:
    """A sample is readable in a debugger."""
    assert repr(Sample(100, 0.0, 0.25, 1.1)) == "<100 calls of 1 s, known to 5%>"
