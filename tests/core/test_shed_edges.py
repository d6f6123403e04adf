"""Shedding at its edges: when a period ends, what is told of a wait, and what lies exactly on a bound."""

from __future__ import annotations

import pytest

from resilience.core.shed import REFUSED, Shedding

SHEDDABLE, DEFAULT, CRITICAL = range(3)


def period(shedding: Shedding, start: float, delay: float, calls: int = 20, level: int = CRITICAL) -> None:
    """A period of a quarter of a second in which so many calls are done, each of which has waited `delay` seconds."""
    permits = [shedding.acquire(level, 0.999, start) for _ in range(calls)]
    for permit in permits:
        if permit != REFUSED:
            shedding.settle(permit, 0.0625, start)
    shedding.report(delay, start)
    shedding._pass(start + 0.25)


def waiting(delay: float, target: float = 1.0) -> Shedding:
    """A shedder that has heard of this wait in two periods, and has one call in flight that began before them."""
    shedding = Shedding(target)
    shedding.acquire(SHEDDABLE, 0.5, 0.0)
    period(shedding, 0.0, delay)
    period(shedding, 0.25, delay)
    assert shedding.delay == delay
    return shedding


def test_the_first_call_of_all_is_one() -> None:
    """Whoever comes first is in flight until it is done, also where nobody has been forgotten."""
    shedding = Shedding(1.0)
    permit = shedding.acquire(DEFAULT, 0.5, 7.0)
    assert shedding.in_flight == 1
    shedding.settle(permit, 0.1, 7.1)
    assert shedding.in_flight == 0


@pytest.mark.parametrize(("level", "stop"), [(SHEDDABLE, 0.25), (DEFAULT, 0.5)])
def test_a_level_stops_at_its_wait(level: int, stop: float) -> None:
    """At exactly its stop none of a level is admitted, whatever the cut, just below it some are; CRITICAL always."""
    share = {SHEDDABLE: 0.3, DEFAULT: 0.6}[level]
    below, at = waiting(stop * 0.99, stop / share), waiting(stop, stop / share)
    at.cut = below.cut = 0.0
    assert at.acquire(level, 0.999, 0.5) == REFUSED
    assert at.acquire(CRITICAL, 0.999, 0.5) != REFUSED
    assert below.acquire(level, 0.999, 0.5) != REFUSED


def test_a_position_exactly_at_the_cut_is_admitted() -> None:
    """A call is turned away below the cut, and not at it."""
    shedding = Shedding(1.0)
    shedding.cut = 1.5
    assert shedding.acquire(DEFAULT, 0.5, 0.0) != REFUSED
    assert shedding.acquire(DEFAULT, 0.499, 0.0) == REFUSED
    assert shedding.acquire(SHEDDABLE, 0.999, 0.0) == REFUSED
    assert shedding.acquire(CRITICAL, 0.0, 0.0) != REFUSED


def test_a_period_needs_its_time_and_its_calls() -> None:
    """It ends after exactly a quarter of a second, with exactly twenty calls done, and not with one less of either."""
    for calls, end, ends in ((20, 0.25, True), (19, 0.25, False), (20, 0.2499, False)):
        shedding = Shedding(1.0)
        shedding.acquire(CRITICAL, 0.5, 0.0)
        for _ in range(calls):
            shedding.settle(shedding.acquire(CRITICAL, 0.5, 0.0), 0.1, 0.0)
        for wait in (0.5, 0.75):
            shedding.report(wait, 0.0)
        shedding._pass(end)
        assert (shedding._opened == end) == ends


def test_a_single_report_counts_instead_of_the_estimate() -> None:
    """The wait is the mean of what was reported, if it was but once; of two periods the shorter."""
    shedding = Shedding(1.0)
    shedding.acquire(CRITICAL, 0.5, 0.0)
    waits = []
    for number, delay in enumerate((0.5, 0.25, 0.75, 0.75)):
        period(shedding, number * 0.25, delay)
        waits.append(shedding.delay)
    assert waits == [0.0, 0.25, 0.25, 0.75]


def test_nothing_in_flight_is_no_wait() -> None:
    """Where the wait is an estimate it ends with the last call; a reported one stays for a quarter of a second."""
    told = waiting(0.5)
    told.settle(told.acquire(CRITICAL, 0.999, 0.5), None, 0.625)
    told.settle(told.least.cohort, None, 0.625)
    assert (told.in_flight, told.delay) == (0, 0.5)
    told._pass(0.8)
    assert told.delay == 0.5
    told._pass(0.875)
    assert (told.delay, told.cut) == (0.0, 0.0)
    estimated = waiting(0.5)
    estimated._told = False
    second = estimated.acquire(CRITICAL, 0.999, 0.5)
    estimated.settle(second, None, 0.5)
    assert (estimated.in_flight, estimated.delay) == (1, 0.5)
    estimated.settle(second, None, 0.5)
    assert (estimated.in_flight, estimated.delay) == (0, 0.0)


def test_an_episode_begins_at_a_fifth_of_the_target() -> None:
    """At exactly a fifth of it an episode begins, and below it does not."""
    assert waiting(0.25, 1.25).cut > 0.0
    assert waiting(0.25, 1.26).cut == 0.0


def test_what_was_offered_is_counted_by_position() -> None:
    """Calls offered while nobody is turned away are spread evenly over the ranks of their level, and then counted."""
    shedding = Shedding(1.0)
    shedding.acquire(CRITICAL, 0.5, 0.0)
    period(shedding, 0.0, 0.0, calls=32, level=DEFAULT)
    assert shedding._offered == [0.0] * 16 + [2.0] * 16 + [1 / 16] * 16
    assert shedding._completed == 32
    period(shedding, 0.25, 0.0, calls=32, level=SHEDDABLE)
    assert shedding._offered == pytest.approx([2.0] * 16 + [1.8] * 16 + [0.9 / 16] * 16)
    assert shedding._completed == pytest.approx(0.9 * 32 + 32)


@pytest.mark.parametrize(("room", "position"), [(48.0, 0.0), (47.0, 1 / 16), (32.0, 1.0), (24.0, 1.5), (16.0, 2.0)])
def test_the_cut_is_where_there_is_room_for_what_lies_above(room: float, position: float) -> None:
    """With as many calls at each position, the cut leaves just the room that there is."""
    shedding = Shedding(1.0)
    shedding._offered = [1.0] * 48
    assert shedding._where(room) == position


def test_a_level_that_nobody_is_of_needs_no_cut() -> None:
    """Where there is room for all who are offered, nobody is turned away, though it be room for not one more."""
    shedding = Shedding(1.0)
    shedding._offered = [0.0] * 16 + [1.0] * 32
    assert shedding._where(32.0) == 0.0
    assert shedding._where(31.5) == 1.03125


def test_a_period_ends_with_a_later_reading() -> None:
    """What happens at one reading is of one period, however much it is."""
    shedding = Shedding(1.0)
    shedding.acquire(CRITICAL, 0.5, 0.0)
    for _ in range(30):
        shedding.settle(shedding.acquire(CRITICAL, 0.5, 0.5), 0.1, 0.5)
    assert shedding._opened == 0.0
    shedding._pass(0.5625)
    assert shedding._opened == 0.5625


def test_who_takes_over_begins_with_its_first_reading() -> None:
    """The calls that were taken over have not been in flight since the beginning of time."""
    before, after = Shedding(1.0), Shedding(1.0)
    permit = before.acquire(CRITICAL, 0.5, 1.0)
    after.take_over(before)
    assert after.in_flight == 1
    after._pass(5.0)
    assert (after._opened, after._area) == (5.0, 0.0)
    after.settle(permit, 0.5, 6.0)
    assert (after.in_flight, after._area) == (0, 1.0)


@pytest.mark.parametrize(
    ("delay", "factor"),
    [(0.0, 1.2), (0.1, 1.2), (0.4, 1.2), (0.6, 1.1), (0.8, 1.0), (1.0, 0.9), (1.2, 0.8), (9.0, 0.8)],
)
def test_a_little_more_or_less_than_is_done(delay: float, factor: float) -> None:
    """By half of the distance from its goal, in seconds, more or less is let in than was done, a fifth at most."""
    shedding = Shedding(1.0)
    shedding._completed, shedding.delay = 100.0, delay
    assert shedding._room(0.8) == pytest.approx(100.0 * factor)


def test_no_goal_takes_from_the_levels_above() -> None:
    """The cut for the goal of a level stays within that level, however far the wait is from it."""
    shedding = Shedding(1.0)
    shedding._offered, shedding._completed = [1.0] * 48, 32.0
    shedding.cut, shedding.delay, shedding._began = 0.5, 0.5, shedding.latest
    shedding._pass(1.0)
    shedding._began = 1.0
    shedding._decide()
    assert shedding.cut == pytest.approx(1.05)


@pytest.mark.parametrize(("minute", "probes"), [(60.0, False), (60.125, True)])
def test_after_a_minute_room_is_made_and_critical_calls_are_spared(minute: float, probes: bool) -> None:
    """Only when more than a minute of an episode has passed, most are turned away, but none that matters."""
    shedding = Shedding(1.0)
    shedding.acquire(CRITICAL, 0.5, 0.0)
    shedding._pass(minute)
    shedding._offered, shedding._completed = [0.0] * 32 + [10.0] * 16, 10.0
    shedding.cut, shedding.delay, shedding._began = 0.5, 0.5, 0.0
    shedding._decide()
    assert (shedding._probe > 0) == probes
    assert (shedding.cut == 2.0) == probes
