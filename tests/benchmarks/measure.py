"""How one thing is timed against another.

A time alone says little: the clock of a processor changes while a benchmark runs, and so does what else the machine
does. Hence

- only ratios are reported, of two loops timed one right after the other, in many rounds, alternating;
- a sample counts the processor time of this process, which waiting for a core does not add to;
- each loop is compiled from its own copy of the source, so that no loop runs on inline caches that another one filled,
  and repeats its statement ten times per turn, so that the turn itself weighs little on both sides;
- the collector is off while a sample runs;
- the median of the rounds is reported with its spread, half the distance between the quartiles as a share of the
  median, and a figure whose spread is too large is not a figure: it is reported as noisy.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_SPREAD", "Figure", "Loop", "async_loop", "best_ratio", "figure_of", "ratios", "spread_of", "sync_loop"]

UNROLL = 10
MAX_SPREAD = 0.08

Loop = Callable[[int], float]
"""Runs its statement that many tens of times and returns the processor time taken, in seconds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A median and its spread, or an exact count where the spread is 0."""

    value: float
    spread: float = 0.0

    @property
    def noisy(self) -> bool:
        """Whether the spread forbids to report the value."""
        return self.spread > MAX_SPREAD


def _compile(statement: str, names: Mapping[str, Any], *, coroutine: bool) -> Any:
    body = textwrap.indent(textwrap.dedent(statement).strip() + "\n", " " * 8) * UNROLL
    parameters = ", ".join(["turns", "clock", *names])
    source = (
        f"{'async ' if coroutine else ''}def loop({parameters}):\n"
        "    start = clock()\n"
        "    for _ in range(turns):\n"
        f"{body}"
        "    return clock() - start\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<benchmark: {statement.strip().splitlines()[0]}>", "exec"), namespace)
    return namespace["loop"]


def sync_loop(statement: str, *, timer: Callable[[], float] = time.process_time, **names: Any) -> Loop:
    """Compile a statement, which may span lines, into a loop of its own; `names` are its locals.

    What waits for another process is timed by the wall: `timer=time.perf_counter`.
    """
    loop = _compile(statement, names, coroutine=False)

    def run(turns: int) -> float:
        taken: float = loop(turns, timer, **names)
        return taken

    return run


def async_loop(runner: asyncio.Runner, statement: str, **names: Any) -> Loop:
    """The same for a statement that awaits; the loop runs as one task of `runner`."""
    loop = _compile(statement, names, coroutine=True)

    def run(turns: int) -> float:
        taken: float = runner.run(loop(turns, time.process_time, **names))
        return taken

    return run


def _turns_for(loop: Loop, seconds: float) -> int:
    turns = 1
    while (taken := loop(turns)) < seconds / 4:
        turns *= 2
    return max(1, round(turns * seconds / taken))


def _paired_samples(baseline: Loop, subject: Loop, rounds: int, seconds: float) -> list[tuple[float, float]]:
    """Seconds per statement of baseline and subject, sampled in turn, each pair in one go."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        base_turns, subject_turns = _turns_for(baseline, seconds), _turns_for(subject, seconds)
        return [(baseline(base_turns) / base_turns, subject(subject_turns) / subject_turns) for _ in range(rounds)]
    finally:
        if enabled:
            gc.enable()


def spread_of(values: list[float]) -> float:
    """Half the distance between the quartiles, as a share of the median."""
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


def figure_of(values: list[float]) -> Figure:
    """The median of some rounds with its spread."""
    return Figure(statistics.median(values), spread_of(values))


def ratios(baseline: Loop, subjects: Mapping[str, Loop], *, rounds: int, seconds: float = 0.004) -> dict[str, Figure]:
    """The ratio of each subject to the baseline, interleaved: a batch of rounds for each in turn, four times over.

    What comes out noisy is measured again, twice at most.
    """
    figures = _measured(baseline, subjects, rounds, seconds)
    for _ in range(2):
        noisy = {name: subjects[name] for name, figure in figures.items() if figure.noisy}
        figures |= _measured(baseline, noisy, rounds, seconds)
    return figures


def _measured(baseline: Loop, subjects: Mapping[str, Loop], rounds: int, seconds: float) -> dict[str, Figure]:
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for _ in range(4):
        for name, subject in subjects.items():
            pairs[name] += _paired_samples(baseline, subject, max(2, rounds // 4), seconds)
    return {name: figure_of([subject / base for base, subject in samples]) for name, samples in pairs.items()}


def best_ratio(baseline: Loop, subject: Loop, *, rounds: int = 12, seconds: float = 0.002) -> float:
    """The least subject over the least baseline: what a busy machine disturbs least, for checks that may not fail."""
    samples = _paired_samples(baseline, subject, rounds, seconds)
    return min(subject for _, subject in samples) / min(base for base, _ in samples)
