"""Will it storm? Clients, policies and a server that falls over, in simulated time.

    report = simulate("retry-storm", seeds=20)
    print(report.table())
    report.plot("storm.svg")

What a retry, a budget or a breaker does to a service is decided not by one call but by what thousands of them do to
each other. That cannot be seen in a unit test and is expensive to see in production. Here it takes a second: the
policies themselves, not models of them, run between simulated clients and a simulated server.

    scenario      what is to be found out, checked as a whole      toml, expressions   how to write one down
    loop          an event loop in which nothing takes time        plain, tasks, ways  calls, without tasks and with
    server, run   one run of it, with policies from `rebuild`      seeds               many runs, over processes
    tally         what is written down                             report, plot        what to make of it
    command_line  all of it from a shell
"""

from __future__ import annotations

from resilience.testing.simulation.report import Report
from resilience.testing.simulation.scenario import Clients, Incident, Scenario, Server
from resilience.testing.simulation.seeds import simulate
from resilience.testing.simulation.toml import read_scenario, ready, scenario_from

__all__ = [
    "Clients",
    "Incident",
    "Report",
    "Scenario",
    "Server",
    "read_scenario",
    "ready",
    "scenario_from",
    "simulate",
]
