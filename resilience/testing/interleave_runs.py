"""The runs of an exploration: one after the other, and of the one that breaks the shortest like it.

A failure that took thirty switches tells nobody anything. Most of them do not matter, so before it is shown, turns are
left out of it for as long as it still breaks in the same way; what remains is mostly one switch or two, at the lines
that matter.
"""

from __future__ import annotations

import random
import threading
from collections import Counter

from resilience.testing._cooperative_trace import Watch
from resilience.testing._cooperative_turns import (
    PATIENCE,
    Abandoned,
    ByChance,
    ByScript,
    Deadlock,
    InOrder,
    Loosely,
    Turns,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.testing._cooperative_turns import Plan

__all__ = ["Explored", "InterleavingError", "explore"]

_MOST_TRIES = 300
"""Runs that are spent on making a failure shorter."""


class InterleavingError(AssertionError):
    """Some order of the threads breaks something; the cause is the error that it ended with.

    Attributes:
        seed: `interleave(..., seed=seed, runs=1)` does it again; None where a schedule was given, or where it needs no
            switch at all.
        schedule: so does `interleave(..., schedule=schedule)`.
    """

    def __init__(self, message: str, seed: int | None, schedule: str) -> None:
        super().__init__(message, seed, schedule)
        self.seed = seed
        self.schedule = schedule

    def __str__(self) -> str:
        return str(self.args[0])


class Explored:
    """What is explored, and how one run of it is made."""

    def __init__(
        self,
        callables: list[Callable[[Any], object]],
        names: list[str],
        setup: Callable[[], Any] | None,
        check: Callable[[Any], object] | None,
        *,
        gil: bool,
    ) -> None:
        self._callables = callables
        self.names = names
        self._setup = setup
        self._check = check
        self.watch = Watch(gil=gil)
        self._state: Any = None

    def run(self, plan: Plan, *, tells: bool = False) -> Run:
        """Make one run, by a plan."""
        turns = Turns(plan, self.names, self.watch.stop, tells=tells)
        errors: list[tuple[int, BaseException]] = []
        threads = [
            threading.Thread(target=self._thread, args=(turns, index, errors), name=name, daemon=True)
            for index, name in enumerate(self.names)
        ]
        run = Run(turns)
        self._state = None if self._setup is None else self._setup()
        for thread in threads:
            thread.start()
        try:
            turns.run()
        except BaseException as error:
            turns.abandon(error)
            raise
        finally:
            for thread in threads:
                thread.join(PATIENCE)
        if errors:
            run.broken = f"{self.names[errors[0][0]]} raised"
            run.error = errors[0][1]
        elif turns.error is not None:
            if not isinstance(turns.error, Deadlock):
                raise turns.error
            run.broken, run.error = "nobody can go on", turns.error
        elif self._check is not None:
            self._judge(run)
        return run

    def again(self, plan: Plan, *, like: Run, tells: bool = False) -> Run | None:
        """Make one more run; None if it does not break as another one did."""
        try:
            run = self.run(plan, tells=tells)
        except RuntimeError:
            return None
        return run if (run.broken, type(run.error)) == (like.broken, type(like.error)) else None

    def _judge(self, run: Run) -> None:
        check = self._check
        try:
            if check is not None and check(self._state) is False:
                run.broken = "check returned False"
        except Exception as error:
            run.broken, run.error = "check raised", error

    def _thread(self, turns: Turns, index: int, errors: list[tuple[int, BaseException]]) -> None:
        try:
            turns.begin(index)
            self.watch.start(turns.step)
            try:
                self._callables[index](self._state)
            finally:
                self.watch.stop()
        except Abandoned:
            pass
        except BaseException as error:
            errors.append((index, error))
        finally:
            turns.end(index)


class Run:
    """How a run went."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.broken = ""
        self.error: BaseException | None = None

    @property
    def schedule(self) -> list[tuple[int, int]]:
        return self._turns.schedule

    def failure(self, which: str, seed: int | None, names: list[str], again: bool) -> InterleavingError:
        """The error to raise, with what there is to say."""
        text = " ".join(f"{index}:{steps}" for index, steps in self.schedule)
        places = self._turns.places or [""] * len(self.schedule)
        what = self.broken if self.error is None else f"{self.broken}: {_in_a_line(self.error)}"
        lines = [f"{which}: {what}"]
        lines += [
            f"  thread {index} ({names[index]}) takes {steps} steps" + (f", to {place}" if place else "")
            for (index, steps), place in zip(self.schedule, places, strict=True)
        ]
        if not again:
            lines.append("The same order did not break it again: the callables depend on more than their order.")
        if seed is not None:
            lines.append(f"To see it again: interleave(..., seed={seed}, runs=1)")
        lines.append(f'To see it in this shortest form: interleave(..., schedule="{text}")')
        return InterleavingError("\n".join(lines), seed, text)


def explore(explored: Explored, seed: int, runs: int, script: list[tuple[int, int]] | None) -> int:
    """Make the runs, or the one of a script, and return how many differed.

    Raises:
        InterleavingError: one of them broke something.
    """
    # The first run fills caches and imports what is imported late, so that those after it are alike.
    _judge(explored, explored.run(InOrder()), "without a switch inside", None)
    if script is not None:
        run = explored.run(ByScript(script), tells=True)
        if run.broken:
            raise run.failure("this schedule", None, explored.names, again=True) from run.error
        return 1
    different: set[tuple[tuple[int, int], ...]] = set()
    for number in range(seed, seed + runs):
        run = explored.run(ByChance(random.Random(number)))
        different.add(tuple(run.schedule))
        _judge(explored, run, f"run {number - seed + 1} of {runs}", number)
    return len(different)


def _judge(explored: Explored, run: Run, which: str, seed: int | None) -> None:
    if not run.broken:
        return
    shortest, again = _shortest(explored, run)
    raise shortest.failure(which, seed, explored.names, again) from shortest.error


def _shortest(explored: Explored, run: Run) -> tuple[Run, bool]:
    """A run that breaks in the same way with fewer switches, and whether it does so each time."""
    left, size = _MOST_TRIES, len(run.schedule) // 2
    while size and left:
        start = 0
        while start < len(run.schedule) and left:
            left -= 1
            shorter = explored.again(Loosely(_without(run.schedule, start, size)), like=run)
            if shorter is not None and len(shorter.schedule) < len(run.schedule):
                run = shorter
            else:
                start += size
        size //= 2
    told = explored.again(ByScript(run.schedule), like=run, tells=True)
    return (run, False) if told is None else (told, True)


def _without(schedule: list[tuple[int, int]], start: int, size: int) -> list[tuple[int, int]]:
    """Leave turns out: their steps are taken when the thread is next in turn, so that those after it stay in place."""
    owed: Counter[int] = Counter()
    for thread, steps in schedule[start : start + size]:
        owed[thread] += steps
    return schedule[:start] + [(thread, steps + owed.pop(thread, 0)) for thread, steps in schedule[start + size :]]


def _in_a_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
