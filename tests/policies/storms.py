"""Gates in a storm: thousands of tasks go through one gate and are cancelled at random, whatever they are doing.

Each gate says how one task visits it, and what must be so when the storm is over: nobody is inside, nobody waits, and
whatever the gate lends out, places, trials or tokens, is there to the last one.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from resilience import (
    AIMD,
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Keyed,
    LoadShedder,
    Rejected,
    RetryBudget,
    Throttle,
)
from tests.colours import Colour

__all__ = ["GATES", "Gate", "blow"]

CANCELLED = (asyncio.CancelledError, trio.Cancelled)


class Gate:
    """One gate, its visitors, and how many of them are inside. A subclass brings the policy."""

    room = 20
    tries = 4
    stays: Sequence[float] = (0, 0, 0, 0.001, 0.01, 0.1)
    share = 0.02  # of the tasks, at least so many get in, or it was no storm

    def __init__(self, colour: Colour, chance: random.Random, tasks: int) -> None:
        self.colour = colour
        self.chance = chance
        self.tasks = tasks
        self.inside = self.most = self.passed = self.calls = self.cut = 0
        self.last = 0.0
        self.within: set[int] = set()
        self.policy: Any = self.build()

    def build(self) -> Any:
        """Make the policy."""
        raise NotImplementedError

    async def visit(self, number: int) -> None:
        """Go through, and come back some times if refused."""
        for _ in range(self.tries):
            try:
                async with self.policy.guard():
                    return await self.stay(number)
            except Rejected:
                await self.colour.sleep(self.chance.choice([0, 0.01, 0.3]))
        return None

    async def stay(self, number: int) -> None:
        """Be inside for a while; it may end badly."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.within.add(number)
        self.passed += 1
        try:
            await self.colour.sleep(self.chance.choice(self.stays))
        except CANCELLED:
            self.cut += 1
            raise
        finally:
            self.inside -= 1
            self.within.discard(number)
        if self.chance.random() < 0.1:
            raise KeyError

    async def after(self) -> None:
        """See that nothing is left, and that everything is there."""
        assert self.most <= self.room
        assert self.policy.snapshot()["in_flight"] == 0
        await self.fill()
        assert self.policy.snapshot()["in_flight"] == 0

    async def fill(self) -> None:
        """Take every place there is, and find no other."""
        guards = [self.policy.guard() for _ in range(self.room)]
        for guard in guards:
            await guard.__aenter__()
        with pytest.raises(Rejected):
            self.policy.guard().__enter__()
        for guard in guards:
            await guard.__aexit__(None, None, None)


class OfBulkhead(Gate):
    """Tasks that wait for a place as long as it takes."""

    def build(self) -> Any:
        return Bulkhead(self.room, queue=self.tasks, clock=self.colour.clock)

    async def after(self) -> None:
        await super().after()
        assert self.policy._lots == {}

    async def fill(self) -> None:
        self.policy._places.queue = 0
        await super().fill()


class OfAdaptiveLimit(Gate):
    def build(self) -> Any:
        return AdaptiveLimit(AIMD(), initial=20, minimum=20, maximum=20, clock=self.colour.clock)


class OfLoadShedder(Gate):
    """Nobody is lost count of, or a server would shed for ever."""

    stays = (0, 0.01, 1, 3)

    def build(self) -> Any:
        return LoadShedder(target_delay=1000.0, clock=self.colour.clock)

    async def after(self) -> None:
        assert self.policy.snapshot()["in_flight"] == 0
        await self.colour.sleep(60)
        await self.visit_calmly()
        assert self.policy.snapshot()["in_flight"] == 0

    async def visit_calmly(self) -> None:
        async with self.policy.guard():
            assert self.policy.snapshot()["in_flight"] == 1


class OfBreaker(Gate):
    """Half-open all the time but when a trial has failed: a lease that ended would hide a trial that is lost."""

    room = 40
    tries = 10

    def build(self) -> Any:
        breaker = CircuitBreaker(
            1, on=OSError, cooldown=0.05, trials=self.room, trial_lease=1_000_000, clock=self.colour.clock
        )
        breaker.open()
        return breaker

    async def stay(self, number: int) -> None:
        await super().stay(number)
        luck = self.chance.random()
        if luck < 0.003:
            raise OSError
        if luck < 0.97:
            raise KeyError

    async def visit(self, number: int) -> None:
        await super().visit(number)
        if self.policy.state.value == "closed":
            self.policy.open()

    async def after(self) -> None:
        assert self.most <= 2 * self.room  # those of the opening before may still be there
        assert self.policy.snapshot()["trials"] == 0
        assert self.policy._circuit.leases == {}
        await self.colour.sleep(0.5)
        still_needed = self.room - self.policy.snapshot()["calls"]
        guards = [self.policy.guard() for _ in range(still_needed)]
        for guard in guards:
            await guard.__aenter__()
        with pytest.raises(Rejected):
            self.policy.guard().__enter__()
        for guard in guards:
            await guard.__aexit__(None, None, None)
        assert self.policy.state.value == "closed"


class OfThrottle(Gate):
    """Tasks that wait for their tokens. What was granted to one that was cancelled meanwhile goes to the next."""

    rate = 1000.0

    def build(self) -> Any:
        return Throttle(f"{self.rate:g}/s burst {self.room}", max_wait=float("inf"), clock=self.colour.clock)

    async def visit(self, number: int) -> None:
        try:
            await self.policy.acquire_async()
        except CANCELLED:
            self.cut += 1
            raise
        self.passed += 1
        self.last = self.colour.clock.now()

    async def after(self) -> None:
        there_were = self.room + self.rate * self.last
        assert there_were - 1.5 <= self.passed <= there_were + 1e-6
        assert self.policy.snapshot()["waiting"] == 0
        assert self.policy._lots == {}
        assert self.policy._desk.lines == {}
        await self.colour.sleep(self.room / self.rate)
        assert [self.policy.try_acquire() for _ in range(self.room + 1)] == [True] * self.room + [False]


class OfKeyed(Gate):
    """More keys than room, each with two places."""

    def build(self) -> Any:
        return Keyed(
            lambda _: Bulkhead(2, queue=self.tasks, clock=self.colour.clock), max_keys=50, clock=self.colour.clock
        )

    async def visit(self, number: int) -> None:
        async with self.policy[self.chance.randrange(80)].guard():
            await self.stay(number)

    async def after(self) -> None:
        entries = [entry.policy for entry in self.policy._table.entries.values()]
        assert len(entries) == 50
        overflow = self.policy._overflow
        for policy in (*entries, *([] if overflow is None else [overflow.policy])):
            assert policy.snapshot()["in_flight"] == policy.snapshot()["queued"] == 0
            assert policy._lots == {}
        # With all of them at rest again, a new key has its own.
        fresh = [self.policy[f"new {number}"] for number in range(50)]
        assert len({id(policy) for policy in fresh} - {id(overflow and overflow.policy)}) == 50
        assert len(self.policy._table.entries) == 50


class OfHedge(Gate):
    """Calls of which some have a copy, which ends with them."""

    stays = (0, 0.01, 1, 3)

    def build(self) -> Any:
        self.budget = RetryBudget(0, per_second=0, capacity=self.tasks, clock=self.colour.clock)
        return Hedge(max_extra_load=0.5, after=0.005, on=KeyError, budget=self.budget, clock=self.colour.clock)

    async def visit(self, number: int) -> None:
        self.calls += 1
        await self.policy.call_async(self.stay, number)
        if self.chance.random() < 0.1:
            raise KeyError

    async def after(self) -> None:
        sent = self.passed - self.calls
        view = self.policy.snapshot()
        assert sent <= 0.5 * self.calls
        assert 0 <= view["credit"] <= 10
        # A call that was cancelled before the first step of a copy has paid for it all the same.
        assert sent <= self.tasks - self.budget.snapshot()["level"] <= 0.5 * self.calls
        if self.colour.name == "asyncio":
            assert asyncio.all_tasks() == {asyncio.current_task()}


GATES = [OfBreaker, OfThrottle, OfBulkhead, OfAdaptiveLimit, OfLoadShedder, OfKeyed, OfHedge]


async def blow(kind: type[Gate], colour: Colour, tasks: int, seed: int) -> Counter[str]:
    """Let a storm pass over a gate and see that nothing was lost; returns how its tasks ended."""
    chance = random.Random(seed)
    gate = kind(colour, chance, tasks)
    jobs: list[Any] = []
    for number in range(tasks):
        jobs.append(colour.start(gate.visit, number))
        if chance.random() < 0.002:
            await colour.sleep(0.001)
    victims = chance.sample(jobs, tasks * 2 // 3)
    while victims:
        await colour.sleep(chance.choice([0, 0, 0.001, 0.01, 0.05]))
        count = min(len(victims), chance.randint(1, tasks // 40))
        # Whoever is inside at the moment is hit more often than the others.
        inside = [jobs[number] for number in chance.sample(sorted(gate.within), min(5, len(gate.within)))]
        for victim in [*inside, *(victims.pop() for _ in range(count))]:
            victim.cancel()
    outcomes = [await job.outcome() for job in jobs]
    assert gate.inside == 0
    ends = Counter("cancelled" if isinstance(each, CANCELLED) else type(each).__name__ for each in outcomes)
    assert set(ends) <= {"cancelled", "NoneType", "KeyError", "OSError"}, ends
    assert ends["cancelled"] > tasks / 50, ends
    assert gate.passed > tasks * gate.share, gate.passed
    assert gate.cut > tasks * gate.share / 10, gate.cut
    await gate.after()
    return ends
