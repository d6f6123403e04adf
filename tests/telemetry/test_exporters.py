"""Events and snapshots reach real exporters, whole and bounded."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Hedge,
    Retry,
    RetryBudget,
    Throttle,
    events,
)
from resilience.policies._base import Policy
from resilience.telemetry import to_logging, to_opentelemetry, to_prometheus, to_statsd, to_structlog
from resilience.telemetry._labels import OTHER, Labels
from resilience.telemetry._table import METRICS
from resilience.telemetry._words import LEVELS, fields, spoken
from resilience.testing import VirtualClock

ROOT = Path(__file__).resolve().parents[2]
THREADS, CALLS = 8, 200


def refuse() -> None:
    raise ConnectionError("refused\nby the other side")


def storm(policy: Policy[Any]) -> None:
    """So many calls from so many threads, at once."""
    start = threading.Barrier(THREADS)

    def run() -> None:
        start.wait()
        for _ in range(CALLS):
            policy.call(int)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def trouble(name: str) -> tuple[Any, ...]:
    """A retry that gives up, a circuit that opens and refuses, and one policy for every gauge."""
    clock = VirtualClock()
    budget = RetryBudget(name=f"{name}.budget", clock=clock)
    retry = Retry(on=ConnectionError, attempts=2, backoff=1, budget=budget, name=f"{name}.retry", clock=clock)
    breaker = CircuitBreaker(1, name=f"{name}.breaker", clock=clock)
    with pytest.raises(ConnectionError):
        retry.call(refuse)
    with pytest.raises(ConnectionError):
        breaker.call(refuse)
    with pytest.raises(CircuitOpen):
        breaker.call(int)
    kept = Bulkhead(4, name=f"{name}.bulkhead"), Throttle("10/s", burst=10, name=f"{name}.throttle", clock=clock)
    kept[1].call(int)
    return (budget, retry, breaker, *kept)


# --- prometheus -------------------------------------------------------------------------------------------------------


@pytest.fixture
def prometheus() -> Iterator[Any]:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    stop = to_prometheus(registry)
    yield registry
    stop()


def test_prometheus_has_counts_distributions_and_gauges(prometheus: Any) -> None:
    """What has happened and how things stand can be read by the names of the table."""
    kept = trouble("p")
    read = prometheus.get_sample_value
    labels = {"policy": "p.retry", "kind": "retry"}
    assert read("resilience_events_total", {**labels, "event": "AttemptFailed", "reason": ""}) == 2.0
    assert read("resilience_events_total", {**labels, "event": "RetryGaveUp", "reason": "attempts"}) == 1.0
    assert read("resilience_call_attempts_sum", labels) == 2.0
    assert read("resilience_retry_delay_seconds_sum", labels) == 1.0
    assert read("resilience_circuit_state", {"policy": "p.breaker", "kind": "circuit_breaker"}) == 2.0
    assert read("resilience_tokens_ratio", {"policy": "p.throttle", "kind": "throttle"}) == pytest.approx(0.9)
    assert read("resilience_tokens_ratio", {"policy": "p.budget", "kind": "retry_budget"}) == pytest.approx(1.0)
    assert read("resilience_limit", {"policy": "p.bulkhead", "kind": "bulkhead"}) == 4.0
    assert len(kept) == 5


def test_prometheus_loses_no_event_under_eight_threads(prometheus: Any) -> None:
    """As many successes are counted as there were."""
    storm(CircuitBreaker(name="storm"))
    labels = {"policy": "storm", "kind": "circuit_breaker", "event": "CallSucceeded", "reason": ""}
    assert prometheus.get_sample_value("resilience_events_total", labels) == THREADS * CALLS


def test_prometheus_twice_in_one_registry_is_refused_and_once_more_after_a_stop_is_not() -> None:
    """A registry has the metrics once; stopping takes them out, and may be done twice."""
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    stop = to_prometheus(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        to_prometheus(registry)
    stop()
    stop()
    assert client.generate_latest(registry) == b""
    to_prometheus(registry)()


def test_names_beyond_the_bound_are_counted_under_other() -> None:
    """However many names there are, the series are bounded, and no event is lost."""
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    stop = to_prometheus(registry, max_names=10)
    kept = [CircuitBreaker(name=f"user-{number}") for number in range(100)]
    for breaker in kept:
        breaker.call(int)
    samples = [
        sample for family in registry.collect() for sample in family.samples if sample.name == "resilience_events_total"
    ]
    stop()
    assert sum(sample.value for sample in samples) == 100
    assert len({sample.labels["policy"] for sample in samples}) == 11
    assert next(sample.value for sample in samples if sample.labels["policy"] == OTHER) == 90


def test_a_policy_that_cannot_say_how_it_is_hides_no_other(prometheus: Any) -> None:
    """An error of somebody's own snapshot leaves the other gauges."""

    class Broken(CircuitBreaker):
        def snapshot(self) -> dict[str, Any]:
            raise RuntimeError("a bug")

    kept = Broken(name="broken"), CircuitBreaker(name="whole")
    labels = {"policy": "whole", "kind": "circuit_breaker"}
    assert prometheus.get_sample_value("resilience_circuit_state", labels) == 0.0
    assert len(kept) == 2


def test_why_somebody_isolated_a_circuit_is_no_label(prometheus: Any) -> None:
    """A sentence that a person typed makes no time series."""
    CircuitBreaker(name="byhand").isolate("deploy of build 8c1f")
    labels = {"policy": "byhand", "kind": "circuit_breaker", "event": "CircuitIsolated", "reason": ""}
    assert prometheus.get_sample_value("resilience_events_total", labels) == 1.0


def test_the_dashboard_asks_for_metrics_that_are_exported(prometheus: Any) -> None:
    """Each query of the Grafana dashboard names a metric, and labels, that a real scrape holds after trouble."""
    client = pytest.importorskip("prometheus_client")
    kept = trouble("g")
    scrape = client.generate_latest(prometheus).decode()
    known = set(re.findall(r"^([a-z_]+)[{ ]", scrape, re.MULTILINE)) | set(re.findall(r"# TYPE (\w+) gauge", scrape))
    labels = set(re.findall(r'([a-z]+)="', scrape))
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) >= 8
    for query in queries:
        names = re.findall(r"resilience_[a-z_]+", query)
        assert names and set(names) <= known, query
        used = set(re.findall(r"(\w+)=~?\"", query)) | {
            word for by in re.findall(r"by \(([^)]*)\)", query) for word in by.split(", ")
        }
        assert used <= labels | {"le"}, query
    assert kept


# --- opentelemetry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def otel() -> Iterator[Any]:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider([reader], shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    stop = to_opentelemetry(meters, tracers)
    yield reader, tracers.get_tracer("test"), spans, stop
    stop()
    meters.shutdown()
    tracers.shutdown()


def points(reader: Any) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics] if data else []
    return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


def test_opentelemetry_has_the_metrics_of_the_table(otel: Any) -> None:
    """Counters, histograms and observable gauges carry the names of the table and namespaced attributes."""
    kept = trouble("o")
    found = points(otel[0])
    assert set(found) <= {metric.name for metric in METRICS}
    gave_up = [
        point.value for point in found["resilience.events"] if point.attributes.get("resilience.reason") == "attempts"
    ]
    assert gave_up == [1]
    states = {point.attributes["resilience.policy.name"]: point.value for point in found["resilience.circuit.state"]}
    assert states["o.breaker"] == 2.0
    assert found["resilience.retry.delay"][0].sum == 1.0
    otel[3]()
    assert "resilience.circuit.state" not in points(otel[0])
    assert kept


def test_opentelemetry_loses_no_event_under_eight_threads(otel: Any) -> None:
    """As many successes are counted as there were."""
    storm(CircuitBreaker(name="storm"))
    counts = [
        point.value
        for point in points(otel[0])["resilience.events"]
        if point.attributes["resilience.policy.name"] == "storm"
    ]
    assert counts == [THREADS * CALLS]


def test_attempts_are_events_of_the_span_of_the_call(otel: Any) -> None:
    """The span of a call tells its attempts, with the number and the exception, and none is made for them."""
    _, tracer, spans, _ = otel
    retry = Retry(on=ConnectionError, attempts=2, backoff=1, name="spanned", clock=VirtualClock())
    with tracer.start_as_current_span("call"), pytest.raises(ConnectionError):
        retry.call(refuse)
    (span,) = spans.get_finished_spans()
    told = [event for event in span.events if event.name.startswith("resilience.")]
    assert [event.name for event in told] == [
        "resilience.attempt_failed",
        "resilience.retry_scheduled",
        "resilience.attempt_failed",
        "resilience.retry_gave_up",
    ]
    assert told[0].attributes["resilience.attempt"] == 1
    assert told[0].attributes["resilience.policy.name"] == "spanned"
    assert told[0].attributes["exception.type"] == "ConnectionError"


def test_an_outage_is_a_span_linked_to_the_call_that_opened_the_circuit(otel: Any) -> None:
    """From opening to closing there is one span at the root of its own trace, linked to the span of the cause."""
    _, tracer, spans, _ = otel
    breaker = CircuitBreaker(1, name="outage", clock=VirtualClock())
    with tracer.start_as_current_span("cause") as cause, pytest.raises(ConnectionError):
        breaker.call(refuse)
    breaker.close()
    outage = next(span for span in spans.get_finished_spans() if span.name == "resilience.circuit.outage")
    assert outage.parent is None
    assert outage.links[0].context.span_id == cause.get_span_context().span_id
    assert outage.attributes["resilience.policy.name"] == "outage"


def test_stopping_ends_the_spans_of_open_outages(otel: Any) -> None:
    """A circuit that is still open when telemetry stops leaves no span behind, and no listener."""
    breaker = CircuitBreaker(1, name="still open")
    breaker.open()
    otel[3]()
    breaker.close()
    breaker.open()
    assert [span.name for span in otel[2].get_finished_spans()] == ["resilience.circuit.outage"]


# --- logging and structlog --------------------------------------------------------------------------------------------


def test_logging_writes_one_line_each_whatever_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """A name or a message with a line break stays on its line, and the fields are there for machines."""
    stop = to_logging()
    with caplog.at_level(logging.DEBUG, "resilience"):
        kept = trouble("l\nog")
    stop()
    kept[2].close()
    lines = [record.getMessage() for record in caplog.records if record.name == "resilience"]
    assert len(lines) == 6
    assert not [line for line in lines if "\n" in line]
    opened = next(record for record in caplog.records if record.getMessage().startswith("circuit_opened"))
    assert opened.levelno == logging.WARNING
    assert opened.__dict__["resilience"]["last_error"] == "ConnectionError"


def test_logging_takes_a_logger_or_a_name_and_nothing_else() -> None:
    """What is no logger is refused, by the name of the parameter."""
    to_logging(logging.getLogger("other"))()
    with pytest.raises(TypeError, match="logger must be"):
        to_logging(3)


def test_structlog_gets_the_event_and_its_fields() -> None:
    """An entry has the event's name in small letters, its level and its fields."""
    structlog = pytest.importorskip("structlog")
    with structlog.testing.capture_logs() as entries:
        stop = to_structlog()
        kept = trouble("s")
        stop()
        kept[2].close()
    failed = next(entry for entry in entries if entry["event"] == "attempt_failed")
    assert (failed["policy"], failed["attempt"], failed["error"], failed["log_level"]) == (
        "s.retry",
        1,
        "ConnectionError",
        "info",
    )
    assert "circuit_closed" not in {entry["event"] for entry in entries}


def test_what_a_call_returned_is_not_written_down() -> None:
    """Of a result that was not accepted there is the type alone."""
    event = events.AttemptFailed("r", "retry", 0.0, attempt=1, depth=0, error=None, result="a secret")
    assert fields(event)["result"] == "str"


def test_every_event_has_a_level_and_a_name() -> None:
    """No event of ours falls back to the level of somebody else's."""
    names = set(events.__all__) - {"Event"}
    assert names <= set(LEVELS)
    assert spoken(events.CircuitHalfOpened) == "circuit_half_opened"


# --- statsd -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.5)
        yield server


def received(server: socket.socket) -> list[str]:
    lines: list[str] = []
    try:
        while True:
            lines += server.recv(65536).decode().split("\n")
    except TimeoutError:
        return lines


def test_statsd_gets_counts_durations_and_gauges(wire: socket.socket) -> None:
    """Lines carry the names of the table, labels as tags, durations in milliseconds; a name can forge no line."""
    stop = to_statsd("127.0.0.1", wire.getsockname()[1])
    kept = trouble("a|b\nc:1")
    stop()
    kept[2].close()
    lines = received(wire)
    name = "a_b_c_1"
    assert f"resilience.events:1|c|#policy:{name}.retry,kind:retry,event:RetryGaveUp,reason:attempts" in lines
    assert f"resilience.retry.delay:1000|ms|#policy:{name}.retry,kind:retry" in lines
    assert any(line.startswith("resilience.tokens:") and "|g|" in line for line in lines)
    assert all(re.fullmatch(r"[a-z_.]+:[0-9.e+-]+\|(c|g|h|ms)\|#[^|\n]+", line) for line in lines)
    assert not [line for line in lines if "CircuitClosed" in line]


def test_statsd_can_do_without_tags(wire: socket.socket) -> None:
    """For older servers the labels are parts of the name, with no dot of their own."""
    stop = to_statsd("127.0.0.1", wire.getsockname()[1], tags=False)
    CircuitBreaker(name="a.b").call(int)
    stop()
    assert "resilience.events.a_b.circuit_breaker.CallSucceeded:1|c" in received(wire)


def test_statsd_loses_no_event_under_eight_threads(wire: socket.socket) -> None:
    """With a server that reads, every success arrives."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(received(wire)))
    reader.start()
    stop = to_statsd("127.0.0.1", wire.getsockname()[1])
    storm(CircuitBreaker(name="storm"))
    reader.join()
    stop()
    assert len([line for line in lines if "policy:storm" in line and "CallSucceeded" in line]) == THREADS * CALLS


def test_statsd_without_a_server_costs_no_call() -> None:
    """Nobody listening, and a port that is none, are not the caller's trouble, and its trouble at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stop = to_statsd("127.0.0.1", port)
    breaker = CircuitBreaker(name="alone")
    assert [breaker.call(int) for _ in range(3)] == [0, 0, 0]
    stop()
    stop()
    with pytest.raises(ValueError, match="port must be"):
        to_statsd("127.0.0.1", 70000)


# --- what it costs, what it promises ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "module", "extra"),
    [
        (to_prometheus, "prometheus_client", "prometheus"),
        (to_structlog, "structlog", "structlog"),
        (to_opentelemetry, "opentelemetry", "opentelemetry"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    start: Any, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a library is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"\[{extra}\]"):
        start()


def test_telemetry_imports_no_library_before_it_is_used() -> None:
    """Importing the exporters imports none of what they export to, and the package does not import them."""
    code = (
        "import sys, resilience; resilience.CircuitBreaker()\n"
        "assert not [name for name in sys.modules if name.startswith('resilience.telemetry')]\n"
        "import resilience.telemetry\n"
        "print(sorted({'prometheus_client', 'opentelemetry', 'structlog', 'logging'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_after_a_stop_no_event_is_built() -> None:
    """Policies are as quiet as before once the last exporter has stopped."""
    hedge = Hedge(name="quiet")
    assert not hedge._channel.heard
    stop = to_logging()
    assert hedge._channel.heard
    stop()
    assert not hedge._channel.heard


def test_labels_keep_their_words_under_threads() -> None:
    """Eight threads that bring the same new words never get more than the bound, and each word keeps its label."""
    labels = Labels(50)
    given: list[tuple[str, str]] = []

    def bring() -> None:
        for number in range(100):
            given.append((str(number), labels.bounded(("policy",), (str(number),))[0]))

    threads = [threading.Thread(target=bring) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = dict(given)
    assert len(set(answers.values())) == 51
    assert set(given) == set(answers.items())


def test_the_page_has_the_table() -> None:
    """The documentation names every metric, in both forms, with what it says, and no other."""
    text = (ROOT / "docs" / "telemetry.md").read_text()
    rows = re.findall(
        r"^\| `(resilience\.[a-z_.]+)` \| `(resilience_[a-z_]+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE
    )
    assert rows == [(metric.name, metric.prometheus, metric.form, metric.says) for metric in METRICS]
