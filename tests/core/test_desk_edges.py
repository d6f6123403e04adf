"""A desk at its edges: the lines of its keys, what is foreseen, corrections, and the order of alarms."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, ulp

import pytest

from resilience.core.bucket import Bucket
from resilience.core.desk import Desk
from resilience.core.promises import Waiter
from resilience.core.single_file import follow


def desk_of(*rates: tuple[float, float], keeps: Sequence[Sequence[float]] | None = None) -> Desk:
    """A desk with rates given as (a second, burst)."""
    return Desk([Bucket(rate, 1.0, burst) for rate, burst in rates], keeps or ((0.0,) * len(rates),) * 3, 10)


def waiter(*costs: float, rank: int = 1, key: object = "a") -> Waiter:
    """A claim that may wait."""
    return Waiter(key, costs, rank)


def emptied(desk: Desk, *costs: float, key: object = "a") -> Waiter:
    """Take so much at 100.0."""
    claim = waiter(*costs, rank=0, key=key)
    assert desk.take(claim, 100.0)
    return claim


def test_a_wait_counts_those_in_the_line_of_its_own_key() -> None:
    """Where nobody waits it follows from the bucket; elsewhere those of its rank and above go first."""
    desk = desk_of((1.0, 4.0))
    for key in (None, "a", "b"):
        emptied(desk, 4.0, key=key)
    assert desk.join(waiter(2.0), 100.0, inf)
    assert desk.wait(waiter(1.0), 101.0) == 2.0
    assert desk.wait(waiter(1.0, rank=0), 101.0) == 0.0
    assert desk.wait(waiter(1.0, key="b"), 100.5) == 0.5
    assert desk.wait(waiter(1.0, key="c"), 100.5) == 0.0


def test_who_goes_away_comes_back_after_all_who_wait() -> None:
    """Those of lower ranks go first, too, perhaps some last places late; where nobody waits, the bucket decides."""
    desk = desk_of((1.0, 4.0))
    for key in (None, "a", "b"):
        emptied(desk, 4.0, key=key)
    assert desk.join(waiter(2.0), 100.0, inf)
    for rank in (0, 1, 2):
        assert desk.come_back(waiter(1.0, rank=rank), 101.0) == 2.0 + 4.0 * ulp(103.0)
    assert desk.come_back(waiter(1.0, key="b"), 100.5) == 0.5
    assert desk.come_back(waiter(1.0, key="c"), 100.5) == 0.0


def test_a_refused_wait_leaves_no_line() -> None:
    """A line that was opened for one who cannot wait is closed at once."""
    desk = desk_of((1.0, 4.0))
    emptied(desk, 4.0)
    assert not desk.join(waiter(1.0), 100.0, 0.5) and not desk.lines


def test_reservations_of_a_key_stand_in_one_line() -> None:
    """Each is promised its time after those before it."""
    desk = desk_of((1.0, 4.0))
    emptied(desk, 4.0)
    assert [desk.reserve(waiter(1.0), 100.0, inf) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert list(desk.lines) == ["a"]
    assert not desk.take(waiter(1.0), 101.5), "the first has taken, the others are owed"
    assert desk.take(waiter(1.0, key=None), 100.0)


def test_a_correction_without_a_line_changes_the_bucket() -> None:
    """Less comes back, more is owed, and the costs of another number of rates are refused."""
    desk = desk_of((1.0, 4.0))
    claim = emptied(desk, 4.0)
    desk.settle(claim, (1.0,), 100.0)
    assert desk.outlook("a", (4.0,), 1, 100.0) == [(3.0, 1.0, 1.0)]
    desk.settle(claim, (6.0,), 100.0)
    assert desk.outlook("a", (4.0,), 1, 100.0) == [(0.0, 6.0, 6.0)]
    with pytest.raises(ValueError):
        desk.settle(claim, (1.0, 1.0), 100.0)
    assert claim.costs == (6.0,) and not desk.lines


def test_a_debt_fails_those_who_cannot_be_met_any_more() -> None:
    """They hear of it at once, one debt after the other, whatever their rank; the others take later."""
    desk = desk_of((1.0, 4.0))
    claim = emptied(desk, 4.0)
    hasty, steady, patient = (waiter(1.0, rank=0) for _ in range(3))
    for each, patience in ((hasty, 1.5), (steady, 2.75), (patient, 10.0)):
        assert desk.join(each, 100.0, patience)
    desk.settle(claim, (4.625,), 100.0)
    assert desk.ended == [hasty] and hasty.retry_after == pytest.approx(3.625)
    desk.settle(claim, (5.5,), 100.0)
    assert desk.ended == [hasty]
    desk.settle(claim, (6.0,), 100.0)
    assert desk.ended == [hasty, steady] and steady.retry_after == pytest.approx(4.0)
    assert desk.alarm == 103.0
    desk.pump(103.0)
    assert desk.ended == [hasty, steady, patient] and patient.retry_after is None


@pytest.mark.parametrize("more", [0.5, 0.75])
def test_a_debt_within_the_patience_of_all_is_not_looked_into(more: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is not walked while everybody can still be met."""
    desk = desk_of((1.0, 4.0))
    claim = emptied(desk, 4.0)
    assert desk.join(waiter(1.0), 100.0, 1.75)
    monkeypatch.setattr(type(desk.lines["a"]), "_review", lambda line, now: pytest.fail("the line was walked"))
    desk.settle(claim, (4.0 + more,), 100.0)
    assert desk.alarm == 101.0 + more


def test_what_comes_back_serves_the_line_of_its_key() -> None:
    """A refund, one who leaves and a reset let those go for whom there is enough then."""
    desk = desk_of((1.0, 4.0))
    claim = emptied(desk, 4.0)
    first, second, third, fourth = crowd = [waiter(cost) for cost in (2.0, 3.0, 1.0, 4.0)]
    assert all(desk.join(each, 100.0, inf) for each in crowd)
    desk.settle(claim, (2.0,), 100.0)
    assert desk.ended == [first]
    desk.withdraw(second, 101.0)
    assert desk.ended == [first, third] and desk.waiting == 1 and second.waits is False
    desk.reset("a", 102.0)
    assert desk.ended == [first, third, fourth] and not desk.lines


def test_a_higher_rank_passes_and_those_behind_hear_of_it() -> None:
    """Who cannot be met any more after it fails at once, with the time that is enough now; who was granted is kept."""
    desk = desk_of((1.0, 5.0))
    emptied(desk, 5.0)
    soon, late = waiter(1.0), waiter(3.0)
    assert desk.join(soon, 100.0, inf) and desk.join(late, 100.0, 4.5)
    desk.pump(101.0)
    assert desk.take(waiter(2.0, rank=0), 103.0)
    assert desk.ended == [soon, late] and late.retry_after == 3.0 + 4.0 * ulp(106.0)
    assert not desk.lines


def test_lines_due_at_the_same_time_go_in_the_order_of_their_coming() -> None:
    """Whose line was opened first is granted first."""
    desk = desk_of((1.0, 4.0))
    crowd = [waiter(1.0, key=key) for key in ("b", "a", "c")]
    for each in crowd:
        emptied(desk, 4.0, key=each.key)
        assert desk.join(each, 100.0, inf)
    assert desk.alarm == 101.0
    desk.pump(101.0)
    assert desk.ended == crowd and desk.alarm == inf


def test_a_closed_line_takes_nobody() -> None:
    """Whoever has kept it finds its alarm in the past, and has to ask the desk."""
    desk = desk_of((1.0, 4.0))
    emptied(desk, 4.0)
    assert desk.join(waiter(1.0), 100.0, inf)
    line = desk.lines["a"]
    desk.pump(101.0)
    assert not desk.lines and line.alarm == -inf and desk.alarm == inf
    assert not follow(line, waiter(1.0), 101.0, inf, 200.0)


# --- what is foreseen -------------------------------------------------------------------------------------------------

KEEPS = ((0.0,), (1.0,), (5.0,))


@pytest.mark.parametrize(
    ("rank", "cost", "view"),
    [
        (0, 0.0, (4.0, 3.0, 0.0)),
        (0, 5.0, (4.0, 3.0, 0.5)),
        (1, 5.0, (3.0, 3.0, 1.0)),
        (1, 9.0, (3.0, 3.0, 3.0)),
        (2, 0.0, (0.0, 3.0, 0.0)),
        (2, 5.0, (0.0, 3.0, 3.0)),
        (2, 6.0, (0.0, 3.0, inf)),
    ],
)
def test_the_outlook_of_a_rank(rank: int, cost: float, view: tuple[float, float, float]) -> None:
    """What it may take now, when all is back, and when there is enough; never where a full bucket holds too little."""
    desk = desk_of((2.0, 10.0), keeps=KEEPS)
    emptied(desk, 6.0)
    assert desk.outlook("a", (cost,), rank, 100.0) == [view]


def test_the_outlook_of_a_key_that_nobody_has_used() -> None:
    """It is full now, also where another key has a line."""
    desk = desk_of((2.0, 10.0), keeps=KEEPS)
    emptied(desk, 10.0, key=None)
    assert desk.join(waiter(3.0, key=None), 100.0, inf)
    assert desk.outlook("a", (3.0,), 1, 100.0) == [(9.0, 0.0, 0.0)]


@pytest.mark.parametrize(("rank", "view"), [(0, (2.0, 5.5, 0.0)), (2, (0.0, 5.5, 3.5))])
def test_the_outlook_past_those_who_wait(rank: int, view: tuple[float, float, float]) -> None:
    """Those of the rank and above go first, and it is full when all have taken."""
    desk = desk_of((2.0, 10.0), keeps=KEEPS)
    emptied(desk, 10.0)
    assert desk.join(waiter(3.0, rank=2), 100.0, inf)
    assert desk.outlook("a", (1.0,), rank, 101.0) == [view]


def test_the_outlook_besides_what_was_promised() -> None:
    """What is owed is there, but not to be taken."""
    desk = desk_of((2.0, 10.0), keeps=KEEPS)
    emptied(desk, 10.0)
    back, kept = waiter(10.0, rank=0), waiter(2.0, rank=0)
    assert desk.reserve(back, 100.0, inf) == 5.0 and desk.reserve(kept, 100.0, inf) == 6.0
    desk.withdraw(back, 100.0)
    assert desk.outlook("a", (3.0,), 1, 105.5) == [(7.0, 1.0, 0.0)]
    with pytest.raises(ValueError):
        desk.outlook("a", (3.0, 3.0), 1, 105.5)
