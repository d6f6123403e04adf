"""What an adaptive limit makes of a window: how the limit moves, what is learnt, and when a probe is wanted."""

from __future__ import annotations

from math import exp, inf, log, nextafter, sqrt

import pytest

from resilience.core.adaptive import REFUSED, ConcurrencyLimit
from resilience.core.latency import Sample, Window


class Asked:
    """An algorithm that says what it is told to say, and remembers what it was asked."""

    def __init__(self, says: float = 100.0) -> None:
        self.says = says
        self.asked: list[tuple[float, float, float, float]] = []

    def next_limit(self, limit: float, latency: float, least: float, lost: float, /) -> float:
        self.asked.append((limit, latency, least, lost))
        return self.says


class Lying(Sample):
    """A sample that lies as many standard errors above any other as it is told to."""

    __slots__ = ("apart",)
    apart: float

    def above(self, other: Sample) -> float:
        return self.apart


def lying(level: float, apart: float, calls: int = 1000) -> Lying:
    """A sample of that level, so far from any other."""
    sample = Lying(calls, level, 0.0, exp(level))
    sample.apart = apart
    return sample


def steady(seconds: float, calls: int = 1000) -> Sample:
    """A sample of calls that all took as long."""
    return Sample(calls, log(seconds), 0.0, seconds)


def limit_of(algorithm: Asked | None = None, initial: int = 100, minimum: int = 1) -> ConcurrencyLimit:
    """A limit of up to 1000 that does what it is told."""
    return ConcurrencyLimit(algorithm or Asked(), initial, minimum, 1000)


def informed(algorithm: Asked | None = None, minimum: int = 1) -> ConcurrencyLimit:
    """A limit of 100 at which the least was last seen at 7 s, and is well known: one second."""
    limit = limit_of(algorithm, minimum=minimum)
    limit._pass(7.0)
    limit._learn(steady(1.0))
    limit._climbing = False
    return limit


# --- the limit --------------------------------------------------------------------------------------------------------


def test_a_new_limit_knows_nothing() -> None:
    """It is what it was told to be, climbs, and is not in a probe."""
    algorithm = Asked()
    limit = ConcurrencyLimit(algorithm, 20, 2, 30)
    assert limit.algorithm is algorithm
    assert (limit.limit, limit.in_flight, limit.least, limit.latest, limit.changes) == (20, 0, None, -inf, [])
    assert limit.probing is limit._known is False
    assert (limit._probe_took, limit._exact, limit._climbing) == (0.0, 20.0, True)
    assert [limit.acquire(-5.0) == REFUSED for _ in range(21)] == [False] * 20 + [True]


@pytest.mark.parametrize(("told", "exact"), [(0.5, 2.0), (2.5, 2.5), (30.5, 30.0), (29.5, 29.5), (20.0, 20.0)])
def test_it_stays_within_its_bounds_and_tells_of_changes(told: float, exact: float) -> None:
    """It is kept as a fraction, allows the whole calls of that, and tells of a change only where that is another."""
    limit = ConcurrencyLimit(Asked(), 20, 2, 30)
    limit._set(told)
    assert (limit._exact, limit.limit, limit._allowed) == (exact, int(exact), int(exact))
    assert limit.changes == ([] if exact == 20.0 else [(20, int(exact))])
    limit._set(told)
    assert len(limit.changes) <= 1


@pytest.mark.parametrize(("limit", "minimum", "half"), [(101, 1, 50), (100, 50, 50), (100, 51, 51), (1, 1, 1)])
def test_half_is_rounded_down_to_no_less_than_the_minimum(limit: int, minimum: int, half: int) -> None:
    """A limit of one cannot be halved."""
    assert limit_of(minimum=minimum)._half(limit) == half


def test_an_algorithm_is_told_what_was_seen() -> None:
    """It gets the typical latency, the least with one and a half of its errors, and the share that was lost."""
    algorithm = Asked()
    limit = informed(algorithm)
    limit.least = Sample(100, 0.0, 0.25, 1.0)
    limit._move(Sample(100, 1.0, 0.0, 9.0), 0.125, 100.0)
    assert algorithm.asked == [(100.0, exp(1.0), exp(1.5 * sqrt(0.25 / 100)), 0.125)]


@pytest.mark.parametrize(("seen", "known"), [(None, True), (steady(2.0), False), (None, False)])
def test_without_anything_to_compare_latency_is_one(seen: Sample | None, known: bool) -> None:
    """Where nothing was seen, or nothing is known, an algorithm decides by what was lost alone."""
    algorithm = Asked()
    limit = informed(algorithm) if known else limit_of(algorithm)
    limit._move(seen, 0.5, 100.0)
    assert algorithm.asked == [(100.0, 1.0, 1.0, 0.5)]


@pytest.mark.parametrize(
    ("says", "used", "climbing", "limit_after"),
    [
        (101.0, 50.0, False, 101),
        (101.0, 49.9, False, 100),
        (101.0, 50.0, True, 150),
        (200.0, 50.0, True, 200),
        (101.0, 49.9, True, 100),
        (100.0, 100.0, True, 100),
        (99.0, 100.0, True, 99),
        (99.0, 0.0, True, 99),
    ],
)
def test_it_grows_only_while_half_of_it_is_used(says: float, used: float, climbing: bool, limit_after: int) -> None:
    """By half of itself at least while it climbs; it comes down whatever is used."""
    limit = informed(Asked(says))
    limit._climbing = climbing
    limit._move(steady(1.0), 0.0, used)
    assert limit.limit == limit_after


@pytest.mark.parametrize(("lost", "apart", "climbs"), [(0.0, 2.0, True), (0.0, 2.1, False), (0.1, 0.0, False)])
def test_it_climbs_until_the_first_sign_of_waiting(lost: float, apart: float, climbs: bool) -> None:
    """A call that was lost is one, and so is latency above the least by more than chance."""
    limit = informed()
    limit._climbing = True
    limit._move(lying(0.0, apart), lost, 100.0)
    assert limit._climbing is climbs


# --- the least --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("apart", "level", "exact", "replaced"),
    [
        (3.0, 0.5, 100.0, False),
        (3.1, 0.5, 100.0, True),
        (-3.1, -0.5, 100.0, True),
        (0.0, 0.5, 70.0, False),
        (0.0, 0.5, 69.0, True),
        (0.0, 0.0, 69.0, False),
        (0.0, -0.5, 69.0, False),
    ],
)
def test_what_is_known_is_replaced_only_for_a_reason(apart: float, level: float, exact: float, replaced: bool) -> None:
    """A sample that lies elsewhere, or above where the limit has come down in vain; any other is averaged in."""
    limit = informed()
    limit._exact = exact
    limit._pass(9.0)
    limit._learn(lying(level, apart, calls=3000))
    assert limit.least is not None
    assert limit.least.calls == (3000 if replaced else 4000)
    assert (limit._light_at, limit._light_limit) == (9.0, exact)


def test_what_was_seen_in_the_dark_is_replaced_by_the_first_light() -> None:
    """From then on the least is known, for two thousand calls at most."""
    limit = limit_of()
    limit.least = steady(1.0)
    limit._learn(lying(0.5, 0.0, calls=4000))
    assert limit.least.calls == 4000 and limit._known is True
    limit._learn(lying(0.5, 0.0, calls=10))
    assert limit.least.calls == 2010
    fresh = limit_of()
    fresh._learn(steady(2.0))
    assert fresh.least is not None and fresh.least.mean == 2.0 and fresh._known is True


@pytest.mark.parametrize(
    ("pause", "known", "calls", "exact", "seen", "took", "seconds"),
    [
        (30.0, True, 500, 100.0, 0.001, 0.0, 0.001),
        (30.0, True, 500, 100.0, 0.001, 1.0, 0.001),
        (40.0, True, 500, 100.0, 0.001, 2.0, 0.001),
        (30.0, True, 500, 70.0, 0.001, 0.0, 0.001),
        (5.0, False, 500, 100.0, 0.001, 0.0, 0.001),
        (5.0, True, 499, 100.0, 0.001, 0.0, 0.001),
        (5.0, True, 500, 69.0, 0.001, 0.0, 0.001),
        (5.0, True, 500, 100.0, 0.002, 0.0, 0.001),
        (5.0, False, 500, 100.0, 0.001, 1.0, 0.001),
        (8.0, False, 500, 100.0, 0.001, 2.0, 0.001),
        (20.0, False, 500, 100.0, 1.0, 2.0, 1.0),
        (60.0, True, 500, 100.0, 3.0, 2.0, 3.0),
    ],
)
def test_a_probe_comes_after_a_pause(
    pause: float, known: bool, calls: int, exact: float, seen: float, took: float, seconds: float
) -> None:
    """It is longer where the least is well known, where probes take long, and where calls do."""
    limit = informed()
    limit._known, limit._exact, limit._probe_took = known, exact, took
    for late, wanted in ((-1e-6, False), (1e-6, True)):
        limit.latest = 7.0 + pause + late
        assert limit._wants_probe(steady(seen), steady(seconds, calls)) is wanted


def test_a_probe_is_wanted_once_the_pause_is_over() -> None:
    """At its very end it is not over, and where nothing can be halved it never is."""
    limit = informed()
    limit.latest = 37.0
    assert limit._wants_probe(steady(0.001), steady(0.001)) is False
    limit.latest = nextafter(37.0, inf)
    assert limit._wants_probe(steady(0.001), steady(0.001)) is True
    narrow = informed(minimum=100)
    narrow.latest = 1e9
    assert narrow._wants_probe(steady(0.001), steady(0.001)) is False


# --- what is made of a window -----------------------------------------------------------------------------------------


def window(*, used: float = 60.0, peak: int = 100, lost: int = 0) -> Window:
    """A window from 100 s to 102 s in which that many calls were in flight on the average, and at most."""
    made = Window(3, 100.0, 0)
    made.peak, made.busy, made.lost, made.ended = peak, used * 2.0, lost, 100 - lost
    return made


def judged(limit: ConcurrencyLimit, made: Window, seen: Sample | None) -> ConcurrencyLimit:
    """The limit at 102 s after that window."""
    limit._pass(102.0)
    limit._judge(made, seen)
    return limit


def test_a_window_without_a_sample_is_told_by_its_losses() -> None:
    """What is known stays what it was, and is not compared with anything."""
    algorithm = Asked(90.0)
    limit = judged(informed(algorithm), window(lost=25), None)
    assert algorithm.asked == [(100.0, 1.0, 1.0, 0.25)]
    assert (limit.limit, limit._light_at, limit.probing) == (90, 7.0, False)


@pytest.mark.parametrize(("used", "limit_after"), [(50.0, 110), (49.0, 100)])
@pytest.mark.parametrize("known", [True, False])
def test_without_a_sample_it_grows_only_while_half_of_it_is_used(used: float, limit_after: int, known: bool) -> None:
    """An algorithm that wants more though calls were lost gets it as any other does."""
    limit = informed(Asked(110.0)) if known else limit_of(Asked(110.0))
    limit._climbing = False
    judged(limit, window(used=used, lost=25), None if known else steady(1.0))
    assert limit.limit == limit_after


@pytest.mark.parametrize(("peak", "light"), [(50, True), (51, False)])
def test_the_least_is_learnt_while_no_more_than_half_is_used(peak: int, light: bool) -> None:
    """A window that is light is learnt, one that is not is remembered; either moves the limit."""
    algorithm = Asked(90.0)
    limit = judged(informed(algorithm), window(peak=peak, used=40.0, lost=10), lying(0.01, 0.0, 90))
    assert limit._light_at == (102.0 if light else 7.0)
    assert (limit._recent is None) is light
    assert limit.least is not None
    assert limit.least.calls == (1090 if light else 1000)
    assert [(latency, lost) for _, latency, _, lost in algorithm.asked] == [(exp(0.01), 0.1)]
    assert limit.limit == 90


def test_what_was_seen_lately_is_of_two_thousand_calls() -> None:
    """Each window since the last probe is added to it."""
    limit = informed()
    for calls in (90, 3000, 90):
        judged(limit, window(used=40.0), steady(1.0, calls))
    assert limit._recent is not None
    assert limit._recent.calls == 2090


@pytest.mark.parametrize(("lost", "asked"), [(0, []), (50, [(100.0, 1.0, 1.0, 0.5)])])
def test_what_is_seen_first_is_the_least_until_there_is_light(
    lost: int, asked: list[tuple[float, float, float, float]]
) -> None:
    """It says nothing about the limit, which moves only if calls were lost; and it is not known for sure."""
    algorithm, seen = Asked(90.0), steady(1.0)
    limit = judged(limit_of(algorithm), window(lost=lost), seen)
    assert limit.least is seen and limit._recent is seen
    assert (limit._light_at, limit._known, limit.probing) == (102.0, False, False)
    assert algorithm.asked == asked


@pytest.mark.parametrize(("used", "late", "probes"), [(50.0, True, True), (49.0, True, False), (50.0, False, False)])
def test_a_probe_begins_when_it_is_time_and_half_is_used(used: float, late: bool, probes: bool) -> None:
    """Else the limit moves; while a probe lasts, it is what a window is for."""
    algorithm = Asked(90.0)
    limit = informed(algorithm)
    limit._light_at = 7.0 if late else 101.0
    judged(limit, window(used=used), steady(1.0))
    assert limit.probing is probes
    assert (limit._allowed, len(algorithm.asked)) == ((50, 0) if probes else (90, 1))
    if probes:
        judged(limit, window(used=10.0, peak=10), steady(1.0))
        assert (limit.probing, limit._allowed, algorithm.asked) == (False, 100, [])
