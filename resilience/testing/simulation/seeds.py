"""Many runs of a scenario, one for each pipeline and seed, in this process or in several.

Each run is a function of its scenario, pipeline and seed alone, so it does not matter who does it. Processes are
spawned, never forked: a fork copies the locks of whatever else runs here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from resilience._checks import positive_int, wrong_type, wrong_value
from resilience.testing.simulation.report import Report
from resilience.testing.simulation.run import play
from resilience.testing.simulation.scenario import Scenario
from resilience.testing.simulation.toml import read_scenario

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

    from resilience.testing.simulation.run import Run

    Job = tuple[Scenario, str, int]

__all__ = ["simulate"]


def simulate(
    scenario: Scenario | str | Path,
    *,
    seeds: int | Iterable[int] = 10,
    processes: int = 1,
    progress: bool | None = None,
) -> Report:
    """Play a scenario once for each pipeline and seed. The same arguments give the same report.

    A plain call that blocks until it is done. With `processes` above 1, a script calls it under
    `if __name__ == "__main__":`, as everything that spawns processes.

    Args:
        scenario: a `Scenario`, the path of one in TOML, or the name of a ready one.
        seeds: how many, or which.
        processes: how many to play in.
        progress: whether to show a bar on stderr; by default where stderr is a terminal.

    Raises:
        FileNotFoundError: there is no such scenario.
        TypeError, ValueError: a parameter or the scenario breaks a rule; nothing was run.
        RuntimeError: simulated time stands still, for policies call again and again without a wait.
    """
    if isinstance(scenario, str | Path):
        scenario = read_scenario(scenario)
    elif not isinstance(scenario, Scenario):
        raise wrong_type("scenario", "a Scenario, a path or the name of a ready one", scenario)
    numbers = _numbers(seeds)
    workers = positive_int("processes", processes)
    jobs: list[Job] = [(scenario, pipeline, seed) for pipeline in scenario.pipelines for seed in numbers]
    results = (_play(job) for job in jobs) if workers == 1 else _over_processes(jobs, min(workers, len(jobs)))
    shown = sys.stderr.isatty() if progress is None else progress
    runs = list(_with_bar(results, len(jobs), sys.stderr) if shown else results)
    order = {(pipeline, seed): place for place, (_, pipeline, seed) in enumerate(jobs)}
    runs.sort(key=lambda run: order[run.pipeline, run.seed])
    return Report(scenario, tuple(runs))


def _numbers(seeds: int | Iterable[int]) -> list[int]:
    rule = "a number of seeds, 1 or more, or the seeds themselves, integers"
    if isinstance(seeds, int):
        positive_int("seeds", seeds)
        return list(range(seeds))
    if not isinstance(seeds, Iterable):
        raise wrong_type("seeds", rule, seeds)
    numbers = list(seeds)
    for number in numbers:
        _whole(number, rule)
    if not numbers or len(set(numbers)) < len(numbers):
        raise wrong_value("seeds", "at least one, and each once", numbers)
    return numbers


def _whole(number: object, rule: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        raise wrong_type("seeds", rule, number)


def _play(job: Job) -> Run:
    return play(*job)


def _over_processes(jobs: list[Job], processes: int) -> Iterator[Run]:
    import multiprocessing
    import pickle
    import signal

    try:
        pickle.dumps(jobs[0][0])
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"a scenario for several processes must hold expressions or module-level functions as pipelines: {error}"
        ) from None
    # Ctrl-C reaches every process of a terminal: the one that was started ends the others, and they say nothing.
    quiet = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context("spawn").Pool(processes, signal.signal, quiet) as pool:
        yield from pool.imap_unordered(_play, jobs)


def _with_bar(runs: Iterable[Run], total: int, stream: TextIO) -> Iterator[Run]:
    """The same runs, with a bar that grows."""
    try:
        console: Any = import_module("rich.console").Console(file=stream)
        bars: Any = import_module("rich.progress")
    except ImportError:
        yield from _with_plain_bar(runs, total, stream)
    else:
        yield from bars.track(runs, total=total, description="simulating", console=console, transient=True)


def _with_plain_bar(runs: Iterable[Run], total: int, stream: TextIO) -> Iterator[Run]:
    for done, run in enumerate(runs, 1):
        filled = 30 * done // total
        stream.write(f"\rsimulating [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}")
        stream.flush()
        yield run
    stream.write("\n")
    stream.flush()
