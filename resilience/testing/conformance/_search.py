"""Random scripts against a law, and the shortest one that breaks it.

A law that speaks of any interleaving cannot be checked by one example. So scripts are drawn, short ones first, each
from a seed of its own; one that breaks the law is cut down, step by step, for as long as what is left breaks the same
law. This is a small part of what Hypothesis does, and it is here so that the laws can be checked where Hypothesis is
not installed, and give the same answer on each run.

A step is a tuple: a verb and its arguments. Arguments never name an earlier step but count among what is there when
the step is played, so that a script with a step left out is a script.
"""

from __future__ import annotations

import random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Step: TypeAlias = tuple[Any, ...]
    Play: TypeAlias = Callable[[Sequence[Step]], None]
    Draw: TypeAlias = Callable[[random.Random], Step]

__all__ = ["Broken", "Violation", "search"]

LONGEST = 24
TIMED = ("advance", "attempt", "pass", "step back")
"""The verbs whose numbers are seconds, which may be made rounder without asking for the impossible."""


class Violation(AssertionError):
    """A policy breaks a law.

    Attributes:
        law: the law, its number first where it has one.
        seen: what the policy did instead.
        script: the steps that led to it, one a line, as short as they could be made.
    """

    def __init__(self, law: str, seen: str, script: Sequence[str] = ()) -> None:
        super().__init__(law, seen, tuple(script))
        self.law = law
        self.seen = seen
        self.script = tuple(script)

    def __str__(self) -> str:
        lines = "".join(f"\n    {line}" for line in self.script)
        return f"{self.law}\n  seen: {self.seen}" + (f"\n  script:{lines}" if lines else "")


class Broken(Exception):
    """While a script is played: the law that it breaks, and how."""

    def __init__(self, law: str, seen: str, log: Sequence[str]) -> None:
        super().__init__(law, seen)
        self.law = law
        self.seen = seen
        self.log = tuple(log)


def search(play: Play, draw: Draw, *, examples: int, seed: int, colour: str = "") -> None:
    """Play `examples` scripts; raise for the first that breaks a law, once it is as short as it can be made.

    Raises:
        Violation: a law is broken.
    """
    for number in range(examples):
        rng = random.Random(f"{seed}/{number}")
        script = [draw(rng) for _ in range(2 + number * LONGEST // examples)]
        broken = _broken(play, script)
        if broken is not None:
            broken = _shortest(play, script, broken)
            told = f"{broken.seen} ({colour}, seed {seed})" if colour else f"{broken.seen} (seed {seed})"
            raise Violation(broken.law, told, broken.log) from None


def _broken(play: Play, script: Sequence[Step]) -> Broken | None:
    try:
        play(script)
    except Broken as broken:
        return broken
    return None


def _shortest(play: Play, script: Sequence[Step], broken: Broken) -> Broken:
    """Leave out what can be left out, in halves first and step by step at last; then make numbers rounder."""
    steps = list(script)
    size = len(steps)
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if (still := _broken(play, fewer)) is not None and still.law == broken.law:
                steps, broken = fewer, still
            else:
                start += size
        size //= 2
    for place, step in enumerate(steps):
        for simpler in _simpler(step):
            tried = [*steps[:place], simpler, *steps[place + 1 :]]
            if (still := _broken(play, tried)) is not None and still.law == broken.law:
                steps, broken = tried, still
                break
    return broken


def _simpler(step: Step) -> list[Step]:
    if step[0] not in TIMED:
        return []
    return [
        (*step[:place], rounder, *step[place + 1 :])
        for place, argument in enumerate(step)
        if isinstance(argument, float)
        for rounder in (float(round(argument)), round(argument, 1), round(argument, 3))
        if rounder != argument
    ]
