"""The decisions of `budget.lua`, by the core itself."""

from __future__ import annotations

from resilience.core.budget import Budget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience.stores import Word

__all__ = ["Tokens"]


class Tokens:
    """The tokens of one name. Not thread-safe by itself: a store holds its lock around each method."""

    __slots__ = ("_budget",)

    def __init__(self) -> None:
        self._budget: Budget | None = None

    def ask(self, verb: str, terms: Sequence[Word], given: Sequence[Word], now: float) -> list[Word]:
        """One decision; the verbs and their words are listed at the top of the script."""
        budget = self._budget
        if budget is None:
            self._budget = budget = Budget(*(float(word) for word in terms))
        left = int(given[0])
        while left and budget.short:
            budget.deposit()
            left -= 1
        if verb not in ("withdraw", "deposit", "level"):
            raise ValueError(f"unknown verb {verb!r}")
        answer = budget.withdraw(now) if verb == "withdraw" else True
        return [float(answer), budget.level(now)]
