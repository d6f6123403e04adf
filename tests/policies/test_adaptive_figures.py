"""The adaptive limit before a simulated server: what it finds, how soon, and what it never does."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from resilience.core.limits import AIMD, Gradient, Vegas
from resilience.policies.adaptive import AdaptiveLimit
from tests.simulation import Clock, Server, Service, Simulation, constant, door, exponential, lognormal

ROOM = 50
ALGORITHMS = [Gradient(), Vegas(), AIMD()]
each = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: type(algorithm).__name__)


def overloaded(
    algorithm: Any, initial: int, seed: int, service: Service = exponential(0.1), load: float = 1.5
) -> tuple[AdaptiveLimit, Server, Simulation]:
    """A limit before a server with room for 50 calls, which is offered more than it can do."""
    clock, server = Clock(), Server(ROOM, service)
    limit = AdaptiveLimit(algorithm, initial=initial, clock=clock)
    return limit, server, Simulation(clock, server, door(limit), load * ROOM / 0.1, seed=seed)


@each
@pytest.mark.parametrize("initial", [ROOM // 5, ROOM * 5], ids=["from a fifth", "from five times"])
def test_it_finds_the_capacity(algorithm: Any, initial: int) -> None:
    """From five times too low and five times too high, the limit comes within 20 % of the room there is."""
    found = []
    for seed, service in enumerate((constant(0.1), exponential(0.1))):
        limit, _, simulation = overloaded(algorithm, initial, seed, service)
        found.append(statistics.mean(limit.limit for second in simulation.run(60) if second > 40))
    print(f"\n  {type(algorithm).__name__} from {initial}: {[f'{each / ROOM:.2f}' for each in found]} of the capacity")
    assert all(0.8 * ROOM <= each <= 1.2 * ROOM for each in found)


@each
def test_it_follows_a_halving_of_the_capacity(algorithm: Any) -> None:
    """When a service loses half of its room, the limit is within 20 % of what is left after at most 30 s."""
    for seed in range(2):
        limit, server, simulation = overloaded(algorithm, ROOM, seed)
        for second in simulation.run(40):
            del second
        server.workers = ROOM // 2
        limits = [limit.limit for _ in simulation.run(80)]
        there = next(n for n in range(len(limits)) if statistics.mean(limits[n : n + 5]) <= 1.2 * ROOM / 2)
        after = statistics.mean(limits[30:])
        print(
            f"\n  {type(algorithm).__name__}: below 1.2 after {there + 1} s, "
            f"{2 * after / ROOM:.2f} of what is left from 30 s on"
        )
        assert there < 30
        assert 0.8 <= 2 * after / ROOM <= 1.2


@each
def test_it_follows_a_service_that_became_slower(algorithm: Any) -> None:
    """When calls take twice as long with as much room, the limit is what it was after at most 60 s."""
    limit, server, simulation = overloaded(algorithm, ROOM, seed=1)
    for second in simulation.run(40):
        del second
    server.service = exponential(0.2)
    limits = [limit.limit for _ in simulation.run(140)]
    after = statistics.mean(limits[60:])
    print(f"\n  {type(algorithm).__name__}: {after / ROOM:.2f} of the capacity from 60 s on")
    assert 0.8 <= after / ROOM <= 1.2


def creep(hours: int) -> list[float]:
    """The mean limit of each hour, as a share of the capacity, at 5 % more than can be done of calls of two seconds."""
    clock, server = Clock(), Server(20, exponential(2.0))
    limit = AdaptiveLimit(clock=clock)
    simulation = Simulation(clock, server, door(limit), 1.05 * 20 / 2.0, seed=1)
    limits: list[list[int]] = [[] for _ in range(hours)]
    for second in simulation.run(3600 * hours):
        limits[int(second - 1) // 3600].append(limit.limit)
        simulation.calls.clear()
    means = [statistics.mean(hour) / 20 for hour in limits]
    done = server.completed * 2.0 / 20 / (3600 * hours)
    print("\n  hourly means, as shares of the capacity:", " ".join(f"{mean:.2f}" for mean in means))
    print(f"  {done:.1%} of what can be done was done; the least is {limit.snapshot()['least']:.2f} s")
    assert done > 0.8
    return means


@pytest.mark.proof
def test_it_does_not_creep_over_a_day_of_mild_overload() -> None:
    """A day at 5 % more than can be done leaves the limit where it was after the first hours."""
    means = creep(24)
    assert all(0.8 <= mean <= 1.3 for mean in means)
    assert abs(statistics.mean(means[16:]) - statistics.mean(means[:8])) < 0.1


def test_it_does_not_creep_over_hours_of_mild_overload() -> None:
    """So do four hours."""
    means = creep(4)
    assert all(0.8 <= mean <= 1.3 for mean in means)


def test_it_does_not_creep_where_many_calls_are_made() -> None:
    """Ten minutes at 5 % more than can be done, with five hundred calls a second, change nothing either."""
    limit, _, simulation = overloaded(Gradient(), ROOM, seed=1, load=1.05)
    minutes: list[list[int]] = [[] for _ in range(10)]
    for second in simulation.run(600):
        minutes[int(second - 1) // 60].append(limit.limit)
        simulation.calls.clear()
    means = [statistics.mean(minute) / ROOM for minute in minutes]
    print("\n  means of each minute, as shares of the capacity:", " ".join(f"{mean:.2f}" for mean in means))
    assert all(0.8 <= mean <= 1.25 for mean in means[2:])
    assert statistics.mean(means[6:]) < statistics.mean(means[2:6]) + 0.1


def test_a_service_that_has_room_is_left_alone() -> None:
    """Calls that never fill the service are hardly ever refused, though the limit began below what they need."""
    clock, server = Clock(), Server(200, exponential(0.1))
    limit = AdaptiveLimit(initial=20, clock=clock)
    simulation = Simulation(clock, server, door(limit), 500.0, seed=1)
    for second in simulation.run(30):
        del second
    started = len(simulation.calls)
    for second in simulation.run(150):
        del second
    refused = sum(call.refused for call in simulation.calls[started:]) / (len(simulation.calls) - started)
    print(f"\n  50 in flight on average, the limit at {limit.limit}: {refused:.3%} refused")
    assert refused < 0.01


def test_it_does_not_grow_while_idle() -> None:
    """At less than half of the limit in use, it is after ten minutes what it was."""
    clock, server = Clock(), Server(200, exponential(0.1))
    limit = AdaptiveLimit(initial=40, clock=clock)
    limits = [limit.limit for _ in Simulation(clock, server, door(limit), 140.0, seed=1).run(600)]
    print(f"\n  with 14 of 40 in use: {min(limits)} to {max(limits)}")
    assert max(limits) == 40


@each
def test_the_service_is_kept_busy(algorithm: Any) -> None:
    """What the limit lets through is at least nine tenths of what can be done, and waits less than it works."""
    _, server, simulation = overloaded(algorithm, ROOM, seed=2)
    for second in simulation.run(30):
        del second
    before = server.completed
    for second in simulation.run(90):
        del second
    done = (server.completed - before) * 0.1 / ROOM / 60
    waits = [call.waited for call in simulation.calls if call.waited is not None and call.came > 30]
    print(
        f"\n  {type(algorithm).__name__}: {done:.1%} done, "
        f"waiting {statistics.mean(waits) * 1000:.1f} ms beside 100 ms of work"
    )
    assert done > 0.9
    assert statistics.mean(waits) < 0.05


@pytest.mark.proof
@each
@pytest.mark.parametrize("initial", [ROOM // 5, ROOM * 5], ids=["from a fifth", "from five times"])
def test_it_finds_the_capacity_in_most_seeds(algorithm: Any, initial: int) -> None:
    """In at least nine of ten seeds the limit of the second half of a minute is within 20 % of the room there is."""
    found = []
    for seed in range(20):
        for service in (exponential(0.1), lognormal(0.1)):
            limit, _, simulation = overloaded(algorithm, initial, seed, service)
            found.append(statistics.mean(limit.limit for second in simulation.run(60) if second > 30) / ROOM)
    within = sum(0.8 <= share <= 1.2 for share in found) / len(found)
    print(
        f"\n  {type(algorithm).__name__} from {initial}: {min(found):.2f} to {max(found):.2f}, {within:.0%} within 20 %"
    )
    assert within >= 0.9
