"""The adaptive limit without a server: what counts as a sample, what is remembered, and what never happens."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.adaptive import REFUSED, ConcurrencyLimit
from resilience.core.limits import AIMD, Gradient, Vegas
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict

Latency = Callable[[int], float]


class Driver:
    """Calls kept at `crowd` in flight, each of which takes what `latency` says of the calls in flight with it."""

    def __init__(self, limit: ConcurrencyLimit, start: float = 0.0) -> None:
        self.limit = limit
        self.now = start
        self.out: list[tuple[float, int, float]] = []
        self.refused = 0

    def run(
        self,
        seconds: float,
        latency: Latency,
        crowd: int = 1000,
        verdict: Callable[[], Verdict] = lambda: SUCCESS,
    ) -> None:
        until = self.now + seconds
        while self.now < until:
            refused = False
            while len(self.out) < crowd and not refused:
                permit = self.limit.acquire(self.now)
                if permit == REFUSED:
                    refused = True
                    self.refused += 1
                else:
                    self.out.append((self.now + latency(len(self.out) + 1), permit, self.now))
            self.out.sort()
            end, permit, began = self.out.pop(0)
            self.now = max(self.now, end)
            self.limit.settle(permit, verdict(), self.now - began, self.now)

    def drain(self) -> None:
        """Let every call end, without a new one."""
        for end, permit, began in sorted(self.out):
            self.now = max(self.now, end)
            self.limit.settle(permit, SUCCESS, self.now - began, self.now)
        self.out.clear()


def queued(room: int, alone: float = 0.1) -> Latency:
    """A service with room for so many: with more in flight, calls wait in proportion."""
    return lambda crowd: alone * max(1.0, crowd / room)


def limit_of(initial: int = 20, minimum: int = 1, maximum: int = 1000) -> ConcurrencyLimit:
    return ConcurrencyLimit(Gradient(), initial, minimum, maximum)


# --- admission --------------------------------------------------------------------------------------------------------


def test_no_more_in_flight_than_the_limit() -> None:
    """Calls are admitted up to the limit; a place comes back with each end, whatever it was."""
    limit = limit_of(3)
    permits = [limit.acquire(0.0) for _ in range(3)]
    assert limit.acquire(0.0) == REFUSED
    assert limit.in_flight == 3
    for permit, verdict in zip(permits, (SUCCESS, FAILURE, IGNORED), strict=True):
        limit.settle(permit, verdict, 0.1, 0.1)
        assert limit.acquire(0.1) != REFUSED
    assert limit.in_flight == 3


@given(
    seed=st.integers(0, 10_000),
    bounds=st.tuples(st.integers(1, 5), st.integers(0, 30), st.integers(0, 60)),
    algorithm=st.sampled_from([Gradient(), Vegas(), AIMD()]),
)
def test_the_laws_hold_whatever_happens(seed: int, bounds: tuple[int, int, int], algorithm: Gradient) -> None:
    """The limit stays within its bounds, and in flight is what was admitted and has not ended, in any order."""
    rng = random.Random(seed)
    minimum, initial, maximum = bounds[0], bounds[0] + bounds[1], bounds[0] + bounds[1] + bounds[2]
    limit = ConcurrencyLimit(algorithm, initial, minimum, maximum)
    out: list[tuple[int, float]] = []
    known, now = initial, 0.0
    for _ in range(600):
        now += rng.choice([0.0, 0.001, 0.01, 0.1, -0.05])
        if rng.random() < 0.55:
            permit = limit.acquire(now)
            if permit == REFUSED:
                assert len(out) >= (limit.limit if not limit.probing else minimum)
            else:
                out.append((permit, now))
                assert len(out) <= limit.limit
        elif out:
            permit, began = out.pop(rng.randrange(len(out)))
            verdict = rng.choice([SUCCESS, SUCCESS, SUCCESS, FAILURE, IGNORED])
            limit.settle(permit, verdict, now - began, now)
        assert limit.in_flight == len(out)
        assert minimum <= limit.limit <= maximum
        for previous, changed in limit.changes:
            assert previous == known
            known = changed
        limit.changes.clear()
        assert known == limit.limit


# --- samples ----------------------------------------------------------------------------------------------------------


def test_a_limit_settles_where_a_queue_would_begin() -> None:
    """From below and from above, the limit comes to the room that the service has."""
    for initial in (4, 20, 200):
        limit = limit_of(initial)
        Driver(limit).run(60.0, queued(20))
        assert 20 <= limit.limit <= 23, initial
        assert limit.least is not None
        assert limit.least.typical == pytest.approx(0.1, rel=0.05)


def test_a_call_from_before_a_change_is_no_sample() -> None:
    """Slow calls that were admitted before the limit changed do not count against the one after."""
    limit = limit_of(40)
    driver = Driver(limit)
    old = [limit.acquire(0.0) for _ in range(10)]
    driver.run(20.0, lambda _: 0.1, crowd=10)
    before = limit.limit
    for permit in old:
        limit.settle(permit, SUCCESS, 20.0, driver.now)
    driver.run(20.0, lambda _: 0.1, crowd=10)
    assert limit.limit == before
    assert limit.least is not None
    assert limit.least.typical == pytest.approx(0.1, rel=0.05)


def test_a_slow_call_is_waited_for_but_not_for_ever() -> None:
    """A window closes without a call that hangs, and counts it as having lasted as long as the window."""
    limit = limit_of(300)
    hung = limit.acquire(0.0)
    Driver(limit, 0.0).run(5.0, lambda _: 0.1, crowd=20)
    assert limit.least is not None
    assert limit.least.calls >= 100
    assert limit.in_flight >= 1
    limit.settle(hung, SUCCESS, 5.0, 5.0)


def test_a_window_in_which_nothing_came_through_is_no_sample() -> None:
    """Where the calls of a window hang altogether, there is no latency to be learnt, and nothing breaks."""
    limit = limit_of(200)
    permits = [limit.acquire(0.01 * number) for number in range(150)]
    limit.acquire(60.0)
    limit.acquire(61.0)
    assert limit.limit <= 200
    for permit in permits:
        limit.settle(permit, SUCCESS, 60.0, 62.0)
    assert limit.in_flight == 2


def test_cancelled_calls_are_no_samples() -> None:
    """Callers who go away, however early or late, move neither the limit nor the least."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(20.0, lambda _: 0.1, crowd=20, verdict=lambda: IGNORED)
    assert limit.least is None
    assert limit.limit == 20


def test_a_window_whose_calls_all_went_away_is_none() -> None:
    """A full window of which no call is left to count decides nothing."""
    limit = limit_of(100)
    permits = [limit.acquire(0.01 * number) for number in range(100)]
    assert limit.acquire(2.0) == REFUSED
    for permit in permits:
        limit.settle(permit, IGNORED, 1.0, 2.0)
    limit.acquire(3.0)
    assert limit.least is None
    assert limit.limit == 100


def test_losses_bring_the_limit_down() -> None:
    """Calls that end in a sign of overload lower the limit, also when none comes through at all."""
    for algorithm in (Gradient(), Vegas(), AIMD()):
        limit = ConcurrencyLimit(algorithm, 100, 5, 1000)
        Driver(limit).run(60.0, lambda _: 0.1, crowd=100, verdict=lambda: FAILURE)
        assert limit.limit < 30, algorithm


def test_losses_in_a_probe_end_it_lower() -> None:
    """A probe in which nothing comes through halves the limit instead of learning from it."""
    limit = limit_of(20)
    driver = Driver(limit)
    while not limit.probing:
        driver.run(0.05, queued(10))
    before = limit.limit
    while limit.probing:
        driver.run(0.05, queued(10), verdict=lambda: FAILURE)
    assert limit.limit <= before / 2 + 1


# --- growth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [Gradient(), Vegas(), AIMD()], ids=repr)
def test_it_does_not_grow_while_less_than_half_is_used(algorithm: Gradient) -> None:
    """At four tenths of the limit nothing is learnt about more, so it stays for as long as that lasts."""
    limit = ConcurrencyLimit(algorithm, 50, 1, 1000)
    driver = Driver(limit)
    driver.run(300.0, lambda _: 0.1, crowd=20)
    print(f"\n  after five minutes at 20 of 50: {limit.limit}")
    assert limit.limit == 50
    assert driver.refused == 0


def test_it_grows_when_more_is_used() -> None:
    """A service that is used to the limit, and does not mind, gets a higher one, until half of it is enough."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(60.0, lambda _: 0.1, crowd=60)
    assert 100 <= limit.limit <= 200
    before = driver.refused
    driver.run(120.0, lambda _: 0.1, crowd=60)
    assert driver.refused == before


def test_idle_time_changes_nothing() -> None:
    """After a day without a call everything is as it was."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(60.0, queued(20))
    driver.drain()
    before = limit.limit, limit.least
    driver.now += 86_400.0
    driver.run(0.2, queued(20), crowd=5)
    assert (limit.limit, limit.least) == before


# --- the least --------------------------------------------------------------------------------------------------------


def test_a_queue_is_not_learnt() -> None:
    """What stands in a queue all the time, a little or much, never becomes what a call takes."""
    for crowd in (21, 25, 1000):
        limit = limit_of(20)
        Driver(limit).run(200.0, queued(20), crowd=crowd)
        assert limit.least is not None
        assert limit.least.typical == pytest.approx(0.1, rel=0.06), crowd


def test_a_service_that_became_slower_is_learnt() -> None:
    """Calls that take twice as long without a queue keep the limit, after a moment."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(60.0, queued(20))
    driver.run(60.0, queued(20, alone=0.2))
    assert limit.least is not None
    assert limit.least.typical == pytest.approx(0.2, rel=0.05)
    assert 19 <= limit.limit <= 24


def test_a_service_that_became_faster_is_learnt() -> None:
    """Calls that take half as long do not get a limit twice as high."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(60.0, queued(20))
    driver.run(60.0, queued(20, alone=0.05))
    assert limit.least is not None
    assert limit.least.typical == pytest.approx(0.05, rel=0.05)
    assert 19 <= limit.limit <= 24


def test_a_change_too_small_to_be_noticed_at_once_is_found_when_the_limit_has_come_down() -> None:
    """A service that became a third slower brings the limit down, and then it is looked at, and comes back."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(60.0, queued(20))
    driver.run(10.0, queued(20, alone=0.135))
    driver.run(50.0, queued(20, alone=0.135))
    assert limit.least is not None
    assert limit.least.typical == pytest.approx(0.135, rel=0.05)
    assert 19 <= limit.limit <= 24


def test_probes_are_short_and_rare() -> None:
    """In a steady overload, fewer calls are allowed for less than a twentieth of the time."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(120.0, queued(20))
    probing = 0
    for _ in range(3000):
        driver.run(0.1, queued(20))
        probing += limit.probing
    print(f"\n  {probing / 30:.1f} % of five minutes in probes")
    assert 0 < probing < 150


def test_at_the_minimum_there_is_no_probe() -> None:
    """The minimum is kept, also in a probe; what calls take there is the best that is known."""
    limit = limit_of(40, minimum=10)
    driver = Driver(limit)
    driver.run(120.0, queued(2))
    assert limit.limit <= 12
    assert driver.refused > 0
    assert limit.least is not None


def test_just_above_the_minimum_there_is_no_probe_either() -> None:
    """When the limit has come down to the minimum, the calls that were admitted before are nothing to halve."""

    class Least:
        def next_limit(self, limit: float, latency: float, least: float, lost: float) -> float:
            return 0.0

    limit = ConcurrencyLimit(Least(), 12, 10, 100)
    Driver(limit).run(5.0, lambda _: 0.01)
    assert (limit.limit, limit.probing) == (10, False)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_limit_that_is_no_number_is_the_minimum() -> None:
    """An algorithm that answers nonsense, or too much, is kept within the bounds."""

    class Nonsense:
        def __init__(self, answer: float) -> None:
            self.answer = answer

        def next_limit(self, limit: float, latency: float, least: float, lost: float) -> float:
            return self.answer

    for answer, end in ((float("nan"), 2), (-5.0, 2), (float("inf"), 30), (1e300, 30)):
        limit = ConcurrencyLimit(Nonsense(answer), 10, 2, 30)
        Driver(limit).run(4.0, lambda _: 0.1)
        assert limit.limit == end, answer


def test_time_never_runs_backwards() -> None:
    """A reading from before the newest one is raised to it."""
    limit = limit_of(20)
    driver = Driver(limit)
    driver.run(5.0, queued(20))
    newest = limit.latest
    limit.acquire(-1000.0)
    assert limit.latest == newest


def test_calls_can_be_forgotten() -> None:
    """In a process that has none of them, calls in flight free their places, and their ends change nothing."""
    limit = limit_of(3)
    old = [limit.acquire(0.0) for _ in range(3)]
    limit.forget_calls()
    assert limit.in_flight == 0
    new = limit.acquire(1.0)
    for permit in old:
        limit.settle(permit, SUCCESS, 1.0, 1.0)
    assert limit.in_flight == 1
    limit.settle(new, SUCCESS, 0.1, 1.1)
    assert limit.in_flight == 0


def test_calls_in_flight_can_be_taken_over() -> None:
    """A limit that is put in the place of another one knows what is in flight, and counts it as no sample."""
    frozen, live = limit_of(3), limit_of(3)
    permits = [live.acquire(0.0) for _ in range(2)]
    frozen.take_over(live)
    assert frozen.in_flight == 2
    assert frozen.acquire(0.0) != REFUSED
    assert frozen.acquire(0.0) == REFUSED
    for permit in permits:
        frozen.settle(permit, SUCCESS, 50.0, 50.0)
    assert frozen.in_flight == 1
    assert frozen.least is None


def test_losses_in_the_first_window_count() -> None:
    """A limit that is too high from the start comes down in the first window in which calls are lost."""
    limit = limit_of(100)
    rng = random.Random(1)
    driver = Driver(limit)
    while limit.least is None:
        driver.run(0.05, lambda _: 0.1, crowd=100, verdict=lambda: rng.choice([SUCCESS, FAILURE]))
    assert limit.limit < 100
