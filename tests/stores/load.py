"""Callers that ask a store without a pause, in threads and in tasks, while something befalls it.

Two policies say by themselves what they do without the store: a throttle that goes on with a bucket of its own, and one
that refuses. Beside them a breaker, whose circuit is shared too. What is measured is the time of each call, and what a
thread loses that only sleeps: on a busy machine that is the part which no store is to blame for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self

import pytest

from resilience import CircuitBreaker, Rejected, StoreUnavailable, Throttle
from resilience.events import Event, StoreLost, StoreRecovered
from resilience.stores import RedisStore

RATE, BURST = 100, 20
PAUSE = 0.004  # seconds between two calls of one caller


class Load:
    """Five threads and a loop with three tasks; ends when the block does.

    Attributes:
        slowest: seconds of the slowest call. stalled: the most that a sleeping thread was late meanwhile.
        granted: calls that passed, by policy. errors: whatever was raised and is not one of our refusals.
        events: `StoreLost` and `StoreRecovered`, by policy.
    """

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        rates = f"{RATE}/s burst {BURST}"
        self.kept = Throttle(rates, store=store, name="api")
        self.strict = Throttle(rates, store=store, name="strict", on_store_error="deny")
        self.circuit = CircuitBreaker(5, store=store, name="circuit")
        self.granted = {"api": 0, "strict": 0, "circuit": 0}
        self.events: dict[str, list[Event]] = {name: [] for name in self.granted}
        for policy in (self.kept, self.strict, self.circuit):
            policy.listen(self.events[policy.name].append, StoreLost, StoreRecovered)
        self.slowest = self.stalled = 0.0
        self.calls = 0
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        plain = [(self.kept, self.kept.try_acquire)] * 2 + [(self.strict, self._strictly)]
        plain += [(self.circuit, self._through)]
        self._threads = [threading.Thread(target=self._run, args=asked) for asked in plain]
        self._threads += [threading.Thread(target=self._loop), threading.Thread(target=self._pulse)]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.lasted = time.monotonic() - self._began
        self.store.close()

    # --- callers -----------------------------------------------------------------------------------------------------

    def _strictly(self) -> bool:
        try:
            self.strict.call(lambda: None)
        except (Rejected, StoreUnavailable):
            return False
        return True

    def _through(self) -> bool:
        self.circuit.call(lambda: None)
        return True

    async def _through_async(self) -> bool:
        await self.circuit.call_async(_nothing)
        return True

    def _run(self, policy: Any, ask: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            try:
                passed = ask()
            except BaseException as error:
                self.errors.append(error)
                return
            self._count(policy, passed, time.perf_counter() - began)
            time.sleep(PAUSE)

    def _loop(self) -> None:
        asyncio.run(self._tasks())

    async def _tasks(self) -> None:
        asked: list[tuple[Any, Callable[[], Coroutine[Any, Any, bool]]]] = [
            (self.kept, self.kept.try_acquire_async),
            (self.strict, self.strict.try_acquire_async),
            (self.circuit, self._through_async),
        ]
        await asyncio.gather(*(self._run_async(policy, ask) for policy, ask in asked))
        await self.store.close_async()

    async def _run_async(self, policy: Any, ask: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            try:
                passed = await ask()
            except BaseException as error:
                self.errors.append(error)
                return
            self._count(policy, passed, time.perf_counter() - began)
            await asyncio.sleep(PAUSE)

    def _count(self, policy: Any, passed: bool, took: float) -> None:
        with self._lock:
            self.calls += 1
            self.slowest = max(self.slowest, took)
            self.granted[policy.name] += passed

    def _pulse(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            time.sleep(0.001)
            self.stalled = max(self.stalled, time.perf_counter() - began - 0.001)

    # --- what it has seen --------------------------------------------------------------------------------------------

    def until(self, kind: type[Event], seconds: float) -> float:
        """Wait until every policy has told this event; how long that took."""
        began = time.monotonic()
        while not all(any(isinstance(event, kind) for event in told) for told in self.events.values()):
            if time.monotonic() - began > seconds:
                pytest.fail(f"no {kind.__name__} of all within {seconds} s, but {self.events}; errors: {self.errors}")
            time.sleep(0.002)
        return time.monotonic() - began

    def told(self) -> dict[str, list[str]]:
        """The names of the events, by policy."""
        return {name: [type(event).__name__ for event in events] for name, events in self.events.items()}


async def _nothing() -> None:
    return None
