"""From events and snapshots to numbers.

The only place that knows what an event adds to which metric, and what a snapshot says. An exporter asks, and writes
down the answers in the form of its library.
"""

from __future__ import annotations

from resilience import _hub
from resilience.events import CircuitIsolated
from resilience.telemetry._table import DISTRIBUTIONS, EVENTS, GAUGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilience.events import Event
    from resilience.policies._base import Policy
    from resilience.telemetry._labels import Labels
    from resilience.telemetry._table import Metric

__all__ = ["measures", "readings"]

_BY_EVENT: dict[str, list[tuple[Metric, str]]] = {}
for _metric in DISTRIBUTIONS:
    for _event, _field in _metric.source:
        _BY_EVENT.setdefault(_event, []).append((_metric, _field))


def measures(event: Event, labels: Labels) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
    """What an event adds: the metric, the values of its labels, and the number."""
    told = type(event).__name__
    yield EVENTS, labels.bounded(EVENTS.labels, (event.policy, event.kind, told, _reason(event))), 1.0
    if told == "CallSucceeded" and event.kind != "retry":
        # Every policy tells of a call that came through it; how many attempts it took is the retry's to say.
        return
    for metric, field in _BY_EVENT.get(told, ()):
        yield metric, labels.bounded(metric.labels, (event.policy, event.kind)), float(getattr(event, field))


def readings(
    labels: Labels, gauges: tuple[Metric, ...] = GAUGES
) -> Iterator[tuple[Metric, dict[tuple[str, ...], float]]]:
    """What all named policies say now: each gauge, with a value for each set of labels. Does no I/O."""
    found: dict[str, dict[tuple[str, ...], float]] = {metric.name: {} for metric in gauges}
    for policy in _hub.registry():
        at: tuple[str, ...] | None = None
        for metric, number in _numbers(policy, gauges):
            if number is not None:
                at = at or labels.bounded(metric.labels, (policy.name, policy.kind))
                values = found[metric.name]
                values[at] = metric.merge(values[at], number) if at in values else number
    for metric in gauges:
        yield metric, found[metric.name]


def _numbers(policy: Policy[object], gauges: tuple[Metric, ...]) -> list[tuple[Metric, float | None]]:
    try:
        view = policy.snapshot()
        return [(metric, metric.read(view)) for metric in gauges if metric.read is not None]
    except Exception:
        # A policy of somebody's own that cannot say how it is must not hide all others; the live page shows why.
        return []


def _reason(event: Event) -> str:
    # Why somebody isolated a circuit is a sentence of theirs, not a word of ours.
    reason = None if isinstance(event, CircuitIsolated) else getattr(event, "reason", None)
    return reason if isinstance(reason, str) else ""
