"""The error of a bulkhead without a free place."""

from __future__ import annotations

from resilience.errors import Rejected

__all__ = ["BulkheadFull"]


class BulkheadFull(Rejected):
    """Every place was taken, and the queue was full or the wait too long.

    Attributes:
        limit: how many may be in flight.
        queue: how many may wait.
        waited: seconds waited in vain; 0.0 where it was refused at once.
        retry_after: None: nobody knows when a call that is in flight will end.
    """

    def __init__(
        self, policy: str, retry_after: float | None = None, limit: int = 0, queue: int = 0, waited: float = 0.0
    ) -> None:
        super().__init__(policy, retry_after)
        self.limit = limit
        self.queue = queue
        self.waited = waited

    def _reason(self) -> str:
        taken = "the one place is taken" if self.limit == 1 else f"all {self.limit} places are taken"
        if self.waited:
            return f"{taken}, and none became free in {self.waited:.3g} s"
        return f"{taken}, and the queue of {self.queue} is full" if self.queue else taken
