"""What users' type checkers see of `Keyed`, asked of the same three."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.typing.test_types import CHECKERS, HERE, Checker

KEPT = HERE / "keyed.py"
MISTAKES = HERE / "keyed_mistakes.py"


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_policy_of_a_key_keeps_its_type(checker: Checker, tmp_path: Path) -> None:
    """`hosts[key]` has the type that the factory returns, and a decorated function has the type it had."""
    assert checker(KEPT, tmp_path) == {}


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_with_keys_are_seen(checker: Checker, tmp_path: Path) -> None:
    """Each deliberate error is reported, and nothing else in the file is."""
    source = MISTAKES.read_text().splitlines()
    wrong = {number: line for number, line in enumerate(source, start=1) if "# wrong: " in line}
    found = checker(MISTAKES, tmp_path)
    assert len(wrong) >= 9
    assert {line: source[line - 1] for line in found} == wrong


def test_the_typed_examples_run() -> None:
    """The file that the checkers accept can be imported: every policy in it takes what it decorates."""
    assert "fetch_later" in runpy.run_path(str(KEPT))
