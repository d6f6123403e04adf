"""The short way along a line at its edges: when it is taken, and what it leaves behind."""

from __future__ import annotations

from math import inf, ulp

import pytest

from resilience.core.bucket import Bucket
from resilience.core.ledger import Claim, Ledger
from resilience.core.line import Line
from resilience.core.promises import Waiter
from resilience.core.single_file import follow, let_go

TINY = 2.0**-53


def line_of(
    *costs: float,
    state: float | None = 100.0,
    burst: float = 4.0,
    key: object = None,
    keep: float = 0.0,
    rates: int = 1,
) -> tuple[Line, list[Waiter]]:
    """A line at a bucket of one token a second, with waiters of these costs."""
    ledger = Ledger([Bucket(1.0, 1.0, burst)] * rates, [(keep,) * rates] * 3, 10)
    if state is not None:
        ledger.store(key, (state,) * rates)
    line = Line(ledger, key)
    waiters = [Waiter(key, (cost,) * rates, 1) for cost in costs]
    assert all(line.join(waiter, 100.0, inf) for waiter in waiters)
    return line, waiters


def gone(line: Line, now: float) -> tuple[float | None, list[Waiter]]:
    """When the next is due, and who goes now."""
    granted: list[Waiter] = []
    return let_go(line, now, granted), granted


# --- coming -----------------------------------------------------------------------------------------------------------


def test_one_is_put_in_line_if_somebody_looks_at_it_just_in_time() -> None:
    """The alarm of the line may be the reading for which somebody is set, and no earlier."""
    line, _ = line_of(1.0)
    line.alarm = 101.0
    assert not follow(line, Waiter(None, (1.0,), 1), 100.0, inf, 101.0 + ulp(101.0))
    assert follow(line, Waiter(None, (1.0,), 1), 100.0, inf, 101.0)


def test_the_time_is_of_no_account_to_the_patient() -> None:
    """Who waits however long it takes is put in line behind a head that is due."""
    line, _ = line_of(1.0)
    line.alarm = 101.0
    late = Waiter(None, (1.0,), 1)
    assert not follow(line, Waiter(None, (1.0,), 1), 1000.0, 60.0, -inf)
    assert follow(line, late, 1000.0, inf, -inf) and late.deadline == inf


@pytest.mark.parametrize("key", [None, "a"])
def test_the_turn_of_one_depends_on_its_own_key(key: object) -> None:
    """What others have left in their buckets is of no account."""
    line, _ = line_of(1.0, key=key)
    follower = Waiter(key, (1.0,), 1)
    assert not follow(line, follower, 100.0, 1.5, -inf)
    assert follow(line, follower, 100.0, 2.5, -inf) and follower.deadline == 102.5


def test_what_is_kept_from_a_rank_puts_its_turn_off() -> None:
    """Two tokens that may not be touched are two seconds more."""
    line, _ = line_of(1.0, keep=2.0)
    assert not follow(line, Waiter(None, (1.0,), 1), 100.0, 3.0, -inf)
    assert follow(line, Waiter(None, (1.0,), 1), 100.0, 5.0, -inf)


def test_a_matter_of_the_last_places_is_left_to_the_line() -> None:
    """The turn must come sixty-four last places before the patience ends; that is enough."""
    line, _ = line_of(1.0)
    assert not follow(line, Waiter(None, (1.0,), 1), 100.0, 2.0, -inf)
    assert not follow(line, Waiter(None, (1.0,), 1), 100.0, 2.0 + 63.0 * ulp(102.0), -inf)
    assert follow(line, Waiter(None, (1.0,), 1), 100.0, 2.0 + 64.0 * ulp(102.0), -inf)


@pytest.mark.parametrize(
    ("now", "alarm", "put"),
    [(102.0, inf, False), (103.0, inf, False), (101.0, 101.0, False), (101.5, 101.0, False), (101.0, 101.25, True)],
)
def test_nobody_with_a_deadline_is_put_behind_one_who_is_due(now: float, alarm: float, put: bool) -> None:
    """Neither at the very reading at which the head is due, nor where the turn of the one who comes has come."""
    line, _ = line_of(1.0)
    line.alarm = alarm
    assert follow(line, Waiter(None, (1.0,), 1), now, 60.0, -inf) is put
    assert line.waiting == 1 + put


def test_places_are_numbered_in_order() -> None:
    """Whoever comes by the short way has the next place, and so has the one after that."""
    line, waiters = line_of(1.0)
    waiters += [Waiter(None, (1.0,), 1) for _ in range(3)]
    assert follow(line, waiters[1], 100.0, 60.0, -inf) and follow(line, waiters[2], 100.0, inf, -inf)
    assert line.join(waiters[3], 100.0, inf)
    assert [waiter.number for waiter in waiters] == [1, 2, 3, 4]
    assert line.arrivals == 4
    assert line.waiters() == waiters


def test_how_the_last_leaves_the_buckets_is_to_be_found_out_anew() -> None:
    """Nothing that was found out before holds once another stands in line."""
    line, _ = line_of(1.0)
    rank = line.only_rank()
    assert rank is not None
    rank.end = line._forecast(100.0)
    assert follow(line, Waiter(None, (1.0,), 1), 100.0, inf, -inf)
    assert rank.end is None


def test_only_one_more_of_its_kind_is_put_in_line() -> None:
    """Nobody is put into an empty line, among others of another rank, or where the sum of them is no float."""
    empty, _ = line_of()
    assert not follow(empty, Waiter(None, (1.0,), 1), 100.0, inf, -inf)
    two_rates, _ = line_of(1.0, rates=2)
    assert not follow(two_rates, Waiter(None, (1.0, 1.0), 1), 100.0, inf, -inf)
    line, _ = line_of(1.0)
    for costs, rank in [((1.0,), 0), ((1.0,), 2), ((0.1,), 1)]:
        assert not follow(line, Waiter(None, costs, rank), 100.0, inf, -inf)
        assert not follow(line, Waiter(None, costs, rank), 100.0, 60.0, -inf)
    assert (line.waiting, empty.waiting, two_rates.waiting) == (1, 0, 1)
    assert line.join(Waiter(None, (1.0,), 0), 100.0, inf)
    assert not follow(line, Waiter(None, (1.0,), 1), 100.0, inf, -inf)


# --- going ------------------------------------------------------------------------------------------------------------


def test_only_what_is_simple_goes_the_short_way() -> None:
    """Where something is kept from the rank, was handed back, or there are two rates, the line is to be asked."""
    line, _ = line_of(1.0)
    assert gone(line, 100.5) == (101.0, [])
    assert gone(line_of(1.0, keep=2.0)[0], 103.0) == (None, [])
    assert gone(line_of(1.0, rates=2)[0], 103.0) == (None, [])
    claim = Claim(None, (2.0,), 0)
    line.ledger.charge(claim, 100.0)
    line.ledger.settle(claim, (1.0,), 100.0)
    assert line.ledger.has_refunds
    assert gone(line, 103.0) == (None, [])


def test_a_state_that_is_two_floats_is_left_to_the_line() -> None:
    """Nobody goes, and the state stays as it was."""
    line, _ = line_of(1.0)
    line.ledger.charge(Claim(None, (0.1,), 0), 100.0)
    state = line.ledger.load(None)
    assert isinstance(state[0], tuple)
    assert gone(line, 102.0) == (None, [])
    assert line.ledger.load(None) == state


@pytest.mark.parametrize("key", [None, "a"])
def test_who_goes_takes_from_its_own_key(key: object) -> None:
    """It leaves its mark there, stands in line no more, and nobody else has fewer tokens."""
    line, (first, second) = line_of(1.0, 1.0, key=key)
    assert gone(line, 101.0) == (102.0, [first])
    assert line.ledger.load(key) == first.marks == (101.0,)
    assert first.waits is False and second.waits is True
    assert list(line.ledger.states) == ([] if key is None else [key])
    assert line.ledger.sole == (101.0 if key is None else -inf)


@pytest.mark.parametrize(
    ("state", "now", "due"),
    [
        (-3.0, 1.0, 2.0),  # At the floor, before the clock has reached the burst.
        (-1.0, 4.0, 5.0),  # Past the floor, where the line is at the burst.
        (3.0, 10.0, 11.0),
    ],
)
def test_a_bucket_that_is_full_has_its_burst(state: float, now: float, due: float) -> None:
    """As many go as the bucket holds, and the next is due in time."""
    line, waiters = line_of(1.0, 1.0, 1.0, 1.0, 1.0, state=state)
    assert gone(line, now) == (due, waiters[:4])
    assert line.ledger.load(None) == (now,)


@pytest.mark.parametrize(("burst", "state", "now"), [(4.0, -100.0, 1.0), (0.1, 1.0, 3.0)])
def test_a_floor_that_is_to_be_rounded_is_left_to_the_line(burst: float, state: float, now: float) -> None:
    """Before the clock has reached the burst, and where one float does not hold the difference."""
    line, _ = line_of(0.0625, 0.0625, state=state, burst=burst)
    assert gone(line, now) == (None, [])
    assert line.ledger.load(None) == (state,)


def test_those_who_left_are_passed_over() -> None:
    """They are counted no more, and those behind them go as if they had never been there."""
    line, waiters = line_of(*[1.0] * 8)
    for leaver in (waiters[0], waiters[1], waiters[4], waiters[6]):
        line.leave(leaver)
    assert gone(line, 101.0) == (102.0, [waiters[2]])
    assert line.waiting == 3 and line.waiters() == [waiters[3], waiters[5], waiters[7]]
    assert gone(line, 102.0) == (103.0, [waiters[3]])
    assert line.waiting == 2 and line.waiters() == [waiters[5], waiters[7]]


@pytest.mark.parametrize(
    ("costs", "state", "now", "ended"),
    [
        ([1.0, 0.1], 100.0, 102.0, 0),
        ([0.1], 100.0, 102.0, 0),
        ([1.0, 0.5 + TINY, 1.0 - TINY, 1.5], 100.0, 102.0, 1),
        ([0.5 + TINY, 1.0 - TINY, 1.5], 0.0, 0.75, 0),
        ([1.0, 0.5 + TINY, 1.0 - TINY, 1.5], -1.0, 0.75, 1),
    ],
)
def test_a_sum_that_is_no_float_is_left_to_the_line(costs: list[float], state: float, now: float, ended: int) -> None:
    """Those before it have gone and have taken what they cost; what the rest needs is known to the last place."""
    line, waiters = line_of(*costs, state=state)
    assert gone(line, now) == (None, waiters[:ended])
    assert line.ledger.load(None) == (state + sum(costs[:ended]),)
    rank = line.only_rank()
    assert rank is not None
    for waiter in waiters[ended:-1]:
        rank.need.add(waiter.costs, -1.0)
    assert rank.need.sole() == costs[-1]


def test_where_nobody_goes_nothing_is_written() -> None:
    """A key whose bucket was forgotten does not come back for one who asks for more than it can hold."""
    line, _ = line_of(5.0, state=None, key="a")
    assert gone(line, 100.0) == (101.0, [])
    assert line.ledger.states == {} and line.waiting == 1


def test_a_line_can_be_joined_again_after_all_have_gone() -> None:
    """Nothing is left of those who were there."""
    line, waiters = line_of(1.0, 1.0)
    assert gone(line, 102.0) == (None, waiters)
    assert line.empty
    another, follower = Waiter(None, (1.0,), 1), Waiter(None, (2.0,), 1)
    assert line.join(another, 102.0, 1.0) and follow(line, follower, 102.0, inf, -inf)
    assert line.ahead(1) == [3.0]
    assert gone(line, 103.0) == (105.0, [another])
