"""The edges of trips: as keys, as pickles of another version, and when a success needs no judgement."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.trip import Consecutive, FailureRate, SlowRate, Trip, steady_window
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict


def test_a_pickle_with_other_numbers_than_a_trip_has_is_refused() -> None:
    """What was pickled by a version with more fields, or with fewer, never becomes half a trip."""
    for trip in (Consecutive(5), FailureRate(), SlowRate(slower_than=1)):
        rebuild, (kind, values) = trip.__reduce__()
        assert rebuild(kind, values) == trip
        for others in (values[:-1], (*values, 1)):
            with pytest.raises(ValueError):
                rebuild(kind, others)


def test_trips_of_other_kinds_and_numbers_hash_apart() -> None:
    """As keys of a table, trips do not all meet in one place: kind and numbers both enter the hash."""

    class Mine(Consecutive):
        __slots__ = ()

    assert len({hash(trip) for trip in (Consecutive(5), Consecutive(6), Mine(5), FailureRate(0.5))}) == 4


@pytest.mark.parametrize("kind", [FailureRate, lambda window: SlowRate(slower_than=1, window=window)])
def test_each_rate_looks_at_the_seconds_that_it_was_given(kind) -> None:
    """A bad call is forgotten after a window of its own length, be that ten seconds or an hour."""
    for window in (10.0, 3600.0):
        tally = kind(window=window).start()
        tally.record(FAILURE, 2.0, 0.0)
        assert tally.counts(math.nextafter(window, 0.0)) == (1, 1)
        assert tally.counts(window) == (0, 0)


RATES = [
    FailureRate(0.5, calls=5, minimum_calls=4),
    FailureRate(1.0, calls=3),
    FailureRate(0.4, window=10, minimum_calls=4),
    SlowRate(0.5, slower_than=1, calls=5, minimum_calls=3),
]


@given(st.sampled_from(RATES), st.lists(st.sampled_from([SUCCESS, FAILURE, IGNORED]), max_size=12))
def test_where_a_success_may_be_counted_directly_it_would_not_have_tripped(trip: Trip, story: list[Verdict]) -> None:
    """A steady window has no verdict to give on one more success, unless it had given it before."""
    tally = trip.start()
    tripped = False
    for verdict in story:
        trips = tally.record(verdict, 2.0 if verdict is FAILURE else 0.5, 0.0)
        if verdict is not IGNORED:
            tripped = trips
    if steady_window([tally]) is not None and not tripped:
        assert not tally.record(SUCCESS, 0.5, 0.0)


def test_a_success_may_be_counted_directly_but_for_the_calls_before_a_first_verdict() -> None:
    """A window is steady while it is clean, unsteady from its first bad call on, and steady once it may trip anyway."""
    tally = FailureRate(0.5, calls=10, minimum_calls=4).start()
    steady = [steady_window([tally]) is not None]
    for verdict in (SUCCESS, FAILURE, SUCCESS, SUCCESS, SUCCESS):
        tally.record(verdict, 0.0, 0.0)
        steady.append(steady_window([tally]) is not None)
    assert steady == [True, True, False, False, True, True]


@pytest.mark.parametrize("trip", [FailureRate(calls=2), SlowRate(slower_than=1, calls=2)])
def test_each_rate_looks_at_the_calls_that_it_was_given(trip: Trip) -> None:
    """A bad call is forgotten with the second good one after it, and not with time."""
    tally = trip.start()
    tally.record(FAILURE, 2.0, 0.0)
    tally.record(SUCCESS, 0.5, 1e6)
    assert tally.counts(1e6) == (1, 2)
    tally.record(SUCCESS, 0.5, 1e6)
    assert tally.counts(1e6) == (0, 2)
