"""One row of the table, and the table itself: text for people, JSON for a later comparison."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tests.benchmarks.measure import Figure

__all__ = ["Measured", "Row", "as_json", "as_text", "complaints"]

OURS = "resilience"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure to reach, and how to measure it for us and for each peer that has the feature.

    `goal` is the mark of the design in its own words, `limit` the first mark that a check holds us to, if there is one.
    `wrong` finds out which peers do not do what they are measured at, and says what they do instead.
    """

    what: str
    goal: str
    limit: float | None
    measure: Callable[[int], Mapping[str, Figure]]
    unit: str = "x"
    wrong: Callable[[], Mapping[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A row with its figures."""

    row: Row
    figures: Mapping[str, Figure]
    wrong: Mapping[str, str] = field(default_factory=dict)


def _cell(figure: Figure, unit: str) -> str:
    if figure.noisy:
        return f"noisy (±{figure.spread:.0%})"
    number = f"{figure.value:.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
    return f"{number}{unit}" + (f" ±{figure.spread:.0%}" if figure.spread else "")


def _others(measured: Measured) -> str:
    return ", ".join(
        f"{name}{'!' if name in measured.wrong else ''} {_cell(figure, measured.row.unit)}"
        for name, figure in measured.figures.items()
        if name != OURS
    )


def complaints(measured: Iterable[Measured]) -> list[str]:
    """A line about each peer that is marked in the table, and why."""
    found = dict.fromkeys(f"! {name}: {what}" for each in measured for name, what in each.wrong.items())
    return list(found)


def as_text(measured: Iterable[Measured]) -> str:
    """The table in Markdown, padded so that it reads well unrendered too."""
    lines = [["what", "to reach", OURS, "others"]]
    for each in measured:
        row, figures = each.row, each.figures
        ours = _cell(figures[OURS], row.unit) if OURS in figures else ""
        lines.append([row.what, row.goal, ours, _others(each)])
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
            "unit": m.row.unit,
            "wrong": dict(m.wrong),
            "figures": {
                name: {"value": None if figure.noisy else figure.value, "spread": figure.spread}
                for name, figure in m.figures.items()
            },
        }
        for m in measured
    ]
    about = {"python": sys.version.split()[0], "implementation": platform.python_implementation()}
    return json.dumps({**about, "rows": rows}, indent=2) + "\n"
