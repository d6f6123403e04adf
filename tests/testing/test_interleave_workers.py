"""The explorer of interleavings, let loose on the pool of workers and on hedged calls that run there.

A worker that the pool starts would be a thread that takes no turns. Here its threads are seats: the pool is told that
they run already, and what they would do is done by threads of the exploration.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest

from resilience import Hedge
from resilience.policies import _mailbox
from resilience.policies._workers import Workers
from resilience.testing.interleave_threads import interleave
from tests.testing.shells import found


class Seats(Workers):
    """A pool of which so many threads run already. Those that it starts later are for the check to run."""

    def __init__(self, seats: int, most: int = 2) -> None:
        super().__init__(most=most, idle=0.001)
        self._threads = seats
        self.begun = 0

    def _start(self, entry: Callable[[], object]) -> None:
        self._threads += 1
        self.begun += 1

    def work(self) -> None:
        """What a worker does all its life."""
        self._work()

    def run_out(self) -> None:
        """Do what the threads would do that were begun."""
        while self.begun:
            self.begun -= 1
            self._work()


class HastySeats(Seats):
    """Looks whether there is a job, and then takes it."""

    def _next(self) -> Callable[[], object] | None:
        return self._jobs.popleft() if self._jobs else None


class UseOfPool:
    """Jobs that count how often they are done, some of which are taken back."""

    kind: type[Seats] = Seats

    def __init__(self) -> None:
        self.pool = self.kind(1)
        self.done: collections.Counter[str] = collections.Counter()
        self.back: list[str] = []

    def submit(self, *names: str) -> list[Callable[[], bool]]:
        return [self.pool.submit(lambda name=name: self.done.update([name])) for name in names]

    def two(self) -> None:
        self.submit("one", "two")

    def one_and_back(self) -> None:
        (take_back,) = self.submit("three")
        if take_back():
            self.back.append("three")
        assert not take_back()

    def work(self) -> None:
        self.pool.work()

    def each_once(self) -> bool:
        """Each job was done once or taken back, and nobody is left: neither a job, nor a thread, nor one idle."""
        self.pool.run_out()
        left = (len(self.pool._jobs), self.pool._threads, self.pool._idle)
        return self.done + collections.Counter(self.back) == collections.Counter(["one", "two", "three"]) and left == (
            0,
            0,
            0,
        )


class UseOfHastyPool(UseOfPool):
    kind = HastySeats

    def __init__(self) -> None:
        super().__init__()
        self.submit("one")


class UseOfHedge:
    """One hedged call, whose copy goes out at once, and the two workers on which both run."""

    pool: Seats
    """That of the present run."""

    def __init__(self) -> None:
        type(self).pool = Seats(2)
        self.hedge = Hedge(max_extra_load=1.0, after=0)
        self.runs = 0
        self.answers: list[Any] = []

    def fetch(self) -> str:
        self.runs += 1
        return "page"

    def call(self) -> None:
        self.answers.append(self.hedge.call(self.fetch))

    def work(self) -> None:
        self.pool.work()

    def answered(self) -> bool:
        """One answer; what was sent is paid for; jobs that nobody began were taken back."""
        sent = round(1.0 - self.hedge._hedging.credit)
        left = (len(self.pool._jobs), self.pool._threads, self.pool._idle)
        return self.answers == ["page"] and sent in {0, 1} and 1 <= self.runs <= 1 + sent and left == (0, 0, 0)


def test_a_job_is_done_once_or_taken_back() -> None:
    """In no order is a job lost, done twice, or done and taken back; not even when the only worker goes just then."""
    use = UseOfPool
    assert interleave(use.two, use.one_and_back, use.work, setup=use, check=use.each_once, runs=100) > 50


def test_a_worker_that_looks_before_it_takes_is_found_out() -> None:
    """Two workers after one job, without the lock, are found within 1,000 runs."""
    use = UseOfHastyPool
    found(use.work, use.work, setup=use)


def test_a_hedged_call_has_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the caller and the two workers take turns, there is one answer, and no copy is left in the pool."""
    use = UseOfHedge
    monkeypatch.setattr(_mailbox, "pool_here", lambda: use.pool)
    assert interleave(use.call, use.work, use.work, setup=use, check=use.answered, runs=60) > 30
