"""What users' type checkers see, asked of three of them: mypy strict, pyright strict and ty."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KEPT = HERE / "kept.py"
MISTAKES = HERE / "mistakes.py"


def run(module: str, *arguments: str) -> str:
    """What a checker prints; a status above 1 means that the checker itself failed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def lines_in(output: str) -> dict[int, str]:
    """The lines that a checker complains about, from output in the form `path:line:column: error: message`."""
    found = re.findall(r"^[^\s:]+\.py:(\d+):(?:\d+:)? error(.*)$", output, re.MULTILINE)
    return {int(line): message for line, message in found}


def mypy(path: Path, scratch: Path) -> dict[int, str]:
    """Complaints of mypy, strict."""
    options = ["--strict", "--follow-imports=silent", "--no-pretty", "--no-error-summary"]
    return lines_in(run("mypy", *options, f"--cache-dir={scratch / 'mypy'}", str(path.relative_to(ROOT))))


def pyright(path: Path, scratch: Path) -> dict[int, str]:
    """Complaints of pyright, strict, for this file alone."""
    settings = {
        "include": [os.path.relpath(path, scratch)],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
        # An expression that stands alone is how a deliberate error is written.
        "reportUnusedExpression": False,
        "reportUnusedCoroutine": False,
    }
    config = scratch / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    report = json.loads(run("pyright", "--outputjson", "-p", str(config)))
    assert report["summary"]["filesAnalyzed"] == 1
    return {
        1 + found["range"]["start"]["line"]: found["message"]
        for found in report["generalDiagnostics"]
        if found["severity"] == "error"
    }


def ty(path: Path, scratch: Path) -> dict[int, str]:
    """Complaints of ty."""
    return lines_in(
        run("ty", "check", "--output-format", "concise", "--python", sys.prefix, str(path.relative_to(ROOT)))
    )


CHECKERS = [
    pytest.param(
        checker,
        id=checker.__name__,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(checker.__name__) is None,
            reason=f"{checker.__name__} is not installed; the dev extra has it",
        ),
    )
    for checker in (mypy, pyright, ty)
]
Checker = Callable[[Path, Path], dict[int, str]]


@pytest.mark.parametrize("checker", CHECKERS)
def test_policies_keep_types(checker: Checker, tmp_path: Path) -> None:
    """A decorated function has the type it had, with what a fallback adds."""
    assert checker(KEPT, tmp_path) == {}


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_seen(checker: Checker, tmp_path: Path) -> None:
    """Each deliberate error is reported, and nothing else in the file is."""
    source = MISTAKES.read_text().splitlines()
    wrong = {number: line for number, line in enumerate(source, start=1) if "# wrong: " in line}
    found = checker(MISTAKES, tmp_path)
    assert len(wrong) >= 20
    assert {line: source[line - 1] for line in found} == wrong


def test_the_typed_examples_run() -> None:
    """The file that the checkers accept can be imported: every policy in it takes what it decorates."""
    assert "composed_later" in runpy.run_path(str(KEPT))
