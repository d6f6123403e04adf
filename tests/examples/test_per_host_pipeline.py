"""The example of a pipeline for each host does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples import per_host_pipeline
from examples.per_host_pipeline import DOWN, HOSTS, SECONDS, run

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_others_are_unharmed() -> None:
    """With a pipeline for each host, every call to a healthy host is answered, and one circuit is open."""
    answered, _, opened = run(keyed=True)
    assert [answered[host] for host in HOSTS if host != DOWN] == [SECONDS] * 3
    assert opened == [f"{DOWN}.circuit_breaker"]


def test_one_for_all_harms_them() -> None:
    """With one pipeline for all, the healthy hosts lose half of their calls, and the one that is down gains nothing."""
    answered, asked, _ = run(keyed=False)
    apart, asked_apart, _ = run(keyed=True)
    assert [answered[host] for host in HOSTS if host != DOWN] == [SECONDS // 2] * 3
    assert (answered[DOWN], asked[DOWN]) == (apart[DOWN], asked_apart[DOWN])


def test_it_prints_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    """The program ends with the number of answers that were lost, without and with the policy."""
    per_host_pipeline.main()
    assert capsys.readouterr().out.splitlines()[-1].endswith("180 with one pipeline for all, 0 with one for each")


def test_it_runs_as_a_module() -> None:
    """`python -m examples.per_host_pipeline` prints one line for each host and nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.per_host_pipeline"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [sum(line.startswith(host) for line in done.stdout.splitlines()) for host in HOSTS] == [1] * 4
