"""Load and latency over time, drawn with matplotlib, which is imported when something is drawn and not before."""

from __future__ import annotations

from importlib import import_module
from math import isfinite, nan
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from resilience.testing.simulation.report import Report

__all__ = ["check_target", "draw"]

_LINES = {"offered": "#64748b", "sent": "#2563eb", "served": "#15803d", "retried": "#d97706", "rejected": "#dc2626"}
_QUANTILES = {"p50": (0.5, "#15803d"), "p99": (0.99, "#7c3aed")}


def draw(report: Report, path: str | Path) -> None:
    """Draw a report into a file, a column for each pipeline.

    Raises:
        ValueError: the file name does not end in .svg or .png.
        ImportError: matplotlib is not installed.
    """
    form, matplotlib = check_target(path)
    figures: Any = import_module("matplotlib.figure")
    scenario = report.scenario
    # A drawing of the same report is the same file: no date in it, and no random names of its parts.
    with matplotlib.rc_context({"svg.hashsalt": "resilience", "svg.fonttype": "none", "font.size": 9}):
        columns = len(scenario.pipelines)
        figure = figures.Figure(figsize=(max(6.5, 3.6 * columns), 5.2), layout="constrained")
        axes = figure.subplots(2, columns, squeeze=False, sharex=True, sharey="row", height_ratios=(3, 2))
        for column, pipeline in enumerate(scenario.pipelines):
            _draw_column(report, pipeline, axes[0][column], axes[1][column])
        axes[0][0].set_ylabel("calls and requests per second")
        axes[1][0].set_ylabel("seconds until served")
        handles, labels = axes[0][0].get_legend_handles_labels()
        more = axes[1][0].get_legend_handles_labels()
        figure.legend(handles + more[0], labels + more[1], loc="outside lower center", ncols=7, frameon=False)
        figure.suptitle(scenario.title)
        figure.savefig(path, format=form, metadata={"Date": None} if form == "svg" else None, dpi=120)


def _draw_column(report: Report, pipeline: str, load: Any, latency: Any) -> None:
    scenario = report.scenario
    width = report.of(pipeline)[0].width
    # The last bin ends after the run does.
    bins = len(report.mean(pipeline, "sent")) - 1
    times = [(number + 0.5) * width for number in range(bins)]
    for name, colour in _LINES.items():
        load.plot(times, report.mean(pipeline, name)[:bins], color=colour, linewidth=1.2, label=name)
    load.axhline(scenario.server.capacity, color="#94a3b8", linewidth=0.8, linestyle=":")
    for name, (share, colour) in _QUANTILES.items():
        drawn = [value if isfinite(value) else nan for value in report.latency(pipeline, share)[:bins]]
        latency.plot(times, drawn, color=colour, linewidth=1.2, label=name)
    latency.set_yscale("log")
    latency.set_xlabel("seconds")
    load.set_title(pipeline)
    for axis in (load, latency):
        axis.set_xlim(0, scenario.seconds)
        axis.grid(alpha=0.25)
        for incident in scenario.incidents:
            axis.axvspan(incident.at, min(incident.until, scenario.seconds), color="#fee2e2", linewidth=0)
    load.set_ylim(bottom=0)


def check_target(path: str | Path) -> tuple[str, Any]:
    """The form of a drawing and what draws it: asked before a long simulation rather than after it.

    Raises:
        ValueError, ImportError: as `draw` does.
    """
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in {"svg", "png"}:
        raise ValueError(f"path must end in .svg or .png, got {str(path)!r}")
    try:
        return form, import_module("matplotlib")
    except ImportError as error:
        raise ImportError(
            "a plot needs matplotlib, which is not installed: pip install 'resilience-policies[plot]'"
        ) from error
