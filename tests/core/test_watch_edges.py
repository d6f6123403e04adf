"""Calls that begin and end without the lock, and how those who come to look find them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.trip import SlowRate
from resilience.core.verdict import IGNORED, Verdict
from resilience.core.watch import Watches


class Hears:
    """A tally that writes down what it is told, and trips when it is told to."""

    clean = False

    def __init__(self, trips: bool = False) -> None:
        self.told: list[tuple[Verdict, float, float]] = []
        self.trips = trips

    def record(self, verdict: Verdict, elapsed: float, now: float) -> bool:
        self.told.append((verdict, elapsed, now))
        return self.trips

    def counts(self, now: float) -> tuple[int, int]:
        return len(self.told), len(self.told)


def watched(*bounds: float) -> tuple[Watches, list[Hears]]:
    """Watches of one tally for each bound, two seconds where none is given."""
    tallies = [Hears() for _ in bounds or (2.0,)]
    return Watches(list(zip(tallies, bounds or (2.0,), strict=True))), tallies


def test_the_short_way_is_barred_until_it_is_opened() -> None:
    """Nobody may begin at any reading, and the number of who would be alone has to be drawn."""
    it, _ = watched()
    assert it.until == -math.inf and it.number < 0 and it.under_way == set()


def test_who_was_alone_is_one_among_others_with_the_beginning_it_had() -> None:
    """Gathered before any look, it began when it says, its number is used up, and nobody is alone."""
    it, _ = watched()
    it.alone, it.number = 7.0, 3
    assert it.under_way == {3}
    it.gather()
    assert (it.running, it.alone) == ({3: 7.0}, None) and it.number < 0
    it.gather()
    assert it.under_way == {3}


@pytest.mark.parametrize(("read", "begins"), [(4.0, 5.0), (5.0, 5.0), (6.0, 6.0)])
def test_who_is_alone_began_after_the_last_look(read: float, begins: float) -> None:
    """It found nobody looking, so a reading from before the last look is one that it was slow to write down."""
    it, _ = watched()
    it.look(5.0, 1)
    it.alone, it.number = read, 2
    it.gather()
    assert it.running == {2: begins}


def test_who_is_written_down_after_a_look_began_after_it() -> None:
    """A call with a newer permit and an older reading did not run while somebody looked, so it is not slow for that."""
    it, (tally,) = watched()
    it.look(5.0, 1)
    it.running[2] = 3.0
    assert it.look(7.0, 2) is False and tally.told == []
    assert it.look(7.5, 2) is False
    assert tally.told == [(IGNORED, 2.5, 7.5)]


def test_who_was_there_at_a_look_keeps_its_beginning() -> None:
    """The last permit that was drawn before a look was there to be seen, however long ago it began."""
    it, (tally,) = watched(10.0)
    it.begin(5, 1.0)
    it.look(3.0, 5)
    it.look(12.0, 6)
    assert tally.told == [(IGNORED, 11.0, 12.0)]


def test_a_call_that_has_run_for_just_the_bound_is_not_slow_and_may_still_become_so() -> None:
    """A look at the bound itself takes nothing away from a look behind it."""
    it, (tally,) = watched()
    it.begin(1, 0.0)
    it.look(2.0, 1)
    assert tally.told == []
    it.look(3.0, 1)
    assert tally.told == [(IGNORED, 3.0, 3.0)]


def test_a_look_says_whether_any_tally_trips() -> None:
    """True if one does, whichever it is; else False."""
    for trips in ([False, False], [True, False], [False, True]):
        tallies = [Hears(each) for each in trips]
        it = Watches([(tally, 2.0) for tally in tallies])
        it.begin(1, 0.0)
        assert it.look(1.0, 1) is False
        assert it.look(3.0, 1) is any(trips)
        assert [len(tally.told) for tally in tallies] == [1, 1]


def test_nothing_is_kept_of_a_slow_call_that_ended() -> None:
    """A number that were to come once more would be watched like any other."""
    it, (tally,) = watched()
    for began in (0.0, 10.0):
        it.begin(1, began)
        it.look(began + 3.0, 1)
        assert it.end(1, [tally]) == []
    assert len(tally.told) == 2


moments = st.floats(-1e6, 1e9)


@given(moments, st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), min_size=1, max_size=6), st.floats(1e-3, 4.0))
def test_due_is_the_last_reading_at_which_nobody_becomes_slow(
    start: float, steps: list[tuple[float, bool]], bound: float
) -> None:
    """Of calls that come, are looked at and stay, the oldest that is not slow yet is so as soon as floats can tell."""
    it, (tally,) = watched(bound)
    now = start
    for permit, (step, looks) in enumerate(steps):
        now += step
        it.begin(permit, now)
        if looks:
            it.look(now, permit)
    it.look(now, len(steps))
    before, waiting = len(tally.told), bool(it.running)
    due = it.due
    it.look(due, len(steps))
    assert len(tally.told) == before
    it.look(due + 4 * math.ulp(abs(due) + bound), len(steps))
    assert (len(tally.told) > before) is waiting


def test_without_a_call_due_is_a_bound_away() -> None:
    """Whoever begins from now on is not slow before; with two bounds the smaller one counts."""
    it, _ = watched(4.0, 2.0)
    it.look(10.0, 0)
    assert it.due == 12.0
    it.begin(1, 11.0)
    it.look(11.0, 1)
    assert it.due == 13.0


def test_a_slow_call_is_due_no_more_to_who_has_counted_it() -> None:
    """Counted by the smaller bound, it is due by the other one; then only those who come are."""
    it, _ = watched(2.0, 4.0)
    it.begin(1, 0.0)
    dues = []
    for now in (0.0, 3.0, 5.0):
        it.look(now, 1)
        dues.append(it.due)
    assert dues == [2.0, 4.0, 7.0]


def test_who_keeps_only_some_bars_the_short_way() -> None:
    """Who was alone is asked like any other, and the next one has to have a number drawn."""
    for alive in ([3], []):
        it, _ = watched()
        it.until, it.alone, it.number = 50.0, 7.0, 3
        it.keep(alive)
        assert it.until == -math.inf and it.number < 0
        assert (it.under_way, it.alone) == (set(alive), None)
    it, _ = watched()
    it.until, it.number = 50.0, 4
    it.keep([])
    assert it.until == -math.inf and it.number < 0


def test_watches_of_a_real_rate_count_by_its_window() -> None:
    """A slow call enters the slice of the reading at which it was seen."""
    tally = SlowRate(slower_than=2.0, window=10).start()
    it = Watches([(tally, 2.0)])
    it.begin(1, 0.0)
    it.look(5.0, 1)
    assert tally.counts(14.9) == (1, 1) and tally.counts(15.0) == (0, 0)
