"""One decision at a time: many who ask a store at once.

A store that looks and then takes, in two steps, is right whenever somebody tries it alone. So many ask at the same
reading, from threads that are switched between as often as can be, or from tasks, and what they were granted together
is counted.
"""

from __future__ import annotations

import asyncio
import sys
import threading

from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._search import Violation
from resilience.testing.conformance._subject import PATIENCE, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.stores import Word
    from resilience.testing.conformance._store import StoreFacts

__all__ = ["check_crowd"]

ATOMIC = "atomic: who asks at once is granted together what is there, and no more"
CROWD = 8
TIMES = 12
BURST = 40.0
START = 4096.0


def check_crowd(facts: StoreFacts, name: str) -> None:
    """Let many take at once from one bucket, and many withdraw from one budget.

    Raises:
        Violation: they got more, or less, than there is.
    """
    questions: dict[str, tuple[Any, ...]] = {
        "take": ("bucket", (f"{name} crowd",), "take", [1.0, 1.0, 1.0, BURST], [1.0, 0.0, 0.0, 1, 0.0]),
        "withdraw": ("budget", (f"{name} crowd",), "withdraw", [0.5, 0.0, BURST], [0]),
    }
    for verb, question in questions.items():
        store = build(facts.make, VirtualClock(START))
        granted = _by_threads(store, question) if facts.loop is None else _by_tasks(facts.loop, store, question)
        if granted != BURST:
            script = [f"{CROWD} at once, {TIMES} times each: {verb}"]
            raise Violation(ATOMIC, f"{granted:g} were granted of {BURST:g}", script)


def _by_threads(store: Any, question: tuple[Any, ...]) -> float:
    ready = threading.Barrier(CROWD)
    granted: list[float] = []

    def ask_often() -> None:
        ready.wait(PATIENCE)
        granted.extend(float(store.ask(*question, now=START)[0]) for _ in range(TIMES))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask_often, daemon=True) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(before)
    return sum(granted)


def _by_tasks(loop: asyncio.AbstractEventLoop, store: Any, question: tuple[Any, ...]) -> float:
    ask: Callable[..., Any] = store.ask_async

    async def ask_often() -> float:
        answers: list[Sequence[Word]] = [await ask(*question, now=START) for _ in range(TIMES)]
        return sum(float(answer[0]) for answer in answers)

    async def main() -> float:
        return sum(await asyncio.gather(*(ask_often() for _ in range(CROWD))))

    return loop.run_until_complete(main())
