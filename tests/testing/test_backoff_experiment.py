"""The published experiment on backoff and jitter, done again with our retries, beside a second simulation of it.

Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: some clients want to change one row at the
same time. Each reads its version, writes with that version, and is refused if another was faster. A message travels for
10 ms, normally distributed with a deviation of 2 ms; waits begin at 5 ms and end at 2 s. Counted are the writes that
reach the row and the time until the last client is done. The post doubles from the first refusal on, so its first wait
is `2 * base`, which is 10 ms here.

Ours is the policy as a service uses it: `Retry` around a coroutine, on the simulator's loop. The reference is a heap of
events and formulas written down a second time, with dice of its own: it shares neither code nor draws with ours.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from resilience import Retry, backoff
from resilience.core.backoff import Backoff
from resilience.testing.simulation.loop import Loop, LoopClock

TRAVEL, DEVIATION = 0.010, 0.002
BASE, CAP = 0.005, 2.0
CALLS_WITHIN, TIME_WITHIN = 0.03, 0.10

OURS: dict[str, Backoff] = {
    "no backoff": backoff.constant(0),
    "none": backoff.exponential(2 * BASE, cap=CAP, jitter="none"),
    "full": backoff.exponential(2 * BASE, cap=CAP, jitter="full"),
    "equal": backoff.exponential(2 * BASE, cap=CAP, jitter="equal"),
    "decorrelated": backoff.decorrelated(BASE, cap=CAP),
}


@dataclass(frozen=True)
class Outcome:
    """Means over some runs: writes that reached the row, and seconds until the last client was done."""

    calls: float
    seconds: float


class Conflict(Exception):
    """The row has changed since it was read."""


class Row:
    """A row with a version, changed only by who knows it."""

    def __init__(self) -> None:
        self.version = 0
        self.writes = 0

    def write(self, version: int) -> bool:
        """Change the row; whether it still had that version."""
        self.writes += 1
        if version != self.version:
            return False
        self.version += 1
        return True


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(clients: int, waits: Backoff, seed: int) -> tuple[int, float]:
    """Let clients contend through `Retry` on the simulator's loop; the writes, and when the last was done."""
    dice = random.Random(f"ours {seed}")
    loop, row, done = Loop(), Row(), 0.0
    retry = Retry(on=Conflict, attempts=math.inf, backoff=waits, rng=dice.random, clock=LoopClock(loop))

    def travel() -> float:
        return abs(dice.normalvariate(TRAVEL, DEVIATION))

    @retry
    async def change() -> None:
        await loop.nap(travel())
        version = row.version
        await loop.nap(travel() + travel())
        written = row.write(version)
        await loop.nap(travel())
        if not written:
            raise Conflict

    async def client() -> None:
        nonlocal done
        await change()
        done = loop.now

    tasks = [loop.create_task(client()) for _ in range(clients)]
    loop.run(1e6)
    assert row.version == clients
    assert all(task.done() for task in tasks)
    return row.writes, done


# --- the reference ----------------------------------------------------------------------------------------------------


def waits_of(kind: str, dice: random.Random) -> Iterator[float]:
    """The waits of one client, as the post has them."""
    wait, refusals = BASE, 0
    while True:
        refusals += 1
        ceiling = min(CAP, BASE * 2.0 ** min(refusals, 64))
        if kind == "no backoff":
            yield 0.0
        elif kind == "none":
            yield ceiling
        elif kind == "full":
            yield dice.uniform(0, ceiling)
        elif kind == "equal":
            yield ceiling / 2 + dice.uniform(0, ceiling / 2)
        else:
            wait = min(CAP, dice.uniform(BASE, wait * 3))
            yield wait


def reference(clients: int, kind: str, seed: int) -> tuple[int, float]:
    """The same, event by event: a heap of messages on their way, each with what happens where it arrives."""
    dice = random.Random(f"reference {seed}")
    version = writes = 0
    now = 0.0
    waits = [waits_of(kind, dice) for _ in range(clients)]
    known = [0] * clients
    refused = [False] * clients
    events = [(abs(dice.normalvariate(TRAVEL, DEVIATION)), client, "read") for client in range(clients)]
    heapq.heapify(events)
    after = {"read": "has read", "has read": "write", "write": "has written", "has written": "read"}
    while events:
        now, client, event = heapq.heappop(events)
        later = now + abs(dice.normalvariate(TRAVEL, DEVIATION))
        if event == "read":
            known[client] = version
        elif event == "write":
            writes += 1
            refused[client] = known[client] != version
            version += not refused[client]
        elif event == "has written":
            if not refused[client]:
                continue
            later += next(waits[client])
        heapq.heappush(events, (later, client, after[event]))
    return writes, now


# --- side by side -----------------------------------------------------------------------------------------------------


def mean(run: Callable[[int], tuple[int, float]], seeds: int) -> Outcome:
    """The means over the runs of so many seeds."""
    runs = [run(seed) for seed in range(seeds)]
    return Outcome(sum(calls for calls, _ in runs) / seeds, sum(seconds for _, seconds in runs) / seeds)


@cache
def both(kind: str, clients: int, seeds: int) -> tuple[Outcome, Outcome]:
    """Our outcome and that of the reference."""
    mine = mean(lambda seed: ours(clients, OURS[kind], seed), seeds)
    theirs = mean(lambda seed: reference(clients, kind, seed), seeds)
    print(
        f"{kind:>12}, {clients:3} clients: calls {mine.calls:7.1f} / {theirs.calls:7.1f} = "
        f"{mine.calls / theirs.calls:.3f}, seconds {mine.seconds:6.3f} / {theirs.seconds:6.3f} = "
        f"{mine.seconds / theirs.seconds:.3f}"
    )
    return mine, theirs


def sizes(*proven: int) -> list[Any]:
    """Clients and seeds: some for every run of the tests, more of both for a proof."""
    return [pytest.param(30, 100), *(pytest.param(clients, 200, marks=pytest.mark.proof) for clients in proven)]


@pytest.mark.parametrize(("clients", "seeds"), sizes(10, 20, 50, 100))
@pytest.mark.parametrize("kind", OURS)
def test_the_published_experiment_is_reproduced(kind: str, clients: int, seeds: int) -> None:
    """Through our retries the row sees as many writes, within 3 %, for as long, within 10 %, as in the reference."""
    mine, theirs = both(kind, clients, seeds)
    assert mine.calls == pytest.approx(theirs.calls, rel=CALLS_WITHIN)
    assert mine.seconds == pytest.approx(theirs.seconds, rel=TIME_WITHIN)


@pytest.mark.parametrize(("clients", "seeds"), sizes(20, 50, 100))
def test_the_published_curves_keep_their_order(clients: int, seeds: int) -> None:
    """Backoff saves calls, jitter more, and full jitter most; those who wait without jitter are done last by far.

    The post calls backoff without jitter the clear loser, in work and in time, and equal jitter the loser among the
    jittered, for it takes a little more work than full jitter and much longer. Between full and decorrelated jitter it
    leaves the choice open: full jitter takes less work and a little more time.
    """
    mine = {kind: both(kind, clients, seeds)[0] for kind in OURS}
    calls = {kind: outcome.calls for kind, outcome in mine.items()}
    seconds = {kind: outcome.seconds for kind, outcome in mine.items()}
    print(f"fewest calls first: {sorted(calls, key=calls.__getitem__)}")
    print(f"soonest done first: {sorted(seconds, key=seconds.__getitem__)}")
    assert calls["full"] < calls["equal"] < calls["none"] < calls["no backoff"]
    assert calls["full"] < calls["decorrelated"] < calls["none"]
    assert seconds["no backoff"] < seconds["decorrelated"] < seconds["full"] < seconds["equal"]
    assert seconds["none"] > 2 * seconds["equal"]
