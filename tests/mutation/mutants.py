"""What mutmut has found, read from the files that it leaves behind.

Beside each mutated file there are two more: `.meta` has the exit code of the tests for each mutant, `.spans` the lines
at which each version of a function stands in the mutated file. The change that makes a mutant is the difference between
two such pieces of text. Mutants are known here by that change, since mutmut's running numbers move with every edit.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_KILLED = {1, 3}
_TIMED_OUT = {-24, 24, 36, 152, 255}
_NAME = re.compile(r"(?P<module>.+)\.x(?:ǁ(?P<owner>.+)ǁ|_)(?P<function>.+)__mutmut_\d+")


@dataclass(frozen=True)
class Mutant:
    """One small change to one function, and what the tests said of it.

    Attributes:
        name: what mutmut calls it.
        function: module, class if any, and function, as `backoff.Curve.preview`.
        was, becomes: the lines that differ, each without the space around it.
        code: the exit code of the tests; None where they have not run.
    """

    name: str
    function: str
    was: str
    becomes: str
    code: int | None

    @property
    def module(self) -> str:
        """The module of the core that it is in."""
        return self.function.partition(".")[0]

    @property
    def identity(self) -> tuple[str, str, str]:
        """What stays the same when other code moves."""
        return self.function, self.was, self.becomes

    @property
    def decided(self) -> bool:
        """Whether the tests have run."""
        return self.code is not None

    @property
    def timed_out(self) -> bool:
        """Whether the tests did not come to an end, so that the change is noticed, if by nothing but patience."""
        return self.code in _TIMED_OUT

    @property
    def alive(self) -> bool:
        """Whether no test noticed it: all passed, none ran, or what ran ended in no known way."""
        return self.code not in _KILLED and not self.timed_out


def found(core: Path) -> Iterator[Mutant]:
    """Every mutant of the modules in one mutated folder."""
    for meta in sorted(core.glob("*.py.meta")):
        mutated = meta.with_suffix("")
        codes = json.loads(meta.read_text("utf-8"))["exit_code_by_key"]
        spans = json.loads(mutated.with_name(mutated.name + ".spans").read_text("utf-8"))["spans"] if codes else {}
        lines = mutated.read_text("utf-8").splitlines()
        for name, code in codes.items():
            short = name.rpartition(".")[2]
            original = re.sub(r"\d+$", "orig", short)
            was, becomes = _change(*(_text(lines, spans[each], each) for each in (original, short)))
            yield Mutant(name, function_of(name), was, becomes, code)


def codes(core: Path) -> list[int | None]:
    """The exit codes so far, of all mutants."""
    read: list[int | None] = []
    for meta in core.glob("*.py.meta"):
        try:
            read += json.loads(meta.read_text("utf-8"))["exit_code_by_key"].values()
        except ValueError:
            # Read while it was being written: the next look is a moment away.
            continue
    return read


def function_of(name: str) -> str:
    """Module, class and function of a mutant, from mutmut's name for it."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"not the name of a mutant: {name!r}")
    module = parts["module"].rpartition(".")[2]
    return ".".join(part for part in (module, parts["owner"], parts["function"]) if part)


def _text(lines: list[str], span: list[int], name: str) -> list[str]:
    first, last = span
    return [line.replace(name, "_").strip() for line in lines[first - 1 : last]]


def _change(was: list[str], becomes: list[str]) -> tuple[str, str]:
    differ = difflib.SequenceMatcher(None, was, becomes, autojunk=False)
    changed = [each for each in differ.get_opcodes() if each[0] != "equal"]
    return (
        " ".join(" ".join(was[first:last]) for _, first, last, _, _ in changed).strip(),
        " ".join(" ".join(becomes[first:last]) for _, _, _, first, last in changed).strip(),
    )
