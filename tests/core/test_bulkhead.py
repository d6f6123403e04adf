"""The places of a bulkhead and its queue: by table, and against a second, naive model."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilience.core.bulkhead import REFUSED, Places

HERE, ELSEWHERE = 0, 7


@dataclass(eq=False)
class Caller:
    """One who may wait."""

    key: int = HERE
    number: int = 0
    waits: bool = False
    deadline: float = 0.0


def come(places: Places, now: float = 0.0, max_wait: float = inf, owner: int = HERE) -> Caller | None:
    """A new caller that has a place or waits; None where it was refused."""
    caller = Caller(owner)
    return caller if places.take(caller, now) or places.join(caller, now, max_wait) else None


def crowd(places: Places, count: int) -> list[Caller]:
    """So many callers that are all let in."""
    callers = [come(places) for _ in range(count)]
    assert None not in callers
    return [caller for caller in callers if caller is not None]


def ended(places: Places) -> list[Caller]:
    """Whose wait has ended since this was asked last."""
    seen, places.ended = places.ended, []
    return seen  # type: ignore[return-value]


def test_places_then_queue_then_refusal() -> None:
    """The first `limit` callers get places, the next `queue` wait, all others are refused and leave no trace."""
    places = Places(2, 3)
    callers = crowd(places, 5)
    assert come(places) is None
    assert places.acquire(HERE) == REFUSED
    assert [places.holds(caller.number) for caller in callers] == [True, True, False, False, False]
    assert [caller.waits for caller in callers] == [False, False, True, True, True]
    assert len({caller.number for caller in callers}) == 5
    assert (places.in_flight, places.queued) == (2, 3)
    assert ended(places) == []


def test_a_number_of_its_own() -> None:
    """`acquire` gives each caller a number above zero that nobody else ever has."""
    places = Places(3, 0)
    first = [places.acquire(HERE) for _ in range(3)]
    for number in first:
        places.leave(number)
    second = [places.acquire(HERE) for _ in range(3)]
    assert len({*first, *second}) == 6
    assert min(first) > 0
    assert all(places.holds(number) for number in second)


def test_a_place_goes_to_who_came_first() -> None:
    """Each place that becomes free goes to the waiter who has waited longest."""
    places = Places(1, 3)
    callers = crowd(places, 4)
    for before, after in pairwise(callers):
        places.leave(before.number)
        assert ended(places) == [after]
        assert places.holds(after.number)
        assert not after.waits
    places.leave(callers[-1].number)
    assert ended(places) == []
    assert (places.in_flight, places.queued) == (0, 0)


def test_a_newcomer_never_overtakes() -> None:
    """While somebody waits, whoever comes is refused a place at once, also right after one was given up."""
    places = Places(1, 5)
    holder, _ = crowd(places, 2)
    places.leave(holder.number)
    assert places.acquire(HERE) == REFUSED
    assert come(places).waits  # type: ignore[union-attr]


def test_a_waiter_that_leaves_has_no_heir() -> None:
    """A waiter that goes away frees its place in the queue, gives nobody a place, and is never given one."""
    places = Places(1, 2)
    holder, gone, next_one = crowd(places, 3)
    places.withdraw(gone, 0.0)
    assert (ended(places), gone.waits, places.queued) == ([], False, 1)
    assert come(places) is not None
    places.leave(holder.number)
    assert ended(places) == [next_one]


def test_a_place_granted_to_one_who_has_gone_is_passed_on() -> None:
    """Whoever withdraws after a place was granted to it hands that place to the next."""
    places = Places(1, 3)
    holder, second, third, fourth = crowd(places, 4)
    places.leave(holder.number)
    places.withdraw(second, 0.0)
    places.withdraw(third, 0.0)
    assert ended(places) == [second, third, fourth]
    assert [places.holds(caller.number) for caller in (second, third, fourth)] == [False, False, True]
    assert places.in_flight == 1


def test_leaving_twice_frees_one_place() -> None:
    """A number that has left is unknown: leaving again frees nothing, nor does one that was never let in."""
    places = Places(2, 0)
    first, second = crowd(places, 2)
    for _ in range(2):
        places.leave(first.number)
    places.leave(REFUSED)
    places.leave(12345)
    places.withdraw(Caller(), 0.0)
    assert places.holds(second.number)
    assert places.in_flight == 1


def test_a_wait_ends_at_its_reading() -> None:
    """A waiter is let go at the reading `now + max_wait`, not before, each at its own, and gets no place afterwards."""
    places = Places(1, 4)
    (holder,) = crowd(places, 1)
    late, early, patient = come(places, 0.0, 5.0), come(places, 1.0, 2.0), come(places, 1.0)
    assert places.alarm == 3.0
    places.pump(2.999)
    assert ended(places) == []
    places.pump(3.0)
    assert ended(places) == [early]
    assert places.alarm == 5.0
    places.pump(100.0)
    assert ended(places) == [late]
    assert places.alarm == inf
    assert not places.holds(early.number)  # type: ignore[union-attr]
    places.leave(holder.number)
    assert ended(places) == [patient]


def test_a_place_given_in_the_last_moment_counts() -> None:
    """A waiter that was given a place keeps it, though its reading comes before it wakes."""
    places = Places(1, 1)
    (holder,) = crowd(places, 1)
    waiter = come(places, 0.0, 1.0)
    assert waiter is not None
    places.leave(holder.number)
    places.pump(50.0)
    assert places.holds(waiter.number)
    assert ended(places) == [waiter]


def test_alarms_of_those_who_left_do_not_pile_up() -> None:
    """However many come and go while one waits long, no more alarms are kept than twice the queue."""
    places = Places(1, 3)
    crowd(places, 1)
    come(places, 0.0, 1.0)
    for step in range(1_000):
        brief = come(places, 0.0, 10.0 + step)
        assert brief is not None
        places.withdraw(brief, 0.0)
    assert len(places._alarms) <= 7
    assert places.alarm == 1.0


def test_the_alarm_is_that_of_the_earliest() -> None:
    """However waiters come and go, the alarm is the earliest reading at which one of them gives up."""
    rng = random.Random(5)
    places = Places(1, 9)
    crowd(places, 1)
    waiting: list[Caller] = []
    for _ in range(5_000):
        if len(waiting) == 9 or (waiting and rng.random() < 0.4):
            places.withdraw(waiting.pop(rng.randrange(len(waiting))), 0.0)
        else:
            caller = come(places, 0.0, rng.choice([inf, rng.uniform(1, 100)]))
            assert caller is not None
            waiting.append(caller)
        # Looked at now and then only, so that alarms pile up in between.
        if rng.random() < 0.05:
            assert places.alarm == min((caller.deadline for caller in waiting), default=inf)


def test_after_a_fork_only_one_thread_is_here() -> None:
    """Only the places of the forking thread stay taken, and only its waiters wait; `pump` gives them what is free."""
    places = Places(2, 4)
    mine, theirs = come(places), come(places, owner=ELSEWHERE)
    their_waiter, my_waiter, my_second = come(places, owner=ELSEWHERE), come(places), come(places)
    places.keep_only(HERE)
    places.abandon([my_waiter, my_second], 0.0)  # type: ignore[list-item]
    assert ended(places) == []
    assert (places.in_flight, places.queued) == (1, 2)
    places.pump(0.0)
    assert ended(places) == [my_waiter]
    assert (places.in_flight, places.queued) == (2, 1)
    for gone in (theirs, their_waiter):
        places.leave(gone.number)  # type: ignore[union-attr]
    assert (places.in_flight, places.queued) == (2, 1)
    places.leave(mine.number)  # type: ignore[union-attr]
    assert ended(places) == [my_second]


def test_a_long_queue_drains_without_a_scan_for_each() -> None:
    """A queue of 100,000 is served from the front in one pass."""
    places = Places(1, 100_000)
    callers = crowd(places, 100_001)
    for caller in callers:
        places.leave(caller.number)
    assert ended(places) == callers[1:]
    assert places.in_flight == 0


class AgainstLists(RuleBasedStateMachine):
    """The places beside two lists."""

    @initialize(limit=st.integers(1, 4), queue=st.integers(0, 4))
    def begin(self, limit: int, queue: int) -> None:
        """Everything is free."""
        self.places = Places(limit, queue)
        self.now = 0.0
        self.held: list[Caller] = []
        self.waiting: list[Caller] = []
        self.gone: list[Caller] = []

    @rule(max_wait=st.one_of(st.just(inf), st.integers(0, 5)))
    def one_comes(self, max_wait: float) -> None:
        """And gets a place, waits, or is refused."""
        caller = come(self.places, self.now, max_wait)
        if len(self.held) < self.places.limit:
            assert caller is not None
            self.held.append(caller)
        elif len(self.waiting) < self.places.queue:
            assert caller is not None
            self.waiting.append(caller)
        else:
            assert caller is None

    @rule(which=st.integers(0, 100))
    def one_goes(self, which: int) -> None:
        """Whoever it is: a holder, a waiter, or one that has gone before."""
        known = self.held + self.waiting + self.gone
        if not known:
            return
        caller = known[which % len(known)]
        heirs = []
        if caller in self.waiting:
            self.waiting.remove(caller)
        elif caller in self.held:
            self.held.remove(caller)
            if self.waiting:
                heirs = [self.waiting.pop(0)]
                self.held += heirs
        self.gone.append(caller)
        self.places.withdraw(caller, self.now)
        assert ended(self.places) == heirs

    @rule(seconds=st.integers(0, 3))
    def time_passes(self, seconds: int) -> None:
        """And the waits end that are over."""
        self.now += seconds
        over = [caller for caller in self.waiting if caller.deadline <= self.now]
        over.sort(key=lambda caller: (caller.deadline, caller.number))
        self.waiting = [caller for caller in self.waiting if caller not in over]
        self.gone += over
        self.places.pump(self.now)
        assert ended(self.places) == over

    @invariant()
    def they_agree(self) -> None:
        """On the counts, on who holds and who waits, on the alarm, and that nobody waits while a place is free."""
        if not hasattr(self, "places"):
            return
        assert (self.places.in_flight, self.places.queued) == (len(self.held), len(self.waiting))
        assert all(self.places.holds(caller.number) and not caller.waits for caller in self.held)
        assert all(caller.waits for caller in self.waiting)
        assert not any(self.places.holds(caller.number) for caller in self.waiting + self.gone)
        assert not any(caller.waits for caller in self.gone)
        assert not self.waiting or len(self.held) == self.places.limit
        assert self.places.alarm == min((caller.deadline for caller in self.waiting), default=inf)


TestAgainstLists = AgainstLists.TestCase
