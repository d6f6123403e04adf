"""Every metric, once.

A dashboard outlives the code that feeds it, so names are a promise. They stand here and nowhere else: the exporters
make theirs from this table, and tests hold the documentation and the Grafana dashboard to it.

A metric has one dotted name, which OpenTelemetry and statsd use as it is. Prometheus' form follows from it by the rule
of the OpenTelemetry specification ("Prometheus and OpenMetrics Compatibility"): dots become underscores, the unit is
appended, a counter ends in `_total`. So a metric that travels by way of OpenTelemetry arrives under the same name.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

__all__ = ["DISTRIBUTIONS", "EVENTS", "GAUGES", "METRICS", "STATES", "Metric"]

STATES = {"closed": 0, "half_open": 1, "open": 2, "isolated": 3}
"""The states of a circuit as numbers, the worst last."""

_OF_EVENTS = ("policy", "kind", "event", "reason")
_OF_POLICIES = ("policy", "kind")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SUFFIXES = {"s": "_seconds", "1": "_ratio"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        name: the dotted name.
        form: "counter", "histogram" or "gauge".
        unit: as in UCUM: "s", "1" for a share, "{call}" and the like for things that are counted.
        says: what it is, in one sentence.
        source: for a histogram, the events and the field of each that it takes; for a counter, none.
        read: for a gauge, what it takes from a policy's snapshot, or None where that has no such thing.
        merge: for a gauge, how the values of policies with one name become one.
        buckets: for a histogram, the upper bounds.
    """

    name: str
    form: Literal["counter", "histogram", "gauge"]
    unit: str
    says: str
    labels: tuple[str, ...] = _OF_POLICIES
    source: tuple[tuple[str, str], ...] = ()
    read: Callable[[dict[str, Any]], float | None] | None = None
    merge: Callable[[float, float], float] = max
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """The name in Prometheus."""
        total = "_total" if self.form == "counter" else ""
        return self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "") + total


def _field(key: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda view: _number(view.get(key))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _state(view: dict[str, Any]) -> float | None:
    state = view.get("state")
    return STATES.get(state) if isinstance(state, str) else None


def _waiting(view: dict[str, Any]) -> float | None:
    return _number(view.get("queued", view.get("waiting")))


def _tokens(view: dict[str, Any]) -> float | None:
    """The share of a bucket that is left; of several rates, the least."""
    if "capacity" in view:
        return float(view["level"] / view["capacity"])
    shares = [rate["remaining"] / rate["burst"] for rate in view.get("rates", ()) if "remaining" in rate]
    return min(shares, default=None)


def _sum(one: float, other: float) -> float:
    return one + other


EVENTS = Metric("resilience.events", "counter", "{event}", "Events of policies, each counted once.", labels=_OF_EVENTS)

DISTRIBUTIONS = (
    Metric(
        "resilience.call.attempts",
        "histogram",
        "{attempt}",
        "Attempts of a call, counted when a retry has succeeded or given up.",
        source=(("CallSucceeded", "attempts"), ("RetryGaveUp", "attempts")),
        buckets=(1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0),
    ),
    Metric(
        "resilience.retry.delay",
        "histogram",
        "s",
        "Waits before another attempt.",
        source=(("RetryScheduled", "delay"),),
        buckets=_SECONDS,
    ),
    Metric(
        "resilience.deadline.late",
        "histogram",
        "s",
        "How late calls ended that could not be cut.",
        source=(("DeadlineMissed", "late"),),
        buckets=_SECONDS,
    ),
)

GAUGES = (
    Metric(
        "resilience.circuit.state",
        "gauge",
        "",
        "State of a circuit: 0 closed, 1 half-open, 2 open, 3 isolated; of several, the worst.",
        read=_state,
    ),
    Metric(
        "resilience.circuit.failures",
        "gauge",
        "{failure}",
        "Failures that a circuit holds against what it calls.",
        read=_field("failures"),
        merge=_sum,
    ),
    Metric("resilience.in_flight", "gauge", "{call}", "Calls in flight.", read=_field("in_flight"), merge=_sum),
    Metric(
        "resilience.waiting", "gauge", "{call}", "Calls that wait for a place or a token.", read=_waiting, merge=_sum
    ),
    Metric("resilience.limit", "gauge", "{call}", "Most calls in flight at present.", read=_field("limit"), merge=_sum),
    Metric(
        "resilience.tokens",
        "gauge",
        "1",
        "Share of its tokens that a throttle or a retry budget has left; of several, the least.",
        read=_tokens,
        merge=min,
    ),
    Metric(
        "resilience.rejection",
        "gauge",
        "1",
        "Share of calls that an adaptive throttle holds back; of several, the greatest.",
        read=_field("rejection"),
    ),
    Metric(
        "resilience.queue.delay",
        "gauge",
        "s",
        "Queueing delay that a load shedder sees; of several, the greatest.",
        read=_field("delay"),
    ),
    Metric("resilience.keys", "gauge", "{key}", "Keys that are kept.", read=_field("keys"), merge=_sum),
    Metric(
        "resilience.hedge.after",
        "gauge",
        "s",
        "Seconds after which a copy is sent, once learnt; of several, the greatest.",
        read=_field("after"),
    ),
)

METRICS = (EVENTS, *DISTRIBUTIONS, *GAUGES)
