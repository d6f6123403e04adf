"""The list of exceptions is well-formed and up to date, and the command would tell if it were not."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from tests.mutation.__main__ import as_text
from tests.mutation.excused import Excuse, judge, load
from tests.mutation.mutants import Mutant, found, function_of
from tests.mutation.run import CORE, ROOT, modules

EXCUSES = load()


def lines_of(function: str) -> str:
    """The code of a function named as in the list, each line without the space around it."""
    module, *path = function.split(".")
    text = (ROOT / CORE / f"{module}.py").read_text("utf-8")
    node: ast.AST = ast.parse(text)
    for name in path:
        inside = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == name]
        assert len(inside) == 1, f"{function} is not there"
        (node,) = inside
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef), f"{function} is no function"
    return " ".join(line.strip() for line in text.splitlines()[node.lineno - 1 : node.end_lineno])


@pytest.mark.parametrize("excuse", EXCUSES, ids=[f"{each.function}-{each.becomes}" for each in EXCUSES])
def test_each_exception_is_of_code_that_exists(excuse: Excuse) -> None:
    """An entry names a function of the core that has the line it is about, and gives a reason in words."""
    assert excuse.was in lines_of(excuse.function)
    assert excuse.was != excuse.becomes
    assert len(excuse.reason.split()) >= 4 and excuse.reason.endswith(".")


def test_no_exception_is_listed_twice() -> None:
    """Each mutant has one entry, and the entries of a module stand together."""
    assert len({each.identity for each in EXCUSES}) == len(EXCUSES)
    named = [each.function.partition(".")[0] for each in EXCUSES]
    assert len([module for module, _ in groupby(named)]) == len(set(named))
    assert set(named) <= set(modules())


@pytest.mark.parametrize(
    "entry",
    [
        'function = "a.b"\nwas = "x"\nbecomes = "y"',
        'function = "a.b"\nwas = "x"\nbecomes = "y"\nreason = " "',
        'function = "a.b"\nwas = "x"\nbecomes = "y"\nreason = 3',
        'function = "a.b"\nwas = "x"\nbecomes = "y"\nreason = "r"\nmore = "z"',
    ],
)
def test_an_exception_says_four_things(tmp_path: Path, entry: str) -> None:
    """An entry without a reason, with an empty one, or with anything else in it is refused."""
    table = tmp_path / "exceptions.toml"
    table.write_text(f"[[equivalent]]\n{entry}\n", "utf-8")
    with pytest.raises(ValueError, match="function, was, becomes, reason and nothing else"):
        load(table)


KILLED = Mutant("m.x_f__mutmut_1", "m.f", "a", "b", 1)
EXCUSE = Excuse("m.f", "a", "b", "they are the same")


@pytest.mark.parametrize(
    ("code", "excuses", "row", "left", "stale"),
    [
        (1, [], (1, 1, 0, 0), 0, []),
        (0, [], (1, 0, 0, 1), 1, []),
        (0, [EXCUSE], (1, 0, 1, 0), 0, []),
        (1, [EXCUSE], (1, 1, 0, 0), 0, ["a test kills it"]),
        (0, [replace(EXCUSE, was="c")], (1, 0, 0, 1), 1, ["there is no such mutant"]),
        (0, [EXCUSE, replace(EXCUSE, function="other.f")], (1, 0, 1, 0), 0, []),
        # Ended for taking long: noticed, but not so surely that it speaks against an excuse.
        (-24, [], (1, 1, 0, 0), 0, []),
        (-24, [EXCUSE], (1, 1, 0, 0), 0, []),
        # No test ran, a crash, not even tried: not noticed.
        (33, [], (1, 0, 0, 1), 1, []),
        (-11, [], (1, 0, 0, 1), 1, []),
        (None, [], (1, 0, 0, 1), 1, []),
    ],
)
def test_the_list_is_held_beside_the_run(
    code: int | None, excuses: list[Excuse], row: tuple[int, ...], left: int, stale: list[str]
) -> None:
    """What lives needs an excuse, and an excuse needs what lives; other modules' are not asked for."""
    judged = judge([replace(KILLED, code=code)], excuses, ["m"])
    assert judged.table == {"m": row}
    assert len(judged.left) == left
    assert [why for _, why in judged.stale] == stale
    assert judged.clean == (not left and not stale)
    said = as_text(judged)
    assert ("survives" in said) == bool(left)
    assert ("excused, but" in said) == bool(stale)


def test_one_of_two_like_changes_lives() -> None:
    """Where one line stands twice in a function, one entry is for both, and is needed while one of them lives."""
    twice = [KILLED, replace(KILLED, name="m.x_f__mutmut_2", code=0)]
    assert judge(twice, [EXCUSE], ["m"]).clean


def test_names_and_changes_are_read_from_the_files(tmp_path: Path) -> None:
    """A mutant is known by its function and its change, wherever it stands and whatever its number."""
    (tmp_path / "m.py").write_text(
        "def x_f__mutmut_orig(\n    a=1,\n):\n    return a\n"
        "def x_f__mutmut_1(\n    a=2,\n):\n    return a\n"
        "def x_f__mutmut_2(\n    a=1,\n):\n    return None\n",
        "utf-8",
    )
    (tmp_path / "m.py.meta").write_text(
        '{"exit_code_by_key": {"p.m.x_f__mutmut_1": 0, "p.m.x_f__mutmut_2": null}}', "utf-8"
    )
    (tmp_path / "m.py.spans").write_text(
        '{"spans": {"x_f__mutmut_orig": [1, 4], "x_f__mutmut_1": [5, 8], "x_f__mutmut_2": [9, 12]}}', "utf-8"
    )
    first, second = found(tmp_path)
    assert first.identity == ("m.f", "a=1,", "a=2,")
    assert second.identity == ("m.f", "return a", "return None")
    assert (first.module, first.decided, second.decided) == ("m", True, False)
    assert function_of("resilience.core.backoff.xǁ_Valueǁ__hash____mutmut_12") == "backoff._Value.__hash__"
    assert function_of("resilience.core.cooldown.x_measure__mutmut_3") == "cooldown.measure"
    with pytest.raises(ValueError, match="not the name of a mutant"):
        function_of("resilience.core.cooldown.measure")


def test_an_unknown_module_is_refused() -> None:
    """The command says which modules there are."""
    asked = [sys.executable, "-m", "tests.mutation", "nothing"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "no module 'nothing'; there are: accepts, adaptive, " in said.stderr


@pytest.mark.proof
@pytest.mark.skipif(importlib.util.find_spec("mutmut") is None, reason="needs the extra 'mutation'")
@pytest.mark.parametrize("module", ["deadline", "ramp", "budget"])
def test_every_mutant_is_killed_or_excused(module: str) -> None:
    """The command finds no mutant of a small module that lives without an excuse."""
    asked = [sys.executable, "-m", "tests.mutation", module]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
