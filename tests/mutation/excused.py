"""The mutants that no test can kill, each with its reason, and whether that list is true.

A list of exceptions rots in two ways. A mutant that is not on it survives: a test is missing. Or one that is on it does
not survive, or is not there any more: then the reason was wrong, or the code has gone. Both are told.
"""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant

TABLE = Path(__file__).with_name("exceptions.toml")
FIELDS = ("function", "was", "becomes", "reason")


@dataclass(frozen=True)
class Excuse:
    """One mutant that may live: module, class and function, the change, and why it changes nothing."""

    function: str
    was: str
    becomes: str
    reason: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """As that of the mutant it is for."""
        return self.function, self.was, self.becomes


def load(table: Path = TABLE) -> list[Excuse]:
    """All excuses, in the order of the file.

    Raises:
        ValueError: an entry lacks a field, has another one, or says nothing in it.
    """
    excuses = []
    for entry in tomllib.loads(table.read_text("utf-8")).get("equivalent", []):
        if set(entry) != set(FIELDS) or not all(isinstance(text, str) and text.strip() for text in entry.values()):
            raise ValueError(f"each entry says {', '.join(FIELDS)} and nothing else, got {entry!r}")
        excuses.append(Excuse(**entry))
    return excuses


@dataclass(frozen=True)
class Judged:
    """One run beside the list of exceptions.

    Attributes:
        table: for each module: mutants, killed, excused, left.
        left: mutants that live without an excuse.
        stale: excuses that excuse nothing, and why.
    """

    table: dict[str, tuple[int, int, int, int]]
    left: list[Mutant]
    stale: list[tuple[Excuse, str]]

    @property
    def clean(self) -> bool:
        """Whether every mutant is killed or excused, and every excuse is needed."""
        return not self.left and not self.stale


def judge(mutants: Iterable[Mutant], excuses: Iterable[Excuse], modules: Iterable[str]) -> Judged:
    """Hold what became of the mutants of some modules beside the excuses for these."""
    by_change: dict[tuple[str, str, str], list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        by_change[mutant.identity].append(mutant)
    stale: list[tuple[Excuse, str]] = []
    excused: set[tuple[str, str, str]] = set()
    asked = set(modules)
    for excuse in excuses:
        if excuse.function.partition(".")[0] not in asked:
            continue
        meant = by_change.get(excuse.identity, [])
        excused.add(excuse.identity)
        if not meant:
            stale.append((excuse, "there is no such mutant"))
        elif not any(mutant.alive or mutant.timed_out for mutant in meant):
            stale.append((excuse, "a test kills it"))
    everything = [mutant for same in by_change.values() for mutant in same]
    alive = [mutant for mutant in everything if mutant.alive]
    left = [mutant for mutant in alive if mutant.identity not in excused]
    counts = [Counter(mutant.module for mutant in some) for some in (everything, alive, left)]
    table = {
        module: (
            all_ := counts[0][module],
            all_ - counts[1][module],
            counts[1][module] - counts[2][module],
            counts[2][module],
        )
        for module in sorted(asked)
    }
    return Judged(table, sorted(left, key=lambda mutant: mutant.identity), stale)
