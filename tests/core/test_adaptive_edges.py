"""The probe of an adaptive limit, step by step: what it is compared with, when it goes on, and how it ends."""

from __future__ import annotations

from math import log

import pytest

from resilience.core.adaptive import ConcurrencyLimit
from resilience.core.latency import Sample
from resilience.core.limits import Gradient

FAR = log(1.5)


def steady(seconds: float, calls: int = 1000) -> Sample:
    """A sample of calls that all took as long."""
    return Sample(calls, log(seconds), 0.0, seconds)


class Narrowly(Sample):
    """A sample that lies exactly two standard errors above any other."""

    __slots__ = ()

    def above(self, other: Sample) -> float:
        return 2.0


@pytest.mark.parametrize(
    ("seen", "least", "changed"),
    [
        (Sample(100, 1.0, 0.0, 1.0), Sample(100, 0.0, 0.0, 1.0), True),
        (Sample(100, 0.0, 0.0, 1.0), Sample(100, 1.0, 0.0, 1.0), True),
        # Sure, and not far: also where the two levels together would be.
        (Sample(100, 1.2, 0.0, 1.0), Sample(100, 1.0, 0.0, 1.0), False),
        (Sample(100, FAR, 0.0, 1.0), Sample(100, 0.0, 0.0, 1.0), False),
        # Far, and not sure.
        (Sample(4, 1.0, 9.0, 1.0), Sample(4, 0.0, 9.0, 1.0), False),
        (Narrowly(100, 1.0, 0.0, 1.0), Sample(100, 0.0, 0.0, 1.0), False),
    ],
)
def test_a_change_is_far_and_no_chance(seen: Sample, least: Sample, changed: bool) -> None:
    """Latency has changed when it differs by more than half and by more than two standard errors, either way."""
    assert ConcurrencyLimit(Gradient(), 100, 1, 1000)._has_changed(seen, least) is changed


def test_a_probe_is_compared_with_what_was_seen_lately() -> None:
    """It is the windows since the last probe together, or the last one alone if the latency has just changed."""
    limit = ConcurrencyLimit(Gradient(), 100, 1, 1000)
    lately, least = steady(1.1), steady(1.0)
    for recent, seen, before in ((None, steady(1.2), 1.2), (lately, steady(1.2), 1.1), (lately, steady(9.0), 9.0)):
        limit._recent = recent
        limit._begin_probe(seen, least)
        assert limit._above is limit._before
        assert limit._above is not None
        assert limit._above.mean == before


def probe(before: float, minimum: int = 1) -> ConcurrencyLimit:
    """A limit of 100 in a probe, with calls that took `before` seconds until then."""
    limit = ConcurrencyLimit(Gradient(), 100, minimum, 1000)
    limit._begin_probe(steady(before), steady(before))
    assert limit.probing
    return limit


@pytest.mark.parametrize(
    ("before", "seen", "minimum", "goes_on"),
    [
        (Sample(100, FAR, 0.0, 1.5), steady(1.0), 1, False),
        (Sample(100, 2 * FAR, 0.0, 2.25), steady(1.0), 1, True),
        (Sample(100, 2 * FAR, 0.0, 2.25), steady(1.0), 50, False),
        (Sample(100, 2 * FAR, 0.0, 2.25), None, 1, False),
    ],
)
def test_a_probe_goes_on_while_latency_falls(before: Sample, seen: Sample | None, minimum: int, goes_on: bool) -> None:
    """It halves again if latency has fallen by more than a third, as long as there is anything to halve."""
    limit = probe(1.0, minimum)
    limit._end_step(before, seen)
    assert limit.probing is goes_on
    assert limit._allowed == (25 if goes_on else limit.limit)


@pytest.mark.parametrize(("before", "limit_after", "climbing"), [(0.75, 100, True), (0.8, 62, False), (0.5, 100, True)])
def test_what_stood_in_the_queue_is_taken_off(before: float, limit_after: int, climbing: bool) -> None:
    """If calls took more than half as long again before the probe, the limit is what was being worked on."""
    limit = probe(before, minimum=50)
    limit._end_step(steady(before), steady(0.5))
    assert (limit.limit, limit._climbing) == (limit_after, climbing)
    assert limit.least is not None
    assert limit.least.mean == 0.5


def test_a_probe_that_shows_nothing_halves_the_limit() -> None:
    """Where not one call came through although fewer were allowed, half as many are allowed from then on."""
    limit = probe(1.0)
    limit._end_step(steady(1.0), None)
    assert limit.limit == 50
    assert not limit.probing


def test_a_probe_knows_how_long_it_took() -> None:
    """Probes come so much more seldom as they take longer, which is told from their own beginning to their end."""
    limit = ConcurrencyLimit(Gradient(), 100, 1, 1000)
    limit._pass(7.0)
    limit._begin_probe(steady(1.0), steady(1.0))
    limit._pass(12.0)
    limit._end_step(steady(1.0), steady(1.0))
    assert limit._probe_took == 5.0
