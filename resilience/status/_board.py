"""What the page shows, gathered while somebody looks.

Each look says that there is a watcher for the next seventy seconds. As long as there is one, a single listener counts
events, second by second, for a minute back; the first event after the last watcher has gone takes the listener away. So
there is no thread and no timer, and policies that nobody looks at build no events.

A board belongs to one process: it has an id of its own, so that a page that is answered by another process, or by the
next one after a restart, knows that what it has drawn is not of this one.
"""

from __future__ import annotations

import os
import threading
from uuid import uuid4

from resilience import _hub
from resilience.clock import SystemClock
from resilience.events import (
    AttemptFailed,
    CallRejected,
    CallSucceeded,
    FallbackUsed,
    RetryGaveUp,
)
from resilience.policies.breaker import CircuitBreaker
from resilience.status._minute import SECONDS, SERIES, Minute
from resilience.status._rows import merged, row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.clock import Clock
    from resilience.events import Event
    from resilience.policies._isolation import Isolation

__all__ = ["Board", "shared", "snapshot"]

_WATCHED = 70.0
_MOST = 2000
_RATE_OVER = 10
_SERIES_OF: dict[type[Event], str] = {
    CallSucceeded: "ok",
    AttemptFailed: "failed",
    FallbackUsed: "failed",
    CallRejected: "rejected",
}
_LONGEST = 200
_FRESH = 0.1
"""Seconds that a view serves all streams: a hundred readers must not look a hundred times."""


class Board:
    """The rows of every named policy, with a minute of history. Safe from any thread; holds no policy but one that it
    has isolated.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self.id = uuid4().hex
        self.process = os.getpid()
        # A collection of garbage in here can end a call, whose events come back to this thread.
        self._lock = threading.RLock()
        self._minutes: dict[tuple[str, str], Minute] = {}
        self._isolations: dict[CircuitBreaker, Isolation] = {}
        self._watched_since = self._seen = self._now()
        self._unlisten: Callable[[], None] | None = None
        self._glance: tuple[float, dict[str, Any]] | None = None

    def _now(self) -> float:
        return self._clock.now()

    @property
    def listening(self) -> bool:
        """Whether events are being counted."""
        return self._unlisten is not None

    def view(self, seconds: int = SECONDS) -> dict[str, Any]:
        """Everything the page shows, ready for JSON, with the last so many seconds of history."""
        self._watch()
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for policy in _hub.registry():
            at = policy.name, policy.kind
            found = row(*at, _view_of(policy))
            rows[at] = merged(rows[at], found) if at in rows else found
        now = self._clock.now()
        with self._lock:
            for at in self._minutes.keys() - rows.keys():
                del self._minutes[at]
            for at, found in rows.items():
                minute = self._minutes.get(at) or Minute(int(now))
                minute.advance(int(now))
                found["last_error"] = _short(found["last_error"] or minute.error)
                found["history"] = {series: minute.last(seconds, series) for series in SERIES}
                over = min(_RATE_OVER, max(1, int(now - self._watched_since)))
                found["rates"] = {series: sum(minute.last(over + 1, series)[:-1]) / over for series in SERIES}
        return {"id": self.id, "process": self.process, "second": int(now), "policies": list(rows.values())}

    def glance(self, seen: dict[str, Any] | None) -> dict[str, Any]:
        """What `view` says, or has said to another stream a moment ago; to be read only.

        Never the one that was `seen`, and a new one for whoever has seen none.
        """
        now, known = self._clock.now(), self._glance
        if known is None or seen is None or known[1] is seen or not 0.0 <= now - known[0] < _FRESH:
            known = self._glance = now, self.view()
        return known[1]

    def isolate(self, name: str, reason: str) -> int:
        """Isolate every circuit of this name, once; how many there are."""
        circuits = _circuits(name)
        for circuit in circuits:
            with self._lock:
                known = circuit in self._isolations
            if not known:
                isolation = circuit.isolate(reason)
                with self._lock:
                    spare = self._isolations.setdefault(circuit, isolation) is not isolation
                if spare:
                    isolation.release()
        self._glance = None
        return len(circuits)

    def release(self, name: str) -> int:
        """End the isolations that were made here of circuits of this name; how many circuits there are."""
        circuits = _circuits(name)
        for circuit in circuits:
            with self._lock:
                isolation = self._isolations.pop(circuit, None)
            if isolation is not None:
                isolation.release()
        self._glance = None
        return len(circuits)

    def _watch(self) -> None:
        with self._lock:
            self._seen = self._clock.now()
            if self._unlisten is None:
                self._minutes.clear()
                self._watched_since = self._seen
                self._unlisten = _hub.listen(self._hear)

    def rest(self) -> None:
        """Hear nothing more until somebody looks again."""
        with self._lock:
            unlisten, self._unlisten = self._unlisten, None
        if unlisten is not None:
            unlisten()

    def _hear(self, event: Event) -> None:
        now = self._clock.now()
        with self._lock:
            if now - self._seen > _WATCHED:
                self.rest()
                return
            series = _SERIES_OF.get(type(event))
            error = event.error if isinstance(event, AttemptFailed | RetryGaveUp | FallbackUsed) else None
            if series is None and error is None:
                return
            at = event.policy, event.kind
            minute = self._minutes.get(at)
            if minute is None:
                if len(self._minutes) >= _MOST:
                    return
                minute = self._minutes[at] = Minute(int(now))
            if series is not None:
                minute.add(int(now), series)
            if error is not None:
                minute.error = type(error).__name__, _text(error)


def _view_of(policy: Any) -> dict[str, Any]:
    try:
        view: dict[str, Any] = policy.snapshot()
    except Exception as error:
        return {"state": "unknown", "last_error": [type(error).__name__, _text(error)]}
    return view


def _circuits(name: str) -> list[CircuitBreaker]:
    return [policy for policy in _hub.registry() if isinstance(policy, CircuitBreaker) and policy.name == name]


def _text(error: Exception) -> str:
    try:
        return str(error)[:_LONGEST]
    except Exception:
        return ""


def _short(error: Any) -> list[str] | None:
    return None if error is None else [str(part)[:_LONGEST] for part in error]


_boards: dict[int, Board] = {}


def shared() -> Board:
    """The board of this process; a forked child has one of its own."""
    board = _boards.get(os.getpid())
    return _boards.setdefault(os.getpid(), Board()) if board is None else board


def snapshot() -> dict[str, Any]:
    """Everything the page shows, as plain values ready for JSON.

    `policies` is a list of rows with `name`, `kind`, `state`, `level` ("good", "warn" or "bad"), `in_flight`, `detail`,
    `last_error` (type and message), `rates` (calls per second) and `history` (calls in each of the last sixty seconds),
    both by "ok", "failed" and "rejected". Asking counts as looking: history is gathered for seventy seconds after it.
    Does no I/O; safe from any thread.
    """
    return shared().view()
