"""The table tells what was measured, what was not, and who was wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks import peers, plot
from tests.benchmarks.measure import MAX_SPREAD, Figure
from tests.benchmarks.table import OURS, Measured, Row, as_json, as_text, complaints
from tests.benchmarks.wrongs import granted, short_breakers, trials

ROW = Row("one thing / another", "<= 2.0", None, lambda rounds: {})
MEASURED = Measured(
    ROW,
    {OURS: Figure(1.5, 0.01), "other": Figure(9.0, 0.02), "third": Figure(3.25, MAX_SPREAD * 2)},
    {"other": "it lets everybody through"},
)


def test_a_peer_that_is_wrong_is_marked() -> None:
    """It has a mark in the table and a line below that says what it does."""
    assert "other! 9x" in as_text([MEASURED])
    assert complaints([MEASURED, MEASURED]) == ["! other: it lets everybody through"]
    assert json.loads(as_json([MEASURED]))["rows"][0]["wrong"] == {"other": "it lets everybody through"}


def test_a_figure_that_spreads_too_far_is_not_shown() -> None:
    """The cell says how far it spread, and the data holds no value."""
    assert "noisy (±16%)" in as_text([MEASURED])
    assert "3.25" not in as_text([MEASURED]) + as_json([MEASURED])


def test_what_could_not_be_measured_leaves_its_cell_empty() -> None:
    """A row without a figure is still a row."""
    assert "| one thing / another | <= 2.0" in as_text([Measured(ROW, {})])


def test_who_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose module cannot be imported is absent, by its name on PyPI."""
    monkeypatch.setattr(peers, "load", lambda name: None if name == "interlock" else object())
    assert peers.absent() == ["interlock-cb"]


def test_the_picture_needs_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without matplotlib, the message names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"resilience\[plot\]"):
        plot.draw([MEASURED], tmp_path / "table.svg")


def test_the_trials_see_who_is_wrong() -> None:
    """A limit that checks before it counts lets too many through, and a breaker that lets all in has a crowd inside."""
    assert granted(lambda: True, 80) == 160
    assert trials(lambda fn: fn) > 1
    assert trials(short_breakers()[OURS]) == 1
