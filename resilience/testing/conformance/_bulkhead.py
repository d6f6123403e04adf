"""The laws of a bulkhead: at most so many inside, first come, first served, and no place is ever lost."""

from __future__ import annotations

from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._line import stage_of
from resilience.testing.conformance._search import Broken
from resilience.testing.conformance._subject import CANCELLED, Flight, bound, build, fact

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.testing.conformance._line import Gate, Stage, Waiter
    from resilience.testing.conformance._search import Step
    from resilience.testing.conformance._subject import Make

__all__ = ["BulkheadFacts", "drawn", "play", "play_in_line"]

LIMIT = "limit: never more than `limit` calls in flight"
REFUSAL = "refusal: a call is refused only where the limit is reached and the queue is full"
QUEUE = "queue: at most `queue` callers wait"
FIFO = "fifo: waiters come in in the order in which they came"
PLACE = "place: a place that comes free goes to the next waiter, also when a waiter is cancelled as it is let in"

ENDINGS = ("ok", "fail", "cancel")


class BulkheadFacts:
    """What the check has to know of the bulkhead."""

    def __init__(self, make: Make, *, limit: int | None, queue: int | None) -> None:
        policy = build(make, VirtualClock())
        self.make = make
        self.limit = int(fact(policy, "limit", limit))
        self.queue = int(fact(policy, "queue", queue, 0))


def drawn(facts: BulkheadFacts) -> Callable[[random.Random], Step]:
    """What draws a step for this bulkhead."""

    def draw(rng: random.Random) -> Step:
        match rng.randrange(10):
            case 0 | 1 | 2:
                return ("come",)
            case 3 | 4:
                return "end", rng.randrange(facts.limit), rng.choice(ENDINGS)
            case 5:
                return ("tick",)
            case 6:
                return "cancel", rng.randrange(max(1, facts.queue))
            case 7:
                return "call and cancel", rng.randrange(facts.limit), 1 + rng.randrange(3)
            case 8:
                return ("fill",)
            case _:
                return ("settle",)

    return draw


# --- plain calls: nobody can wait where everybody else stands still ---------------------------------------------------


def play(facts: BulkheadFacts, script: Sequence[Step]) -> None:
    """Play one script of plain calls, none of which has to wait.

    Raises:
        Broken: a law is.
    """
    policy = build(facts.make, VirtualClock())
    log: list[str] = []
    inside: list[Flight] = []

    def come() -> None:
        if facts.queue and len(inside) >= facts.limit:
            return
        flight = Flight(policy)
        log.append(f"come()    # {'let in' if flight.admitted else 'refused'}, {len(inside)} inside before")
        if flight.admitted:
            inside.append(flight)
            if len(inside) > facts.limit:
                raise Broken(LIMIT, f"{len(inside)} calls in flight, limit is {facts.limit}", log)
        elif len(inside) < facts.limit:
            raise Broken(PLACE, f"{flight.error!r} with {len(inside)} calls in flight, limit is {facts.limit}", log)

    try:
        for step in script:
            match step:
                case ("come",):
                    come()
                case ("fill",):
                    for _ in range(facts.limit - len(inside)):
                        come()
                case ("end", int(place), ending) if inside:
                    log.append(f"end({ending!r})")
                    inside.pop(place % len(inside)).end(_outcome(ending))
                case _:
                    pass
    finally:
        for flight in inside:
            flight.end("ok")


def _outcome(ending: str) -> object:
    return {"ok": "ok", "fail": ConnectionError("down"), "cancel": CANCELLED}[ending]


# --- those who wait ---------------------------------------------------------------------------------------------------


def play_in_line(facts: BulkheadFacts, colour: str, script: Sequence[Step]) -> None:
    """Play one script of tasks of asyncio or trio, or of threads.

    Raises:
        Broken: a law is.
    """
    stage = stage_of(colour)

    async def main() -> None:
        room = _Room(facts, stage)
        for step in (*script, ("settle",)):
            await room.do(step)
        await room.empty()

    stage.run(main)


class _Room:
    """A bulkhead, who is inside, and who waits."""

    def __init__(self, facts: BulkheadFacts, stage: Stage) -> None:
        self.facts = facts
        self.stage = stage
        self.policy = build(facts.make, stage.clock)
        self.log: list[str] = []
        self.everybody: list[Waiter] = []
        self.line: list[Waiter] = []
        self.inside: dict[str, Gate] = {}
        self.only_comers = True
        self.waited: set[str] = set()
        self.entered: list[str] = []

    async def do(self, step: Step) -> None:
        facts = self.facts
        match step:
            case ("come",):
                await self.come()
            case ("fill",):
                for _ in range(facts.limit + facts.queue - len(self.inside) - len(self.line)):
                    await self.come()
                await self.settle()
            case ("end", int(place), ending) if self.inside:
                name = list(self.inside)[place % len(self.inside)]
                self.log.append(f"{name}.end({ending!r})")
                self.end(name, ending)
            case ("cancel", int(place)) if self.line and self.stage.is_async:
                waiter = self.line[place % len(self.line)]
                self.log.append(f"{waiter.name}.cancel()    # while it waits")
                waiter.cancel()
                self.only_comers = False
            case ("call and cancel", int(place), int(turns)) if self.inside and self.line:
                # The next in line is called, and goes away before it has heard.
                await self.do(("end", place, "ok"))
                for _ in range(turns):
                    await self.do(("tick",))
                await self.do(("cancel", 0))
            case ("tick",):
                self.log.append("tick()    # one turn of the loop")
                await self.stage.tick()
            case ("settle",):
                await self.settle()
            case _:
                pass

    async def come(self) -> None:
        name = f"call_{len(self.everybody) + 1}"
        self.log.append(f"{name} = come()")

        def enter() -> Any:
            self.entered.append(name)
            self.inside[name] = gate = self.stage.gate()
            if len(self.inside) > self.facts.limit:
                self.broken(LIMIT, f"{len(self.inside)} calls in flight, limit is {self.facts.limit}")
            return gate

        def inside(*_: object) -> object:
            try:
                return enter().wait()
            finally:
                self.inside.pop(name, None)

        async def inside_async(*_: object) -> object:
            try:
                return await enter().wait()
            finally:
                self.inside.pop(name, None)

        waiter = self.stage.come(name, bound(self.policy, inside_async if self.stage.is_async else inside))
        self.everybody.append(waiter)
        self.line.append(waiter)
        await self.stage.arrive()

    def end(self, name: str, ending: str) -> None:
        outcome = _outcome(ending)
        self.only_comers = False
        gate = self.inside[name]
        if outcome is not CANCELLED:
            gate.end(outcome)
        elif self.stage.is_async:
            next(each for each in self.everybody if each.name == name).cancel()
        else:
            # What ends a generator is the nearest thing to a cancellation that plain code has.
            gate.end(GeneratorExit())

    async def settle(self) -> None:
        """Let everybody come as far as they can, and look."""
        await self.stage.settle()
        for waiter in self.everybody:
            if isinstance(waiter.refused, Broken):
                raise waiter.refused
        came = list(self.entered)
        self.entered.clear()
        self.log.append(f"settle()    # let in: {', '.join(came) or 'nobody'}")
        refused = [waiter for waiter in self.line if waiter.refused is not None and waiter.name not in came]
        self.line = [waiter for waiter in self.line if not waiter.done and waiter.name not in self.inside]
        order = [_number(name) for name in came]
        # Who finds a place on coming may pass one who was called and has not had a turn yet; two who waited may not.
        waited = [_number(name) for name in came if name in self.waited]
        if self.stage.in_order and waited != sorted(waited):
            self.broken(FIFO, f"{', '.join(came)} came in in this order")
        waiting = [_number(waiter.name) for waiter in self.line]
        if order and waiting and min(waiting) < max(order):
            self.broken(FIFO, f"call_{max(order)} came in before call_{min(waiting)}, which still waits")
        if self.line and len(self.inside) < self.facts.limit:
            self.broken(PLACE, f"{len(self.line)} wait and {len(self.inside)} are inside; limit is {self.facts.limit}")
        if len(self.line) > self.facts.queue:
            self.broken(QUEUE, f"{len(self.line)} wait, queue is {self.facts.queue}")
        # Where somebody left meanwhile, the refusal may have come before that.
        taken = len(self.inside) + len(self.line)
        if refused and self.only_comers and taken < self.facts.limit + self.facts.queue:
            self.broken(REFUSAL, f"{refused[0].name} was refused: {refused[0].refused!r}")
        self.only_comers = True
        self.waited = {waiter.name for waiter in self.line}

    async def empty(self) -> None:
        """When all have gone, everything is free again."""
        self.log.append("all end")
        while self.inside or self.line:
            for name in list(self.inside):
                self.end(name, "ok")
            before = len(self.line)
            await self.settle()
            if not self.inside and self.line and len(self.line) == before:
                self.broken(PLACE, f"{self.line[0].name} waits for ever")
        for _ in range(self.facts.limit):
            await self.come()
        await self.stage.settle()
        if len(self.inside) < self.facts.limit:
            self.broken(PLACE, f"all have left, and only {len(self.inside)} of {self.facts.limit} places are free")

    def broken(self, law: str, seen: str) -> None:
        raise Broken(law, seen, self.log)


def _number(name: str) -> int:
    return int(name.removeprefix("call_"))
