"""A race is found by trying the order of things, not by trying often.

Threads that are left to themselves switch every few milliseconds, almost never where it hurts, and never there twice.
Here a run of several callables is a list of decisions: who goes on, for how many instructions. They are drawn from a
seed, so a run that fails is not luck but a number, and whoever types the number sees the failure again.

What it finds is what a few switches at the right place bring about, in Python code, within what `check` can see. It is
a search: that nothing was found in so many runs is evidence and not a proof.
"""

from __future__ import annotations

import gc
import inspect
import re
import threading
from contextlib import contextmanager

from resilience._checks import callable_or_none, positive_int, wrong_type, wrong_value
from resilience._hub import HUB
from resilience.testing._cooperative import swapped
from resilience.testing._cooperative_turns import Deadlock
from resilience.testing.interleave_runs import Explored, InterleavingError, explore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

__all__ = ["Deadlock", "InterleavingError", "interleave"]

_ONE_AT_A_TIME = threading.Lock()


def interleave(
    *callables: Callable[..., object],
    seed: int = 0,
    runs: int = 200,
    setup: Callable[[], Any] | None = None,
    check: Callable[..., object] | None = None,
    schedule: str | None = None,
    gil: bool = False,
) -> int:
    """Run callables in threads, in many orders of their instructions; fail on the first that breaks something.

    A run fails when a callable raises, when `check` raises or returns False, and when all threads wait for each other.
    Before the first, each callable is run to its end once, one after the other. Not to be called by two threads at
    once; while it runs, `threading.Lock` and `threading.RLock` make locks that it can see into, and the garbage
    collector stands still.

    Args:
        callables: what runs at the same time, two or more; a function that needs an argument gets what `setup`
            returned.
        seed: the first run is drawn from this number, the next from the one after it.
        runs: how many orders to try, 1 or more.
        setup: called before each run, on this thread. Locks that the callables share are to be made here.
        check: called after each run, on this thread; like the callables, it may take what `setup` returned.
        schedule: do the one run that this text describes, as an error has printed it, and no other.
        gil: switch only where an interpreter with a GIL may: after a call, at the start of a function, at the end of a
            turn of a loop. For code that relies on it; by default a switch may come before any instruction.

    Returns:
        How many different orders there were among the runs.

    Raises:
        InterleavingError: an order that breaks something; it says how to see it again.
        RuntimeError: another exploration is under way, a thread waits for something that cannot be seen, a schedule
            does not fit.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """
    if len(callables) < 2:
        raise ValueError(f"interleave takes two or more callables, got {len(callables)}")
    _check_seed(seed)
    positive_int("runs", runs)
    explored = Explored(
        [_taking_state("callables", each) for each in callables],
        [getattr(each, "__qualname__", repr(each)) for each in callables],
        callable_or_none("setup", setup),
        None if check is None else _taking_state("check", check),
        gil=gil,
    )
    script = None if schedule is None else _parsed(schedule, len(callables))
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise RuntimeError("another thread is exploring: one at a time")
    try:
        with swapped(), _no_garbage_collection(), _new_policies(), explored.watch:
            return explore(explored, seed, runs, script)
    finally:
        _ONE_AT_A_TIME.release()


# --- what is given ----------------------------------------------------------------------------------------------------


def _check_seed(seed: object) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise wrong_type("seed", "an integer", seed)


def _taking_state(name: str, fn: Callable[..., object]) -> Callable[[Any], object]:
    """The same function with one argument, whether it needs it or not."""
    given: object = fn
    if not callable(given):
        raise wrong_type(name, "callable", fn)
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    needed = [
        each
        for each in parameters
        if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        raise wrong_value(name, "a function of what setup returned, or of nothing", fn)
    return fn if needed else lambda _: fn()


_PAIR = re.compile(r"(\d+):(\d+)", re.ASCII)


def _parsed(schedule: object, threads: int) -> list[tuple[int, int]]:
    rule = 'text such as "0:12 1:30 0:5", as an error has printed it'
    if not isinstance(schedule, str):
        raise wrong_type("schedule", rule, schedule)
    pairs = [_PAIR.fullmatch(part) for part in schedule.split()]
    turns = [(int(pair[1]), int(pair[2])) for pair in pairs if pair is not None]
    if not turns or None in pairs or any(index >= threads for index, _ in turns):
        raise wrong_value("schedule", rule, schedule)
    return turns


@contextmanager
def _new_policies() -> Generator[None, None, None]:
    """Whoever builds a policy takes the lock of the registry, which was made before locks could be seen into."""
    before, HUB.lock = HUB.lock, threading.RLock()
    try:
        yield
    finally:
        HUB.lock = before


@contextmanager
def _no_garbage_collection() -> Generator[None, None, None]:
    """A collection runs finalizers on whichever thread happens to be there."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
