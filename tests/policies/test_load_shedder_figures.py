"""The load shedder before a simulated server: who is answered, who gives way, and whether it is always the same."""

from __future__ import annotations

import statistics
from collections import defaultdict

import pytest

from resilience import Priority
from resilience.policies.shed import LoadShedder
from tests.simulation import Call, Clock, Server, Service, Simulation, constant, door, exponential, lognormal

WORKERS, WORK = 50, 0.1
SERVICES = [constant(WORK), exponential(WORK), lognormal(WORK)]
each_service = pytest.mark.parametrize("service", SERVICES, ids=["constant", "exponential", "lognormal"])


def offered(load: float, service: Service, seconds: float, *, seed: int, by_user: bool = True) -> list[Call]:
    """The calls of so many seconds, after ten calm ones, at this load as a share of what can be done."""
    clock, server = Clock(), Server(WORKERS, service)
    entrance = door(LoadShedder(clock=clock), by_user=by_user)

    def rate(now: float) -> float:
        return (load if now > 10 else min(load, 0.6)) * WORKERS / WORK

    simulation = Simulation(clock, server, entrance, rate, seed=seed, users=200, priorities=tuple(Priority))
    for second in simulation.run(10 + seconds):
        del second
    return simulation.calls


def answered(calls: list[Call], priority: Priority) -> float:
    """The share of the calls of this priority that were admitted."""
    mine = [call.refused for call in calls if call.priority is priority]
    return 1 - sum(mine) / len(mine)


@each_service
def test_at_twice_the_capacity_what_matters_most_is_answered(service: Service) -> None:
    """At twice the load that can be done, CRITICAL calls are answered, SHEDDABLE ones give way first."""
    calls = [call for call in offered(2.0, service, 50, seed=1) if call.came > 10]
    critical, default, sheddable = (answered(calls, priority) for priority in sorted(Priority, reverse=True))
    waits = [call.waited for call in calls if call.waited is not None]
    print(f"\n  CRITICAL {critical:.2%}, DEFAULT {default:.1%}, SHEDDABLE {sheddable:.1%} answered", end="")
    print(f"; they wait {statistics.mean(waits):.3f} s, at most {max(waits):.2f} s")
    assert critical >= 0.99
    assert 0.4 < default < 0.6
    assert sheddable < 0.05
    assert statistics.mean(waits) < 0.3


@pytest.mark.parametrize("load", [1.2, 1.5])
def test_what_matters_least_gives_way_first(load: float) -> None:
    """At a little more than can be done, SHEDDABLE calls give way, and hardly a DEFAULT one."""
    calls = [call for call in offered(load, exponential(WORK), 50, seed=2) if call.came > 10]
    critical, default, sheddable = (answered(calls, priority) for priority in sorted(Priority, reverse=True))
    print(f"\n  at {load}: CRITICAL {critical:.2%}, DEFAULT {default:.1%}, SHEDDABLE {sheddable:.1%} answered")
    assert critical == 1.0
    assert default > 0.85
    assert sheddable < default - 0.2


@each_service
@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
def test_below_the_capacity_nobody_is_shed(service: Service, load: float) -> None:
    """A server that is busy and not overloaded turns nobody away."""
    calls = offered(load, service, 50, seed=3)
    shed = sum(call.refused for call in calls)
    print(f"\n  {shed} of {len(calls)} shed at {load} of the capacity")
    assert shed == 0


def alike(calls: list[Call]) -> float:
    """How often a DEFAULT call met with what most of its user's calls met with; 0.5 would be chance."""
    visits: defaultdict[int, list[bool]] = defaultdict(list)
    for call in calls:
        if call.priority is Priority.DEFAULT and call.came > 15:
            visits[call.user].append(call.refused)
    return statistics.mean(max(share, 1 - share) for share in map(statistics.mean, visits.values()))


@each_service
def test_the_same_users_are_hit_for_the_length_of_an_episode(service: Service) -> None:
    """In 55 s of overload, hardly a user is now turned away and now admitted; without names, everybody is."""
    named = alike(offered(2.0, service, 60, seed=4))
    nameless = alike(offered(2.0, service, 60, seed=4, by_user=False))
    print(f"\n  {named:.1%} of a user's calls met with the same, and {nameless:.1%} where nobody has a name")
    assert named > 0.88
    assert nameless < 0.65


def test_it_recovers() -> None:
    """Ten seconds after an overload, nobody is turned away any more."""
    clock, server = Clock(), Server(WORKERS, exponential(WORK))
    entrance = door(LoadShedder(clock=clock), by_user=True)
    simulation = Simulation(
        clock,
        server,
        entrance,
        lambda now: (2.0 if 10 < now < 40 else 0.6) * WORKERS / WORK,
        seed=5,
        users=200,
        priorities=tuple(Priority),
    )
    for second in simulation.run(90):
        del second
    last = max(call.came for call in simulation.calls if call.refused)
    print(f"\n  the last call was turned away {last - 40:.1f} s after the overload")
    assert 40 <= last < 50
