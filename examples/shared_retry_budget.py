"""A shared retry budget: what an outage costs the service that has it.

A shop reads prices and writes orders, and both talk to one database. Each retries on its own, and each by itself is
reasonable: four attempts, with backoff. When the database fails for a minute, all of them retry at once, and it gets
four times its normal load while it tries to come back. With one budget between them it gets its normal load, a few
retries more at the beginning, and one a second.

    python -m examples.shared_retry_budget

The minute passes in virtual time, so the program ends at once and prints the same numbers every time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from resilience import Retry, RetryBudget
from resilience.testing import VirtualClock

CALLS_PER_SECOND = 50
OUTAGE = range(20, 80)
SECONDS = 100
BUCKET = 10


class Database:
    """Fails one call in a hundred, and all of them during the outage. Counts what it is asked in each ten seconds."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.chance = random.Random(7)
        self.asked: Counter[int] = Counter()

    def query(self) -> str:
        """Answer, or fail."""
        second = int(self.clock.now())
        self.asked[second // BUCKET] += 1
        if second in OUTAGE or self.chance.random() < 0.01:
            raise ConnectionError("the database does not answer")
        return "row"


def run(*, shared: bool) -> tuple[Counter[int], Counter[int]]:
    """One hundred seconds of traffic; the calls that the database got and those that failed, by ten seconds."""
    clock = VirtualClock()
    database = Database(clock)

    # The one line that matters: both policies are built with the same object.
    budget = RetryBudget(name="database", clock=clock) if shared else None
    read = Retry(on=ConnectionError, attempts=4, backoff=0, budget=budget, clock=clock)(database.query)
    write = Retry(on=ConnectionError, attempts=4, backoff=0, budget=budget, clock=clock)(database.query)

    failed: Counter[int] = Counter()
    callers: list[Callable[[], str]] = [read, read, read, read, write]
    for second in range(SECONDS):
        for number in range(CALLS_PER_SECOND):
            try:
                callers[number % len(callers)]()
            except ConnectionError:
                failed[second // BUCKET] += 1
        clock.advance(1)
    return database.asked, failed


def main() -> None:
    """Print how many calls the database gets, with and without the budget."""
    offered = CALLS_PER_SECOND * BUCKET
    alone, alone_failed = run(shared=False)
    shared, shared_failed = run(shared=True)
    print(f"offered: {offered} calls in ten seconds; the database is down from {OUTAGE.start} to {OUTAGE.stop} s\n")
    print("             each on its own        one budget")
    print(" seconds     asked  failed       asked  failed")
    for bucket in range(SECONDS // BUCKET):
        start = bucket * BUCKET
        print(
            f"{start:4} - {start + BUCKET:<4} {alone[bucket]:7} {alone_failed[bucket]:7}"
            f"     {shared[bucket]:7} {shared_failed[bucket]:7}"
        )
    down = [start // BUCKET for start in range(OUTAGE.start, OUTAGE.stop, BUCKET)]
    normal = offered * len(down)
    print(
        f"\nload during the outage: {sum(alone[bucket] for bucket in down) / normal:.2f} x normal on their own, "
        f"{sum(shared[bucket] for bucket in down) / normal:.2f} x with a budget, and not one answer more or less"
    )


if __name__ == "__main__":
    main()
