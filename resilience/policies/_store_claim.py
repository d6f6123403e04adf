"""What a store has granted, and where in its bucket that is.

A mark is what the store said of its bucket right after the taking; with it the store bounds what may come back later.
It also tells who is ahead of whom: a state grows with each taking, so whoever came later has more.
"""

from __future__ import annotations

from resilience.core.ledger import Claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedClaim"]

_WORDS = 5
"""Numbers of a mark for each rate: the state as a pair, what was ever given back, and two more."""


class SharedClaim(Claim):
    """A claim that the store has granted, from `delay` seconds on.

    Attributes:
        delay: seconds, as the store said.
        ahead: tokens that those before it have given back while it waited, for each rate.
        behind: the same of those after it.
    """

    __slots__ = ("ahead", "behind", "delay")

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim.key, claim.costs, claim.rank)
        self.delay = 0.0
        self.ahead = [0.0] * len(claim.costs)
        self.behind = [0.0] * len(claim.costs)

    def has_marks(self, rates: int) -> bool:
        """Whether the store has said where in its bucket the claim is; one of somebody's own need not."""
        return len(self.marks) == _WORDS * rates

    def mark(self, rate: int) -> float:
        """Where in the bucket of a rate it is: whoever is behind has more."""
        marks: Any = self.marks
        place: float = marks[_WORDS * rate] - self.ahead[rate]
        return place

    def sum_before(self, rate: int) -> float:
        """What had ever been given back to the bucket of a rate when this was taken."""
        marks: Any = self.marks
        before: float = marks[_WORDS * rate + 2]
        return before

    def forget_behind(self) -> None:
        """Say, of a claim that still waits, that what came back behind it was never below it."""
        if any(self.behind) and self.has_marks(len(self.behind)):
            marks: Any = self.marks
            words = [*marks]
            for rate, amount in enumerate(self.behind):
                words[_WORDS * rate + 2] += amount
            self.marks = words
