"""The storm: an overload of ten seconds that is over after ten seconds, or never.

A closed loop of two hundred clients in four processes uses four fifths of what a server can do. Then others ask for
twice its capacity on top, for ten seconds. The server works on what its clients have long given up (see
`resilience.testing.simulation.scenario` for the model, and Bronson et al., "Metastable Failures in Distributed
Systems", HotOS 2021, for the phenomenon). Nothing but the policies differs between the two.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from resilience.testing.simulation import Incident, Report, Scenario, Server, read_scenario, simulate

SEEDS = 20
SOONEST, MOST = 90.0, 1.2


def scenario(**changes: object) -> Scenario:
    """The ready scenario with two of its pipelines."""
    ready = read_scenario("retry-storm")
    return replace(ready, pipelines={name: ready.pipelines[name] for name in ("naive", "taught")}, **changes)


def figures(report: Report, pipeline: str) -> tuple[list[float], float, float]:
    """Seconds to recovery per seed, and the highest load and peak of any."""
    runs = report.of(pipeline)
    recovered = [inf if (value := report.recovered(run)) is None else value for run in runs]
    return recovered, max(map(report.load, runs)), max(report.peak(run) or inf for run in runs)


@pytest.mark.parametrize("seeds", [4, pytest.param(SEEDS, marks=pytest.mark.proof)])
def test_the_taught_pipeline_recovers_and_naive_retries_do_not(seeds: int) -> None:
    """After a 10 s overload the taught pipeline is back within 90 s at no more than 1.2 x load, the naive one never."""
    report = simulate(scenario(), seeds=seeds)
    taught, load, peak = figures(report, "taught")
    naive, naive_load, naive_peak = figures(report, "naive")
    print(f"\n{report.table()}")
    print(f"taught: back after {max(taught):g} s at worst (asked: {SOONEST:g}), load {load:.3f}, peak {peak:.3f} (1.2)")
    print(
        f"naive: back in {sum(value < inf for value in naive)} of {seeds}, load {naive_load:.2f} x, {naive_peak:.2f} x"
    )
    assert len(taught) == len(naive) == seeds
    assert max(taught) <= SOONEST
    assert load <= MOST
    assert peak <= MOST
    assert min(naive) == inf


@pytest.mark.proof
@pytest.mark.parametrize(
    "change",
    [
        {"incidents": (Incident(kind="slow", at=40, lasts=10, factor=4),)},
        {"incidents": (Incident(kind="lost", at=40, lasts=10, share=0.7),)},
        {"server": Server(workers=10, service=0.1, distribution="constant", queue=500)},
        {"server": Server(workers=10, service=0.1, distribution="lognormal", queue=500)},
        {"server": Server(workers=40, service=0.4, queue=500)},
        {"server": Server(workers=10, service=0.1, queue=2000)},
    ],
    ids=["a slow server", "lost workers", "even work", "uneven work", "slow work", "a long queue"],
)
def test_what_recovers_does_not_hang_on_the_model(change: dict[str, object]) -> None:
    """With another trigger, another distribution of the work and other sizes, both still end as they did."""
    report = simulate(scenario(**change), seeds=3)
    taught, load, peak = figures(report, "taught")
    naive, _, _ = figures(report, "naive")
    print(f"\ntaught: back after {max(taught):g} s, load {load:.3f}, peak {peak:.3f}; naive: {naive}")
    assert max(taught) <= SOONEST
    assert load <= MOST
    assert peak <= MOST
    assert min(naive) == inf


def test_where_nothing_happens_all_is_well() -> None:
    """The measure of recovery itself raises no alarm: where next to nothing happens, every run is well at once."""
    calm = scenario(incidents=(Incident(kind="surge", at=40, lasts=10, rate=0.1),))
    report = simulate(replace(calm, pipelines={"bare": ()}), seeds=20)
    assert figures(report, "bare")[0] == [0.0] * 20


def test_a_server_that_spares_abandoned_work_does_not_storm() -> None:
    """The storm needs its cause: where no work is done for clients that have gone, naive retries recover, too."""
    report = simulate(scenario(server=Server(notices=True)), seeds=3)
    naive, load, _ = figures(report, "naive")
    print(f"\nnaive, on a server that notices: back after {max(naive):g} s, load {load:.2f}")
    assert max(naive) <= SOONEST
