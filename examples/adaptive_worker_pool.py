"""An adaptive limit in front of a pool of workers whose size changes.

A pool of twenty workers makes thumbnails, each in a tenth of a second or so, and is asked for half as many again as it
can make. Whoever finds no worker free waits in the pool's queue. Without a limit that queue grows until nobody gets an
answer in time; with a fixed one it is right until the pool is scaled. After a minute half of the workers are taken
away, and after another minute they come back.

    python -m examples.adaptive_worker_pool

Three minutes pass in virtual time, event by event, so the program ends in about a second and prints the same numbers
every time.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from resilience import AdaptiveLimit, LimitExceeded
from resilience.testing import VirtualClock

SECONDS = 180
BUCKET = 10
WORK = 0.1
OFFERED = 300.0


def workers_at(now: float) -> int:
    """How many workers the pool has."""
    return 10 if 60 <= now < 120 else 20


@dataclass
class Job:
    """A thumbnail to be made, and the place that it holds in the limit."""

    came: float
    place: AbstractContextManager[object] | None


@dataclass
class Line:
    """What happened in ten seconds."""

    done: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list[float])
    limits: list[int] = field(default_factory=list[int])

    @property
    def wait(self) -> float:
        """How long a job waited for a worker, on average, in seconds."""
        return sum(self.waits) / len(self.waits) if self.waits else 0.0

    @property
    def limit(self) -> float:
        """The mean limit."""
        return sum(self.limits) / len(self.limits) if self.limits else 0.0


class Pool:
    """Workers, each on one job at a time, and a queue before them."""

    def __init__(self, clock: VirtualClock, lines: list[Line]) -> None:
        self.clock = clock
        self.lines = lines
        self.chance = random.Random(7)
        self.queue: deque[Job] = deque()
        self.ends: list[tuple[float, int, Job]] = []
        self.started = 0

    def put(self, job: Job) -> None:
        """Take a job, into the queue or to a free worker."""
        self.queue.append(job)
        self._start()

    def next_end(self) -> float:
        """When the next worker will be done."""
        return self.ends[0][0] if self.ends else float("inf")

    def end(self) -> None:
        """A worker is done: its job gives its place back, and the next one is started."""
        job = heapq.heappop(self.ends)[2]
        if job.place is not None:
            job.place.__exit__(None, None, None)
        self._line().done += 1
        self._start()

    def _start(self) -> None:
        while self.queue and len(self.ends) < workers_at(self.clock.now()):
            job = self.queue.popleft()
            self._line().waits.append(self.clock.now() - job.came)
            self.started += 1
            took = self.chance.expovariate(1 / WORK)
            heapq.heappush(self.ends, (self.clock.now() + took, self.started, job))

    def _line(self) -> Line:
        return self.lines[min(int(self.clock.now()), SECONDS - 1) // BUCKET]


def run(*, limited: bool) -> list[Line]:
    """Three minutes of traffic, by ten seconds."""
    clock = VirtualClock()
    lines = [Line() for _ in range(SECONDS // BUCKET)]
    pool, arrivals = Pool(clock, lines), random.Random(1)

    # The one line that matters. Nobody has told it how many workers there are.
    limit = AdaptiveLimit(initial=40, name="thumbnails", clock=clock)

    arrival = arrivals.expovariate(OFFERED)
    while min(arrival, pool.next_end()) < SECONDS:
        if pool.next_end() <= arrival:
            clock.advance(max(0.0, pool.next_end() - clock.now()))
            pool.end()
            continue
        clock.advance(max(0.0, arrival - clock.now()))
        line = lines[int(clock.now()) // BUCKET]
        line.limits.append(limit.limit)
        place = limit.guard() if limited else None
        try:
            if place is not None:
                place.__enter__()
            pool.put(Job(clock.now(), place))
        except LimitExceeded:
            line.refused += 1
        arrival += arrivals.expovariate(OFFERED)
    return lines


def main() -> None:
    """Print what the pool does with a limit, and how long jobs wait with and without."""
    with_limit, without = run(limited=True), run(limited=False)
    print(f"offered: {OFFERED:.0f} jobs a second of {WORK} s each\n")
    print("                         with an adaptive limit            without")
    print("  seconds   workers    limit    done/s    waits    done/s      waits")
    for number, (line, bare) in enumerate(zip(with_limit, without, strict=True)):
        start = number * BUCKET
        print(
            f"{start:4} - {start + BUCKET:<4} {workers_at(start):7} {line.limit:8.0f} {line.done / BUCKET:9.0f}"
            f" {line.wait * 1000:5.0f} ms {bare.done / BUCKET:9.0f} {bare.wait:8.2f} s"
        )
    print("\nThe same work is done in both; only with the limit is anybody still there to see it.")


if __name__ == "__main__":
    main()
