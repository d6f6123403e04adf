"""Three services in a row, each with the default policy toward the next, over real HTTP.

Where each of three layers made three attempts, the last service would get 27 requests for one. What stands against that
is the budget of each layer and, sooner, its breaker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest

from resilience import context
from resilience.http import client_policy
from resilience.integrations.httpx import ResilientTransport
from resilience.integrations.wsgi import ResilienceMiddleware
from tests.integrations.clients import TRUST
from tests.integrations.servers import wsgi_server

MARK = 1.102
"""Requests that a service sends on, at most, for each that it gets."""


class Service:
    """Notes each request that comes, and answers what `work` returns."""

    def __init__(self, work: Callable[[], int]) -> None:
        self.work = work
        self.attempts: list[str] = []
        self.left: list[float | None] = []
        self.took: list[float] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        begun = time.monotonic()
        with self._lock:
            self.attempts.append(environ["HTTP_X_ATTEMPT"])
            self.left.append(context.remaining())
        try:
            status = self.work()
        except httpx.TransportError:
            status = 504
        finally:
            with self._lock:
                self.took.append(time.monotonic() - begun)
        start_response(f"{status} X", [("Content-Length", "0")])
        return [b""]


class Row:
    """Services `first`, `middle` and `last`, and a client of the first."""

    def __init__(self, stack: ExitStack, work: Callable[[], int], **options: Any) -> None:
        self._stack = stack
        self._options = options
        self.last = Service(work)
        self.middle = Service(self._asking(self.last))
        self.first = Service(self._asking(self.middle))
        self.ask = self._asking(self.first)

    def _asking(self, service: Service) -> Callable[[], int]:
        port = self._stack.enter_context(wsgi_server(ResilienceMiddleware(service)))
        transport = ResilientTransport(policy=client_policy(**self._options), verify=TRUST)
        client = self._stack.enter_context(httpx.Client(transport=transport, timeout=10.0))
        return lambda: client.get(f"http://127.0.0.1:{port}/").status_code

    def counts(self) -> list[int]:
        return [len(service.attempts) for service in (self.first, self.middle, self.last)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def storm(row: Row, requests: int, threads: int) -> None:
    """Ask so many times, at the same time as others."""

    def ask(_: int) -> None:
        try:
            assert row.ask() in {503, 504}
        except Exception as error:
            assert type(error).__name__ == "CircuitOpen"

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(requests)))
    print(f"{requests} requests, the last service failing: {row.counts()}")


def test_failure_of_the_last_is_not_multiplied(stack: ExitStack) -> None:
    """While the last of three services fails, 300 requests are a handful at each service: the circuits open."""
    row = Row(stack, lambda: 503)
    storm(row, 300, 4)
    assert min(row.counts()) >= 5
    assert max(row.counts()) <= 20


@pytest.mark.proof
def test_budget_alone_is_enough(stack: ExitStack) -> None:
    """Without a breaker that ever opens, and with what each budget began with spent, no hop sends 1.102 for one."""
    row = Row(stack, lambda: 503, trip=10**9)
    storm(row, 500, 8)  # each budget begins with a hundred tokens, and these are spent here
    before = row.counts()
    begun = time.monotonic()
    storm(row, 3000, 8)
    trickled = time.monotonic() - begun
    counts = [3000, *(after - first for after, first in zip(row.counts(), before, strict=True))]
    ratios = [after / first for first, after in pairwise(counts)]
    print(f"{trickled:.1f} s, requests per hop: {ratios}")
    assert max(ratios) <= MARK


def test_attempts_are_numbered(stack: ExitStack) -> None:
    """A service hears which attempt of its caller a request is."""
    row = Row(stack, lambda: 503 if len(row.last.attempts) < 3 else 200)
    assert row.ask() == 200
    assert (row.first.attempts, row.middle.attempts, row.last.attempts) == (["1"], ["1"], ["1", "2", "3"])


def test_deadline_bounds_all_three(stack: ExitStack) -> None:
    """What is left of the caller's time reaches every service, shrinks on its way, and ends the work there."""

    def work() -> int:
        while context.remaining():
            time.sleep(0.005)
        return 200

    row = Row(stack, work)
    begun = time.monotonic()
    with context.deadline(0.5):
        with suppress(TimeoutError, httpx.TimeoutException):
            assert row.ask() == 504
        assert time.monotonic() - begun < 1.5
    while len(row.last.took) < len(row.last.attempts) or not row.last.took:
        time.sleep(0.005)
    left = [service.left[0] for service in (row.first, row.middle, row.last)]
    assert 0.5 >= left[0] > left[1] > left[2] > 0.0
    assert max(row.last.took) < 0.6
    assert row.counts() == [1, 1, 1]
