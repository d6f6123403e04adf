"""The ways through `try_acquire`, from the desk to a few lines of arithmetic, decide alike."""

from __future__ import annotations

import random

import pytest

from resilience import Throttle
from resilience.policies import _quick


class Hand:
    """A clock that is set by hand."""

    def __init__(self, start: float) -> None:
        self.reading = start

    def now(self) -> float:
        return self.reading

    def sleep(self, seconds: float, /) -> None:
        self.reading += seconds

    async def sleep_async(self, seconds: float, /) -> None:
        self.reading += seconds


def throttles(rate: str, start: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Hand, dict[str, Throttle]]:
    """The same throttle in each form, on one clock."""
    clock = Hand(start)
    found: dict[str, Throttle] = {}
    for form, take in {
        "bare": _quick.take_unlocked,
        "called": _quick.take_unlocked,
        "locked": _quick.take_locked,
    }.items():
        monkeypatch.setattr(Throttle, "_take_quickly", take)
        found[form] = Throttle(rate, name=f"quick {form}", clock=clock)
    found["called"]._bare = None
    found["desk"] = Throttle(rate, name="quick desk", clock=clock)
    found["desk"]._short = False
    found["desk"]._bare = None
    return clock, found


@pytest.mark.parametrize("rate", ["10/s", "3/s burst 7", "0.5/s burst 4", "1_000/s"])
@pytest.mark.parametrize("start", [0.0, 0.3, 12.7, 1e9, 2.0**53])
def test_every_way_decides_alike(rate: str, start: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rate and however long the clock has run, each way grants the same calls and keeps the same sum."""
    clock, found = throttles(rate, start, monkeypatch)
    dice = random.Random(5)
    for _ in range(300):
        clock.sleep(dice.choice([0.0, 0.0, 0.01, 0.25, dice.random(), 3.0]))
        answers = {form: throttle.try_acquire() for form, throttle in found.items()}
        assert len(set(answers.values())) == 1, answers
        assert len({throttle._ledger.sole for throttle in found.values()}) == 1


def test_the_shortest_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the bucket has been full since the clock began, a plain throttle grants without a call of its own."""
    _, found = throttles("10/s", 100.0, monkeypatch)
    assert found["bare"].try_acquire()
    monkeypatch.setattr(Throttle, "_take_quickly", lambda throttle: pytest.fail("another way was taken"))
    assert found["bare"].try_acquire()
