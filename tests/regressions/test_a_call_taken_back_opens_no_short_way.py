"""With the lock held, a breaker that took back an abandoned call left the ways open that need no lock, and then read
what they change: a call that began meanwhile could tear off the look at those under way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from math import inf
from typing import Any

import pytest

from resilience import CircuitBreaker, FailureRate, SlowRate, _compile
from resilience.core.breaker import Circuit
from resilience.testing import VirtualClock

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there the lock is always taken"
)


class Signal:
    """Something to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def fails() -> None:
    """A call that is told with the lock."""
    raise ConnectionError


VERBS: dict[str, Callable[[CircuitBreaker], object]] = {
    "begins": lambda breaker: breaker.call(str),
    "ends": lambda breaker: breaker.call(fails),
    "looks": lambda breaker: breaker.snapshot(),
}


@pytest.mark.parametrize("trip", [SlowRate(slower_than=2, calls=9), FailureRate(calls=9)], ids=str)
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_read_while_a_short_way_is_open(verb: str, trip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds an abandoned call bars the short ways again before the circuit is asked about anything else."""
    monkeypatch.setattr(_compile, "ENABLED", True)
    breaker = CircuitBreaker(trip, clock=VirtualClock())

    @breaker
    async def waits() -> None:
        await Signal()

    first, call = waits(), waits()
    first.send(None)
    with suppress(StopIteration):
        first.send(None)
    call.send(None)
    with breaker._lock:
        call.close()
    assert breaker._abandoned, "nobody could take it back"
    seen: list[object] = []
    monkeypatch.setattr(Circuit, "look", watched(Circuit.look, breaker, seen))
    with suppress(ConnectionError):
        VERBS[verb](breaker)
    assert seen
    assert set(seen) == {False}


def watched(look: Callable[..., Any], breaker: CircuitBreaker, seen: list[object]) -> Callable[..., Any]:
    """A look that notes whether calls could begin or end beside it that change what it reads."""

    def noted(circuit: Circuit, now: float) -> Any:
        watches = circuit.watches
        reads_watches = watches is not None and watches.until > -inf
        settles = sys._getframe(1).f_code.co_name != "acquire"
        seen.append(reads_watches or (settles and watches is None and breaker._steady >= 0))
        return look(circuit, now)

    return noted
