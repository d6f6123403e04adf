"""How much to let through at first.

A circuit that has just closed has seen one call succeed, or a few. What is behind it may have cold caches, a pool to
fill and a queue of its own to work off, and the whole load at once is what it fell over under. So the share that is let
through grows in a straight line, from nothing at the closing to everything `seconds` later.

A coin per call would keep to the line only on average, and badly where calls are few; counting every n-th would admit
always the same one of several callers that take turns. This does neither. Each call adds the present share to what is
*owed*, and is let in with that chance; one that is let in takes 1 away. What is owed thus stays between -1 and 1: at
any time, the number let in differs from the sum of the shares by less than one call, and which calls these are is left
to chance. (It is randomised rounding, with the error carried on to the next.)

Whoever is refused is told to come back at a moment of the rest of the ramp that chance spreads evenly. Told to come at
its end, they would all come there together.
"""

from __future__ import annotations

__all__ = ["Ramp"]


class Ramp:
    """The time after one closing. Belongs to one circuit.

    Args:
        began: the reading of the clock at the closing.
        seconds: how long it takes from nothing to everything.

    Attributes:
        wait: seconds after which whoever was refused last may come back.
    """

    __slots__ = ("_began", "_owed", "_seconds", "wait")

    def __init__(self, began: float, seconds: float) -> None:
        self._began = began
        self._seconds = seconds
        self._owed: float = 0.0
        self.wait: float = 0.0

    def over(self, now: float) -> bool:
        """Whether everything is let through again."""
        return now - self._began >= self._seconds

    def admits(self, now: float, u: float) -> bool:
        """Whether one more call is let through, at a moment that is not after the end, for the chance `u` in [0, 1)."""
        gone = now - self._began
        owed = self._owed + gone / self._seconds
        if u < owed:
            self._owed = owed - 1.0
            return True
        self._owed = owed
        # Of those refused, `u` is spread evenly over what was left of [0, 1).
        self.wait = (self._seconds - gone) * (1.0 - u) / (1.0 - max(owed, 0.0))
        return False
