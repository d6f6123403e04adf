"""A place in time that a store keeps."""

from __future__ import annotations

from resilience.policies._reservation import Reservation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.policies._store_claim import SharedClaim
    from resilience.policies._store_taking import StoreTaking
    from resilience.policies._tariff import Cost, Costs

__all__ = ["SharedReservation", "unused"]


def unused(_: object) -> bool:
    """Nothing was taken, so nothing comes back."""
    return False


class SharedReservation(Reservation):
    """A reservation in a store."""

    __slots__ = ("_claim", "_done", "_throttle")

    def __init__(self, throttle: StoreTaking, claim: SharedClaim) -> None:
        super().__init__(claim.delay, unused)
        self._throttle = throttle
        self._claim = claim
        self._done = False

    def _costs(self, actual: Cost | None) -> Costs | None:
        throttle = self._throttle
        costs = throttle._nothing if actual is None else throttle._tariff.settled(actual, self._claim.costs)
        with throttle._lock:
            if self._done:
                return None
            self._done = True
        return costs

    def cancel(self) -> bool:
        """Give the tokens back. False if it was cancelled or settled before."""
        return self._amend_now(None)

    def settle(self, actual: Cost) -> bool:
        """Say what it really cost. False if it was done before."""
        return self._amend_now(actual)

    def _amend_now(self, actual: Cost | None) -> bool:
        costs = self._costs(actual)
        if costs is not None:
            self._throttle._correct(self._claim, costs)
        return costs is not None

    async def cancel_async(self) -> bool:
        """Do what `cancel` does, without blocking the loop."""
        return await self._amend_async(None)

    async def settle_async(self, actual: Cost) -> bool:
        """Do what `settle` does, without blocking the loop."""
        return await self._amend_async(actual)

    async def _amend_async(self, actual: Cost | None) -> bool:
        costs = self._costs(actual)
        if costs is not None:
            await self._throttle._settle_async(self._claim, costs)
        return costs is not None
