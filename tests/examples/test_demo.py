"""The demonstration: the whole of it once, and its parts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from examples.review_service.children import ROOT
from examples.review_service.demo import plot, table, words
from examples.review_service.demo.figures import Run, Turn, percentile
from examples.review_service.demo.load import Outcome, Sample, planned
from examples.review_service.demo.script import LENGTH, RATE, SCENES, Trouble, scene_at, scene_of
from examples.review_service.demo.timeline import Timeline
from tests.examples.test_processes import children_of, clean, on_linux


def _tree() -> set[Path]:
    """Every file of the checkout that Python does not make by itself."""
    ours = set()
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if not name.startswith(".") and name != "__pycache__"]
        ours |= {Path(folder, file) for file in files}
    return ours


@on_linux
@pytest.mark.slow
def test_the_whole_demonstration(tmp_path: Path) -> None:
    """It ends well in under 40 s, shows that the policies change something, and leaves no process or file behind."""
    before, start = _tree(), time.monotonic()
    picture = tmp_path / "new" / "outage.svg"
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.review_service", "--plot", str(picture)],
        cwd=ROOT,
        env=clean({"TMPDIR": str(tmp_path)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen: set[int] = set()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        seen |= set(children_of(process.pid))
    process.stdout.close()
    said = "".join(lines)
    assert process.wait(10.0) == 0, said
    assert time.monotonic() - start < 40.0
    assert len(seen) >= 3
    assert not [pid for pid in seen if Path(f"/proc/{pid}").exists()]
    assert _tree() == before
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert "error" not in said.replace("errors", "")
    assert "provider breaker opens" in said
    assert "database breaker opens" in said
    good = next(line for line in said.splitlines() if line.strip().startswith("answered in time") and "(" in line)
    bare, kept = (float(share.split("%")[0]) for share in good.split("(")[1:])
    assert kept > bare
    ET.parse(picture)


def _run(title: str, outcome: Outcome, seconds: float) -> Run:
    """A run in which everything goes the same way, trouble or not."""
    run = Run(title)
    for number in range(int(RATE * LENGTH)):
        due = number / RATE
        fine = scene_at(due).trouble is Trouble.NONE
        run.add(Sample(due, 0.01 if fine else seconds, 200, Outcome.FULL if fine else outcome))
    run.calls = dict.fromkeys(range(round(LENGTH * 2)), 3)
    return run


@pytest.fixture
def bare() -> Run:
    return _run("without policies", Outcome.LATE, 1.0)


@pytest.fixture
def kept() -> Run:
    return _run("with policies", Outcome.PLAIN, 0.02)


def test_the_scenes_follow_each_other() -> None:
    """No gap, no overlap, and it begins and ends well."""
    assert [scene.start for scene in SCENES] == [0.0, *(scene.end for scene in SCENES[:-1])]
    assert SCENES[0].trouble is SCENES[-1].trouble is Trouble.NONE
    assert scene_at(LENGTH + 1.0) is SCENES[-1]


def test_the_load_is_mixed() -> None:
    """Of ten requests eight read a page, one reads the list and one writes."""
    kinds = [(planned(n).method, planned(n).path.startswith("/reviews")) for n in range(100)]
    assert (kinds.count(("GET", False)), kinds.count(("GET", True)), kinds.count(("POST", False))) == (80, 10, 10)


def test_the_figures_say_what_was_seen(bare: Run, kept: Run) -> None:
    """Counts, percentiles and recovery come from the samples."""
    hangs = scene_of(Trouble.HANGS)
    assert len(bare.during(hangs)) == int(RATE * (hangs.end - hangs.start))
    assert percentile(bare.during(hangs), 0.99) == 1.0
    assert percentile(kept.during(hangs), 0.5) == 0.02
    assert percentile([], 0.5) == 0.0
    assert bare.outcomes()[Outcome.LATE] == bare.statuses()[None] == kept.outcomes()[Outcome.PLAIN]
    assert bare.recovery(Trouble.LOCKED) == 0.0
    assert bare.calls_during(hangs) == 3 * int((hangs.end - hangs.start) * 2)


def test_recovery_is_when_everything_is_as_before() -> None:
    """A slow answer, or one without the provider, is not as before; a trouble that stays has no recovery."""
    run, end = Run("late"), scene_of(Trouble.FAILS).end
    for number in range(int(RATE * LENGTH)):
        due = number / RATE
        slow = due < end + 0.5
        run.add(Sample(due, 0.5 if slow else 0.01, 200, Outcome.FULL))
    assert run.recovery(Trouble.FAILS) == pytest.approx(0.5)
    never = Run("never", [Sample(n / RATE, 0.01, 503, Outcome.REFUSED) for n in range(int(RATE * LENGTH))])
    assert never.recovery(Trouble.FAILS) is None


def _console(encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    output = io.BytesIO()
    return Console(file=io.TextIOWrapper(output, encoding=encoding, write_through=True), width=80), output


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_timeline_is_readable_anywhere(encoding: str, bare: Run) -> None:
    """Plain lines of at most 80 columns where there is no terminal, in whatever encoding there is."""
    console, output = _console(encoding)
    timeline = Timeline(console)
    timeline.legend()
    timeline.tick(3, scene_of(Trouble.HANGS), bare.tick(3), 128)
    for state in ("open", "half_open", "closed"):
        timeline.turn(Turn(1.9, "userinfo.circuit_breaker", state))
    lines = output.getvalue().decode(encoding).splitlines()
    assert len(lines) == len(Outcome) + 5
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert lines[5].startswith("  2.0 s  provider hangs")


def test_the_table_and_the_words_have_both_runs(bare: Run, kept: Run) -> None:
    """One table, one column for each run, and words with the figures in them."""
    console, output = _console()
    console.print(table.table(bare, kept))
    console.print(words.closing(bare, kept))
    text = output.getvalue().decode()
    assert "without policies" in text
    assert "80 of 80" in text
    assert "100%" in text


def test_the_picture_is_whole(bare: Run, kept: Run) -> None:
    """Well-formed SVG that asks for nothing from outside, with every outcome that was seen."""
    document = plot.svg(bare, kept)
    root = ET.fromstring(document)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "http" not in document.replace("http://www.w3.org/2000/svg", "")
    assert "script" not in document
    for colour in ("#2a9d5c", "#e9b83a", "#d1495b"):
        assert colour in document
