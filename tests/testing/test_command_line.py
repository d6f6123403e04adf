"""`python -m resilience`: what it prints, what it writes, and what it says to a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resilience.testing.simulation.command_line import main
from resilience.testing.simulation.preview import preview

SMALL = """
title = "Small"
seconds = 10
clients = {number = 20, think = 1.0}
pipelines = {bare = [], retry = ["Retry(on=OSError)", "Timeout(1)"]}
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The path of a scenario that is played in an instant."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return str(path)


def test_a_scenario_is_played(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`simulate` prints the table and writes the JSON."""
    target = tmp_path / "out.json"
    assert main(["simulate", small, "--seeds", "2", "--processes", "1", "--json", str(target)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Small: 10 s, 2 seeds\n")
    assert [row["pipeline"] for row in json.loads(target.read_text())["rows"]] == ["bare", "retry"]


def test_a_plot_is_written(small: str, tmp_path: Path) -> None:
    """`--plot` draws the report."""
    pytest.importorskip("matplotlib")
    target = tmp_path / "out.svg"
    assert main(["simulate", small, "--seeds", "1", "--processes", "1", "--plot", str(target)]) == 0
    assert "Small" in target.read_text()


def test_the_module_runs_by_name(small: str) -> None:
    """`python -m resilience simulate` plays in several processes and leaves stderr empty where it is no terminal."""
    command = [sys.executable, "-m", "resilience", "simulate", small, "--seeds", "2", "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "retry" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "nowhere.toml"], "no scenario 'nowhere.toml': name a file, or one of half-the-fleet-lost"),
        (["simulate", "retry-storm", "--seeds", "0"], "seeds must be an integer, 1 or more, got 0"),
        (["simulate", "retry-storm", "--processes", "0"], "processes must be an integer, 1 or more, got 0"),
        (["simulate", "retry-storm", "--plot", "out.gif"], "path must end in .svg or .png"),
        (["simulate", "retry-storm", "--json", "nowhere/out.json"], "there is no folder nowhere"),
        (["preview", "exponential(base=-1)"], "base must be a number of seconds, 0 or more, got -1"),
        (["preview", "Retry(on=OSError)"], "the backoff must name one of"),
        (["preview", "exponential"], "write backoff.exponential(...)"),
        (["preview", "1", "--retries", "0"], "retries must be an integer, 1 or more, got 0"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is asked for wrongly ends with status 2 and one line on stderr, and nothing on stdout."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith(f"python -m resilience {arguments[0]}: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_missing_matplotlib_is_told_before_anything_is_run(
    small: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--plot` without matplotlib names the extra at once, not after the simulation."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("resilience.testing.simulation.command_line.simulate", pytest.fail)
    assert main(["simulate", small, "--plot", "out.svg"]) == 2
    assert "resilience-policies[plot]" in capsys.readouterr().err


def test_a_preview_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """`preview` shows each wait, its bounds and the sum of the worst case."""
    assert main(["preview", "exponential(base=0.1, cap=5)"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "exponential(base=0.1, factor=2.0, cap=5.0, jitter='full')"
    assert lines[3].split() == ["1", "0.000", "s", "0.050", "s", "0.100", "s", "0.100", "s"]
    assert lines[10].split() == ["8", "0.000", "s", "2.500", "s", "5.000", "s", "16.300", "s"]
    assert lines[-1] == "▁▁▁▂▃▆██  worst case 16.300 s of waiting, 9 attempts"


def test_a_preview_takes_what_a_policy_takes() -> None:
    """A number is a constant backoff, a list a schedule, and a decorrelated one grows along its longest course."""
    assert "worst case 1.500 s of waiting, 4 attempts" in preview("0.5", 3)
    assert "worst case 4.100 s of waiting, 4 attempts" in preview("[0.1, 2]", 3)
    assert "worst case 3.900 s of waiting, 4 attempts" in preview("decorrelated(base=0.1)", 3)
    assert preview("0", 2).endswith("▁▁  worst case 0.000 s of waiting, 3 attempts")
