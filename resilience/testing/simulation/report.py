"""What came of a scenario: a table, a plot, JSON.

Three figures answer whether it storms. They compare what was after the first incident began with what was before it.

    recovered    seconds from the end of the last incident until all is well in every ten seconds to come: nine tenths
                 of the calls are served, as a share of what that was before, and not fewer than four fifths as many;
                 "never" where that does not happen
    load         requests per call from the first incident on: 1 without retries
    peak         the most requests in any ten seconds, against those before the incident

The number of calls varies by chance: ten seconds of eighty calls a second have 10 % fewer now and then when nothing is
wrong at all. So it is the share of them by which recovery is told to a tenth, and the number only to a fifth.

Without an incident that ends, there is nothing to recover from, and the first and the last are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf, isfinite
from statistics import fmean, median

from resilience.testing.simulation.tally import COUNTS, quantile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from resilience.testing.simulation.run import Run
    from resilience.testing.simulation.scenario import Scenario

__all__ = ["Report", "Row"]

_SPAN = 10.0
"""Seconds over which a rate is looked at: long enough that chance does not decide."""

_SHARE_AS_BEFORE = 0.9
_NUMBER_AS_BEFORE = 0.8

_HEAD = (
    *("pipeline", "offered/s", "served", "failed", "rejected", "sent/s", "wasted", "p50", "p99"),
    *("load", "peak", "recovered"),
)


@dataclass(frozen=True)
class Row:
    """The figures of one pipeline over all its seeds.

    Attributes:
        pipeline: its name.
        seeds: how many.
        offered, served, failed, rejected, sent, retried, wasted: means per second.
        p50, p99: latencies of the calls that were served, in seconds; inf where none was.
        load: mean requests per call from the first incident on (from the beginning without one).
        peak: the highest peak of all seeds; None where there is nothing to compare with.
        recovered: for each seed the seconds to recovery, inf for never; empty where there is nothing to recover from.
    """

    pipeline: str
    seeds: int
    offered: float
    served: float
    failed: float
    rejected: float
    sent: float
    retried: float
    wasted: float
    p50: float
    p99: float
    load: float
    peak: float | None
    recovered: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What came of a scenario. Immutable; the runs are in the order of pipelines and seeds."""

    scenario: Scenario
    runs: tuple[Run, ...]

    def of(self, pipeline: str) -> tuple[Run, ...]:
        """The runs of one pipeline.

        Raises:
            ValueError: the scenario has no such pipeline.
        """
        if pipeline not in self.scenario.pipelines:
            known = ", ".join(self.scenario.pipelines)
            raise ValueError(f"pipeline must be one of {known}, got {pipeline!r}")
        return tuple(run for run in self.runs if run.pipeline == pipeline)

    def rows(self) -> tuple[Row, ...]:
        """The figures, a row for each pipeline."""
        return tuple(self._row(pipeline) for pipeline in self.scenario.pipelines)

    def load(self, run: Run) -> float:
        """Requests per call of a run from its first incident on."""
        first = self._bin(run, self.scenario.first_incident)
        start = first if first < len(run.counts["sent"]) else 0
        return sum(run.counts["sent"][start:]) / max(1, sum(run.counts["offered"][start:]))

    def peak(self, run: Run) -> float | None:
        """The most requests in any ten seconds of a run from its first incident on, against the mean before it."""
        before = self._before(run, "sent")
        if before is None:
            return None
        return max(_rates(run, "sent", self._bin(run, self.scenario.first_incident)), default=0.0) / before

    def recovered(self, run: Run) -> float | None:
        """Seconds from the end of the last incident to recovery; inf for never, None where there is none to have."""
        served, offered = self._before(run, "served"), self._before(run, "offered")
        clear = self._bin(run, self.scenario.all_clear)
        rates = _rates(run, "served", clear)
        if served is None or offered is None or not rates:
            return None
        least, share = _NUMBER_AS_BEFORE * served, _SHARE_AS_BEFORE * served / offered
        last = -1
        for place, (answers, calls) in enumerate(zip(rates, _rates(run, "offered", clear), strict=True)):
            if answers < least or answers < share * calls:
                last = place
        return inf if last == len(rates) - 1 else (last + 1) * run.width

    def table(self) -> str:
        """The figures as text, a line for each pipeline."""
        lines = [_HEAD, *(_cells(row) for row in self.rows())]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        seconds, seeds = self.scenario.seconds, len(self.runs) // len(self.scenario.pipelines)
        text = [f"{self.scenario.title}: {seconds:g} s, {seeds} seed{'s' * (seeds > 1)}"]
        for cells in lines:
            rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
            text.append("  ".join((cells[0].ljust(widths[0]), *rest)))
        return "\n".join(text)

    def to_json(self) -> str:
        """The figures, and for each pipeline the mean counts per bin and the latencies, as JSON."""
        series = {
            pipeline: {
                "width": self.of(pipeline)[0].width,
                **{name: self.mean(pipeline, name) for name in COUNTS},
                "p50": self.latency(pipeline, 0.5),
                "p99": self.latency(pipeline, 0.99),
            }
            for pipeline in self.scenario.pipelines
        }
        rows = [{key: _plain(value) for key, value in vars(row).items()} for row in self.rows()]
        document = {
            "title": self.scenario.title,
            "seconds": self.scenario.seconds,
            "seeds": sorted({run.seed for run in self.runs}),
            "rows": rows,
            "series": _plain(series),
        }
        return json.dumps(document, indent=2, allow_nan=False)

    def plot(self, path: str | Path) -> None:
        """Draw load and latency over time, a column for each pipeline, into a file ending in .svg or .png.

        Raises:
            ValueError: the file name ends in neither.
            ImportError: matplotlib is not installed; the message names the extra.
        """
        from resilience.testing.simulation.plot import draw

        draw(self, path)

    # --- over time ----------------------------------------------------------------------------------------------------

    def mean(self, pipeline: str, name: str) -> list[float]:
        """A count per second, for each bin, the mean of all seeds."""
        runs = self.of(pipeline)
        return [fmean(bins) / runs[0].width for bins in zip(*(run.counts[name] for run in runs), strict=True)]

    def latency(self, pipeline: str, share: float) -> list[float]:
        """For each bin, the latency that this share of the calls served in it, in all seeds, did not exceed."""
        runs = self.of(pipeline)
        return [quantile(_merged(bins), share) for bins in zip(*(run.latencies for run in runs), strict=True)]

    def _row(self, pipeline: str) -> Row:
        runs, seconds = self.of(pipeline), self.scenario.seconds
        rates = {name: fmean(sum(run.counts[name]) for run in runs) / seconds for name in COUNTS}
        latencies = _merged(bins for run in runs for bins in run.latencies)
        peaks = [peak for run in runs if (peak := self.peak(run)) is not None]
        recovered = tuple(value for run in runs if (value := self.recovered(run)) is not None)
        return Row(
            pipeline=pipeline,
            seeds=len(runs),
            **rates,
            p50=quantile(latencies, 0.5),
            p99=quantile(latencies, 0.99),
            load=fmean(self.load(run) for run in runs),
            peak=max(peaks, default=None),
            recovered=recovered,
        )

    def _before(self, run: Run, name: str) -> float | None:
        """A count per second before the first incident; None where there was no time before."""
        first = self._bin(run, self.scenario.first_incident)
        counts = run.counts[name]
        # The first third is left out: everybody begins by thinking, and a queue fills slowly.
        settled = counts[first // 3 : first] if first < len(counts) else []
        return sum(settled) / (len(settled) * run.width) if sum(settled) else None

    def _bin(self, run: Run, at: float) -> int:
        return int(at / run.width) if isfinite(at) else len(run.counts["sent"])


def _rates(run: Run, name: str, start: int) -> list[float]:
    """A count per second over each ten seconds that begin in a bin from `start` on."""
    span = max(1, round(_SPAN / run.width))
    # The last bin ends after the run does.
    counts = run.counts[name][start:-1]
    return [sum(counts[place : place + span]) / (span * run.width) for place in range(len(counts) - span + 1)]


def _merged(bins: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for each in bins:
        for step, count in each.items():
            total[step] = total.get(step, 0) + count
    return total


def _cells(row: Row) -> tuple[str, ...]:
    rates = (row.offered, row.served, row.failed, row.rejected, row.sent, row.wasted)
    peak = "-" if row.peak is None else f"{row.peak:.2f}"
    return (
        row.pipeline,
        *(f"{rate:.1f}" for rate in rates),
        *(f"{latency:.3f}" if isfinite(latency) else "-" for latency in (row.p50, row.p99)),
        f"{row.load:.3f}",
        peak,
        _recovery(row.recovered),
    )


def _recovery(recovered: tuple[float, ...]) -> str:
    if not recovered:
        return "-"
    back = [value for value in recovered if isfinite(value)]
    if not back:
        return f"never (0 of {len(recovered)})"
    return f"{median(back):.0f} s, worst {max(back):.0f} s ({len(back)} of {len(recovered)})"


def _plain(value: Any) -> Any:
    """Values that JSON has a word for."""
    if isinstance(value, float):
        return round(value, 6) if isfinite(value) else None
    many: Any = value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in many]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in many.items()}
    return value
