"""A hedge of plain functions: copies on worker threads, and losers that are left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
from typing import Any

import pytest

from resilience import BlockingWarning, Bulkhead, Hedge, Pipeline, Timeout
from resilience.policies._workers import WORKERS
from resilience.testing import VirtualClock, virtual_time

PATIENCE = 10.0


def hedge(**changes: Any) -> Hedge:
    """A hedge that sends a copy at once, of every call if need be."""
    return Hedge(**{"after": 0, "max_extra_load": 1.0, "name": "hedge", **changes})


def test_a_loser_is_left_behind_and_settles_when_it_ends() -> None:
    """The answer does not wait for a thread that hangs; the place that it holds comes back when it ends."""
    bulkhead = Bulkhead(2)
    gate, begun = threading.Event(), threading.Event()
    lock = threading.Lock()

    def read() -> str:
        with lock:
            first = not begun.is_set()
            begun.set()
        if first:
            gate.wait(PATIENCE)
            return "late"
        return "copy"

    assert Pipeline(hedge(after=0.01), bulkhead).call(read) == "copy"
    assert bulkhead.snapshot()["in_flight"] == 1
    gate.set()
    for _ in range(10_000):
        if bulkhead.snapshot()["in_flight"] == 0:
            break
        threading.Event().wait(0.001)
    assert bulkhead.snapshot()["in_flight"] == 0


def test_a_copy_really_runs_beside_the_call() -> None:
    """Two threads that wait for each other show that both are under way at once."""
    meeting = threading.Barrier(2)
    assert hedge().call(lambda: meeting.wait(PATIENCE)) in {0, 1}


def test_many_threads_share_one_hedge() -> None:
    """Callers on many threads each get their own answer, and the credit adds up."""
    policy = hedge(after=None, max_extra_load=0.5)
    answers: list[tuple[int, int]] = []

    def caller(number: int) -> None:
        for n in range(20):
            answers.append((number, policy.call(lambda n=n: number * 100 + n) - number * 100 - n))

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert sorted(answers) == sorted((number, 0) for number in range(8) for _ in range(20))
    assert policy._hedging._calls == 160


def test_on_a_clock_of_its_own() -> None:
    """With `clock=VirtualClock()`, time passes when nothing else happens, and the copy is sent."""
    clock = VirtualClock()
    gate = threading.Event()
    begun: list[float] = []

    def read() -> str:
        begun.append(clock.now())
        if len(begun) == 1:
            gate.wait(PATIENCE)
        return "copy"

    assert hedge(after=30, clock=clock).call(read) == "copy"
    assert begun == [0.0, 30.0]
    gate.set()


def test_virtual_time_gives_the_state_back() -> None:
    """What was learnt and earned inside a block of virtual time is forgotten with it."""
    policy = hedge(after=None, max_extra_load=0.1)
    for _ in range(3):
        policy.call(int)
    before = policy.snapshot()
    with virtual_time() as clock:
        for _ in range(20):
            policy.call(clock.sleep, 60)
        assert policy.snapshot()["after"] == pytest.approx(60)
    assert policy.snapshot() == before
    assert len(policy._hedging._sorted) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="sends itself a signal")
def test_a_caller_that_is_interrupted_leaves_at_once() -> None:
    """KeyboardInterrupt reaches a caller that waits for its copies."""
    gate = threading.Event()

    def read() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        gate.wait(PATIENCE)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        hedge(after=None).call(read)
    assert time.monotonic() - started < PATIENCE / 2
    gate.set()


def test_waiting_on_a_loops_thread_is_warned_of_once() -> None:
    """A plain hedged call holds up the loop of its thread, which is said once, at the caller."""

    async def main() -> None:
        policy = hedge()
        with pytest.warns(BlockingWarning, match="hedge waits for a worker on a thread that runs") as seen:
            policy.call(int)
        assert seen[0].filename == __file__
        policy.call(int)

    asyncio.run(main())


ENDS: dict[str, tuple[Any, Any]] = {
    "call answers": ("call", None),
    "copy answers": (None, "copy"),
    "loser fails late": (OSError, "copy"),
    "copy after a failure": (OSError, "copy"),
    "all fail": (OSError, OSError),
    "not named": (None, ZeroDivisionError),
    "interrupted": (None, KeyboardInterrupt),
    "cut": (None, None),
}


@pytest.mark.parametrize("case", ENDS)
def test_no_path_leaves_cyclic_garbage(case: str) -> None:
    """Whatever becomes of a hedged call and of those it left behind, reference counting frees all of it."""
    after = 0.005 if "late" in case or ENDS[case][0] is None else PATIENCE

    def once() -> None:
        gate = threading.Event()
        ends = iter(ENDS[case])
        late = case == "loser fails late"

        def read() -> str:
            end = next(ends)
            if end is None or (late and end is OSError):
                gate.wait(PATIENCE)
            if isinstance(end, type):
                raise end
            return str(end)

        bound = Timeout(0.05 if case == "cut" else PATIENCE, thread=True)
        with contextlib.suppress(OSError, ZeroDivisionError, KeyboardInterrupt):
            Pipeline(bound, hedge(after=after, on=OSError)).call(read)
        gate.set()
        at_rest()

    once()
    gc.collect()
    gc.disable()
    try:
        once()
        assert gc.collect() == 0
    finally:
        gc.enable()


def at_rest() -> None:
    """Wait until every worker of the process waits for its next job."""
    pools = (WORKERS, WORKERS.below())
    pause = threading.Event()
    for _ in range(10_000):
        if all(pool._threads == pool._idle and not pool._jobs for pool in pools):
            return
        pause.wait(0.001)
    pytest.fail("a worker is still at work")
