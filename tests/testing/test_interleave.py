"""The explorer of interleavings: what it finds, and how it says so."""

from __future__ import annotations

import gc
import queue
import sys
import threading
from collections.abc import Callable
from threading import Lock
from typing import Any

import pytest

from resilience.testing import _cooperative_turns
from resilience.testing.interleave_threads import Deadlock, InterleavingError, interleave

RUNS = 1_000


class Counter:
    """A number, counted with a lock and without."""

    def __init__(self) -> None:
        self.value = 0
        self.lock = threading.Lock()
        self.other = Lock()
        self.again = threading.RLock()

    def carelessly(self) -> None:
        self.value += 1

    def carefully(self) -> None:
        with self.lock:
            self.value += 1

    def once(self) -> None:
        if self.value == 0:
            self.carelessly()

    def twice_locked(self) -> None:
        with self.again, self.again:
            self.carelessly()

    def one_way(self) -> None:
        with self.lock, self.other:
            self.value += 1

    def the_other_way(self) -> None:
        with self.other, self.lock:
            self.value += 1


def found(*callables: Callable[..., object], **options: Any) -> InterleavingError:
    """The failure that an exploration of at most 1,000 runs ends with."""
    with pytest.raises(InterleavingError) as caught:
        interleave(*callables, runs=RUNS, **options)
    return caught.value


def counted(counter: Counter) -> bool:
    return counter.value == 2


def only_once(counter: Counter) -> bool:
    return counter.value == 1


PLANTED = {
    "a lost update": (Counter.carelessly, counted, False),
    "a check, then an act": (Counter.once, only_once, False),
    "a check, then an act, with the GIL": (Counter.once, only_once, True),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_race_is_found_and_seen_again(name: str) -> None:
    """A race is found within 1,000 runs, and its seed brings it back, 100 times of 100; so does its schedule."""
    act, check, gil = PLANTED[name]
    options: dict[str, Any] = {"setup": Counter, "check": check, "gil": gil}
    failure = found(act, act, **options)
    for time in range(100):
        with pytest.raises(InterleavingError) as caught:
            interleave(act, act, seed=failure.seed or 0, runs=1, **options)
        assert str(caught.value).partition(": ")[2] == str(failure).partition(": ")[2]
        if time % 10 == 0:
            with pytest.raises(InterleavingError) as caught:
                interleave(act, act, schedule=failure.schedule, **options)
            assert caught.value.schedule == failure.schedule


@pytest.mark.parametrize("act", [Counter.carefully, Counter.twice_locked])
def test_nothing_is_found_where_there_is_a_lock(act: Callable[..., object]) -> None:
    """With a lock around it the same update is never lost, in hundreds of different orders."""
    assert interleave(act, act, setup=Counter, check=counted, runs=400) > 30


def test_a_straight_line_is_whole_with_the_gil() -> None:
    """Where the GIL is counted on, an update without a call in it is never torn."""
    assert interleave(Counter.carelessly, Counter.carelessly, setup=Counter, check=counted, gil=True) >= 2


def test_the_failure_says_what_happened() -> None:
    """The message names the run, what broke, each turn with the line where it ended, and how to see it again."""
    text = str(found(Counter.carelessly, Counter.carelessly, setup=Counter, check=counted))
    lines = text.splitlines()
    assert lines[0].startswith("run ")
    assert lines[0].endswith("of 1000: check returned False")
    assert len(lines) == 6
    assert "test_interleave.py:" in lines[1]
    assert lines[3].endswith("to its end")
    assert "interleave(..., seed=" in lines[4]
    assert "schedule=" in lines[5]


def test_an_error_in_a_callable_is_the_cause() -> None:
    """A callable that raises in some order fails the exploration, with its own error as the cause."""

    def fall() -> None:
        state.append(1)
        if len(state) == 1:
            state.remove(1)

    state: list[int] = []
    failure = found(fall, state.clear, setup=state.clear)
    assert isinstance(failure.__cause__, ValueError)
    assert "fall raised: ValueError" in str(failure)


def test_an_error_in_the_check_is_the_cause() -> None:
    """A check may assert instead of returning False."""

    def check(counter: Counter) -> None:
        assert counter.value == 2

    failure = found(Counter.carelessly, Counter.carelessly, setup=Counter, check=check)
    assert isinstance(failure.__cause__, AssertionError)


def test_a_deadlock_says_who_holds_and_who_waits() -> None:
    """Two locks taken in two orders end in a deadlock, which names both threads and where their locks were made."""
    failure = found(Counter.one_way, Counter.the_other_way, setup=Counter)
    assert isinstance(failure.__cause__, Deadlock)
    for mine, others in ((0, 1), (1, 0)):
        line = next(
            line for line in str(failure).splitlines() if line.startswith(f"  thread {mine} ") and "waits" in line
        )
        assert "test_interleave.py:" in line
        assert f"held by thread {others}" in line
    with pytest.raises(InterleavingError) as caught:
        interleave(Counter.one_way, Counter.the_other_way, setup=Counter, schedule=failure.schedule)
    assert isinstance(caught.value.__cause__, Deadlock)


def test_what_is_built_on_locks_works() -> None:
    """Queues, conditions, events, semaphores and barriers made in setup work, waits with a timeout included."""

    class Shop:
        def __init__(self) -> None:
            self.queue: queue.Queue[int] = queue.Queue(1)
            self.open = threading.Event()
            self.barrier = threading.Barrier(2)
            self.till = threading.BoundedSemaphore(1)
            self.got: list[int] = []

        def bake(self) -> None:
            self.barrier.wait()
            for loaf in range(3):
                with self.till:
                    pass
                self.queue.put(loaf)
            self.open.set()

        def buy(self) -> None:
            self.barrier.wait()
            for _ in range(3):
                with self.till:
                    pass
                self.got.append(self.queue.get())
            assert self.open.wait()
            with pytest.raises(queue.Empty):
                self.queue.get(timeout=0.001)

    assert interleave(Shop.bake, Shop.buy, setup=Shop, check=lambda shop: shop.got == [0, 1, 2], runs=100) > 30


def test_a_wait_for_something_seen_ends() -> None:
    """A thread that looks again and again until another has done its part is given up for it."""

    def wait(done: list[int]) -> None:
        while not done:
            pass

    assert interleave(wait, lambda done: done.append(1), setup=list[int], runs=3)


def test_a_lock_made_before_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits in the operating system for a lock made before the run is an error that says what to do."""
    monkeypatch.setattr(_cooperative_turns, "PATIENCE", 0.05)
    old = threading.Lock()

    def use() -> None:
        with old:
            sum(each for each in range(20))

    with pytest.raises(RuntimeError, match=r"\(.*use\) has made no step for .* Make it in setup"):
        interleave(use, use)
    assert not old.locked()


def test_what_does_not_repeat_is_told() -> None:
    """A failure that depends on more than the order is reported all the same, and as such."""
    calls = iter(range(1_000_000))
    failure = found(Counter.carelessly, Counter.carelessly, setup=Counter, check=lambda: next(calls) != 5)
    assert "depend on more than their order" in str(failure)


def test_afterwards_everything_is_as_before() -> None:
    """The kinds of lock, the collector of garbage and the trace are put back, after a failure too."""
    before = (threading.Lock, threading.RLock, Lock, gc.isenabled(), sys.gettrace(), threading.active_count())
    counter: list[Counter] = []

    def keep() -> Counter:
        counter[:] = [Counter()]
        return counter[0]

    found(Counter.one_way, Counter.the_other_way, setup=keep)
    assert (threading.Lock, threading.RLock, Lock, gc.isenabled(), sys.gettrace(), threading.active_count()) == before
    counter[0].one_way()
    counter[0].the_other_way()
    assert counter[0].value == 2


def test_a_schedule_that_does_not_fit_is_told() -> None:
    """A schedule of other callables is an error of its own."""
    with pytest.raises(RuntimeError, match="does not fit these callables"):
        interleave(Counter.carefully, Counter.carefully, setup=Counter, schedule="0:2 1:2")


@pytest.mark.parametrize(
    ("callables", "options", "error", "says"),
    [
        ([len], {}, ValueError, "two or more callables, got 1"),
        ([Counter, 3], {}, TypeError, "callables must be callable, got 3"),
        ([Counter, divmod], {}, ValueError, "callables must be a function of what setup returned, or of nothing"),
        ([Counter] * 2, {"seed": True}, TypeError, "seed must be an integer, got True"),
        ([Counter] * 2, {"runs": 0}, ValueError, "runs must be an integer, 1 or more, got 0"),
        ([Counter] * 2, {"setup": 1}, TypeError, "setup must be a callable or None, got 1"),
        ([Counter] * 2, {"check": 1}, TypeError, "check must be callable, got 1"),
        ([Counter] * 2, {"schedule": 1}, TypeError, "schedule must be text such as"),
        ([Counter] * 2, {"schedule": "0:1 2:1"}, ValueError, "schedule must be text such as"),
        ([Counter] * 2, {"schedule": "one"}, ValueError, "schedule must be text such as"),
    ],
)
def test_bad_parameters_are_named(callables: list[Any], options: Any, error: type[Exception], says: str) -> None:
    """A parameter that breaks its rule is an error with the parameter, the rule and the value."""
    with pytest.raises(error, match=says):
        interleave(*callables, **options)
