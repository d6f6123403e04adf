"""The short way along a line does what the line does."""

from __future__ import annotations

import random
from math import inf

import pytest

from resilience.core import desk as desk_module
from resilience.core.bucket import Bucket
from resilience.core.desk import Desk
from resilience.core.promises import Waiter
from resilience.core.single_file import follow

RATES = [(10.0, 1.0, 5.0), (3.0, 7.0, 4.0), (0.1, 0.3, 2.5), (1_000.0, 1.0, 50.0)]
SLOP = 1e-9


def played(seed: int, *, plainly: bool) -> tuple[list[tuple[int, str]], Desk, float]:
    """Let waiters of random cost, rank and patience come and go at one desk; returns who went when, and how."""
    dice = random.Random(seed)
    amount, per, burst = dice.choice(RATES)
    desk = Desk([Bucket(amount, per, burst)], [(0.0,), (0.0,), (0.0,)], 10)
    now = dice.choice([0.0, 17.25, 1e6])
    ranks = dice.choice([[1], [1], [0, 1, 2]])
    told: list[tuple[int, str]] = []
    names: dict[int, int] = {}
    waiting: list[Waiter] = []
    for number in range(150):
        now += dice.choice([0.0, 0.1, dice.random()]) * per / amount
        desk.pump(now)
        costs = (dice.choice([1.0, 1.0, 2.0, 0.1, dice.random()]),)
        waiter = Waiter(None, costs, dice.choice(ranks))
        names[id(waiter)] = number
        patience = dice.choice([inf, 3.0 * per / amount, 20.0 * per / amount])
        line = desk.lines.get(None)
        if not plainly and line is not None and follow(line, waiter, now, patience, -inf):
            told.append((number, "waits"))
            waiting.append(waiter)
        elif desk.take(waiter, now):
            told.append((number, "takes"))
        else:
            told.append((number, "waits" if desk.join(waiter, now, patience) else "fails"))
            waiting += [waiter] * waiter.waits
        if waiting and dice.random() < 0.15:
            leaver = waiting.pop(dice.randrange(len(waiting)))
            told.append((names[id(leaver)], "withdraws"))
            desk.withdraw(leaver, now)
        for ended in desk.ended:
            told.append((names[id(ended)], "goes" if ended.retry_after is None else "is failed"))
        desk.ended = []
    return told, desk, now


@pytest.mark.parametrize("seed", range(60))
def test_it_decides_as_the_line_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the short way and without, the same waiters go in the same order, and the bucket ends the same."""
    short, desk, now = played(seed, plainly=False)
    monkeypatch.setattr(desk_module, "let_go", lambda line, now, granted: None)
    plain, other, _ = played(seed, plainly=True)
    assert short == plain
    assert desk.outlook(None, (1.0,), 1, now) == other.outlook(None, (1.0,), 1, now)
    assert desk.waiting == other.waiting
    assert desk.alarm == pytest.approx(other.alarm, abs=SLOP, rel=1e-12)


def test_it_is_the_way_of_plain_waiters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiters of one rank and one rate come and go without the line being asked about each."""
    desk = Desk([Bucket(10.0, 1.0, 1.0)], [(0.0,)] * 3, 10)
    assert desk.take(Waiter(None, (1.0,), 1), 5.0)
    waiters = [Waiter(None, (1.0,), 1) for _ in range(50)]
    assert desk.join(waiters[0], 5.0, inf)
    assert all(follow(desk.lines[None], waiter, 5.0, 60.0, -inf) for waiter in waiters[1:])
    monkeypatch.setattr(type(desk.lines[None]), "pump", lambda line, now: pytest.fail("the line was asked"))
    for number in range(49):
        desk.pump(desk.alarm)
        assert desk.ended == waiters[: number + 1]


@pytest.mark.parametrize(("armed", "patience", "rank"), [(6.0, inf, 1), (-inf, 0.25, 1), (-inf, inf, 0)])
def test_it_leaves_the_rest_to_the_line(armed: float, patience: float, rank: int) -> None:
    """A claim for which nobody looks in time, whose turn comes too late, or of another rank is not put in line."""
    desk = Desk([Bucket(10.0, 1.0, 1.0)], [(0.0,)] * 3, 10)
    assert desk.take(Waiter(None, (1.0,), 1), 5.0)
    for _ in range(3):
        assert desk.join(Waiter(None, (1.0,), 1), 5.0, inf)
    assert not follow(desk.lines[None], Waiter(None, (1.0,), rank), 5.0, patience, armed)
    assert desk.waiting == 3


@pytest.mark.parametrize("start", [-5.0, 0.0, 0.05, 3.0, 1e6])
@pytest.mark.parametrize("cost", [1.0, 0.1])
@pytest.mark.parametrize("late", [0.4, 1.0, 60.0])
def test_it_may_be_looked_at_late(start: float, cost: float, late: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks late, at a bucket that has filled up meanwhile, lets as many go as the line would."""

    def gone() -> list[int]:
        desk = Desk([Bucket(10.0, 1.0, 3.0)], [(0.0,)] * 3, 30)
        taker = Waiter(None, (3.0,), 1)
        assert desk.take(taker, start)
        waiters = [Waiter(None, (cost,), 1) for _ in range(12)]
        assert all(desk.join(waiter, start, inf) for waiter in waiters)
        desk.pump(start + late)
        desk.pump(start + late + 0.15)
        return [waiters.index(each) for each in desk.ended]

    short = gone()
    monkeypatch.setattr(desk_module, "let_go", lambda line, now, granted: None)
    assert short == gone()
    assert short == list(range(len(short)))


def test_a_rest_that_is_no_float_is_left_to_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what the others need cannot be had by subtraction, all the same those go whose turn has come."""
    costs = [0.5 + 2.0**-52, 1.0, 1.0 + 2.0**-52]

    def gone() -> list[int]:
        desk = Desk([Bucket(10.0, 1.0, 3.0)], [(0.0,)] * 3, 30)
        assert desk.take(Waiter(None, (3.0,), 1), 0.0)
        waiters = [Waiter(None, (cost,), 1) for cost in costs]
        assert all(desk.join(waiter, 0.0, inf) for waiter in waiters)
        desk.pump(0.2)
        return [waiters.index(each) for each in desk.ended]

    short = gone()
    monkeypatch.setattr(desk_module, "let_go", lambda line, now, granted: None)
    assert short == gone() == [0, 1]
