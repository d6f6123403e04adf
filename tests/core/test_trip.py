"""Trips: each tally against a naive one that remembers every call, and their numbers against their rules."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import timedelta
from fractions import Fraction
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.trip import Consecutive, FailureRate, SlowRate, Trip, coerce, steady_window
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict

VERDICTS = {"S": SUCCESS, "F": FAILURE, "-": IGNORED}


def trips_at(trip: Trip, story: str) -> int | None:
    """The number, from 1, of the call in a story such as "FS-F" at which a fresh tally first trips."""
    tally = trip.start()
    for number, letter in enumerate(story, start=1):
        tripped = tally.record(VERDICTS[letter], 0.0, 0.0)
        assert isinstance(tripped, bool)
        if tripped:
            return number
    return None


# --- in a row ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "story", "at"),
    [
        (1, "F", 1),
        (1, "SSSF", 4),
        (3, "FFF", 3),
        (3, "FF", None),
        (3, "FFSFFSFFF", 9),
        (3, "FF-F", 4),
        (3, "FF-----", None),
        (2, "F-S-F-F", 7),
    ],
)
def test_consecutive_counts_failures_in_a_row(failures: int, story: str, at: int | None) -> None:
    """A success starts the count anew, an ignored call neither counts nor resets, and the n-th failure trips."""
    assert trips_at(Consecutive(failures), story) == at


def test_consecutive_trips_on_every_failure_beyond_the_limit() -> None:
    """A tally that has tripped trips again, should nobody have listened."""
    tally = Consecutive(2).start()
    assert [tally.record(FAILURE, 0.0, 0.0) for _ in range(4)] == [False, True, True, True]
    assert tally.counts(0.0) == (4, 4)


def test_consecutive_is_clean_while_no_failure_counts() -> None:
    """A success would change nothing exactly when the row is empty."""
    tally = Consecutive(3).start()
    clean = [tally.clean]
    for letter in "SF-S":
        tally.record(VERDICTS[letter], 9.0, 9.0)
        clean.append(tally.clean)
    assert clean == [True, True, False, False, True]


def test_a_rate_is_never_clean() -> None:
    """Every success changes a share."""
    assert FailureRate().start().clean is False
    assert SlowRate(slower_than=1).start().clean is False


# --- shares of the last calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "calls", "minimum", "story", "at"),
    [
        (0.5, 4, 4, "FFFF", 4),
        (0.5, 4, 4, "FFS", None),
        (0.5, 4, 4, "SSFF", 4),
        (0.5, 4, 4, "FFSS", 4),  # on the success that makes a verdict possible
        (0.5, 4, 4, "FSSSFSSSF", None),
        (0.5, 4, 4, "FSSSSFSF", 8),
        (0.5, 4, 4, "FFS---S", 7),  # ignored calls do not count towards the minimum
        (0.5, 4, 1, "F", 1),
        (0.5, 4, 2, "SF", 2),
        (1.0, 3, 3, "FFSFFF", 6),
        (1.0, 1, 1, "SSF", 3),
        (0.25, 4, 4, "SSSF", 4),
        (0.26, 4, 4, "SSSF", None),
    ],
)
def test_a_count_window_trips_at_its_ratio(ratio: float, calls: int, minimum: int, story: str, at: int | None) -> None:
    """The last so many finished calls count, no more and no fewer; the ratio itself trips; a success may trip."""
    assert trips_at(FailureRate(ratio, calls=calls, minimum_calls=minimum), story) == at


@given(
    calls=st.integers(1, 12),
    data=st.data(),
    story=st.lists(st.sampled_from([*VERDICTS.values(), FAILURE]), max_size=60),
)
def test_count_windows_are_exact(calls: int, data: st.DataObject, story: list[Verdict]) -> None:
    """At each call the tally says what a list of all finished calls says of its last N, in exact arithmetic."""
    minimum = data.draw(st.integers(1, calls))
    ratio = Fraction(data.draw(st.integers(1, calls)), calls)
    tally = FailureRate(float(ratio), calls=calls, minimum_calls=minimum).start()
    finished: list[bool] = []
    for verdict in story:
        tripped = tally.record(verdict, 0.0, 0.0)
        if verdict is not IGNORED:
            finished.append(verdict is FAILURE)
        last = finished[-calls:]
        assert tally.counts(0.0) == (sum(last), len(last))
        enough = len(last) >= minimum and verdict is not IGNORED
        assert tripped == (enough and float(Fraction(sum(last), max(1, len(last)))) >= float(ratio))


@pytest.mark.parametrize(("bad", "calls"), [(11, 20), (3, 10), (7, 10), (29, 50), (57, 100), (1, 3), (2, 3)])
def test_a_ratio_written_in_decimals_trips_at_its_own_count(bad: int, calls: int) -> None:
    """Eleven failures of twenty are a rate of 0.55, although 0.55 * 20 is more than eleven in floats."""
    story = "S" * (calls - bad) + "F" * bad
    assert trips_at(FailureRate(bad / calls, calls=calls, minimum_calls=calls), story) == calls
    assert trips_at(FailureRate(bad / calls, calls=calls, minimum_calls=calls), "S" + story[:-1]) is None


# --- shares of the last seconds ---------------------------------------------------------------------------------------


def test_a_result_counts_from_nine_tenths_to_the_whole_of_a_window() -> None:
    """What ends at the start of a slice counts for the whole window, at its end for nine tenths, and then no more."""
    for ended, forgotten in [(0.0, 10.0), (0.999, 10.0), (1.0, 11.0), (25.5, 35.0)]:
        tally = FailureRate(window=10).start()
        tally.record(FAILURE, 0.0, ended)
        assert tally.counts(math.nextafter(forgotten, 0.0)) == (1, 1)
        assert tally.counts(forgotten) == (0, 0)
        assert 9.0 <= forgotten - ended <= 10.0


@given(
    window=st.sampled_from([0.001, 0.3, 1.0, 7.0, 10.0, 30.0, 86_400.0]),
    start=st.sampled_from([0.0, 5.0, 1e5, 1e9]),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9, 0.95, 1.0, 1.05, 3.0]) | st.floats(0.0, 1.5),
            st.sampled_from([SUCCESS, FAILURE, IGNORED]),
        ),
        max_size=30,
    ),
)
def test_time_windows_count_each_result_for_0_9_to_1_0_of_their_length(
    window: float, start: float, steps: list[tuple[float, Verdict]]
) -> None:
    """Whatever is younger than nine tenths of the window counts, whatever is older than the whole does not."""
    tally = FailureRate(window=window, minimum_calls=1000).start()
    now, ended = start, list[tuple[float, bool]]()
    slack = 4 * math.ulp(start + 100 * window)
    for step, verdict in steps:
        now += step * window
        assert not tally.record(verdict, 0.0, now)
        if verdict is not IGNORED:
            ended.append((now, verdict is FAILURE))
        surely = [bad for at, bad in ended if now - at < 0.9 * window - slack]
        maybe = [bad for at, bad in ended if now - at <= window + slack]
        bad, calls = tally.counts(now)
        assert len(surely) <= calls <= len(maybe)
        assert sum(surely) <= bad <= sum(maybe)
        # What it forgets it forgets in order: it counts the newest.
        assert bad == sum(bad for _, bad in ended[len(ended) - calls :])


def test_a_time_window_trips_at_its_ratio_once_there_are_enough_calls() -> None:
    """Ten finished calls within the window, half of them failed: the tenth trips, whatever it was itself."""
    tally = FailureRate(window=30).start()
    verdicts = [FAILURE] * 5 + [SUCCESS] * 5
    assert [tally.record(verdict, 0.0, float(i)) for i, verdict in enumerate(verdicts)] == [False] * 9 + [True]


def test_a_time_window_never_trips_on_calls_that_are_out_of_it() -> None:
    """Nine failures an hour ago and one now are one call."""
    tally = FailureRate(window=30).start()
    assert not any(tally.record(FAILURE, 0.0, 0.0) for _ in range(9))
    assert not tally.record(FAILURE, 0.0, 3600.0)
    assert tally.counts(3600.0) == (1, 1)


def test_time_that_steps_back_takes_nothing_away_and_revives_nothing() -> None:
    """A reading older than the newest is as if it were the newest."""
    tally = FailureRate(window=10).start()
    tally.record(FAILURE, 0.0, 100.0)
    tally.record(FAILURE, 0.0, 3.0)
    assert tally.counts(3.0) == tally.counts(100.0) == (2, 2)
    assert tally.counts(109.9) == (2, 2)
    assert tally.counts(110.0) == tally.counts(100.0) == (0, 0)


def test_each_slice_is_its_own() -> None:
    """Ten results a slice apart leave the window one by one, and a jump over several slices empties exactly those."""
    tally = FailureRate(window=10, minimum_calls=100).start()
    for second in range(10):
        tally.record(FAILURE if second % 3 == 0 else SUCCESS, 0.0, second + 0.5)
    assert tally.counts(9.9) == (4, 10)
    assert [tally.counts(t) for t in (10.0, 11.0, 13.0, 14.0)] == [(3, 9), (3, 8), (2, 6), (2, 5)]
    assert tally.counts(18.9) == (1, 1)
    assert tally.counts(19.0) == (0, 0)
    tally.record(FAILURE, 0.0, 19.0)
    assert tally.counts(28.9) == (1, 1)
    assert tally.counts(1e6) == (0, 0)


def test_a_window_is_empty_before_any_time_was_told() -> None:
    """A tally that has seen no call has no time yet either."""
    assert FailureRate(window=10).start().counts(-math.inf) == (0, 0)


def test_a_window_finer_than_any_clock_still_counts() -> None:
    """The smallest number of seconds there is neither divides by zero nor overflows."""
    tally = FailureRate(window=5e-324, minimum_calls=1).start()
    assert tally.record(FAILURE, 0.0, 1e9)
    assert tally.counts(math.nextafter(1e9, math.inf)) == (0, 0)


def test_a_negative_clock_is_as_good_as_any() -> None:
    """Only differences of readings matter."""
    tally = FailureRate(window=10).start()
    tally.record(FAILURE, 0.0, -25.0)
    assert tally.counts(-15.1) == (1, 1)
    assert tally.counts(-15.0) == (0, 0)


# --- slow calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "elapsed", "counted"),
    [
        (SUCCESS, 2.0, (0, 1)),
        (SUCCESS, 2.0000001, (1, 1)),
        (FAILURE, 1.0, (0, 1)),
        (FAILURE, 3.0, (1, 1)),
        (IGNORED, 2.0, (0, 0)),
        (IGNORED, 3.0, (1, 1)),
        (SUCCESS, -1.0, (0, 1)),
    ],
)
@pytest.mark.parametrize("seen", [{"calls": 5}, {"window": 30}])
def test_slow_is_longer_than_the_bound_failed_or_not(
    verdict: Verdict, elapsed: float, counted: tuple[int, int], seen: dict[str, int]
) -> None:
    """A call is slow when it took longer than the bound; one that was given up counts only when it was slow by then."""
    tally = SlowRate(slower_than=2, **seen).start()
    assert tally.record(verdict, elapsed, 0.0) is False
    assert tally.counts(0.0) == counted


def test_slow_calls_trip_at_their_ratio() -> None:
    """Eight slow calls of ten trip, seven do not."""
    for slow, trips in [(7, False), (8, True)]:
        tally = SlowRate(slower_than=1.0, calls=10).start()
        answers = [tally.record(SUCCESS, 2.0 if i < slow else 0.5, 0.0) for i in range(10)]
        assert answers == [False] * 9 + [trips]


def test_a_slow_rate_does_not_see_failures() -> None:
    """Fast failures are for another trip to count."""
    tally = SlowRate(0.1, slower_than=1.0, calls=10, minimum_calls=1).start()
    assert not any(tally.record(FAILURE, 0.5, 0.0) for _ in range(20))
    failures = FailureRate(0.1, calls=10, minimum_calls=1).start()
    assert not any(failures.record(SUCCESS, 100.0, 0.0) for _ in range(20))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    """Without calls or window a rate looks at 30 seconds, and wants ten calls, or all of a shorter count window."""
    rate, slow = FailureRate(), SlowRate(slower_than=2)
    assert (rate.ratio, rate.calls, rate.window, rate.minimum_calls) == (0.5, None, 30.0, 10)
    assert (slow.ratio, slow.slower_than, slow.calls, slow.window, slow.minimum_calls) == (0.8, 2.0, None, 30.0, 10)
    assert [FailureRate(calls=n).minimum_calls for n in (1, 9, 10, 11, 500)] == [1, 9, 10, 10, 10]
    assert FailureRate(calls=5).window is None
    assert FailureRate(window=5).minimum_calls == 10
    assert FailureRate(calls=7, minimum_calls=7).minimum_calls == 7


def test_durations_may_be_timedeltas() -> None:
    """A window or a bound may be given as a timedelta; it is kept in seconds."""
    assert FailureRate(window=timedelta(minutes=1)) == FailureRate(window=60)
    assert SlowRate(slower_than=timedelta(milliseconds=500)).slower_than == 0.5


NAN = math.nan
WRONG = [
    (lambda: Consecutive(0), ValueError, "failures must be an integer, 1 or more, got 0"),
    (lambda: Consecutive(-3), ValueError, "failures must be an integer, 1 or more, got -3"),
    (lambda: Consecutive(True), TypeError, "failures must be an integer, 1 or more, got True"),
    (lambda: Consecutive(5.0), TypeError, "failures must be an integer, 1 or more, got 5.0"),
    (lambda: Consecutive("5"), TypeError, "failures must be an integer, 1 or more, got '5'"),
    (lambda: FailureRate(0), ValueError, "ratio must be a number above 0, at most 1, got 0"),
    (lambda: FailureRate(1.1), ValueError, "ratio must be a number above 0, at most 1, got 1.1"),
    (lambda: FailureRate(NAN), ValueError, "ratio must be a number above 0, at most 1, got nan"),
    (lambda: FailureRate(True), TypeError, "ratio must be a number above 0, at most 1, got True"),
    (lambda: FailureRate("0.5"), TypeError, "ratio must be a number above 0, at most 1, got '0.5'"),
    (lambda: FailureRate(calls=0), ValueError, "calls must be an integer, 1 or more, got 0"),
    (lambda: FailureRate(calls=2.5), TypeError, "calls must be an integer, 1 or more, got 2.5"),
    (lambda: FailureRate(window=0), ValueError, "window must be a number of seconds above 0, got 0"),
    (lambda: FailureRate(window=-1.0), ValueError, "window must be a number of seconds above 0, got -1.0"),
    (lambda: FailureRate(window=math.inf), ValueError, "window must be a number of seconds above 0, got inf"),
    (lambda: FailureRate(window=NAN), ValueError, "window must be a number of seconds above 0, got nan"),
    (lambda: FailureRate(window="10"), TypeError, "window must be a number of seconds above 0, got '10'"),
    (
        lambda: FailureRate(calls=10, window=5),
        ValueError,
        "give calls or window, not both, got calls=10 and window=5",
    ),
    (lambda: FailureRate(minimum_calls=0), ValueError, "minimum_calls must be an integer, 1 or more, got 0"),
    (lambda: FailureRate(calls=5, minimum_calls=6), ValueError, "minimum_calls must be at most calls=5, got 6"),
    (lambda: SlowRate(0, slower_than=1), ValueError, "ratio must be a number above 0, at most 1, got 0"),
    (lambda: SlowRate(slower_than=0), ValueError, "slower_than must be a number of seconds above 0, got 0"),
    (lambda: SlowRate(slower_than=None), TypeError, "slower_than must be a number of seconds above 0, got None"),
    (lambda: SlowRate(slower_than=1, calls=5, minimum_calls=6), ValueError, "minimum_calls must be at most calls=5"),
    (lambda: coerce(0), ValueError, "trip must be an integer, 1 or more, got 0"),
    (lambda: coerce(True), TypeError, "trip must be an integer, 1 or more, got True"),
    (lambda: coerce(0.5), TypeError, "write FailureRate(0.5), got 0.5"),
    (lambda: coerce(0.0), TypeError, "write 5, FailureRate(0.5) or SlowRate(0.8, slower_than=2.0), got 0.0"),
    (lambda: coerce(1.0), TypeError, "write 5, FailureRate(0.5) or SlowRate(0.8, slower_than=2.0), got 1.0"),
    (
        lambda: coerce("50%"),
        TypeError,
        "trip must be a number of failures in a row, a FailureRate or a SlowRate: write",
    ),
    (lambda: coerce("5"), TypeError, "write 5, FailureRate(0.5) or SlowRate(0.8, slower_than=2.0), got '5'"),
    (lambda: coerce(None), TypeError, "got None"),
    (lambda: coerce([5]), TypeError, "got [5]"),
    (lambda: coerce(FailureRate), TypeError, "write 5, FailureRate(0.5)"),
    (lambda: coerce(()), ValueError, "trip must be at least one condition, got ()"),
    (lambda: coerce((5, 0.5)), TypeError, "write FailureRate(0.5), got 0.5"),
    (lambda: coerce(((5,),)), TypeError, "got (5,)"),
]


@pytest.mark.parametrize(("build", "kind", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_a_wrong_number_is_refused_with_parameter_rule_and_value(build, kind, message) -> None:
    """Each parameter says which it is, what it has to be, and what was given."""
    with pytest.raises(kind) as caught:
        build()
    assert message in str(caught.value)


def test_what_may_be_written_for_a_trip() -> None:
    """A number means that many failures in a row; one trip stands for itself; of a tuple, any suffices."""
    rate = FailureRate(0.1)
    assert coerce(7) == (Consecutive(7),)
    assert coerce(rate) == (rate,)
    assert coerce((3, rate)) == (Consecutive(3), rate)


EACH = [Consecutive(5), FailureRate(0.5), FailureRate(0.5, calls=20), SlowRate(slower_than=2, window=10)]


@pytest.mark.parametrize("trip", EACH, ids=repr)
def test_a_trip_is_a_value(trip: Trip) -> None:
    """It equals its like, hashes, pickles, copies, and never changes."""
    for same in (pickle.loads(pickle.dumps(trip)), copy.deepcopy(trip), copy.copy(trip)):
        assert same == trip and hash(same) == hash(trip) and type(same) is type(trip)
        assert same.start().counts(0.0) == (0, 0)
    assert [other == trip for other in EACH].count(True) == 1
    assert trip != 5 and trip != Trip() and trip == ANY
    field = next(iter(trip.__slots__))
    for change in (lambda: setattr(trip, field, 1), lambda: delattr(trip, field)):
        with pytest.raises(AttributeError, match=r"^\w+\(.*\) never changes: build another one$"):
            change()


def test_a_trip_reads_like_its_source() -> None:
    """The repr names what was given or assumed, and can be evaluated."""
    assert repr(Consecutive(5)) == "Consecutive(failures=5)"
    assert repr(FailureRate()) == "FailureRate(ratio=0.5, window=30.0, minimum_calls=10)"
    assert repr(SlowRate(slower_than=2, calls=5)) == "SlowRate(ratio=0.8, slower_than=2.0, calls=5, minimum_calls=5)"
    assert [eval(repr(trip)) for trip in EACH] == EACH


def test_trips_with_the_same_numbers_but_of_another_kind_differ() -> None:
    """Equality is of kind and numbers."""

    class Mine(Consecutive):
        __slots__ = ()

    assert Mine(5) != Consecutive(5)
    assert len({Mine(5), Consecutive(5), Consecutive(5)}) == 2


def test_a_trip_of_your_own_must_say_how_it_counts() -> None:
    """A subclass without `start` says what it lacks."""

    class Mine(Trip):
        def __init__(self) -> None:
            self.anything = 1

    with pytest.raises(TypeError, match=r"^Mine does not say how it counts: define start\(\)$"):
        Mine().start()


def test_tallies_share_nothing() -> None:
    """Two tallies of one trip count apart."""
    for trip in EACH:
        one, other = trip.start(), trip.start()
        one.record(FAILURE, 9.0, 0.0)
        assert one.counts(0.0) == (1, 1)
        assert other.counts(0.0) == (0, 0)


# --- successes that need no lock --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trips", "has_one"),
    [
        ([Consecutive(3)], False),
        ([FailureRate(calls=10)], True),
        ([Consecutive(3), FailureRate(calls=10)], True),
        ([FailureRate(window=30)], True),
        ([FailureRate(calls=10), FailureRate(window=30)], False),
    ],
)
def test_one_window_may_be_told_of_successes_directly(trips: list[Any], has_one: bool) -> None:
    """Where a success changes one window and nothing else, that is the window to count it in."""
    tallies = [trip.start() for trip in trips]
    for tally in tallies:
        tally.record(SUCCESS, 0.0, 0.0)
    assert (steady_window(tallies) is not None) is has_one


def test_a_tally_of_another_kind_is_told_everything() -> None:
    """Beside a tally that cannot say so, no success is counted directly."""

    class Own:
        clean = False

    assert steady_window([Own()]) is None  # type: ignore[list-item]
