"""Each reader of the live page had everything gathered for itself: a hundred readers kept the event loop busy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resilience import CircuitBreaker
from resilience.status import _stream
from resilience.status._board import Board
from resilience.status._stream import Stream
from resilience.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def board(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    made = Board(clock)
    monkeypatch.setattr(_stream, "shared", lambda: made)
    yield made
    made.rest()


def test_many_readers_gather_once(board: Board, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred streams that look for changes at one moment look once; each begins with a look of its own."""
    looks: list[int] = []
    view = board.view

    def counted() -> dict[str, Any]:
        looks.append(1)
        return view()

    monkeypatch.setattr(board, "view", counted)
    streams = [Stream(guarded=False) for _ in range(100)]
    for stream in streams:
        stream.next()
    looks.clear()
    for _ in range(3):
        clock.advance(0.5)
        for stream in streams:
            stream.next()
    assert len(looks) == 3


def test_a_circuit_that_was_isolated_from_the_page_is_never_shown_as_before(board: Board) -> None:
    """What another stream saw just before a change is not served after it."""
    breaker = CircuitBreaker(name="isolated from the page")
    one, other = Stream(guarded=True), Stream(guarded=True)
    other.next()
    one.next()
    board.isolate(breaker.name, "")
    assert b'"state":"isolated"' in other.next()
    one.next()
    one.next()
    board.release(breaker.name)
    assert b'"state":"closed"' in other.next()
