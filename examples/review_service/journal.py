"""What the service writes down: one JSON object for each line, and nothing in it that a stranger sent.

A request is logged by the route it matched, never by its path, query or headers: a token pasted into any of them must
not end up in a file. An error is logged by its type and place, never by its message: that is where drivers put
statements and data sources.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import resilience
from resilience import events

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = logging.getLogger("reviews")


class _Lines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {"at": round(record.created, 3), "level": record.levelname.lower()}
        known = getattr(record, "fields", None)
        fields |= known if isinstance(known, dict) else {"event": record.name, "message": record.getMessage()}
        return json.dumps(fields)


def to_stderr() -> Callable[[], None]:
    """Send everything to standard error, what circuit breakers do among it, until the returned function is called."""
    sink = logging.StreamHandler(sys.stderr)
    sink.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[sink], force=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    return resilience.listen(_circuit, events.CircuitOpened, events.CircuitHalfOpened, events.CircuitClosed)


def note(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write down that something happened."""
    if log.isEnabledFor(level):
        log.log(level, event, extra={"fields": {"event": event} | fields})


def request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Write down a request and its answer."""
    known = method if method in _METHODS else "other"
    note("request", method=known, route=route or "-", status=status, ms=round(seconds * 1000, 1))


def unexpected(error: Exception) -> None:
    """Write down what nobody foresaw: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.name}:{frame.lineno}" for frame in frames[-8:]]
    note("unexpected", logging.ERROR, error=type(error).__name__, where=where)


def _circuit(event: events.Event) -> None:
    level = logging.WARNING if isinstance(event, events.CircuitOpened) else logging.INFO
    note("circuit", level, policy=event.policy, state=str(getattr(event, "state", "")))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
