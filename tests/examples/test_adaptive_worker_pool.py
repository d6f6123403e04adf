"""The adaptive limit before a pool of workers: it finds their number and follows it, and the work is done."""

from __future__ import annotations

import pytest

from examples.adaptive_worker_pool import main, run


def test_the_limit_follows_the_pool() -> None:
    """The limit is near the number of workers before and after half of them go, and jobs hardly wait."""
    lines = run(limited=True)
    assert 16 <= lines[3].limit <= 26
    assert 8 <= lines[9].limit <= 14
    assert lines[17].limit > 14
    assert all(line.wait < 0.1 for line in lines[1:])
    assert sum(line.done for line in lines) > 0.75 * sum(line.done for line in run(limited=False))


def test_without_a_limit_the_queue_only_grows() -> None:
    """Without it, jobs wait longer in each ten seconds than in those before."""
    waits = [line.wait for line in run(limited=False)]
    assert waits == sorted(waits)
    assert waits[-1] > 60


def test_the_program_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m examples.adaptive_worker_pool` prints a line for each ten seconds."""
    main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(" - " in line for line in lines) == 18
    assert "offered: 300 jobs a second" in lines[0]
