"""The limit of `/userinfo`: ten calls for each user, refilled by five a minute, and the headers that tell about it."""

from __future__ import annotations

import math
import threading
import time

SIZE = 10
PER_MINUTE = 5


class UserinfoBucket:
    """One token bucket for each user. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, sub: str) -> tuple[bool, dict[str, str]]:
        """Whether `sub` may call now, and the `x-ratelimit-*` headers of the answer."""
        now = time.time()
        with self._lock:
            level, at = self._levels.get(sub, (float(SIZE), now))
            level = min(SIZE, level + max(0.0, now - at) * PER_MINUTE / 60)
            allowed = level >= 1
            level -= allowed
            self._levels[sub] = (level, now)
        full_again = now + (SIZE - level) * 60 / PER_MINUTE
        next_token = now + (1 - level) * 60 / PER_MINUTE
        return allowed, {
            "x-ratelimit-limit": str(SIZE),
            "x-ratelimit-remaining": str(int(level)),
            "x-ratelimit-reset": str(math.ceil(full_again if allowed else next_token)),
        }

    def refill(self) -> None:
        """Forget every call."""
        with self._lock:
            self._levels.clear()
