"""Exporters that are given nonsense, twice the same, or what no tool can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import INVALID_SPAN
from prometheus_client import CollectorRegistry, generate_latest

from resilience import CircuitBreaker
from resilience.telemetry import to_opentelemetry, to_prometheus, to_statsd
from resilience.telemetry._labels import Labels
from resilience.telemetry._opentelemetry import _Outages
from resilience.telemetry._words import fields

HALF = "half a character \udc80"


def _refused() -> None:
    raise ConnectionError(HALF)


@pytest.mark.parametrize(
    "wrongly",
    [
        lambda wrong: to_prometheus(wrong),
        lambda wrong: to_opentelemetry(wrong),
        lambda wrong: to_opentelemetry(None, wrong),
        lambda wrong: to_statsd(wrong, 8125),
        lambda wrong: to_statsd("127.0.0.1", wrong),
        lambda wrong: to_statsd("127.0.0.1", 8125, tags=wrong),
        lambda wrong: to_prometheus(CollectorRegistry(), max_names=wrong),
    ],
)
def test_what_is_given_is_checked(wrongly: Callable[[Any], object]) -> None:
    """What an exporter cannot speak to is a TypeError that names the parameter."""
    with pytest.raises(TypeError, match=r"must be .*, got 1\.5"):
        wrongly(1.5)


def test_opentelemetry_counts_no_event_twice() -> None:
    """A second export to one meter provider is refused while there is the first; after it, it counts on."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    breaker = CircuitBreaker(name="counted once")
    stop = to_opentelemetry(provider)
    with pytest.raises(ValueError, match="already"):
        to_opentelemetry(provider)
    breaker.call(int)
    stop()
    stop()
    again = to_opentelemetry(provider)
    breaker.call(int)
    stop()
    with pytest.raises(ValueError, match="already"):
        to_opentelemetry(provider)
    again()
    data: Any = reader.get_metrics_data()
    metrics = [metric for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics]
    points = [point for metric in metrics if metric.name == "resilience.events" for point in metric.data.data_points]
    assert sum(point.value for point in points) == 2


def test_a_name_that_cannot_be_written_stops_no_scrape() -> None:
    """Half a character in a name, which a key of a user's may hold, is a question mark in the label."""
    registry = CollectorRegistry()
    stop = to_prometheus(registry)
    breaker = CircuitBreaker(name=HALF)
    breaker.call(int)
    scraped = generate_latest(registry).decode()
    stop()
    assert 'policy="half a character ?"' in scraped
    assert Labels(5).bounded(("policy", "kind"), ("naïve – ✓", HALF)) == ("naïve – ✓", "half a character ?")


def test_a_message_that_cannot_be_written_is_told_without_it() -> None:
    """Nor does one in the message of an error reach a tool, in any event that has one."""
    told: list[Any] = []
    breaker = CircuitBreaker(1, name="half a message")
    stop = breaker.listen(told.append)
    with pytest.raises(ConnectionError):
        breaker.call(_refused)
    stop()
    assert told
    for event in told:
        for value in fields(event).values():
            str(value).encode()
    assert "half a character ?" in [fields(event).get("message") for event in told]


def test_an_outage_that_begins_while_telemetry_stops_is_ended() -> None:
    """Its span is not left open for ever by a stop that came between."""
    ended: list[int] = []

    class Span:
        def end(self) -> None:
            ended.append(1)

        def add_event(self, *_: Any) -> None:
            raise AssertionError("nothing is told of a span that has ended")

    class Tracer:
        def start_span(self, *_: Any, **__: Any) -> Span:
            outages.close()
            return Span()

    tracer: Any = Tracer()
    outages = _Outages(tracer, 10)
    breaker = CircuitBreaker(name="opens late")
    stop = breaker.listen(lambda event: outages.hear(event, INVALID_SPAN))
    breaker.open()
    stop()
    assert ended == [1]
