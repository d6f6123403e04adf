"""Where processes share what a policy knows: `Throttle("100/s", store=RedisStore.from_url(url), name="api")`.

A limit per process is no limit, and ten breakers that learn of one outage ten times are nine too many. A store keeps
the state of a policy where many processes reach it, and makes each decision there in one step, so that nobody comes
between a look and what follows from it.

A policy asks its store one question per decision, in words and numbers: which kind of state (`"bucket"`, `"budget"` or
`"breaker"`), whose (the policy's name and, for a throttle, the key), which verb of the core, on which terms (the rates,
the trips), with which arguments. So a store of your own is one method in two colours; what the words are is listed at
the top of each `.lua` file here, and `MemoryStore` answers the same questions from the pure cores. It may raise
anything that is an `Exception`: the policy then does what its `on_store_error` says.
"""

from __future__ import annotations

from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol, TypeAlias

    Word: TypeAlias = str | float
else:
    Protocol = object

__all__ = ["MemoryStore", "RedisStore", "Store"]


class Store(Protocol):
    """One decision at a time, for any number of processes, threads and event loops."""

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
        """Decide, and answer in words; blocks for a bounded time.

        Args:
            kind: "bucket", "budget" or "breaker".
            whose: the policy's name, and the parts of the key where there are keys.
            verb: a verb of that core.
            terms: how the policy is configured.
            given: the arguments of the verb.
            now: the reading to decide by, for tests; the store's own clock by default.
        """
        ...

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
        """Do what `ask` does, without blocking the loop."""
        ...
