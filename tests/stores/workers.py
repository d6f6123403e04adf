"""What the processes of `test_processes` run."""

from __future__ import annotations

import threading
import time
from typing import Any

from resilience import CircuitBreaker, CircuitOpen, Throttle
from resilience.stores import RedisStore


def admit(url: str, lease: int, threads: int, seconds: float, start: Any, results: Any) -> None:
    """Ask from several threads for some seconds; report what was granted, from when to when."""
    store = RedisStore.from_url(url, timeout=2.0)
    throttle = Throttle("200/s burst 50", store=store, name="api", lease=lease, on_store_error="deny")
    counts = [0] * threads

    def run(place: int) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if throttle.try_acquire():
                counts[place] += 1
            else:
                time.sleep(0.001)

    start.wait()
    began = time.monotonic()
    workers = [threading.Thread(target=run, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    results.put((sum(counts), began, time.monotonic()))


def probe(url: str, stop: Any, release: Any, results: Any) -> None:
    """Call through an open circuit until it lets one pass, which then lasts until `release`; give up at `stop`."""
    store = RedisStore.from_url(url, timeout=2.0)
    breaker = CircuitBreaker(1, store=store, name="api", cooldown=0.3, trials=2, trial_lease=60)

    def call() -> None:
        results.put("made")
        release.wait(30)

    while not stop.is_set():
        try:
            breaker.call(call)
        except CircuitOpen:
            time.sleep(0.001)
        else:
            return
    results.put("gave up")


def hang_in_a_trial(url: str, inside: Any) -> None:
    """Take the one trial and never end it."""
    store = RedisStore.from_url(url, timeout=2.0)
    breaker = CircuitBreaker(1, store=store, name="api", cooldown=0.1, trial_lease=0.5)

    def call() -> None:
        inside.set()
        threading.Event().wait()

    breaker.call(call)
