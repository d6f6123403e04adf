"""What the policies tell, in the words of the tools that watch a service.

Each function below attaches one listener to all policies and returns a function that takes it away again. Nothing here
is imported by the rest of the package, and the library that a function speaks to is imported when the function is
called: a service without telemetry pays nothing, not even for events, which are not built while nobody listens.

Every exporter draws on one table of metrics (`resilience.telemetry._table`), so a number has the same meaning, and a
name made by one rule, wherever it is read. Labels are the policy's name, its kind, the event and the reason, and each
has a bound on how many different words it takes: what comes after is counted under "other".

Counts are lossless: each event is counted once, by the thread that delivers it, with eight threads as with one.
"""

from __future__ import annotations

from resilience.telemetry._logging import to_logging
from resilience.telemetry._opentelemetry import to_opentelemetry
from resilience.telemetry._prometheus import to_prometheus
from resilience.telemetry._statsd import to_statsd
from resilience.telemetry._structlog import to_structlog

__all__ = ["to_logging", "to_opentelemetry", "to_prometheus", "to_statsd", "to_structlog"]
