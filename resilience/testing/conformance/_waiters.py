"""The laws of a throttle that concern those who wait: T7 and T8.

Waiters come with costs of every size, some go away again, and time passes. The model is the line itself: whoever is
first and whose tokens are there is through. Nobody else may be, and nobody who is due may still wait: a waiter that has
gone away and is still counted shows as somebody who comes through late.
"""

from __future__ import annotations

from fractions import Fraction
from math import nextafter

from resilience.testing.conformance._line import stage_of
from resilience.testing.conformance._search import Broken
from resilience.testing.conformance._subject import build
from resilience.testing.conformance._throttle import Level

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from resilience.testing.conformance._line import Stage, Waiter
    from resilience.testing.conformance._search import Step
    from resilience.testing.conformance._throttle import ThrottleFacts

__all__ = ["drawn", "play"]

T7 = "T7: first come, first served, and a big request is never overtaken"
T8 = "T8: a cancelled waiter leaves no trace"

LONG = 1e6


def drawn(facts: ThrottleFacts) -> Callable[[random.Random], Step]:
    """What draws a step for this throttle."""
    tokens = [rate.per / rate.amount for rate in facts.rates]
    times = [*tokens, *(token * 2.5 for token in tokens), *(nextafter(token, 0.0) for token in tokens)]
    costs = [1.0, 1.0, facts.burst, max(1.0, facts.burst // 2)] if facts.costs else [1.0]

    def draw(rng: random.Random) -> Step:
        match rng.randrange(7):
            case 0 | 1:
                return "come", rng.choice(costs)
            case 2 | 3:
                return "pass", rng.choice(times)
            case 4:
                return "cancel", rng.randrange(3)
            case _:
                return "empty", rng.choice(costs)

    return draw


def play(facts: ThrottleFacts, colour: str, script: Sequence[Step]) -> None:
    """Play one script of tasks of asyncio or trio, or of threads.

    Raises:
        Broken: a law is.
    """
    stage = stage_of(colour)

    async def main() -> None:
        line = _Line(facts, stage)
        for step in script:
            await line.do(step)

    stage.run(main)


class _Line:
    """A throttle and who waits at it, as it should be and as it is."""

    def __init__(self, facts: ThrottleFacts, stage: Stage) -> None:
        self.stage = stage
        self.clock = stage.clock
        self.policy = build(facts.make, self.clock)
        self.costs = facts.costs
        self.key = {} if facts.keys[0] is None else {"key": facts.keys[0]}
        self.levels = [Level(rate, facts.kept) for rate in facts.rates]
        self.slowest = min(level.per_second for level in self.levels)
        self.log: list[str] = []
        self.everybody: list[Waiter] = []
        self.at: dict[str, float] = {}
        self.cost: dict[str, float] = {}
        self.waiting: list[Waiter] = []
        self.through: list[str] = []
        self.expected: list[str] = []
        self.somebody_left = False

    async def do(self, step: Step) -> None:
        match step:
            case ("come", cost):
                await self.come(cost)
            case ("empty", cost):
                for _ in range(3):
                    await self.come(cost)
            case ("cancel", place) if self.waiting and self.stage.is_async:
                waiter = self.waiting.pop(place % len(self.waiting))
                self.log.append(f"{waiter.name}.cancel()")
                waiter.cancel()
                self.somebody_left = True
            case ("pass", seconds):
                self.log.append(f"{seconds!r} s pass")
                await self.stage.pass_by(seconds)
            case _:
                return
        await self.stage.settle()
        self.judge()

    async def come(self, cost: float) -> None:
        name = f"call_{len(self.everybody) + 1}"
        form = "acquire_async" if self.stage.is_async else "acquire"
        self.log.append(f"{name} = {form}(cost={cost!r})    # at {self.clock.now()!r}")
        options = {**({"cost": cost} if self.costs else {}), **self.key, "max_wait": LONG}

        def ask() -> None:
            self.policy.acquire(**options)
            self.at[name] = self.clock.now()
            self.through.append(name)

        async def ask_async() -> None:
            await self.policy.acquire_async(**options)
            self.at[name] = self.clock.now()
            self.through.append(name)

        if not self.waiting:
            for level in self.levels:
                level.fill(self.clock.now())
        waiter = self.stage.come(name, ask_async if self.stage.is_async else ask)
        self.cost[name] = cost
        self.everybody.append(waiter)
        self.waiting.append(waiter)
        await self.stage.arrive()

    def judge(self) -> None:
        """Let the line go on as it should, and compare."""
        now = self.clock.now()
        if not self.stage.in_order:
            # Of those who were let go in one moment, none is before the others.
            self.through.sort(key=lambda name: (self.at[name], int(name.removeprefix("call_"))))
        while self.waiting:
            first = self.waiting[0]
            cost = self.cost[first.name]
            due = max(level.due(cost) for level in self.levels)
            for level in self.levels:
                level.fill(min(due, Fraction(now)))
            spare = min(level.over(cost) for level in self.levels)
            grain = max(level.grain() for level in self.levels)
            came = first.name in self.through
            # Within a grain of its moment, it may be through or not.
            if spare < -grain or (not came and due + grain / self.slowest > now):
                break
            self.waiting.pop(0)
            self.expected.append(first.name)
            for level in self.levels:
                level.level -= Fraction(cost)
        if self.through != self.expected:
            law = T8 if self.somebody_left and set(self.through) < set(self.expected) else T7
            said = ", ".join(self.through) or "nobody"
            raise Broken(law, f"at {now!r} s, through are {said}; not {', '.join(self.expected) or 'nobody'}", self.log)
