"""The simulator from a shell: `python -m resilience simulate ...` and `python -m resilience preview ...`.

What was asked for wrongly ends with one sentence on stderr and status 2, before anything is run or written. Ctrl-C ends
with status 130, every process that plays, and nothing written.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from resilience.testing.simulation.preview import preview
from resilience.testing.simulation.seeds import simulate
from resilience.testing.simulation.toml import read_scenario, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        text = _preview(given) if given.command == "preview" else _simulate(given)
    except (TypeError, ValueError, OSError, ImportError, RuntimeError) as error:
        sys.stderr.write(f"{parser.prog} {given.command}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{parser.prog} {given.command}: interrupted\n")
        return 130
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m resilience", description="Try policies before they are needed.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    storm = commands.add_parser(
        "simulate",
        help="play a scenario and compare its pipelines",
        description=f"Play a scenario and compare its pipelines. Ready ones: {', '.join(ready())}.",
    )
    storm.add_argument("scenario", help="a TOML file, or the name of a ready scenario")
    storm.add_argument("--seeds", type=int, default=5, help="runs of each pipeline (default: 5)")
    storm.add_argument("--processes", type=int, default=None, help="processes to play in (default: one per CPU)")
    storm.add_argument("--plot", type=Path, metavar="FILE", help="draw load and latency into an .svg or .png file")
    storm.add_argument("--json", type=Path, metavar="FILE", help="write figures and series as JSON")
    waits = commands.add_parser("preview", help="show the waits of a backoff")
    waits.add_argument("backoff", help="such as 'exponential(base=0.1, cap=5)', 0.5 or '[0.1, 1, 5]'")
    waits.add_argument("--retries", type=int, default=8, help="how many waits (default: 8)")
    return parser


def _preview(given: argparse.Namespace) -> str:
    return preview(given.backoff, given.retries)


def _simulate(given: argparse.Namespace) -> str:
    scenario = read_scenario(given.scenario)
    for path in (given.plot, given.json):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    if given.plot is not None:
        from resilience.testing.simulation.plot import check_target

        check_target(given.plot)
    jobs = max(1, given.seeds) * len(scenario.pipelines)
    processes = min(os.cpu_count() or 1, jobs) if given.processes is None else given.processes
    report = simulate(scenario, seeds=given.seeds, processes=processes)
    if given.plot is not None:
        report.plot(given.plot)
    if given.json is not None:
        given.json.write_text(report.to_json() + "\n", encoding="utf-8")
    return report.table()
