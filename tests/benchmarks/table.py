"""One row of the table, and the table itself: text for people, JSON for a later comparison."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tests.benchmarks.measure import Figure

__all__ = ["Measured", "Row", "as_json", "as_text"]

OURS = "resilience"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure to reach, and how to measure it for us and for each peer that has the feature.

    `goal` is the mark of the design in its own words, `limit` the first mark that a check holds us to, if there is one.
    """

    what: str
    goal: str
    limit: float | None
    measure: Callable[[int], Mapping[str, Figure]]
    unit: str = "x"


@dataclass(frozen=True, slots=True)
class Measured:
    """A row with its figures."""

    row: Row
    figures: Mapping[str, Figure]


def _cell(figure: Figure, unit: str) -> str:
    if figure.noisy:
        return f"noisy (±{figure.spread:.0%})"
    number = f"{figure.value:.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
    return f"{number}{unit}" + (f" ±{figure.spread:.0%}" if figure.spread else "")


def _others(figures: Mapping[str, Figure], unit: str) -> str:
    return ", ".join(f"{name} {_cell(figure, unit)}" for name, figure in figures.items() if name != OURS)


def as_text(measured: Iterable[Measured]) -> str:
    """The table in Markdown, padded so that it reads well unrendered too."""
    lines = [["what", "to reach", OURS, "others"]]
    for each in measured:
        row, figures = each.row, each.figures
        lines.append([row.what, row.goal, _cell(figures[OURS], row.unit), _others(figures, row.unit)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def as_json(measured: Iterable[Measured]) -> str:
    """The same as data; a noisy figure has its spread and no value."""
    rows = [
        {
            "what": m.row.what,
            "goal": m.row.goal,
            "figures": {
                name: {"value": None if figure.noisy else figure.value, "spread": figure.spread}
                for name, figure in m.figures.items()
            },
        }
        for m in measured
    ]
    about = {"python": sys.version.split()[0], "implementation": platform.python_implementation()}
    return json.dumps({**about, "rows": rows}, indent=2) + "\n"
