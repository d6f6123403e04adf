"""A hedged read: the slowest one in a hundred, and what a few more calls make of it.

A key-value store has many replicas. A read takes ten milliseconds; on a replica that is just collecting garbage it
takes two hundred. Nobody can know beforehand which, but a read that is later than nearly all are has met one, and a
second copy of it will most likely meet another replica. The program shows the latencies of plain and of hedged reads,
and then what the hedge does when the whole store becomes slow: it does not make things worse.

    python -m examples.hedged_read

The time is virtual, so the program ends at once and prints the same numbers every time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from resilience import Hedge
from resilience.testing import VirtualClock

READS = 3000


class Store:
    """Answers in ten milliseconds, two times in a hundred in two hundred. Counts what it is asked."""

    def __init__(self, clock: VirtualClock, factor: float = 1.0) -> None:
        self.clock = clock
        self.factor = factor
        self.chance = random.Random(7)
        self.asked = 0

    async def read(self, key: int) -> str:
        """Answer, after a while."""
        self.asked += 1
        usual = 0.200 if self.chance.random() < 0.02 else 0.010
        await self.clock.sleep_async(self.factor * usual * self.chance.uniform(0.8, 1.2))
        return f"value {key}"


async def latencies(clock: VirtualClock, read: Callable[[int], Awaitable[str]]) -> list[float]:
    """How long each of the reads took, in milliseconds, sorted."""
    took: list[float] = []
    for key in range(READS):
        started = clock.now()
        await read(key)
        took.append(1000 * (clock.now() - started))
    return sorted(took)


def row(name: str, took: list[float], store: Store) -> str:
    """One line of the table."""
    quantiles = "".join(f"{took[int(len(took) * q)]:9.0f}" for q in (0.5, 0.95, 0.99, 0.999))
    return f"{name:<22}{quantiles}{store.asked / READS - 1:10.1%}"


async def main() -> None:
    """Print the table."""
    clock = VirtualClock()
    print(f"{READS} reads, milliseconds       p50      p95      p99    p99.9     extra calls")

    plain = Store(clock)
    print(row("plain", await latencies(clock, plain.read), plain))

    # The one line that matters.
    hedge = Hedge(name="store", clock=clock)
    hedged = Store(clock)
    print(row("hedged", await latencies(clock, hedge(hedged.read)), hedged))

    slow = Store(clock, factor=20)
    print(row("hedged, all slower", await latencies(clock, hedge(slow.read)), slow))


if __name__ == "__main__":
    asyncio.run(main())
