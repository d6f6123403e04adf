"""A retry budget whose tokens are in a store.

A withdrawal is the store's decision. A deposit is worth nothing until somebody withdraws, and there is one for each
call that succeeds, so deposits are counted here and brought along: with the next withdrawal, and else about once a
second. In between they are missing from the shared bucket, which errs on the side of fewer retries.

Without the store, "local" pays from a bucket of this process, which has had the same deposits and withdrawals all along
and so is where the shared one would be, had there been only this process.
"""

from __future__ import annotations

from math import inf

from resilience._runtime import blocks_a_loop
from resilience.policies._store_link import StoreLink
from resilience.policies._store_words import check_store, numbers_of
from resilience.policies.budget import RetryBudget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from resilience.policies._store_words import OnStoreError
    from resilience.stores import Store, Word

__all__ = ["SharedBudget"]

_EVERY = 1.0
"""Seconds between two deliveries of deposits, where nobody withdraws."""

_MANY = 1_000_000
"""Deposits kept for later at most; more would fill any bucket."""


class SharedBudget(RetryBudget):
    """What `RetryBudget(store=...)` makes."""

    __slots__ = ("_kept", "_link", "_next")

    _elsewhere = True

    def _join_store(self, store: Store, name: str | None, on_error: OnStoreError) -> None:
        bucket = self._bucket
        terms: list[Word] = [bucket.ratio, bucket.per_second, bucket.capacity]
        self._link = StoreLink(store, "budget", check_store("RetryBudget", store, name), terms, on_error, _read)
        self._kept = 0
        self._next = -inf
        # Whether a deposit counts is the store's to say, so each is wanted.
        bucket.short = bucket.ratio > 0.0

    def _rebuild(self, arguments: dict[str, Any]) -> Any:
        return RetryBudget(**arguments)

    # --- deposits -----------------------------------------------------------------------------------------------------

    def deposit(self) -> None:
        """Say that a call has succeeded. Now and then asks the store, but never on the thread of an event loop."""
        if self._keep_one() and not blocks_a_loop():
            kept = self._brought()
            if self._link.ask(self, "deposit", [kept]) is None:
                self._keep(kept)

    async def deposit_async(self) -> None:
        """As `deposit`, without blocking the loop."""
        if self._keep_one():
            kept, answer = self._brought(), None
            try:
                answer = await self._link.ask_async(self, "deposit", [kept])
            finally:
                if answer is None:
                    self._keep(kept)

    def _keep_one(self) -> bool:
        now = self._clock.now()
        with self._lock:
            self._bucket.deposit()
            self._bucket.short = self._bucket.ratio > 0.0
            self._kept += 1
            due = now >= self._next
            if due:
                self._next = now + _EVERY
        return due

    def _keep(self, deposits: int) -> None:
        with self._lock:
            self._kept = min(_MANY, self._kept + deposits)

    def _brought(self) -> int:
        with self._lock:
            kept, self._kept = min(_MANY, self._kept), 0
        return kept

    # --- withdrawals --------------------------------------------------------------------------------------------------

    def withdraw(self) -> bool:
        """Take the token for one extra call; False where there is none. Blocks for no longer than the store does."""
        return self._take() or self._refused()

    async def withdraw_async(self) -> bool:
        """As `withdraw`, without blocking the loop."""
        kept, answer = self._brought(), None
        try:
            answer = await self._link.ask_async(self, "withdraw", [kept])
        finally:
            if answer is None:
                self._keep(kept)
        return self._decided(answer) or self._refused()

    def _take(self) -> bool:
        """As `withdraw`, without a word."""
        kept, answer = self._brought(), None
        try:
            answer = self._link.ask(self, "withdraw", [kept])
        finally:
            if answer is None:
                self._keep(kept)
        return self._decided(answer)

    def _decided(self, answer: bool | None) -> bool:
        if answer is None and self._link.on_error != "local":
            return self._link.on_error == "allow"
        if answer is False:
            return False
        now = self._clock.now()
        with self._lock:
            taken = self._bucket.withdraw(now)
        return taken or answer is not None

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON, from memory: `level` is that of this process alone."""
        return {**super().snapshot(), "shared": True, "store_lost": self._link.lost}

    def _after_fork(self) -> None:
        super()._after_fork()
        self._link.after_fork()
        self._kept = 0


def _read(_: str, answer: Sequence[Word]) -> bool:
    return numbers_of(answer, 2)[0] > 0.0
