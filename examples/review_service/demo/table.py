"""The one table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich import box
from rich.table import Table

from examples.review_service.demo.figures import GOOD, Run, percentile
from examples.review_service.demo.load import Outcome, Sample
from examples.review_service.demo.script import Trouble, scene_of

HANGS, FAILS, LOCKED = (scene_of(trouble) for trouble in (Trouble.HANGS, Trouble.FAILS, Trouble.LOCKED))


def table(bare: Run, kept: Run) -> Table:
    """Both runs, side by side."""
    made = Table(box=box.SIMPLE_HEAVY, title="One outage, twice")
    made.add_column("", no_wrap=True)
    made.add_column(bare.title, justify="right", no_wrap=True)
    made.add_column(kept.title, justify="right", no_wrap=True, style="bold")
    for name, one, other in _rows(bare, kept):
        made.add_row(name, one, other)
    return made


def _rows(bare: Run, kept: Run) -> Iterator[tuple[str, str, str]]:
    def row(name: str, figure: Callable[[Run], str]) -> tuple[str, str, str]:
        return name, figure(bare), figure(kept)

    yield row("requests", lambda run: str(len(run.samples)))
    yield row("answered in time", _good)
    yield row("  of these, from our own database", lambda run: str(run.outcomes()[Outcome.PLAIN]))
    for status in sorted({each for run in (bare, kept) for each in run.statuses() if each is not None and each >= 400}):
        yield row(f"refused at once, {status}", lambda run, status=status: str(run.statuses()[status]))  # type: ignore[misc]
    yield row("no answer in time", lambda run: str(run.outcomes()[Outcome.LATE]))
    yield row("time to any answer, p50", lambda run: _p(run.samples, 0.5))
    yield row("time to any answer, p99", lambda run: _p(run.samples, 0.99))
    yield row("  p99 while the provider hangs", lambda run: _p(run.during(HANGS), 0.99))
    yield row("  p99 while the database is locked", lambda run: _p(run.during(LOCKED), 0.99))
    yield row("calls to a provider in trouble", lambda run: str(run.calls_during(HANGS) + run.calls_during(FAILS)))
    yield row("as before, after the provider is back", lambda run: _seconds(run.recovery(Trouble.FAILS)))
    yield row("as before, after the database is back", lambda run: _seconds(run.recovery(Trouble.LOCKED)))


def _good(run: Run) -> str:
    good = sum(run.outcomes()[outcome] for outcome in GOOD)
    return f"{good} ({good / max(1, len(run.samples)):.0%})"


def _p(samples: list[Sample], share: float) -> str:
    return f"{percentile(samples, share) * 1000:.0f} ms"


def _seconds(seconds: float | None) -> str:
    return "not in time" if seconds is None else f"{seconds:.1f} s"
