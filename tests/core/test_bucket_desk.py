"""The desk against the laws of a throttle, checked by replaying what it did through an exact bucket."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter, ulp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilience.core.bucket import Bucket
from resilience.core.desk import Desk
from resilience.core.ledger import Claim
from resilience.core.promises import Waiter

FREE = ((0.0,), (0.0,), (0.0,))


def desk_of(
    *rates: tuple[float, float], keeps: tuple[tuple[float, ...], ...] | None = None, max_keys: int = 10
) -> Desk:
    """A desk with rates given as (a second, burst)."""
    buckets = [Bucket(float(amount), 1.0, float(burst)) for amount, burst in rates]
    return Desk(buckets, keeps or ((0.0,) * len(rates),) * 3, max_keys)


def waiter(*costs: float, rank: int = 1, key: object = None) -> Waiter:
    """A claim that may wait."""
    return Waiter(key, tuple(float(cost) for cost in costs), rank)


def run_out(desk: Desk, now: float, until: float = inf) -> dict[int, float]:
    """When each waiter of a copy of the desk gets its tokens if nothing else happens, by its number."""
    desk = copy.deepcopy(desk)
    granted: dict[int, float] = {}
    desk.ended.clear()
    desk.pump(now)
    for _ in range(10_000):
        for ended in desk.ended:
            assert ended.retry_after is None, "nothing happened, and yet a wait failed"
            granted[ended.number] = now
        desk.ended.clear()
        if desk.alarm > until or desk.alarm == inf:
            return granted
        assert desk.alarm > now
        now = desk.alarm
        desk.pump(now)
    raise AssertionError("the alarm rings for ever")


@dataclass
class Taken:
    """What somebody got, as it counts for the first law."""

    at: float
    costs: list[float]
    claim: Claim
    settled: bool = False


class Machine(RuleBasedStateMachine):
    """Whatever callers do in whatever order, no law is broken."""

    RATES: tuple[tuple[float, float], ...] = ((1.0, 5.0),)
    KEEPS: tuple[tuple[float, ...], ...] = FREE

    def __init__(self) -> None:
        super().__init__()
        self.desk = desk_of(*self.RATES, keeps=self.KEEPS)
        self.now = 100.0
        self.taken: list[Taken] = []
        self.waiting: list[Waiter] = []
        self.disturbed: set[int] = set()
        self.joined = 0
        self.next_granted = [0, 0, 0]

    # --- what happened

    def note(self, claim: Claim, at: float) -> None:
        self.taken.append(Taken(at, list(claim.costs), claim))

    def disturb(self) -> None:
        """Something happened that may set waiters back."""
        self.disturbed |= {id(each) for each in self.waiting}

    def collect(self) -> None:
        for ended in sorted(self.desk.ended, key=lambda each: each.retry_after is None):
            self.waiting.remove(ended)
            if ended.retry_after is None:
                self.note(ended, self.now)
                older = [other for other in self.waiting if other.rank == ended.rank and other.number < ended.number]
                assert not older, "overtaken within a rank"
                assert self.now <= ended.deadline + 1e-9, "granted after its deadline"
            else:
                assert id(ended) in self.disturbed, "failed without being displaced"
        self.desk.ended.clear()

    def pass_time(self, to: float) -> None:
        while self.desk.alarm <= to:
            self.now = self.desk.alarm
            self.desk.pump(self.now)
            self.collect()
        self.now = to
        self.desk.pump(to)
        self.collect()

    # --- what callers do

    def unsettled(self) -> list[Taken]:
        """What can still be corrected."""
        return [entry for entry in self.taken if not entry.settled]

    def costs(self, data: st.DataObject) -> tuple[float, ...]:
        choices = [st.sampled_from([0.0, 1.0, 0.1, 2.5, 3.0] if len(self.RATES) > 1 else [1.0, 0.1, 2.5, 3.0, 5.0])]
        costs = tuple(data.draw(choices[0]) for _ in self.RATES)
        return costs if any(costs) else (1.0,) * len(costs)

    def fits(self, costs: tuple[float, ...], rank: int) -> bool:
        return all(
            cost + keep <= burst for cost, keep, (_, burst) in zip(costs, self.KEEPS[rank], self.RATES, strict=True)
        )

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 3.7, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(self.now + seconds)

    @precondition(lambda self: self.desk.alarm < inf)
    @rule(early=st.sampled_from([-inf, 0.0, inf]))
    def time_passes_to_the_alarm_or_next_to_it(self, early: float) -> None:
        target = self.desk.alarm if early == 0.0 else nextafter(self.desk.alarm, early)
        self.pass_time(max(self.now, target))

    @rule(data=st.data(), rank=st.integers(0, 2))
    def take(self, data: st.DataObject, rank: int) -> None:
        costs = self.costs(data)
        if not self.fits(costs, rank):
            return
        claim = Claim(None, costs, rank)
        self.desk.outlook(None, costs, rank, self.now)
        self.collect()
        states = self.desk.ledger.sole
        if self.desk.take(claim, self.now):
            self.note(claim, self.now)
            self.disturb()
            self.collect()
            return
        self.collect()
        assert self.desk.ledger.sole == states, "a refusal cost something"
        wait = self.desk.come_back(claim, self.now)
        assert 0.0 < wait < inf
        later = copy.deepcopy(self.desk)
        run_out_in_place(later, self.now, self.now + wait)
        assert later.take(Claim(None, costs, rank), self.now + wait), "retry_after was not enough"

    @rule(data=st.data(), rank=st.integers(0, 2), max_wait=st.sampled_from([0.1, 1.0, 3.0, 10.0, inf]))
    def join(self, data: st.DataObject, rank: int, max_wait: float) -> None:
        costs = self.costs(data)
        claim = waiter(*costs, rank=rank)
        if not self.fits(costs, rank) or self.desk.take(claim, self.now):
            if claim.marks:
                self.note(claim, self.now)
                self.disturb()
            self.collect()
            return
        self.collect()
        would = copy.deepcopy(self.desk)
        # With several rates, one that needs what nobody above it waits for may get it earlier than is said.
        exact = len(self.RATES) == 1 or all(other.rank == rank for other in self.waiting)
        twin = waiter(*costs, rank=rank)
        would.join(twin, self.now, inf)
        turn = run_out(would, self.now)[twin.number]
        if rank < 2:
            self.disturb()
        if self.desk.join(claim, self.now, max_wait):
            self.waiting.append(claim)
            assert turn <= self.now + max_wait + 1e-9, "a wait that cannot be met was accepted"
        else:
            assert not exact or turn >= self.now + max_wait - 1e-9, "a wait that can be met was refused"
        self.collect()

    @rule(data=st.data(), rank=st.integers(0, 2))
    def reserve(self, data: st.DataObject, rank: int) -> None:
        costs = self.costs(data)
        if not self.fits(costs, rank):
            return
        claim = waiter(*costs, rank=rank)
        self.disturb()
        delay: float | None = 0.0
        if not self.desk.take(claim, self.now):
            delay = self.desk.reserve(claim, self.now, inf)
        self.collect()
        assert delay is not None
        self.note(claim, self.now + delay)

    @precondition(lambda self: self.unsettled())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.unsettled()))
        entry.settled = True
        share = data.draw(st.sampled_from([0.0, 0.25, 0.9]))
        actual = [cost * share for cost in entry.claim.costs]
        self.desk.settle(entry.claim, actual, self.now)
        self.collect()
        entry.costs = list(actual)

    @precondition(lambda self: self.unsettled())
    @rule(data=st.data())
    def go_into_debt(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.unsettled()))
        entry.settled = True
        self.disturb()
        self.desk.settle(entry.claim, [cost + 1.0 if cost else 0.0 for cost in entry.claim.costs], self.now)
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(claim)
        self.desk.withdraw(claim, self.now)
        self.collect()

    # --- what must hold

    @invariant()
    def never_more_than_the_rate_allows(self) -> None:
        for index, (rate, burst) in enumerate(self.RATES):
            level: Fraction | None = None
            for entry in sorted(self.taken, key=lambda entry: entry.at):
                line = Fraction(entry.at) * Fraction(rate)
                floor = line - Fraction(burst)
                if entry.costs[index]:
                    level = (floor if level is None else max(level, floor)) + Fraction(entry.costs[index])
                    assert level <= line + Fraction(64 * ulp(entry.at * rate)), "more than burst + rate * time"

    @invariant()
    def everybody_who_waits_is_served_in_time(self) -> None:
        turns = run_out(self.desk, self.now)
        for claim in self.waiting:
            assert turns[claim.number] <= claim.deadline + 1e-9, "a wait that cannot be met goes on"

    @invariant()
    def nothing_is_left_behind(self) -> None:
        line = self.desk.lines.get(None)
        assert (line.waiting if line else 0) == len(self.waiting)


def run_out_in_place(desk: Desk, now: float, until: float) -> None:
    """Serve waiters up to a time, each at its turn."""
    desk.pump(now)
    while desk.alarm <= until:
        desk.pump(desk.alarm)
    desk.ended.clear()


class WithHeadroom(Machine):
    """The same with tokens that lower priorities may not touch."""

    RATES = ((2.0, 10.0),)
    KEEPS = ((0.0,), (1.0,), (5.0,))


class TwoRates(Machine):
    """The same with two rates, of which one can overflow while the other is waited for."""

    RATES = ((1.0, 3.0), (0.5, 6.0))
    KEEPS = ((0.0, 0.0), (0.0, 0.0), (0.0, 3.0))


TestOneRate = Machine.TestCase
TestWithHeadroom = WithHeadroom.TestCase
TestTwoRates = TwoRates.TestCase
TestOneRate.settings = TestWithHeadroom.settings = TestTwoRates.settings = settings(
    max_examples=80, stateful_step_count=25
)


# --- scenes


def test_a_big_request_is_not_overtaken() -> None:
    """Whoever comes after a big request waits behind it, however little it needs."""
    desk = desk_of((1.0, 10.0))
    assert desk.take(waiter(10.0), 100.0)
    big, small = waiter(8.0), waiter(1.0)
    assert desk.join(big, 100.0, 60.0) and desk.join(small, 100.0, 60.0)
    assert not desk.take(waiter(1.0), 107.0)
    assert run_out(desk, 107.0) == {big.number: 108.0, small.number: 109.0}


def test_a_wait_that_cannot_be_met_is_refused_at_once() -> None:
    """The turn is known on arrival: to the last place it is in time, or it is not."""
    desk = desk_of((10.0, 1.0))
    assert desk.take(waiter(1.0), 100.0)
    assert desk.join(waiter(1.0), 100.0, 0.1)
    late = waiter(1.0)
    assert not desk.join(late, 100.0, 0.19)
    assert late.retry_after == pytest.approx(0.2)
    assert desk.join(waiter(1.0), 100.0, 0.2)


def test_who_is_displaced_beyond_its_deadline_fails_at_once() -> None:
    """A higher rank goes first, and those that cannot be met any more hear of it before their time."""
    desk = desk_of((1.0, 5.0))
    assert desk.take(waiter(5.0), 100.0)
    patient, hasty = waiter(2.0, rank=2), waiter(2.0, rank=2)
    assert desk.join(hasty, 100.0, 2.5) and desk.join(patient, 100.0, 10.0)
    assert desk.join(waiter(3.0, rank=0), 100.0, 10.0)
    assert desk.ended == [hasty]
    assert hasty.retry_after == pytest.approx(7.0), "after the three, the patient one's two and its own two"
    assert run_out(desk, 100.0)[patient.number] == 105.0


def test_with_several_rates_who_needs_what_nobody_waits_for_passes() -> None:
    """A call is not held up by somebody who waits for something else, and takes nothing from that one."""
    desk = desk_of((1.0, 5.0), (1.0, 5.0))
    assert desk.take(waiter(5.0, 0.0), 100.0)
    assert desk.join(waiter(4.0, 2.0), 100.0, 60.0)
    assert desk.take(waiter(0.0, 3.0), 100.0)
    assert not desk.take(waiter(0.0, 1.0), 100.0), "two are needed by the one who waits"


def test_with_several_rates_a_lower_rank_may_take_what_a_higher_one_does_not_need() -> None:
    """A head that waits for something else does not hold up those below it, and what they take is reckoned with."""
    desk = desk_of((1.0, 5.0), (1.0, 5.0))
    assert desk.take(waiter(5.0, 5.0), 100.0)
    high, low = waiter(4.0, 0.0, rank=0), waiter(0.0, 2.0, rank=2)
    assert desk.join(high, 100.0, 60.0) and desk.join(low, 100.0, 60.0)
    desk.pump(102.0)
    assert desk.ended == [low]
    desk.ended.clear()
    assert desk.wait(waiter(0.0, 5.0, rank=2), 102.0) == pytest.approx(5.0)
    assert run_out(desk, 102.0) == {high.number: 104.0}


def test_a_reservation_that_would_come_too_late_is_refused() -> None:
    """With the time that would be enough, and without a trace."""
    desk = desk_of((1.0, 5.0))
    assert desk.take(waiter(5.0), 100.0)
    state, refused = desk.ledger.sole, waiter(3.0)
    assert desk.reserve(refused, 100.0, 2.9) is None
    assert refused.retry_after == pytest.approx(3.0)
    assert desk.ledger.sole == state and not desk.lines


def test_a_reservation_is_kept_whatever_happens_before_it() -> None:
    """Tokens that were promised for a time are there then, though the one ahead went away and others came."""
    desk = desk_of((1.0, 5.0))
    assert desk.take(waiter(5.0), 100.0)
    first, second = waiter(5.0), waiter(1.0)
    assert desk.reserve(first, 100.0, inf) == 5.0
    assert desk.reserve(second, 100.0, inf) == 6.0
    desk.withdraw(first, 100.0)
    assert not desk.take(waiter(5.0), 105.5), "one of the five is owed"
    assert desk.take(waiter(4.0), 105.5)
    assert desk.outlook(None, (1.0,), 1, 106.0)[0][0] == 0.5


def test_cancelling_every_reservation_leaves_no_trace() -> None:
    """In whatever order reservations are taken back, the bucket is as it was."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        desk = desk_of((1.0, 1.0))
        assert desk.take(waiter(1.0), 100.0)
        before = desk.ledger.sole
        reserved = [waiter(1.0) for _ in range(3)]
        assert [desk.reserve(each, 100.0, inf) for each in reserved] == [1.0, 2.0, 3.0]
        for index in order:
            desk.withdraw(reserved[index], 100.0)
        assert desk.ledger.sole == before and not desk.lines
        assert desk.take(waiter(1.0), 101.0)


def test_a_key_without_room_is_turned_away() -> None:
    """The desk asks the table before anything else."""
    desk = desk_of((1.0, 1.0), max_keys=1)
    assert desk.has_room("a", 100.0) and desk.take(waiter(1.0, key="a"), 100.0)
    assert not desk.has_room("b", 100.5) and desk.has_room("b", 101.0)


def test_many_who_leave_are_cleared_away() -> None:
    """The line holds those who wait, not those who did."""
    desk = desk_of((1.0, 1.0))
    assert desk.take(waiter(1.0), 100.0)
    crowd = [waiter(1.0) for _ in range(1000)]
    for each in crowd:
        assert desk.join(each, 100.0, inf)
    for each in crowd[1:]:
        desk.withdraw(each, 100.0)
    assert len(desk.lines[None]._ranks[1].queue) < 50
    assert run_out(desk, 100.0) == {crowd[0].number: 101.0}


def test_lines_of_different_keys_have_nothing_to_do_with_one_another() -> None:
    """A crowd on one key delays nobody on another."""
    desk = desk_of((1.0, 1.0))
    for key in ("a", "b"):
        assert desk.take(waiter(1.0, key=key), 100.0)
    for _ in range(50):
        assert desk.join(waiter(1.0, key="a"), 100.0, inf)
    other = waiter(1.0, key="b")
    assert desk.join(other, 100.0, 1.0)
    desk.pump(101.0)
    assert other in desk.ended and len(desk.ended) == 2


def test_a_reset_serves_those_who_wait_and_owes_nothing() -> None:
    """Buckets filled by hand serve the line in order."""
    desk = desk_of((1.0, 3.0))
    assert desk.take(waiter(3.0), 100.0)
    crowd = [waiter(2.0) for _ in range(3)]
    for each in crowd:
        assert desk.join(each, 100.0, inf)
    assert desk.reserve(waiter(1.0), 100.0, inf) == 7.0
    desk.reset(None, 100.0)
    assert desk.ended == crowd[:1]
    assert run_out(desk, 100.0) == {crowd[1].number: 101.0, crowd[2].number: 103.0}
    desk.reset("nobody", 100.0)
    assert desk.ended == crowd[:1]


def test_who_is_not_there_any_more_can_be_dropped() -> None:
    """All waiters but some are forgotten at once, and those who stay move up."""
    desk = desk_of((1.0, 1.0))
    for key in ("a", "b"):
        assert desk.take(waiter(1.0, key=key), 100.0)
    crowd = [waiter(1.0, key=key) for key in ("a", "a", "a", "b")]
    for each in crowd:
        assert desk.join(each, 100.0, inf)
    assert desk.waiting == 4
    desk.abandon(crowd[2:3], 100.0)
    assert desk.waiting == 1 and list(desk.lines) == ["a"]
    assert run_out(desk, 100.0) == {crowd[2].number: 101.0}


def test_undoing_a_claim_that_got_nothing_does_nothing() -> None:
    """Neither a refused claim nor one whose wait has failed has anything to hand back."""
    desk = desk_of((1.0, 1.0))
    assert desk.take(waiter(1.0), 100.0)
    state = desk.ledger.sole
    refused = waiter(1.0)
    assert not desk.take(refused, 100.0) and not desk.join(refused, 100.0, 0.5)
    desk.withdraw(refused, 100.0)
    desk.withdraw(Claim(None, (1.0,), 1), 100.0)
    assert desk.ledger.sole == state and not desk.lines


def test_a_reset_forgives_also_where_some_reservations_were_taken_back() -> None:
    """After a reset nothing is owed, and cancelling what was owed gives nothing more."""
    desk = desk_of((1.0, 3.0))
    assert desk.take(waiter(3.0), 100.0)
    reserved = [waiter(1.0) for _ in range(3)]
    for each in reserved:
        desk.reserve(each, 100.0, inf)
    desk.withdraw(reserved[2], 100.0)
    desk.reset(None, 100.0)
    assert not desk.lines and desk.take(waiter(3.0), 100.0)
    desk.withdraw(reserved[0], 100.0)
    assert not desk.take(waiter(0.1), 100.0)
