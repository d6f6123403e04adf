"""Real HTTP, sent by the clock: a request begins when it is due, not when the one before it has ended.

A load that waits for answers goes easy on a service in trouble and then reports that all was well. Nobody out there
waits for others, so neither does this; a request's time runs from when it was due.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from examples.review_service.demo.script import LENGTH, PATIENCE, RATE


class Outcome(Enum):
    """What became of a request, from the point of view of whoever sent it."""

    FULL = "answered in time"
    PLAIN = "answered in time, from our own database"
    REFUSED = "refused at once, with a time to come back"
    LATE = "no answer in time"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due, how long it took, and what became of it."""

    due: float
    seconds: float
    status: int | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Request:
    """What to send."""

    method: str
    path: str
    body: dict[str, object] | None = None


def planned(number: int) -> Request:
    """The `number`-th request: of ten, eight read a page, one leafs through the list, and one writes."""
    kind = number % 10
    if kind == 4:
        return Request("GET", "/reviews?limit=20")
    if kind == 9:
        return Request("POST", "/review", {"title": "Seen in passing", "body": f"Visit {number}.", "rating": 4})
    return Request("GET", f"/review/{(1, 2, 3, 6)[number % 4]}")


class Load:
    """Sends the planned requests to `service`, each with the next of `tokens`, and hands every sample to `report`."""

    def __init__(self, service: str, tokens: list[str], report: Callable[[Sample], None]) -> None:
        self._address = urlsplit(service)
        self._tokens = tokens
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.started = 0.0

    def start(self) -> None:
        """Begin. The times of samples count from here."""
        self.started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more, and wait for what is under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with ThreadPoolExecutor(max_workers=int(RATE * PATIENCE * 2), thread_name_prefix="person") as people:
            for number in range(int(LENGTH * RATE)):
                due = number / RATE
                if self._stop.wait(max(0.0, self.started + due - time.monotonic())):
                    break
                people.submit(self._send, number, due)

    def _send(self, number: int, due: float) -> None:
        request = planned(number)
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {self._tokens[number % len(self._tokens)]}"}
        body = None
        if request.body is not None:
            body, headers["Content-Type"] = json.dumps(request.body), "application/json"
            headers["Idempotency-Key"] = f"visit-{number}"
        try:
            connection.request(request.method, request.path, body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            status, content = None, b""
        finally:
            connection.close()
        seconds = time.monotonic() - self.started - due
        self._report(Sample(due, min(seconds, PATIENCE), status, _outcome(status, content, seconds)))


def _outcome(status: int | None, content: bytes, seconds: float) -> Outcome:
    if status is None or seconds > PATIENCE:
        return Outcome.LATE
    if status >= 400:
        return Outcome.REFUSED
    return Outcome.PLAIN if b'"source":"database"' in content else Outcome.FULL
