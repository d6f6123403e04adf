"""Metrics for Prometheus.

Counters and histograms are prometheus_client's own, so that they also work in its multiprocess mode. Gauges are read
from the policies when Prometheus asks, and not before: nothing runs between two scrapes.
"""

from __future__ import annotations

from resilience import _hub
from resilience._checks import wrong_type
from resilience.telemetry._labels import Labels
from resilience.telemetry._measures import measures, readings
from resilience.telemetry._missing import missing
from resilience.telemetry._table import DISTRIBUTIONS, EVENTS, GAUGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family

    from resilience.events import Event

__all__ = ["to_prometheus"]


def to_prometheus(registry: CollectorRegistry | None = None, *, max_names: int = 1000) -> Callable[[], None]:
    """Export every metric of the table to a registry of prometheus_client. Safe from any thread.

    Args:
        registry: prometheus_client's default registry where none is given.
        max_names: names of policies beyond so many are counted under "other".

    Returns:
        A function that stops it, and takes the metrics out of the registry.

    Raises:
        ImportError: prometheus_client is not installed.
        ValueError: the registry has these metrics already.
        TypeError, ValueError: `registry` is none, or `max_names` is no integer above 0.
    """
    try:
        from prometheus_client import REGISTRY
    except ImportError as error:
        raise missing("to_prometheus", "prometheus_client", "prometheus") from error
    if registry is not None and not hasattr(registry, "register"):
        raise wrong_type("registry", "a CollectorRegistry or None", registry)
    labels = Labels(max_names)
    collector = _Collector(labels)
    home = REGISTRY if registry is None else registry
    home.register(collector)

    def count(event: Event) -> None:
        for metric, values, number in measures(event, labels):
            collector.add(metric.name, values, number)

    unlisten = _hub.listen(count)
    stopped: list[bool] = []

    def stop() -> None:
        unlisten()
        if not stopped:
            stopped.append(True)
            home.unregister(collector)

    return stop


class _Collector:
    def __init__(self, labels: Labels) -> None:
        from prometheus_client import Counter, Histogram

        self._labels = labels
        self._events = Counter(EVENTS.prometheus, EVENTS.says, EVENTS.labels, registry=None)
        self._distributions = {
            metric.name: Histogram(metric.prometheus, metric.says, metric.labels, buckets=metric.buckets, registry=None)
            for metric in DISTRIBUTIONS
        }

    def add(self, name: str, values: tuple[str, ...], number: float) -> None:
        if name == EVENTS.name:
            self._events.labels(*values).inc(number)
        else:
            self._distributions[name].labels(*values).observe(number)

    def collect(self) -> Iterator[Family]:
        yield from self._events.collect()
        for distribution in self._distributions.values():
            yield from distribution.collect()
        yield from self._gauges(readings(self._labels))

    def describe(self) -> Iterator[Family]:
        """The names alone, by which a registry sees that it has them already."""
        yield from self._events.describe()
        for distribution in self._distributions.values():
            yield from distribution.describe()
        yield from self._gauges((metric, {}) for metric in GAUGES)

    def _gauges(self, read: Iterable[tuple[object, dict[tuple[str, ...], float]]]) -> Iterator[Family]:
        from prometheus_client.core import GaugeMetricFamily

        for metric, (_, values) in zip(GAUGES, read, strict=True):
            family = GaugeMetricFamily(metric.prometheus, metric.says, labels=metric.labels)
            for at, number in values.items():
                family.add_metric(at, number)
            yield family
