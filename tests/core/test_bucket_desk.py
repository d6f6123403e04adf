"""The desk against the laws of a throttle, checked by replaying what it did through an exact bucket."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter, ulp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilience.core.bucket import Bucket
from resilience.core.desk import Desk
from resilience.core.ledger import Claim
from resilience.core.promises import Waiter

FREE = ((0.0,), (0.0,), (0.0,))


def desk_of(*rates: tuple[float, float], keeps: tuple[tuple[float, ...], ...] | None = None, max_keys: int = 10) -> Desk:
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
        return all(cost + keep <= burst for cost, keep, (_, burst) in zip(costs, self.KEEPS[rank], self.RATES))

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
for case in (TestOneRate, TestWithHeadroom, TestTwoRates):
    case.settings = settings(max_examples=60, stateful_step_count=40)
