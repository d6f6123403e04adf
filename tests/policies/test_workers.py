"""The threads on which calls run that may be left behind: few, named, and gone when there is nothing to do."""

from __future__ import annotations

import contextvars
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import Hedge, Pipeline, TimedOut, Timeout
from resilience.policies import _workers
from resilience.policies._workers import Workers, pool_here
from tests.test_fork import in_child

PATIENCE = 10.0


def until(predicate: Callable[[], object]) -> None:
    """Wait for other threads until something holds."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.001)):
        if predicate():
            return
        pause.wait(0.001)
    pytest.fail(f"still not so after {PATIENCE} s")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What workers wait for in a test; opened at its end in any case."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """The pool of the process, with a single thread."""
    workers = Workers(most=1, idle=0.05)
    monkeypatch.setattr(_workers, "WORKERS", workers)
    return workers


def ours() -> list[threading.Thread]:
    """The workers that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("resilience-worker")]


def test_workers_are_named_daemons(gate: threading.Event) -> None:
    """A stack dump tells whose the threads are, and an interpreter does not wait for them."""
    workers = Workers()
    seen: list[threading.Thread] = []
    for _ in range(2):
        workers.submit(lambda: (seen.append(threading.current_thread()), gate.wait(PATIENCE)))
    until(lambda: len(seen) == 2)
    assert sorted(thread.name for thread in seen) == ["resilience-worker-1", "resilience-worker-2"]
    assert all(thread.daemon for thread in seen)


def test_workers_are_bounded_and_jobs_wait_in_line(gate: threading.Event) -> None:
    """There are never more than `most`; what comes then is done in order."""
    workers = Workers(most=2)
    begun: list[int] = []
    for n in range(2):
        workers.submit(lambda n=n: (begun.append(n), gate.wait(PATIENCE)))
    until(lambda: len(begun) == 2)
    for n in range(2, 50):
        workers.submit(lambda n=n: begun.append(n))
    assert workers._threads == 2
    assert len(begun) == 2
    gate.set()
    until(lambda: len(begun) == 50)
    assert workers._threads == 2
    assert sorted(begun[2:]) == list(range(2, 50))


def test_one_after_another_need_one_thread() -> None:
    """A worker that is free is used again."""
    workers = Workers()
    names: set[str] = set()
    for _ in range(20):
        done = threading.Event()
        workers.submit(lambda done=done: (names.add(threading.current_thread().name), done.set()))
        assert done.wait(PATIENCE)
        until(lambda: workers._idle == 1)
    assert names == {"resilience-worker-1"}


def test_many_callers_at_once_lose_no_job() -> None:
    """Jobs from many threads are each done once, by no more threads than there may be, which end when idle."""
    workers = Workers(most=4, idle=0.01)
    lock = threading.Lock()
    done: list[tuple[int, int]] = []

    def note(job: tuple[int, int]) -> None:
        with lock:
            done.append(job)

    def caller(number: int) -> None:
        for n in range(200):
            workers.submit(lambda n=n: note((number, n)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        callers = [threading.Thread(target=caller, args=(number,)) for number in range(6)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        until(lambda: len(done) == 1200)
    finally:
        sys.setswitchinterval(before)
    assert sorted(done) == [(number, n) for number in range(6) for n in range(200)]
    assert workers._number >= workers._threads
    until(lambda: workers._threads == 0)
    assert workers._idle == 0


def test_a_job_that_was_not_begun_can_be_taken_back(gate: threading.Event) -> None:
    """It is not done then, and leaves the line; one that was begun cannot."""
    workers = Workers(most=1)
    begun = threading.Event()
    done: list[str] = []
    first = workers.submit(lambda: (begun.set(), gate.wait(PATIENCE)))
    assert begun.wait(PATIENCE)
    second = workers.submit(lambda: done.append("second"))
    workers.submit(lambda: done.append("third"))
    assert not first()
    assert second()
    assert not second()
    assert len(workers._jobs) == 1
    gate.set()
    until(lambda: done == ["third"])


class Thing:
    """Something whose end can be seen."""


WHAT: contextvars.ContextVar[object] = contextvars.ContextVar("WHAT")


def test_a_finished_job_gives_its_memory_back() -> None:
    """While a worker waits for its next job, nothing of the last one is alive, nor of the contexts it ran in."""
    workers = Workers()
    done = threading.Event()

    def submit() -> weakref.ref[Thing]:
        thing = Thing()
        WHAT.set(thing)
        workers.submit(lambda: (WHAT.get(), done.set()))
        return weakref.ref(thing)

    alive = contextvars.Context().run(submit)
    assert done.wait(PATIENCE)
    until(lambda: alive() is None)
    assert workers._threads == 1


def test_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> None:
    """With not one worker, the caller gets the error; with one, the job waits for it."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers()
    begun = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            workers.submit(lambda: None)
    assert (workers._threads, len(workers._jobs)) == (0, 0)
    workers.submit(lambda: (begun.set(), gate.wait(PATIENCE)))
    assert begun.wait(PATIENCE)
    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        workers.submit(done.set)
    gate.set()
    assert done.wait(PATIENCE)


def test_a_workers_own_calls_go_to_the_pool_below(one_worker: Workers) -> None:
    """A hedge around a timeout asks for a worker on a worker, and waits for none of its own kind."""
    names: list[str] = []
    policy = Pipeline(Hedge(name="hedge"), Timeout(PATIENCE, thread=True))
    policy.call(lambda: names.append(threading.current_thread().name))
    assert names == ["resilience-worker-inner-1"]
    assert pool_here() is one_worker
    assert one_worker.below().below().most == 1


def test_only_those_who_ask_for_a_thread_get_one() -> None:
    """Building a hedge or a timeout, and hedging or bounding async code, starts no thread."""
    code = """
import asyncio, threading
from resilience import Hedge, Timeout
async def work(): await asyncio.sleep(0.01)
hedge, timeout = Hedge(after=0, max_extra_load=1.0), Timeout(5, thread=True)
asyncio.run(hedge.call_async(work))
asyncio.run(timeout.call_async(work))
print(threading.active_count())
Hedge().call(int)
print(threading.active_count())
timeout.call(int)
print(threading.active_count() - 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "2", "0"]


@pytest.mark.parametrize(
    "policy", ["Timeout(0.05, thread=True)", "Pipeline(Timeout(0.05, thread=True), Hedge(after=0, max_extra_load=1.0))"]
)
def test_an_interpreter_that_ends_does_not_wait_for_a_worker(policy: str) -> None:
    """A program whose call hangs for ever ends all the same, with its own exit code and nothing on stderr."""
    code = f"""
import sys, threading
from resilience import Hedge, Pipeline, TimedOut, Timeout
try:
    {policy}.call(threading.Event().wait)
except TimedOut:
    sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (7, "")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


@forks
def test_a_fork_resets_the_pool(one_worker: Workers, gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child there are no threads of the parent's, and its pools do not count on them."""
    monkeypatch.undo()
    workers = _workers.WORKERS
    Hedge(name="hedge").call(int)
    Pipeline(Hedge(name="hedge"), Timeout(5, thread=True)).call(int)
    assert workers._threads >= 1
    assert workers.below()._threads >= 1

    def work() -> str:
        before = workers._threads, workers.below()._threads
        answer = Pipeline(Hedge(name="hedge"), Timeout(5, thread=True)).call(lambda: "answer")
        return f"{before} {answer}"

    assert in_child(work) == "(0, 0) answer"
    assert one_worker._threads == 0


@forks
def test_a_fork_with_the_pools_lock_held(gate: threading.Event) -> None:
    """A child is not stopped by a lock that some thread of its parent held."""
    held = threading.Event()

    def hold() -> None:
        with _workers.WORKERS._ready:
            held.set()
            gate.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE)
    assert in_child(lambda: str(Timeout(5, thread=True).call(lambda: "answer"))) == "answer"
    gate.set()
    holder.join()


@forks
def test_a_fork_inside_a_job() -> None:
    """A child that is born on a worker is none itself, and can use the pool."""
    policy = Timeout(30, thread=True)
    assert policy.call(lambda: in_child(lambda: str(policy.call(lambda: "answer")))) == "answer"


def test_hung_calls_do_not_collect_threads(one_worker: Workers, gate: threading.Event) -> None:
    """When all workers hang, further calls time out in line, are taken back, and are never made."""
    policy = Timeout(0.02, thread=True)
    made: list[int] = []

    def hang(number: int) -> None:
        made.append(number)
        gate.wait(PATIENCE)

    for number in range(5):
        with pytest.raises(TimedOut):
            policy.call(hang, number)
    assert made == [0]
    assert one_worker._threads == 1
    assert len(one_worker._jobs) == 0
    gate.set()
    until(lambda: one_worker._threads == 0)
    assert made == [0]


def test_the_name_of_a_worker_is_in_its_frames(gate: threading.Event) -> None:
    """The threads of the process's pool are those that `threading.enumerate` shows by that name."""
    with pytest.raises(TimedOut):
        Timeout(0.02, thread=True).call(gate.wait, PATIENCE)
    assert any(re.fullmatch(r"resilience-worker-\d+", thread.name) for thread in ours())


def test_work_under_way_is_not_begun_twice(one_worker: Workers) -> None:
    """A hedge whose copies wait in line makes those that can begin, and takes the others back when it has an answer."""
    made: list[Any] = []
    assert Hedge(after=0, max_extra_load=1.0).call(lambda: made.append(1) or "answer") == "answer"
    assert len(made) in {1, 2}
    assert len(one_worker._jobs) == 0
