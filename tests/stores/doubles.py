"""A store that can be told to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilience.stores import MemoryStore


class Moody(MemoryStore):
    """Answers from memory, unless it is down."""

    __slots__ = ("asked", "down")

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.down = False
        self.asked = 0

    def ask(self, *question: Any, **options: Any) -> Any:
        self.asked += 1
        if self.down:
            raise ConnectionError("connection refused")
        return super().ask(*question, **options)
