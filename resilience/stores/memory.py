"""A store in this process: for tests, for one process with several policy objects of one name, and as the model of what
a store is to answer.
"""

from __future__ import annotations

import os
import threading
import time
from weakref import WeakSet

from resilience.stores.breaker import Shared
from resilience.stores.bucket import Buckets
from resilience.stores.budget import Tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resilience.stores import Word

__all__ = ["MemoryStore"]

_CELLS: dict[str, Callable[[], Buckets | Tokens | Shared]] = {"bucket": Buckets, "budget": Tokens, "breaker": Shared}


class MemoryStore:
    """States in a dictionary, decided by the pure cores. Safe from any thread; keys are never forgotten.

    Args:
        clock: a function that returns the reading to decide by, in seconds; the machine's monotonic one by default.
    """

    __slots__ = ("__weakref__", "_cells", "_clock", "_lock")

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cells: dict[tuple[str, tuple[str | int, ...]], Buckets | Tokens | Shared] = {}
        self._clock = clock
        self._lock = threading.Lock()
        _stores.add(self)

    def ask(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[Word],
        given: Sequence[Word],
        *,
        now: float | None = None,
    ) -> Sequence[Word]:
        """Decide, and answer in words. Blocks for no longer than the decision takes."""
        moment = self._clock() if now is None else now
        with self._lock:
            cell = self._cells.get((kind, whose))
            if cell is None:
                self._cells[kind, whose] = cell = _CELLS[kind]()
            return cell.ask(verb, terms, given, moment)

    async def ask_async(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[Word],
        given: Sequence[Word],
        *,
        now: float | None = None,
    ) -> Sequence[Word]:
        """Do what `ask` does."""
        return self.ask(kind, whose, verb, terms, given, now=now)


_stores: WeakSet[MemoryStore] = WeakSet()


def _forked() -> None:
    # A thread that held a lock is not here to release it.
    for store in list(_stores):
        store._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
