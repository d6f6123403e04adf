"""A line at its edges: who is ahead of whom, to the last place in time or not, and when the line is walked."""

from __future__ import annotations

from math import inf, ulp

import pytest

from resilience.core.bucket import Bucket
from resilience.core.desk import Desk
from resilience.core.ledger import Ledger
from resilience.core.line import Line
from resilience.core.promises import Waiter

ONE = ((1.0, 10.0),)
TWO = ((1.0, 5.0), (1.0, 5.0))
PLACE = ulp(100.0)


def waiter(*costs: float, rank: int = 1) -> Waiter:
    """A claim that may wait."""
    return Waiter("a", costs, rank)


def emptied(*rates: tuple[float, float], costs: tuple[float, ...] = ()) -> tuple[Desk, Waiter]:
    """A desk with rates given as (a second, burst), and the claim that has taken all, or `costs`, at 100.0."""
    desk = Desk([Bucket(rate, 1.0, burst) for rate, burst in rates], [(0.0,) * len(rates)] * 3, 10)
    claim = waiter(*(costs or (burst for _, burst in rates)), rank=0)
    assert desk.take(claim, 100.0)
    return desk, claim


def joined(desk: Desk, *costs: float, rank: int = 1, patience: float = inf) -> Waiter:
    """One who waits from 100.0 on."""
    each = waiter(*costs, rank=rank)
    assert desk.join(each, 100.0, patience)
    return each


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The readings at which a line was walked."""
    seen: list[float] = []
    review = Line._review

    def counted(line: Line, now: float) -> None:
        seen.append(now)
        review(line, now)

    monkeypatch.setattr(Line, "_review", counted)
    return seen


# --- one line by itself -----------------------------------------------------------------------------------------------


def test_a_new_line_has_nothing_to_do() -> None:
    """Nobody has come, nobody waits, nothing is due; those who come are counted."""
    line = Line(Ledger([Bucket(1.0, 1.0, 5.0)], [(0.0,)] * 3, 10), "a")
    assert line.empty and line.alarm == inf and line.arrivals == line.waiting == 0 and line.failed == []
    assert [line.next_number() for _ in range(3)] == [1, 2, 3] and line.arrivals == 3


@pytest.mark.parametrize("waiting", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_the_only_rank_is_that_of_all_who_wait(waiting: tuple[int, ...]) -> None:
    """There is none where nobody waits, several do, or something was promised; each counts for its rank and below."""
    desk, _ = emptied(*ONE)
    line = Line(desk.ledger, "a")
    for rank in waiting:
        assert line.join(waiter(1.0 + rank, rank=rank), 100.0, inf)
    only = line.only_rank()
    assert (only.number if only else None) == (waiting[0] if len(waiting) == 1 else None)
    for rank in range(3):
        assert line.ahead(rank) == [sum(1.0 + other for other in waiting if other <= rank)]
    assert line.reserve(waiter(1.0, rank=2), 100.0, inf) and line.only_rank() is None


def test_all_who_failed_are_kept_until_they_are_taken_away() -> None:
    """One displacement after another adds to them."""
    desk, _ = emptied(*ONE)
    line = Line(desk.ledger, "a")
    crowd = [waiter(1.0, rank=2) for _ in range(3)]
    for each, patience in zip(crowd, (1.5, 3.5, inf), strict=True):
        assert line.join(each, 100.0, patience)
    for more, failed in ((1.0, 1), (2.0, 2)):
        line.ledger.charge(waiter(more), 100.0)
        line.displace(1, (more,), 100.0)
        assert line.failed == crowd[:failed] and line.waiters() == crowd[failed:]
    with pytest.raises(ValueError):
        line.displace(1, (1.0, 1.0), 100.0)


@pytest.mark.parametrize(
    ("crowd", "leavers", "kept"), [(40, 20, 40), (40, 21, 19), (20, 16, 20), (20, 17, 3), (4, 3, 4)]
)
def test_those_who_left_are_cleared_away_when_they_are_many(crowd: int, leavers: int, kept: int) -> None:
    """When they are more than sixteen and more than those who wait; who waits is counted all the same."""
    desk, _ = emptied(*TWO)
    everybody = [joined(desk, 1.0, 1.0) for _ in range(crowd)]
    for each in everybody[crowd - leavers :]:
        desk.withdraw(each, 100.0)
        assert each.waits is False
    line = desk.lines["a"]
    assert len(line._ranks[1].queue) == kept
    assert desk.waiting == crowd - leavers and line.waiters() == everybody[: crowd - leavers]


def test_who_left_from_the_front_is_counted_once() -> None:
    """Those who wait are as many as before less those who left."""
    desk, _ = emptied(*TWO)
    crowd = [joined(desk, 1.0, 1.0) for _ in range(4)]
    desk.withdraw(crowd[0], 100.0)
    assert desk.waiting == 3
    desk.withdraw(crowd[2], 100.0)
    assert desk.waiting == 2 and desk.lines["a"].waiters() == [crowd[1], crowd[3]]


# --- to the last place ------------------------------------------------------------------------------------------------


def test_a_wait_that_is_short_by_the_rounding_of_readings_is_met() -> None:
    """Four last places of the turn are no time, neither on arrival nor when the line is walked; five are."""
    desk, _ = emptied(*ONE)
    assert not desk.join(waiter(1.0, rank=0), 100.0, 1.0 - 5.0 * PLACE)
    exact = joined(desk, 1.0, rank=0, patience=1.0 - 4.0 * PLACE)
    hasty = joined(desk, 1.0, rank=2, patience=2.5)
    joined(desk, 1.0, rank=1)
    assert desk.ended == [hasty]
    desk.pump(101.0)
    assert desk.ended == [hasty, exact] and exact.retry_after is None


def test_a_reservation_that_is_late_by_the_rounding_of_readings_is_made() -> None:
    """Four last places of the time promised are no time; five are."""
    desk, _ = emptied((1.0, 60.0))
    assert desk.reserve(waiter(60.0), 100.0, 60.0 - 5.0 * ulp(160.0)) is None
    assert desk.reserve(waiter(60.0), 100.0, 60.0 - 4.0 * ulp(160.0)) == 60.0


@pytest.mark.parametrize(("places", "walked"), [(4.0, False), (5.0, True)])
def test_patience_used_up_to_the_last_place_is_no_reason_to_walk(
    places: float, walked: bool, walks: list[float]
) -> None:
    """What is set back by exactly as much as it can bear, or four last places more, is not looked into."""
    desk, _ = emptied((2.0, 10.0))
    each = joined(desk, 1.0, rank=1, patience=1.0 - places * PLACE)
    joined(desk, 1.0, rank=0)
    assert bool(walks) is walked and (desk.ended == [each]) is walked


# --- who is ahead -----------------------------------------------------------------------------------------------------


def test_a_newcomer_sets_back_those_below_it_alone(walks: list[float]) -> None:
    """The line is not walked for those of its rank and above, who are as near as before."""
    desk, _ = emptied((2.0, 10.0))
    for rank in (2, 1, 0):
        joined(desk, 1.0, rank=rank, patience=1.75)
    joined(desk, 8.0, rank=2, patience=inf)
    assert walks == [] and desk.ended == []
    joined(desk, 2.0, rank=1, patience=inf)
    assert len(walks) == 1 and [each.rank for each in desk.ended] == [2]


def test_a_newcomer_fails_whoever_of_the_next_rank_is_late_by_it() -> None:
    """And so does a reservation, and a claim that is granted on the spot."""
    for step in ("join", "reserve", "take"):
        desk, _ = emptied(*ONE)
        late = joined(desk, 3.0, rank=1, patience=3.5)
        claim = waiter(1.0, rank=0)
        if step == "take":
            assert desk.take(claim, 101.0)
        elif step == "reserve":
            assert desk.reserve(claim, 100.0, inf) == 1.0
        else:
            assert desk.join(claim, 100.0, inf)
        assert desk.ended == [late], step


def test_nobody_is_walked_for_what_takes_nothing_from_them(walks: list[float]) -> None:
    """A reservation behind all who wait, and a claim that passes its own rank, leave them where they are."""
    desk, _ = emptied(*TWO, costs=(5.0, 0.0))
    joined(desk, 1.0, 0.0, rank=1, patience=1.5)
    joined(desk, 1.0, 0.0, rank=2, patience=2.5)
    before = len(walks)
    assert desk.take(waiter(0.0, 2.0, rank=2), 100.0)
    assert len(walks) == before and desk.ended == []
    alone, _ = emptied(*ONE)
    joined(alone, 1.0, rank=2, patience=1.5)
    assert alone.reserve(waiter(1.0, rank=2), 100.0, inf) == 2.0
    assert len(walks) == before


def test_what_passes_the_head_is_missing_to_those_behind_it() -> None:
    """The last in line is expected anew when a claim has taken what it was thought to leave."""
    desk, _ = emptied(*TWO, costs=(5.0, 0.0))
    joined(desk, 4.0, 0.0, rank=0)
    assert desk.wait(waiter(0.0, 5.0, rank=0), 100.0) == 4.0
    assert desk.take(waiter(0.0, 5.0, rank=0), 100.0)
    assert desk.wait(waiter(0.0, 5.0, rank=0), 100.0) == 5.0


def test_what_was_promised_is_ahead_of_those_who_come_then() -> None:
    """The last in line is expected anew when a time was promised behind it."""
    desk, _ = emptied(*TWO, costs=(5.0, 0.0))
    joined(desk, 4.0, 0.0, rank=0)
    assert desk.reserve(waiter(2.0, 0.0, rank=0), 100.0, inf) == 6.0
    assert desk.wait(waiter(1.0, 0.0, rank=0), 100.0) == 7.0


def test_who_leaves_lets_those_behind_move_up() -> None:
    """Also in the highest rank, where the last is expected anew."""
    desk, _ = emptied(*TWO)
    first, _ = joined(desk, 4.0, 0.0, rank=0), joined(desk, 1.0, 0.0, rank=0)
    assert desk.wait(waiter(1.0, 0.0, rank=0), 100.0) == 6.0
    desk.withdraw(first, 100.0)
    assert desk.wait(waiter(1.0, 0.0, rank=0), 100.0) == 2.0


def test_the_turn_is_behind_the_last_of_the_rank_and_above() -> None:
    """What overflows meanwhile is lost, and those of lower ranks do not count."""
    desk, _ = emptied(*TWO, costs=(5.0, 0.0))
    assert desk.wait(waiter(0.5, 0.0, rank=0), 100.0) == 0.5
    joined(desk, 4.0, 5.0, rank=1)
    assert [desk.wait(waiter(0.0, 5.0, rank=rank), 100.0) for rank in (0, 1, 2)] == [0.0, 9.0, 9.0]
    assert desk.wait(waiter(0.5, 0.0, rank=0), 100.0) == 0.5


def test_the_line_is_walked_for_nobody_who_comes_behind_it(walks: list[float]) -> None:
    """Where the last will leave the buckets is known, until somebody who leaves or passes changes it; then once."""
    desk, _ = emptied(*TWO)
    assert desk.wait(waiter(1.0, 0.0, rank=1), 100.0) == 1.0
    for rank, turn in ((0, 1.0), (0, 2.0), (2, 3.0)):
        assert desk.wait(waiter(1.0, 0.0, rank=rank), 100.0) == turn
        joined(desk, 1.0, 0.0, rank=rank)
    joined(desk, 1.0, 0.0, rank=1)
    assert desk.wait(waiter(1.0, 0.0, rank=0), 100.0) == 3.0
    desk.pump(101.0)
    assert len(desk.ended) == 1 and desk.wait(waiter(1.0, 0.0, rank=0), 101.0) == 2.0
    assert walks == []
    assert [desk.wait(waiter(1.0, 0.0, rank=2), 101.0) for _ in range(2)] == [4.0, 4.0]
    assert walks == [101.0]


def test_what_a_higher_rank_needs_besides_is_not_taken_meanwhile() -> None:
    """Nor does the desk want to be looked at before both have enough."""
    desk, _ = emptied(*TWO)
    high, low = joined(desk, 4.0, 2.0, rank=0), joined(desk, 0.0, 3.0, rank=2)
    assert desk.alarm == 104.0
    assert not desk.take(waiter(0.0, 1.0, rank=2), 103.0) and desk.ended == []
    desk.pump(104.0)
    assert desk.ended == [high] and desk.alarm == 105.0
    desk.pump(105.0)
    assert desk.ended == [high, low]


def test_what_a_lower_rank_takes_is_missing_to_those_behind_a_higher_one() -> None:
    """The last of the higher rank is expected anew when a waiter of the next has taken what it was thought to leave."""
    desk, _ = emptied(*TWO)
    joined(desk, 4.0, 0.0, rank=0)
    low = joined(desk, 0.0, 2.0, rank=1)
    desk.pump(102.0)
    assert desk.ended == [low] and desk.wait(waiter(0.0, 5.0, rank=0), 102.0) == 5.0


def test_walked_again_a_line_fails_those_whose_patience_ends_then() -> None:
    """What can still be borne is known after a walk, of the least patient; each walk finds those who cannot."""
    desk, _ = emptied(*ONE)
    crowd = [joined(desk, 1.0, rank=2, patience=patience) for patience in (1.5, 4.75, 4.5, inf)]
    for failed in ([0], [0], [0, 2], [0, 2, 1]):
        joined(desk, 1.0, rank=0)
        assert desk.ended == [crowd[index] for index in failed]


# --- promises ---------------------------------------------------------------------------------------------------------


def test_one_set_back_behind_a_promise_takes_after_it() -> None:
    """Who would leave too little for a promise lets it go first, and the desk is looked at when that has come."""
    desk, claim = emptied(*ONE)
    each = joined(desk, 2.0)
    assert desk.reserve(waiter(3.0), 100.0, inf) == 5.0
    assert desk.alarm == 102.0
    desk.settle(claim, (12.0,), 100.0)
    for now, alarm in ((100.0, 104.0), (104.0, 105.0), (105.0, 107.0)):
        desk.pump(now)
        assert desk.ended == [] and desk.alarm == alarm
    desk.pump(107.0)
    assert desk.ended == [each] and not desk.lines


@pytest.mark.parametrize("rate", [3.0, 0.7, 0.1, 1.0 / 3.0])
def test_where_nobody_waits_a_promise_is_for_when_the_bucket_says(rate: float) -> None:
    """To the last place, however many were promised before: never for a reading at which there is too little."""
    desk, _ = emptied((rate, 10.0))
    bucket = desk.ledger.buckets[0]
    for number in range(30):
        promised = desk.reserve(waiter(1.0), 100.0, inf)
        assert promised == bucket.wait(desk.ledger.load("a")[0], 1.0, 100.0, 0.0, float(number))


def test_one_who_is_not_set_back_takes_before_a_promise_that_came_later() -> None:
    """Both have enough, each at its time."""
    desk, _ = emptied(*ONE)
    each = joined(desk, 2.0)
    assert desk.reserve(waiter(1.0), 100.0, inf) == 3.0
    desk.pump(102.0)
    assert desk.ended == [each] and not desk.take(waiter(0.5), 103.0)


def test_one_who_comes_after_a_promise_takes_after_it() -> None:
    """It is not even due while that is owed."""
    desk, _ = emptied(*ONE)
    assert desk.reserve(waiter(5.0), 100.0, inf) == 5.0
    each = joined(desk, 1.0)
    assert desk.alarm == 106.0
    desk.pump(104.0)
    assert desk.ended == []
    desk.pump(106.0)
    assert desk.ended == [each]


def test_a_promise_behind_those_who_wait_leaves_time_for_a_bucket_to_fill() -> None:
    """A higher rank that needs a full bucket takes after the promise, as it is told."""
    desk, _ = emptied(*ONE)
    joined(desk, 10.0, rank=2)
    assert desk.reserve(waiter(1.0, rank=2), 100.0, inf) == 11.0
    assert desk.wait(waiter(10.0, rank=0), 100.0) == 12.0


def test_what_comes_back_before_a_promise_leaves_time_for_a_bucket_to_fill() -> None:
    """Whoever does not fit into it besides what is owed takes after the promise, as it is told."""
    desk, claim = emptied(*ONE)
    assert desk.reserve(waiter(5.0), 100.0, inf) == 5.0
    desk.settle(claim, (0.0,), 100.0)
    assert desk.wait(waiter(8.0), 100.0) == 8.0
