"""The simulator: it repeats itself, its server behaves as queues do, and the policies in it are the real ones."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from resilience import Bulkhead, Pipeline, PipelineWarning, Retry, RetryBudget, Timeout
from resilience.testing.simulation import Clients, Incident, Scenario, Server, read_scenario, ready, simulate
from resilience.testing.simulation.loop import Loop, LoopClock
from resilience.testing.simulation.run import play
from resilience.testing.simulation.seeds import _with_plain_bar

DOWN = Incident(kind="down", at=0, lasts=inf)
RETRY = "Retry(on=OSError, attempts=3, backoff=[0.5, 1])"


def protected() -> Pipeline:
    """Policies as a service builds them, with a name and clocks that are not virtual."""
    return Pipeline(Retry(on=OSError, budget=RetryBudget(0.1)), Bulkhead(20), Timeout(1.0), name="simulated")


def small(**changes: object) -> Scenario:
    """A scenario that is played in a tenth of a second."""
    return replace(Scenario(seconds=20, clients=Clients(number=50, think=1.0)), **changes)


def totals(scenario: Scenario, seed: int = 1) -> dict[str, int]:
    """The counts of one run of the first pipeline."""
    return {name: sum(bins) for name, bins in play(scenario, next(iter(scenario.pipelines)), seed).counts.items()}


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ready())
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    """A run of each ready scenario is a function of its seed: equal for the same, another for another."""
    scenario = replace(read_scenario(name), seconds=65)
    pipeline = list(scenario.pipelines)[-1]
    assert play(scenario, pipeline, 1) == play(scenario, pipeline, 1)
    assert play(scenario, pipeline, 1).counts != play(scenario, pipeline, 2).counts


def test_processes_change_nothing() -> None:
    """Runs that several processes share out are those of one, in the same order."""
    scenario = small(pipelines={"bare": (), "function": protected})
    assert simulate(scenario, seeds=2, processes=2).runs == simulate(scenario, seeds=2).runs


def test_a_scenario_that_cannot_be_sent_is_refused() -> None:
    """Several processes and a pipeline that only this one knows: an error that says so, and nothing is run."""
    with pytest.raises(TypeError, match="module-level functions"):
        simulate(small(pipelines={"local": lambda: Timeout(1)}), processes=2)


def test_a_scenario_pickles() -> None:
    """A scenario is a value that can be sent and is equal afterwards."""
    scenario = read_scenario("retry-storm")
    assert pickle.loads(pickle.dumps(scenario)) == scenario


def test_every_call_is_counted_once() -> None:
    """Calls end as served, failed or rejected, or are under way when the run ends; requests are first or again."""
    for name in ready():
        scenario = replace(read_scenario(name), seconds=65)
        for pipeline in scenario.pipelines:
            counts = {key: sum(bins) for key, bins in play(scenario, pipeline, 3).counts.items()}
            ended = counts["served"] + counts["failed"] + counts["rejected"]
            assert 0 <= counts["offered"] - ended <= 2_000
            assert counts["sent"] - counts["retried"] <= counts["offered"] - counts["rejected"]


def test_an_open_loop_calls_at_its_rate() -> None:
    """Calls of an open loop come as often as asked, however slow the answers are."""
    slow = Server(workers=1, service=5.0)
    counts = totals(small(seconds=100, clients=Clients(loop="open", rate=50, instances=3), server=slow))
    assert counts["offered"] == pytest.approx(5_000, rel=0.05)


def test_a_closed_loop_waits_for_its_answers() -> None:
    """A client of a closed loop thinks and calls in turn: number / (think + latency) calls per second."""
    steady = Server(workers=200, service=1.0, distribution="constant")
    counts = totals(small(seconds=200, clients=Clients(number=100, think=1.0), server=steady))
    assert counts["offered"] == pytest.approx(100 / 2.0 * 200, rel=0.03)


@pytest.mark.parametrize("distribution", ["constant", "exponential", "lognormal"])
def test_the_server_answers_at_its_capacity(distribution: str) -> None:
    """Under more than it can do, a server answers workers / service calls per second, whatever the distribution."""
    server = Server(workers=5, service=0.1, distribution=distribution, queue=10)
    counts = totals(small(seconds=200, clients=Clients(loop="open", rate=150), server=server))
    assert counts["served"] / 200 == pytest.approx(50, rel=0.05)


def test_one_worker_is_the_queue_of_the_textbook() -> None:
    """With Poisson calls and exponential work, latency is that of M/M/1: its median is ln 2 / (m - l)."""
    scenario = small(
        seconds=4_000, clients=Clients(loop="open", rate=5), server=Server(workers=1, service=0.1, queue=10_000)
    )
    row = simulate(scenario, seeds=2).rows()[0]
    print(f"\nmedian {row.p50:.4f} s, by the formula {0.693147 / 5:.4f} s")
    assert row.p50 == pytest.approx(0.693147 / 5, rel=0.08)


def test_abandoned_work_is_done_in_vain() -> None:
    """A server works on requests whose clients have gone, unless it notices."""
    crowd = Clients(loop="open", rate=40)
    server = Server(workers=1, service=0.05, queue=1_000)
    given_up = {"given up": ("Timeout(0.2)",)}
    blind = totals(small(clients=crowd, server=server, pipelines=given_up))
    seeing = totals(small(clients=crowd, server=replace(server, notices=True), pipelines=given_up))
    print(f"\nserved {blind['served']} and {seeing['served']}, in vain {blind['wasted']} and {seeing['wasted']}")
    assert blind["wasted"] > 0.9 * (blind["served"] + blind["wasted"])
    assert seeing["served"] > 3 * blind["served"]


# --- policies ---------------------------------------------------------------------------------------------------------


def test_a_retry_calls_as_often_as_it_says() -> None:
    """Against a server that is down, each call makes its three requests, and none is served."""
    counts = totals(small(incidents=(DOWN,), clients=Clients(loop="open", rate=20), pipelines={"retry": (RETRY,)}))
    assert counts["served"] == 0
    assert counts["sent"] == pytest.approx(3 * counts["offered"], rel=0.08)
    assert counts["sent"] == counts["offered"] + counts["retried"]


def test_a_breaker_spares_a_server_that_is_down() -> None:
    """With a breaker, calls to a server that is down are rejected, but for those that open it and its trials."""
    breaker = ("CircuitBreaker(5, on=OSError, cooldown=5)",)
    counts = totals(small(incidents=(DOWN,), pipelines={"breaker": breaker}))
    assert 5 <= counts["sent"] <= 15
    assert counts["rejected"] > 500


def test_each_instance_has_policies_of_its_own() -> None:
    """Four processes have four breakers: each needs its own failures to open."""
    breaker = {"breaker": ("CircuitBreaker(5, on=OSError, cooldown=100)",)}
    clients = Clients(number=40, think=5.0, instances=4)
    assert totals(small(incidents=(DOWN,), pipelines=breaker, clients=clients))["sent"] >= 20
    assert totals(small(incidents=(DOWN,), pipelines=breaker, clients=replace(clients, instances=1)))["sent"] < 20


@pytest.mark.parametrize("waiting", ['Throttle("20/s", max_wait=2)', "Bulkhead(1, queue=100, max_wait=2)"])
def test_policies_that_queue_work_in_simulated_time(waiting: str) -> None:
    """Calls that wait for a throttle or a bulkhead are let in, in time that costs nothing."""
    server = Server(workers=10, service=0.05, distribution="constant")
    counts = totals(small(clients=Clients(loop="open", rate=15), server=server, pipelines={"waiting": (waiting,)}))
    assert counts["served"] > 0.9 * counts["offered"] > 200


def test_a_function_builds_the_policies_of_the_service() -> None:
    """Policies that were built with the machine's clock are simulated on the clock of the run, with fresh state."""
    built = protected()
    scenario = small(incidents=(DOWN,), seconds=60, pipelines={"built": lambda: built})
    first, second = totals(scenario), totals(scenario)
    assert first == second
    assert first["failed"] > 1_000
    assert built.policies[1].snapshot()["in_flight"] == 0


def test_what_is_no_outage_is_an_error() -> None:
    """A policy that is used wrongly ends the simulation with its own error, and is not counted as a failure."""
    with pytest.raises(TypeError, match="key"):
        simulate(small(pipelines={"keyed": ('Throttle("5/s", key="user")',)}), seeds=1)


def test_time_that_stands_still_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work at one instant that never ends is reported, with the instant."""
    monkeypatch.setattr("resilience.testing.simulation.loop.TURNS", 1_000)
    loop = Loop()

    def again(_: object = None) -> None:
        loop.call_soon(again)

    loop.at(3.0, again)
    with pytest.raises(RuntimeError, match="stands still at 3 s"):
        loop.run(10.0)


def test_nobody_may_block_the_simulation() -> None:
    """A blocking sleep on the clock of a run is refused."""
    with pytest.raises(RuntimeError, match="block"):
        LoopClock(Loop()).sleep(1.0)


def test_it_runs_inside_a_running_event_loop() -> None:
    """A notebook runs an event loop already: the simulation runs in it, and leaves it as it was."""

    async def notebook() -> bool:
        task = asyncio.current_task()
        simulate(small(pipelines={"retry": (RETRY, "Timeout(1)")}), seeds=1)
        await asyncio.sleep(0)
        return asyncio.current_task() is task

    assert asyncio.run(notebook())


def test_a_trio_task_is_refused() -> None:
    """Inside a trio task there is no place for another loop: an error says so."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        simulate(small(), seeds=1)

    with pytest.raises(RuntimeError, match="trio"):
        trio.run(main)


# --- reports ----------------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_pipeline() -> None:
    """A table names the scenario, its seeds and each pipeline with its figures."""
    table = simulate(small(pipelines={"bare": (), "retry": (RETRY,)}), seeds=2).table()
    lines = table.splitlines()
    assert lines[0] == "a scenario: 20 s, 2 seeds"
    assert lines[1].split()[:3] == ["pipeline", "offered/s", "served"]
    assert [line.split()[0] for line in lines[2:]] == ["bare", "retry"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_json_is_whole_and_strict() -> None:
    """The JSON has figures and series of every pipeline, and what is infinite or not a number is null."""
    document = json.loads(simulate(small(incidents=(DOWN,)), seeds=2).to_json(), parse_constant=pytest.fail)
    assert document["seeds"] == [0, 1]
    assert document["rows"][0]["p50"] is None
    series = document["series"]["bare"]
    assert len(series["offered"]) == len(series["p99"]) == 21
    assert sum(series["served"]) == 0


def test_what_is_kept_does_not_grow_with_time() -> None:
    """A run of a day has no more bins than one of ten minutes."""
    calls = Clients(loop="open", rate=0.05)
    runs = [play(small(seconds=seconds, clients=calls), "bare", 1) for seconds in (600, 86_400)]
    assert len(runs[0].counts["sent"]) == len(runs[1].counts["sent"]) == 601


def test_an_unknown_pipeline_is_named() -> None:
    """Asking for the runs of a pipeline that is not there names those that are."""
    with pytest.raises(ValueError, match="pipeline must be one of bare, got 'bear'"):
        simulate(small(), seeds=1).of("bear")


def test_a_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where matplotlib is missing, the error says which extra brings it, and no file is left behind."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"resilience-policies\[plot\]"):
        simulate(small(), seeds=1).plot(tmp_path / "out.svg")
    assert list(tmp_path.iterdir()) == []


def test_a_plot_has_a_form(tmp_path: Path) -> None:
    """A file name that ends in neither .svg nor .png is refused."""
    with pytest.raises(ValueError, match=r"path must end in \.svg or \.png, got .*out\.gif"):
        simulate(small(), seeds=1).plot(tmp_path / "out.gif")


@pytest.mark.parametrize(("name", "start"), [("out.svg", b"<?xml"), ("out.png", b"\x89PNG")])
def test_a_plot_is_drawn(name: str, start: bytes, tmp_path: Path) -> None:
    """A report is drawn as SVG and as PNG, and the same report is the same SVG."""
    pytest.importorskip("matplotlib")
    report = simulate(small(pipelines={"bare": (), "retry": (RETRY,)}), seeds=1)
    report.plot(tmp_path / name)
    report.plot(tmp_path / f"again-{name}")
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(start)
    assert drawn == (tmp_path / f"again-{name}").read_bytes()


def test_the_bar_grows(capsys: pytest.CaptureFixture[str]) -> None:
    """Without rich, progress is a plain bar on the stream it is given, full at the end."""
    runs = simulate(small(), seeds=3).runs
    assert list(_with_plain_bar(runs, 3, sys.stderr)) == list(runs)
    assert capsys.readouterr().err.endswith(f"[{'#' * 30}] 3/3\n")


def test_complaints_about_an_order_are_made_once() -> None:
    """What a pipeline has to say of its order is said when it is built, and not again for each run."""
    with pytest.warns(PipelineWarning) as told:
        odd = Pipeline(Timeout(0.05), Retry(on=OSError, backoff=1.0))
    assert len(told) == 1
    assert simulate(small(pipelines={"odd": lambda: odd}), seeds=2).rows()[0].offered > 0
