"""A breaker told its store the length of a cooldown until the store knew it; one that never did was told for ever."""

from __future__ import annotations

from typing import Any

from resilience import CircuitBreaker
from resilience.stores import MemoryStore


class Forgetful(MemoryStore):
    """Never knows how long the circuit is open."""

    __slots__ = ("told",)

    def ask(self, kind: str, whose: Any, verb: str, *question: Any, **options: Any) -> Any:
        """Answer that the circuit has opened just now."""
        self.told += verb == "tell"
        answer = list(super().ask(kind, whose, verb, *question, **options))
        answer[4] = 7.0
        return answer


def test_a_store_that_forgets_holds_nobody_up() -> None:
    """The call ends."""
    store = Forgetful()
    store.told = 0
    breaker = CircuitBreaker(1, store=store, name="api")
    assert breaker.call(lambda: "page") == "page"
    assert 1 <= store.told <= 10
