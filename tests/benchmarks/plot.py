"""The table as a picture: a bar for each library, on a scale of powers of ten, and the mark to reach as a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.table import OURS, Measured

__all__ = ["draw"]


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Write the ratios as a picture, of the kind that the name of the file says.

    Raises:
        SystemExit: matplotlib is not installed; the message names the extra that brings it.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install 'resilience[plot]'") from None
    shown = [
        (each, {name: figure for name, figure in each.figures.items() if not figure.noisy and figure.value > 0})
        for each in measured
        if each.row.unit == "x"
    ]
    shown = [(each, figures) for each, figures in shown if figures]
    bars = sum(len(figures) + 1 for _, figures in shown)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.22 * bars))
    place, ticks, labels = 0.0, [], []
    for each, figures in shown:
        start = place
        for name, value in figures.items():
            axes.barh(place, value.value, color="tab:blue" if name == OURS else "lightgray")
            axes.errorbar(value.value, place, xerr=value.spread * value.value, color="black", linewidth=0.8)
            ticks.append(place)
            labels.append(f"{each.row.what}: {name}" if name == OURS else name + ("!" if name in each.wrong else ""))
            place += 1
        if mark := re.search(r"[\d.]+", each.row.goal):
            axes.vlines(float(mark[0]), start - 0.5, place - 0.5, color="tab:red", linewidth=1.2)
        place += 1
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("ratio; red is the mark to reach, and ! is wrong")
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
