"""A place in time: tokens that were promised for a moment to come.

turn = throttle.reserve(cost=3)
time.sleep(turn.delay)          # or do something else first
...                             # the tokens are there now
turn.settle(2)                  # it took less; or turn.cancel(), if it was not needed at all
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.policies._tariff import Cost

__all__ = ["Reservation"]


class Reservation:
    """Tokens taken in advance. Cancel it or settle it, once; from any thread. Doing neither costs what was reserved.

    Attributes:
        delay: seconds from the reservation until the tokens may be used; 0.0 for at once.
    """

    __slots__ = ("_amend", "delay")

    def __init__(self, delay: float, amend: Callable[[Cost | None], bool]) -> None:
        self.delay = delay
        self._amend = amend

    def cancel(self) -> bool:
        """Give the tokens back. False if it was cancelled or settled before.

        What comes back is never more than the bucket would hold had the tokens not been taken, and less where others
        have reserved or been granted in between.
        """
        return self._amend(None)

    def settle(self, actual: Cost) -> bool:
        """Say what it really cost: less is given back, more is a debt that later calls wait for. False if it was done
        before.

        Args:
            actual: a number or a mapping, as for `cost`; 0 is allowed.

        Raises:
            TypeError, ValueError: `actual` is no cost.
        """
        return self._amend(actual)

    async def cancel_async(self) -> bool:
        """Do what `cancel` does, without blocking the loop where that takes time."""
        return self._amend(None)

    async def settle_async(self, actual: Cost) -> bool:
        """Do what `settle` does, without blocking the loop where that takes time."""
        return self._amend(actual)

    def __repr__(self) -> str:
        return f"<Reservation in {self.delay:.6g} s>"
