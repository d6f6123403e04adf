"""What the policies are put through to see whether they are linearizable, once for all of them.

A *subject* is a policy, the history of what was done to it, and its sequential model. Which operations its threads
perform is drawn from a seed. They are performed by real threads, which switch as often as they can, and by threads
that take turns instruction by instruction.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from resilience._hub import HUB
from resilience.testing.interleave_threads import interleave
from tests.linearizability import Gang, History, Model, assert_linearizable, overlaps

__all__ = ["Hands", "Subject", "frozen", "hub_in_sight", "many_histories", "many_interleavings"]


class Hands:
    """A clock that stands still but for what is done to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading = 0.0
        self._seen: dict[int, float] = {}

    def now(self) -> float:
        self._seen[threading.get_ident()] = reading = self._reading
        return reading

    def seen(self) -> float:
        """What the calling thread has read last."""
        return self._seen.get(threading.get_ident(), 0.0)

    def advance(self) -> None:
        """Move it by one second, as one step."""
        with self._lock:
            self._reading += 1.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody should sleep, and somebody wanted to for {seconds} s")

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Subject:
    """One policy and what happened to it. A subclass names its operations, and has a method for each.

    A method gets what its thread holds, a list of its own.
    """

    operations: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.clock = Hands()
        self.history = History(reading=self.clock.seen)
        self.tickets = [iter(range(thread * 1_000, thread * 1_000 + 999)) for thread in range(8)]
        self.build()

    def build(self) -> None:
        """Make the policy."""
        raise NotImplementedError

    def model(self) -> Model:
        """The sequential object, as it is at the beginning."""
        raise NotImplementedError

    def advance(self, _: Held) -> None:
        """Let a second pass."""
        self.clock.advance()

    def play(self, thread: int, script: Sequence[str]) -> None:
        """Perform a script on the calling thread, and let go of what it still holds."""
        held = Held(thread, self.tickets[thread])
        for operation in script:
            getattr(self, operation)(held)
        while held.things:
            self.let_go(held)

    def let_go(self, held: Held) -> None:
        """Give back one thing."""
        held.things.pop()


class Held:
    """What one thread holds, and the numbers by which it calls it."""

    def __init__(self, thread: int, numbers: Any) -> None:
        self.thread = thread
        self.things: list[tuple[int, Any]] = []
        self._numbers = numbers

    def number(self) -> int:
        """A number that no thread has used before."""
        number: int = next(self._numbers)
        return number


def _scripts(kind: type[Subject], rng: random.Random) -> list[list[str]]:
    return [rng.choices(kind.operations, k=rng.randint(3, 6)) for _ in range(rng.randint(2, 4))]


def many_histories(kind: type[Subject], histories: int, seed: int = 0) -> None:
    """See that real threads leave only histories that some order explains, and that their calls did meet."""
    rng = random.Random(seed)
    met = 0
    with Gang.of(4) as gang:
        for _ in range(histories):
            subject = kind()
            scripts = _scripts(kind, rng)
            gang.run([partial(subject.play, thread, script) for thread, script in enumerate(scripts)])
            assert_linearizable(subject.history, subject.model())
            met += overlaps(subject.history) > 0
    assert met > histories / 4, f"calls met in {met} of {histories} histories only"


def many_interleavings(kind: type[Subject], scripts: int, runs: int, seed: int = 0, **options: Any) -> None:
    """See the same of threads that are switched between any two instructions."""
    rng = random.Random(seed)
    for _ in range(scripts):
        drawn = _scripts(kind, rng)

        def parts(drawn: list[list[str]] = drawn) -> list[Callable[[Any], None]]:
            return [
                lambda subject, thread=thread, script=script: subject.play(thread, script)
                for thread, script in enumerate(drawn)
            ]

        with hub_in_sight():
            interleave(*parts(), setup=partial(_begin, kind), check=_check, runs=runs, seed=seed, **options)


@contextmanager
def hub_in_sight() -> Iterator[None]:
    """For subjects that make policies as they go: a policy is made under the lock of the hub, which was made long ago.

    Whoever sets up a run makes it anew; afterwards it is the old one again.
    """
    before = HUB.lock
    try:
        yield
    finally:
        HUB.lock = before


def _begin(kind: type[Subject]) -> Subject:
    HUB.lock = threading.RLock()
    return kind()


def _check(subject: Subject) -> None:
    assert_linearizable(subject.history, subject.model())


def frozen(value: Any) -> Any:
    """A hashable value of plain objects, equal for equal ones."""
    if isinstance(value, dict):
        return tuple((frozen(key), frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple | deque):
        return tuple(frozen(each) for each in value)
    if isinstance(value, set | frozenset):
        return frozenset(frozen(each) for each in value)
    slots = [slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())]
    if slots and type(value).__hash__ is object.__hash__:
        return type(value), tuple(frozen(getattr(value, slot, None)) for slot in slots)
    return value
