"""A virtual day of load and faults through everything at once.

One service, protected as the documentation teaches it, is called by day and by night: with three priorities, by callers
some of whom leave, through outages, errors, slowness, silence and crowds that follow from the seed. Between the layers
stand probes, which are policies that only look. Every virtual second all that must hold is looked at, and what holds
at every instant (places, trials, what the throttle lets through) is looked at whenever a call goes by.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import pi, sin
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitState,
    FailureRate,
    Fallback,
    LoadShedder,
    Pipeline,
    Policy,
    Priority,
    Rejected,
    Retry,
    RetryBudget,
    Throttle,
    Timeout,
    clock,
    context,
)
from resilience.events import (
    AttemptFailed,
    BudgetExhausted,
    CallRejected,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Event,
    FallbackUsed,
    LateResult,
    RetryGaveUp,
    RetryScheduled,
)
from resilience.testing.virtual import Block, VirtualTime

HOUR = 3600.0
PLACES, QUEUE, TRIALS = 4, 2, 2
RATE, BURST = 20.0, 20.0
CAPACITY = 10.0
ROUNDING = 1e-6
MOST_GROWTH = 64 * 1024
TROUBLES = {"down": 30.0, "flaky": 60.0, "slow": 40.0, "silent": 20.0, "crowd": 15.0}
"""What goes wrong, in turn, and for how many seconds."""
SLOWER = {"slow": 20, "crowd": 4}
HEARD: dict[str, tuple[type[Event], ...]] = {
    "soak.fallback": (FallbackUsed,),
    "soak.load_shedder": (CallRejected,),
    "soak.retry": (AttemptFailed, RetryScheduled, RetryGaveUp),
    "retry_budget": (BudgetExhausted,),
    "soak.circuit_breaker": (CallRejected, CircuitOpened, CircuitHalfOpened, CircuitClosed, LateResult),
    "soak.throttle": (CallRejected,),
    "soak.bulkhead": (CallRejected,),
}
"""What has to have happened, or the day was too quiet to prove anything."""


@dataclass
class Probe:
    """A layer that only looks: how many calls are inside of it."""

    on_entry: Callable[[], None] = lambda: None
    live: int = 0
    calls: int = 0

    def bind(self, fn: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        """Count around a function."""

        async def counted() -> object:
            self.live += 1
            self.calls += 1
            try:
                self.on_entry()
                return await fn()
            finally:
                self.live -= 1

        return counted


@dataclass
class Day:
    """The service, its policies, its callers, and what is known to have gone on."""

    seed: int
    trouble: str = ""
    started: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    most: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    excess: float = 0.0
    worst: float = 0.0
    granted_at: float = 0.0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"day {self.seed}")
        chance = random.Random(f"policies {self.seed}").random
        self.shedder = LoadShedder(target_delay=0.5)
        self.budget = RetryBudget(0.1, per_second=0.1, capacity=CAPACITY)
        self.retry = Retry(on=OSError, attempts=4, budget=self.budget, rng=chance)
        self.breaker = CircuitBreaker(
            FailureRate(0.6, window=20), on=OSError, cooldown=15, trials=TRIALS, ramp=5, rng=chance
        )
        self.throttle = Throttle(f"{RATE:g}/s burst {BURST:g}", max_wait=0.5)
        self.bulkhead = Bulkhead(PLACES, queue=QUEUE, max_wait=1.0)
        self.inside_shedder = Probe()
        self.inside_breaker = Probe(self.enter_trial)
        self.inside_throttle = Probe(self.granted)
        self.inside_bulkhead = Probe()
        policies: list[Any] = [
            Fallback(on=(OSError, Rejected), value="stale"),
            Timeout(5),
            self.shedder,
            self.inside_shedder,
            self.retry,
            self.breaker,
            self.inside_breaker,
            self.throttle,
            self.inside_throttle,
            self.bulkhead,
            self.inside_bulkhead,
            Timeout(1),
        ]
        self.pipeline = Pipeline(*policies, name="soak")
        for policy in (*policies, self.budget):
            if isinstance(policy, Policy) and policy.name in HEARD:
                policy.listen(self.heard, *HEARD[policy.name])
        self.protected = self.pipeline(self.service)

    # --- the service --------------------------------------------------------------------------------------------------

    async def service(self) -> str:
        """Answer, as well as it goes at the moment."""
        dice, trouble = self.dice, self.trouble
        if trouble == "down" or (trouble == "flaky" and dice.random() < 0.5):
            await asyncio.sleep(0.01)
            raise ConnectionError(trouble)
        if trouble == "silent":
            await asyncio.Event().wait()
        await asyncio.sleep(dice.lognormvariate(-2.5, 0.5) * SLOWER.get(trouble, 1))
        return "fresh"

    async def go_wrong(self, until: float) -> None:
        """Let one thing after another go wrong, with quiet in between."""
        while True:
            for trouble, seconds in TROUBLES.items():
                await asyncio.sleep(self.dice.expovariate(1 / 120))
                if clock.default.now() + seconds > until:
                    return
                self.troubles[trouble] += 1
                self.trouble = trouble
                await asyncio.sleep(seconds)
                self.trouble = ""

    # --- its callers --------------------------------------------------------------------------------------------------

    async def call(self, priority: Priority) -> None:
        """One call, and what came of it."""
        try:
            with context.priority(priority):
                self.outcomes[await self.protected()] += 1
        except asyncio.CancelledError:
            self.outcomes["left"] += 1
            raise

    async def come(self, until: float) -> None:
        """Let callers come, more by day than by night; one in twenty soon leaves."""
        dice, loop = self.dice, asyncio.get_running_loop()
        while (now := clock.default.now()) < until:
            rate = 40.0 if self.trouble == "crowd" else 2.0 - sin(now / HOUR / 24 * 2 * pi)
            await asyncio.sleep(dice.expovariate(rate))
            self.started += 1
            task = loop.create_task(self.call(dice.choice(list(Priority))))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            if dice.random() < 0.05:
                # Not before its first step: whoever leaves before has not called.
                loop.call_later(0.001 + dice.expovariate(5), task.cancel)

    # --- what must hold at every instant ------------------------------------------------------------------------------

    def granted(self) -> None:
        """The throttle let a call through. What all windows that end now hold above their due stands in one number."""
        now = clock.default.now()
        self.excess = max(0.0, self.excess - RATE * (now - self.granted_at)) + 1.0
        self.granted_at = now
        self.worst = max(self.worst, self.excess)
        assert self.excess <= BURST + ROUNDING

    def enter_trial(self) -> None:
        """The breaker let a call through: while it is half-open, not more than its trials are inside."""
        if self.breaker.state is CircuitState.HALF_OPEN:
            self.trials += 1
            assert self.inside_breaker.live <= TRIALS

    def heard(self, event: Event) -> None:
        """Count an event."""
        self.events[f"{type(event).__name__} {event.policy}"] += 1

    # --- and every second ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """All that must hold at any time."""
        self.checks += 1
        bulkhead, breaker, throttle = self.bulkhead.snapshot(), self.breaker.snapshot(), self.throttle.snapshot()
        shedder, level = self.shedder.snapshot(), self.budget.snapshot()["level"]
        assert self.inside_bulkhead.live <= bulkhead["in_flight"] <= PLACES
        assert 0 <= bulkhead["queued"] <= QUEUE
        assert -ROUNDING <= level <= CAPACITY + ROUNDING
        assert throttle["rates"][0]["remaining"] <= BURST + ROUNDING
        assert 0 <= breaker["trials"] <= TRIALS
        assert breaker["state"] == CircuitState.HALF_OPEN or breaker["trials"] == 0
        assert shedder["in_flight"] == self.inside_shedder.live
        assert self.started - sum(self.outcomes.values()) == len(self.tasks)
        self.most |= Counter(
            {
                "in flight": bulkhead["in_flight"],
                "queued": bulkhead["queued"],
                "waiting for tokens": throttle["waiting"],
                "trials": breaker["trials"],
                "calls at once": len(self.tasks),
                "budget spent": round(CAPACITY - level),
            }
        )

    def check_empty(self) -> None:
        """Nobody is left anywhere."""
        self.check()
        probes = (self.inside_shedder, self.inside_breaker, self.inside_throttle, self.inside_bulkhead)
        assert [probe.live for probe in probes] == [0, 0, 0, 0]
        bulkhead = self.bulkhead.snapshot()
        assert (bulkhead["in_flight"], bulkhead["queued"]) == (0, 0)
        assert self.throttle.snapshot()["waiting"] == 0
        assert self.breaker.snapshot()["trials"] == 0
        assert self.started == sum(self.outcomes.values())

    async def watch(self, sleeps: list[float]) -> None:
        """Check every second, and keep no record of all sleeps."""
        while True:
            await asyncio.sleep(1)
            self.check()
            sleeps.clear()

    # --- all of it ----------------------------------------------------------------------------------------------------

    async def pass_by(self, seconds: float, sleeps: list[float]) -> None:
        """Let so much of the day pass, and all calls end; an error of a check ends it."""
        until = clock.default.now() + seconds
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self.watch(sleeps)), group.create_task(self.go_wrong(until))]
            await group.create_task(self.come(until))
            while self.tasks:
                done, _ = await asyncio.wait(self.tasks)
                for task in done:
                    if not task.cancelled():
                        task.result()
            for each in beside:
                each.cancel()
        self.trouble = ""
        self.check_empty()


def traced() -> int:
    """Bytes that were allocated since tracing began and are still held."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("hours", [1, pytest.param(24, marks=pytest.mark.proof)])
def test_a_day_of_load_and_faults(hours: int) -> None:
    """Through a day of faults every limit holds, every second; then nothing is in flight and memory has not grown."""
    day = Day(seed=1)

    async def main() -> tuple[int, int]:
        # From zero on, and not from the machine's reading, so that the same seed is the same day to the last digit.
        async with Block(VirtualTime(0.0), keep=False) as virtual:
            await day.pass_by(hours * HOUR / 4, virtual.sleeps)
            tracemalloc.start()
            try:
                await day.pass_by(hours * HOUR / 4, virtual.sleeps)
                warm = traced()
                await day.pass_by(hours * HOUR / 2, virtual.sleeps)
                return warm, traced()
            finally:
                tracemalloc.stop()

    warm, held = asyncio.run(main())
    print(f"\n{day.started:,} calls, {day.checks:,} checks: {dict(day.outcomes)}")
    print(f"troubles {dict(day.troubles)}, trials {day.trials}, most {dict(day.most)}")
    print(f"most above the throttle's rate in any window: {day.worst:.3f} of a burst of {BURST:g}")
    print("\n".join(f"  {name}: {count:,}" for name, count in sorted(day.events.items())))
    print(f"held after the warm-up {warm:,} bytes, at the end {held:,}, so {held - warm:+,}")
    assert day.checks >= hours * HOUR
    assert day.troubles.keys() == TROUBLES.keys()
    assert day.events.keys() >= {f"{kind.__name__} {policy}" for policy, kinds in HEARD.items() for kind in kinds}
    assert day.outcomes.keys() == {"fresh", "stale", "left"}
    assert held - warm < MOST_GROWTH
