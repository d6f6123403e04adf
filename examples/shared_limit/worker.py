"""One of the processes that share the limit."""

from __future__ import annotations

import time
from typing import Any

from resilience import Throttle
from resilience.stores import RedisStore


def work(url: str, rate: str, share: float, seconds: int, start: Any, granted: Any, lost: Any) -> None:
    """Call as often as the limit allows, and count by the second; also the calls granted without the store."""
    store = RedisStore.from_url(url)
    throttle = Throttle(rate, store=store, name="shared_limit", local_share=share)
    start.wait()
    began = time.monotonic()
    while (second := int(time.monotonic() - began)) < seconds:
        if throttle.try_acquire():
            granted[second] += 1
            lost[second] += bool(throttle.snapshot()["store_lost"])
        else:
            time.sleep(0.002)
    store.close()
