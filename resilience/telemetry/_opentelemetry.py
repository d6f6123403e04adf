"""Metrics and traces for OpenTelemetry.

What happened to a call belongs to the span of that call, so events become events of the current span, and no span is
made for an attempt: an instrumented client makes one by itself. An outage is nobody's call. It gets a span of its own,
from the opening of a circuit to its closing, at the root of a trace, linked to the span of the call that opened it.

Names follow the semantic conventions: dotted, in one namespace, units in UCUM; errors are `exception.type` and
`exception.message`.
"""

from __future__ import annotations

import threading

from resilience import _hub
from resilience._checks import positive_int, wrong_type
from resilience.events import CallSucceeded, CircuitClosed, CircuitHalfOpened, CircuitIsolated, CircuitOpened
from resilience.telemetry._labels import Labels
from resilience.telemetry._measures import measures, readings
from resilience.telemetry._missing import missing
from resilience.telemetry._table import DISTRIBUTIONS, EVENTS, GAUGES
from resilience.telemetry._words import fields, spoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from resilience.events import Event
    from resilience.telemetry._table import Metric

__all__ = ["ATTRIBUTES", "to_opentelemetry"]

ATTRIBUTES = {
    "policy": "resilience.policy.name",
    "kind": "resilience.policy.kind",
    "event": "resilience.event",
    "reason": "resilience.reason",
}
"""Label → attribute."""

_homes: dict[int, MeterProvider] = {}
"""The providers that have the metrics at present."""
_lock = threading.RLock()
_OF_FIELDS = {**ATTRIBUTES, "error": "exception.type", "last_error": "exception.type", "message": "exception.message"}


def to_opentelemetry(
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    *,
    max_names: int = 1000,
) -> Callable[[], None]:
    """Send every metric of the table to OpenTelemetry, and events to the current span. Safe from any thread.

    Args:
        meter_provider: the global one where none is given.
        tracer_provider: makes the spans of outages; the global one where none is given.
        max_names: names of policies beyond so many are counted under "other", and have no spans of outages.

    Returns:
        A function that stops it, and ends the spans of outages that are still open.

    Raises:
        ImportError: the API of OpenTelemetry is not installed.
        ValueError: the meter provider has these metrics already, and would count each event twice.
        TypeError, ValueError: a provider is none, or `max_names` is no integer above 0.
    """
    labels = Labels(max_names)
    if meter_provider is not None and not hasattr(meter_provider, "get_meter"):
        raise wrong_type("meter_provider", "a MeterProvider or None", meter_provider)
    if tracer_provider is not None and not hasattr(tracer_provider, "get_tracer"):
        raise wrong_type("tracer_provider", "a TracerProvider or None", tracer_provider)
    try:
        from opentelemetry import metrics, trace
    except ImportError as error:
        raise missing("to_opentelemetry", "opentelemetry-api", "opentelemetry") from error
    home = metrics.get_meter_provider() if meter_provider is None else meter_provider
    meter = metrics.get_meter("resilience", meter_provider=home)
    tracer = trace.get_tracer("resilience", tracer_provider=tracer_provider)
    with _lock:
        if id(home) in _homes:
            raise ValueError("this meter provider has the metrics of resilience already: stop the other export first")
        _homes[id(home)] = home
    numbers = _Numbers(meter, labels)
    outages = _Outages(tracer, positive_int("max_names", max_names))

    def hear(event: Event) -> None:
        numbers.add(event)
        span = trace.get_current_span()
        if span.is_recording() and not (isinstance(event, CallSucceeded) and event.attempts == 1):
            span.add_event(f"resilience.{spoken(type(event))}", _attributes(event))
        outages.hear(event, span)

    unlisten = _hub.listen(hear)

    def stop() -> None:
        unlisten()
        with _lock:
            if not numbers.stopped:
                numbers.stopped = True
                del _homes[id(home)]
        outages.close()

    return stop


def _attributes(event: Event) -> dict[str, str | int | float | bool]:
    return {
        _OF_FIELDS.get(name, f"resilience.{name}"): value for name, value in fields(event).items() if value is not None
    }


class _Numbers:
    """The instruments, one for each row of the table."""

    def __init__(self, meter: Meter, labels: Labels) -> None:
        self._labels = labels
        self._events = meter.create_counter(EVENTS.name, EVENTS.unit, EVENTS.says)
        self._distributions: dict[str, Histogram] = {
            metric.name: meter.create_histogram(
                metric.name, metric.unit, metric.says, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in DISTRIBUTIONS
        }
        self.stopped = False
        """An instrument cannot be taken away again, only fall silent."""
        for metric in GAUGES:
            meter.create_observable_gauge(metric.name, [self._observing(metric)], metric.unit, metric.says)

    def add(self, event: Event) -> None:
        for metric, values, number in measures(event, self._labels):
            attributes = _labelled(metric, values)
            if metric is EVENTS:
                self._events.add(number, attributes)
            else:
                self._distributions[metric.name].record(number, attributes)

    def _observing(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            from opentelemetry.metrics import Observation

            if self.stopped:
                return []
            found = readings(self._labels, (metric,))
            return [Observation(number, _labelled(each, at)) for each, values in found for at, number in values.items()]

        return observe


def _labelled(metric: Metric, values: tuple[str, ...]) -> dict[str, str]:
    return {ATTRIBUTES[label]: value for label, value in zip(metric.labels, values, strict=True) if value}


class _Outages:
    """One span for each circuit that is not closed, by the circuit's name."""

    def __init__(self, tracer: Tracer, most: int) -> None:
        self._tracer = tracer
        self._most = most
        self._open: dict[str, Span] = {}
        self._lock = threading.RLock()
        self._closed = False

    def hear(self, event: Event, cause: Span) -> None:
        if isinstance(event, CircuitClosed):
            with self._lock:
                ended = self._open.pop(event.policy, None)
            if ended is not None:
                ended.end()
        elif isinstance(event, CircuitOpened | CircuitHalfOpened | CircuitIsolated):
            self._mark(event, cause)

    def _mark(self, event: Event, cause: Span) -> None:
        with self._lock:
            span = self._open.get(event.policy)
            full = self._closed or len(self._open) >= self._most
        if span is None and not full:
            span = self._start(event, cause)
            with self._lock:
                # Events of one circuit come one after the other; only two circuits of one name can meet here.
                late = self._closed
                if not late:
                    self._open[event.policy] = span
            if late:
                span.end()
                return
        if span is not None:
            span.add_event(f"resilience.{spoken(type(event))}", _attributes(event))

    def _start(self, event: Event, cause: Span) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link

        about = cause.get_span_context()
        return self._tracer.start_span(
            "resilience.circuit.outage",
            context=Context(),
            links=[Link(about)] if about.is_valid else [],
            attributes={ATTRIBUTES["policy"]: event.policy, ATTRIBUTES["kind"]: event.kind},
        )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            spans = list(self._open.values())
            self._open.clear()
        for span in spans:
            span.end()
