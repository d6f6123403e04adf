"""Is there an order of one call after the other that explains what threads saw?

Threads call one object at the same time, and each call is written down twice, when it begins and when it ends. The
object is *linearizable* if every such history is explained by some order of the calls: one in which a call that ended
before another began comes before it, and in which a plain sequential model of the object answers each call as it was
answered. Then a caller need never know that there were others.

    history = History()
    history.call("take", subject.take)                # from any thread
    assert_linearizable(history, Model())

A model is a class with `step(call) -> result` that changes it, and `key()`, a hashable value that is equal for equal
states; it is copied before each step. A model may look at `call.result` to accept one of several answers, by
returning that very object.

The search is that of Wing and Gong, "Testing and Verifying Concurrent Objects", JPDC 17 (1993), with the memory of
Lowe, "Testing for Linearizability", CCPE 29 (2017): a set of calls in a state that was a dead end once is one for ever.

A history that cannot be explained is cut down to the shortest beginning that cannot. That is sound, since of an
explained history every beginning is explained too: a call that has begun and not ended may have taken effect or not.
"""

from __future__ import annotations

import copy
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

__all__ = ["Call", "Gang", "History", "Model", "assert_linearizable", "explain", "overlaps", "story"]

PATIENCE = 30.0


class Call:
    """One call: what was asked, and what was answered once it has ended.

    Attributes:
        reading: what the clock said when the call looked at it, where the history knows.
    """

    def __init__(self, name: str, argument: Any, thread: int) -> None:
        self.name = name
        self.argument = argument
        self.thread = thread
        self.result: Any = None
        self.reading = 0.0

    def __str__(self) -> str:
        return self.name if self.argument is None else f"{self.name}({self.argument!r})"


class Model(Protocol):
    """The sequential object."""

    def step(self, call: Call) -> Any:
        """Do what the call asks, and return what it is to be answered."""
        ...

    def key(self) -> Any:
        """A hashable value of the state."""
        ...


class History:
    """What happened, in order: a call appears when it begins, and once more when it ends.

    Args:
        events: what has happened so far.
        reading: says how the calling thread has last read the clock. What a call does is judged at its own reading, so
            that is a part of what was asked, like its argument.
    """

    def __init__(self, events: Sequence[Call] = (), reading: Callable[[], float] = float) -> None:
        self.events: list[Call] = list(events)
        self._reading = reading

    def begin(self, name: str, argument: Any = None) -> Call:
        """Write down that a call begins."""
        call = Call(name, argument, threading.get_ident())
        self.events.append(call)
        return call

    def end(self, call: Call, result: Any = None) -> Any:
        """Write down that a call has ended."""
        call.result, call.reading = result, self._reading()
        self.events.append(call)
        return result

    def call(self, name: str, fn: Callable[..., Any], argument: Any = None) -> Any:
        """Make a call and write it down."""
        call = self.begin(name, argument)
        return self.end(call, fn() if argument is None else fn(argument))


# --- the search -------------------------------------------------------------------------------------------------------


def explain(history: History, model: Model) -> list[Call] | None:
    """An order of calls that explains a history, or None where there is none."""
    begun: dict[int, Call] = {}
    ended: dict[int, Call] = {}
    for call in history.events:
        (ended if id(call) in begun else begun)[id(call)] = call
    before = _before(history)
    # Who ended first mostly took effect first, so that order is tried first.
    order = list((ended | begun).values())
    complete = frozenset(ended)
    dead: set[tuple[frozenset[int], Any]] = set()
    path: list[Call] = []

    def search(done: frozenset[int], state: Model) -> bool:
        if complete <= done:
            return True
        here = (done, state.key())
        if here in dead:
            return False
        for call in order:
            if id(call) in done or not before[id(call)] <= done:
                continue
            after = copy.deepcopy(state)
            answer = after.step(call)
            if id(call) in complete and not _same(answer, call.result):
                continue
            path.append(call)
            if search(done | {id(call)}, after):
                return True
            path.pop()
        dead.add(here)
        return False

    return path if search(frozenset(), model) else None


def _same(answer: Any, result: Any) -> bool:
    return answer is result or (type(answer) is type(result) and answer == result)


def _before(history: History) -> dict[int, frozenset[int]]:
    """For each call, those that had ended when it began."""
    before: dict[int, frozenset[int]] = {}
    ended: frozenset[int] = frozenset()
    for call in history.events:
        if id(call) in before:
            ended |= {id(call)}
        else:
            before[id(call)] = ended
    return before


def overlaps(history: History) -> int:
    """How many calls began while another one was under way."""
    under_way: set[int] = set()
    met = 0
    for call in history.events:
        if id(call) in under_way:
            under_way.remove(id(call))
        else:
            met += bool(under_way)
            under_way.add(id(call))
    return met


# --- what to show -----------------------------------------------------------------------------------------------------


def assert_linearizable(history: History, model: Model) -> None:
    """Fail with the shortest beginning of a history that nothing explains."""
    if explain(history, model) is not None:
        return
    shortest = next(
        beginning
        for beginning in (History(history.events[:length]) for length in range(1, len(history.events) + 1))
        if explain(beginning, model) is None
    )
    raise AssertionError(f"no order of these calls explains the last answer:\n{story(shortest)}")


def story(history: History) -> str:
    """A history with a column for each thread."""
    threads = list(dict.fromkeys(call.thread for call in history.events))
    begun: set[int] = set()
    lines: list[str] = []
    for call in history.events:
        said = f"-> {call.result!r}" if id(call) in begun else str(call)
        begun.add(id(call))
        lines.append("    " + "".join(f"{said if thread == call.thread else '':30}" for thread in threads).rstrip())
    return "\n".join(lines)


# --- threads ----------------------------------------------------------------------------------------------------------


class Gang:
    """Threads that begin together, again and again. One history takes a fraction of what it takes to start a thread.

    The first thing each does is to wait until all are there, by looking and not by sleeping: whoever sleeps is woken
    one after the other. Even so, and at the shortest switch interval, a handful of calls is mostly over before another
    thread is awake. So one function in ten that is entered lets the others go first, which is a place where the
    interpreter may switch anyway.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rounds: list[Sequence[Callable[[], object]]] = []
        self._there: list[list[int]] = []
        self._errors: list[BaseException] = []
        self._begin = [threading.Semaphore(0) for _ in range(size)]
        self._end = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._work, args=(index,), daemon=True) for index in range(size)]

    def run(self, parts: Sequence[Callable[[], object]]) -> None:
        """Run callables at the same time, one per thread; the first error of any is raised."""
        self._there.append([])
        self._rounds.append(parts)
        for begin in self._begin[: len(parts)]:
            begin.release()
        for _ in parts:
            if not self._end.acquire(timeout=PATIENCE):
                raise AssertionError(f"a thread has not come to an end in {PATIENCE} s")
        if self._errors:
            raise self._errors.pop()

    def _work(self, index: int) -> None:
        while True:
            self._begin[index].acquire()
            parts, there = self._rounds[-1], self._there[-1]
            if not parts:
                return
            try:
                there.append(index)
                while len(there) < len(parts):
                    pass
                sys.setprofile(_giving_way(random.Random(f"{len(self._rounds)} {index}")))
                parts[index]()
            except BaseException as error:
                self._errors.append(error)
            finally:
                sys.setprofile(None)
                self._end.release()

    @staticmethod
    @contextmanager
    def of(size: int) -> Iterator[Gang]:
        """So many threads, taking turns as often as the interpreter lets them, until the block ends."""
        gang = Gang(size)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        for thread in gang._threads:
            thread.start()
        try:
            yield gang
        finally:
            sys.setswitchinterval(before)
            gang._rounds.append(())
            for begin in gang._begin:
                begin.release()
            for thread in gang._threads:
                thread.join(PATIENCE)


def _giving_way(rng: random.Random) -> Callable[..., None]:
    def at(_: object, event: str, __: object) -> None:
        if event == "call" and rng.random() < 0.1:
            time.sleep(0)

    return at
