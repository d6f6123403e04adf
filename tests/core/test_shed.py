"""Whom a shedder turns away: by level, by rank, by delay, and not before there is a reason."""

from __future__ import annotations

import heapq
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.shed import REFUSED, Shedding, rank_of

SHEDDABLE, DEFAULT, CRITICAL = range(3)
Offer = Callable[[int], tuple[int, float]]


class Crowd:
    """Calls that come evenly, `rate` a second, to a place where each takes what `latency` says of those inside."""

    def __init__(self, shedding: Shedding, latency: Callable[[int], float], start: float = 0.0) -> None:
        self.shedding = shedding
        self.latency = latency
        self.now = start
        self.inside: list[tuple[float, int, float]] = []
        self.offered: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()

    def run(self, seconds: float, rate: float, offer: Offer) -> None:
        """Offer calls for a while; `offer(n)` is the level and the rank of the n-th."""
        for number in range(int(seconds * rate)):
            came = self.now + 1.0 / rate
            self.let_go(came)
            self.now = came
            level, rank = offer(number)
            self.offered[level] += 1
            permit = self.shedding.acquire(level, rank, self.now)
            if permit == REFUSED:
                self.refused[level] += 1
            else:
                heapq.heappush(self.inside, (self.now + self.latency(len(self.inside) + 1), permit, self.now))

    def let_go(self, until: float) -> None:
        """Let the calls end that end by then."""
        while self.inside and self.inside[0][0] <= until:
            end, permit, began = heapq.heappop(self.inside)
            self.now = max(self.now, end)
            self.shedding.settle(permit, self.now - began, self.now)

    def share(self, level: int) -> float:
        """The share of a level that was turned away."""
        return self.refused[level] / max(1, self.offered[level])


def room(places: int, alone: float = 0.05) -> Callable[[int], float]:
    """A service with so many places: with more inside, calls wait in proportion."""
    return lambda inside: alone * max(1.0, inside / places)


def of(level: int) -> Offer:
    """Calls of one level, of users whose ranks fill [0, 1) evenly."""
    return lambda number: (level, number * 0.6180339887 % 1.0)


def mixed(number: int) -> tuple[int, float]:
    """Four SHEDDABLE, four DEFAULT and two CRITICAL of ten."""
    return (SHEDDABLE, SHEDDABLE, DEFAULT, DEFAULT, CRITICAL)[number % 5], number * 0.6180339887 % 1.0


# --- ranks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "rank"),
    [("alice", 0.0857), ("bob", 0.8022), (7, 0.4625), (("tenant", 7), 0.0944), ("", 0.0000), ("\ud800", 0.6977)],
)
def test_a_rank_is_the_same_for_ever(user: object, rank: float) -> None:
    """The ranks of these users are part of the contract between processes, machines and versions."""
    assert rank_of(user) == pytest.approx(rank, abs=1e-4)


def test_a_rank_is_the_same_in_every_process() -> None:
    """A process with another hash seed ranks the same users the same."""
    users = ["alice", "bob", 7, None, 3.5]
    code = f"import json; from resilience.core.shed import rank_of; print(json.dumps([rank_of(u) for u in {users!r}]))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert json.loads(done.stdout) == [rank_of(user) for user in users]


def test_ranks_are_spread_evenly() -> None:
    """Users with numbered names fill the ranks: each tenth of them has a tenth of the users."""
    tenths = Counter(int(rank_of(f"user-{number}") * 10) for number in range(10_000))
    print("\n  users in each tenth of the ranks:", [tenths[tenth] for tenth in range(10)])
    assert set(tenths) == set(range(10))
    assert all(900 <= count <= 1100 for count in tenths.values())


@given(st.one_of(st.text(), st.integers(), st.tuples(st.text(), st.integers())))
def test_a_rank_is_a_share(user: object) -> None:
    """Whatever names a user has a rank from 0 on and below 1."""
    assert 0.0 <= rank_of(user) < 1.0


# --- when nobody is turned away ---------------------------------------------------------------------------------------


def test_nobody_is_turned_away_before_there_are_completions() -> None:
    """However many calls are in flight, nothing is known until some are back."""
    shedding = Shedding(0.3)
    assert all(shedding.acquire(SHEDDABLE, 0.0, 0.001 * number) != REFUSED for number in range(10_000))


def test_nobody_is_turned_away_before_it_is_known_what_a_call_takes() -> None:
    """As long as one of the first calls hangs, there is nothing to compare with."""
    crowd = Crowd(Shedding(0.3), lambda inside: 0.1)
    hung = crowd.shedding.acquire(DEFAULT, 0.5, 0.0)
    crowd.run(0.8, 100.0, mixed)
    assert hung != REFUSED
    assert crowd.shedding.least.seconds is None
    assert not crowd.refused


def test_nobody_is_turned_away_while_nothing_waits() -> None:
    """A busy service whose calls take what they always took turns nobody away, of no level."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(60.0, 390.0, mixed)
    assert not crowd.refused
    assert crowd.shedding.least.seconds == pytest.approx(0.05)


def test_slow_calls_are_not_a_queue() -> None:
    """Calls that take far longer than the target do not wait for that."""
    crowd = Crowd(Shedding(0.3), lambda inside: 5.0)
    crowd.run(60.0, 50.0, mixed)
    assert not crowd.refused


# --- who is -----------------------------------------------------------------------------------------------------------


def test_what_matters_least_goes_first() -> None:
    """At twice the capacity every SHEDDABLE call goes, some DEFAULT ones, and no CRITICAL one."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(60.0, 800.0, mixed)
    shares = [crowd.share(level) for level in (SHEDDABLE, DEFAULT, CRITICAL)]
    print("\n  turned away:", [f"{share:.1%}" for share in shares])
    assert shares[0] > 0.95
    assert 0.2 < shares[1] < 0.35
    assert shares[2] == 0.0


@pytest.mark.parametrize("level", [SHEDDABLE, DEFAULT, CRITICAL])
def test_a_level_alone_is_cut_to_what_can_be_done(level: int) -> None:
    """Where all calls matter equally, about half of them goes at twice the capacity, and the rest waits little."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(30.0, 800.0, of(level))
    assert 0.45 < crowd.share(level) < 0.6
    assert crowd.shedding.delay < 0.3


@pytest.mark.parametrize("rate", [450.0, 600.0, 800.0, 1600.0])
def test_the_wait_stays_below_the_target(rate: float) -> None:
    """In a lasting overload, calls that are admitted wait less than the target, and the service is busy."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(5.0, rate, of(DEFAULT))
    waits, before = [], crowd.offered[DEFAULT] - crowd.refused[DEFAULT]
    for _ in range(200):
        crowd.run(0.1, rate, of(DEFAULT))
        waits.append(0.05 * max(1.0, len(crowd.inside) / 20) - 0.05)
    done = (crowd.offered[DEFAULT] - crowd.refused[DEFAULT] - before) / 20.0
    print(f"\n  {rate:.0f} offered, {done:.0f} of 400 done, longest wait {max(waits):.3f} s")
    assert max(waits) < 0.3
    assert done > 380


def test_the_same_users_for_the_length_of_an_episode() -> None:
    """In one minute of overload, hardly any user is now turned away and now admitted."""
    shedding = Shedding(0.3)
    crowd, rng = Crowd(shedding, room(20)), random.Random(1)
    users = [rank_of(f"user-{number}") for number in range(200)]
    crowd.run(3.0, 800.0, lambda _: (DEFAULT, rng.choice(users)))
    hit: Counter[float] = Counter()
    seen: Counter[float] = Counter()

    def offer(_: int) -> tuple[int, float]:
        rank = rng.choice(users)
        seen[rank] += 1
        hit[rank] += rank + DEFAULT < shedding.cut
        return DEFAULT, rank

    crowd.run(50.0, 800.0, offer)
    either = sum(0.05 < hit[rank] / seen[rank] < 0.95 for rank in users)
    print(f"\n  {either} of {len(users)} users were turned away at one time and admitted at another")
    assert either <= 20


def test_a_report_counts_instead_of_the_estimate() -> None:
    """A server that knows how long requests have waited says so, and is believed."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(5.0, 200.0, mixed)
    assert not crowd.refused

    def waiting(number: int) -> tuple[int, float]:
        crowd.shedding.report(0.1, crowd.now)
        return SHEDDABLE if number % 2 else DEFAULT, 0.9

    crowd.run(2.0, 200.0, waiting)
    assert crowd.refused[SHEDDABLE] > 100
    assert not crowd.refused[DEFAULT]
    for _ in range(40):
        crowd.run(0.1, 200.0, lambda _: (DEFAULT, 0.9))
        crowd.shedding.report(0.19, crowd.now)
    assert crowd.refused[DEFAULT] > 100


# --- when it ends -----------------------------------------------------------------------------------------------------


def test_it_ends_with_the_overload() -> None:
    """Ten seconds after the end of an overload, nobody is turned away any more."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(30.0, 800.0, mixed)
    crowd.run(10.0, 200.0, mixed)
    crowd.refused.clear()
    crowd.run(30.0, 200.0, mixed)
    assert not crowd.refused
    assert not crowd.shedding.shedding


def test_it_ends_when_nothing_is_in_flight() -> None:
    """Where everybody was turned away and the last call has ended, the next call is admitted."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(10.0, 2000.0, of(SHEDDABLE))
    crowd.run(0.2, 2000.0, lambda _: (SHEDDABLE, 0.0))
    crowd.let_go(crowd.now + 10.0)
    assert crowd.shedding.in_flight == 0
    assert crowd.shedding.acquire(SHEDDABLE, 0.0, crowd.now + 10.0) != REFUSED
    assert crowd.shedding.cut == 0.0


def test_a_service_that_became_slower_is_not_overloaded() -> None:
    """Calls that take longer for good, without a queue, are turned away for little more than a minute."""
    crowd = Crowd(Shedding(0.3), lambda inside: 0.05)
    crowd.run(30.0, 200.0, mixed)
    crowd.latency = lambda inside: 0.25
    crowd.run(90.0, 200.0, mixed)
    turned_away = sum(crowd.refused.values())
    assert turned_away > 0
    crowd.refused.clear()
    crowd.run(300.0, 200.0, mixed)
    print(f"\n  {turned_away} turned away in the first 90 s, {sum(crowd.refused.values())} in the next 300 s")
    assert not crowd.refused
    assert crowd.shedding.least.seconds == pytest.approx(0.25, rel=0.05)


def test_a_lasting_overload_is_not_taken_for_slowness() -> None:
    """After twenty minutes at 5 % above capacity, what a call takes alone is what it was."""
    crowd = Crowd(Shedding(0.3), room(10))
    crowd.run(1200.0, 210.0, of(DEFAULT))
    least = crowd.shedding.least.seconds
    print(f"\n  the least after twenty minutes of overload: {least:.4f} s")
    assert least == pytest.approx(0.05, rel=0.1)
    assert 0.05 < crowd.share(DEFAULT) < 0.1


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_time_never_runs_backwards() -> None:
    """A reading from before the newest one is raised to it."""
    crowd = Crowd(Shedding(0.3), room(20))
    crowd.run(2.0, 100.0, mixed)
    newest = crowd.shedding.latest
    crowd.shedding.acquire(DEFAULT, 0.5, -5.0)
    assert crowd.shedding.latest == newest


def test_calls_can_be_forgotten() -> None:
    """In a process that has none of them, calls in flight are none, and their ends change nothing."""
    shedding = Shedding(0.3)
    old = [shedding.acquire(DEFAULT, 0.5, 0.0) for _ in range(5)]
    shedding.forget_calls()
    assert shedding.in_flight == 0
    new = shedding.acquire(DEFAULT, 0.5, 1.0)
    for permit in old:
        shedding.settle(permit, 1.0, 1.0)
    assert shedding.in_flight == 1
    shedding.settle(new, 0.1, 1.1)
    assert shedding.in_flight == 0


def test_calls_in_flight_can_be_taken_over() -> None:
    """A state that is put in the place of another one knows what is in flight."""
    frozen, live = Shedding(0.3), Shedding(0.3)
    permits = [live.acquire(DEFAULT, 0.5, 0.0) for _ in range(3)]
    frozen.take_over(live)
    assert frozen.in_flight == 3
    for permit in permits:
        frozen.settle(permit, 0.1, 1.0)
    assert frozen.in_flight == 0
    assert frozen.least.seconds is None


def test_calls_that_were_cut_short_are_no_completions() -> None:
    """Where calls are refused further inside or given up, nothing is known of how long calls wait; nobody is shed."""
    shedding, now = Shedding(0.3), 0.0
    for _ in range(400):
        now += 0.01
        shedding.settle(shedding.acquire(SHEDDABLE, 0.0, now), None, now + 0.005)
    assert (shedding.least.seconds, shedding.delay, shedding.in_flight) == (None, 0.0, 0)
    assert not shedding.shedding


def test_what_is_reported_holds_while_nothing_is_in_flight() -> None:
    """A server of one thread is empty between two calls; what it reports of the queue before it counts all the same."""
    shedding, now = Shedding(0.3), 0.0
    for _ in range(100):
        now += 0.03
        shedding.report(0.2, now)
        permit = shedding.acquire(CRITICAL, 0.0, now)
        shedding.settle(permit, 0.02, now + 0.02)
    assert shedding.in_flight == 0
    for _ in range(100):
        now += 0.03
        shedding.report(0.2, now)
        assert shedding.acquire(DEFAULT, 0.99, now) == REFUSED
    assert shedding.delay == pytest.approx(0.2)
    for _ in range(30):
        now += 0.03
        shedding.report(0.0, now)
        shedding.acquire(SHEDDABLE, 0.0, now)
    assert not shedding.shedding
    assert shedding.in_flight > 10
