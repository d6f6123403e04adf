"""Tokens taken in advance, so that not every call is a round trip.

With `lease=100` a throttle takes the tokens of a hundred calls at once and hands them out by itself. They have left the
shared bucket, so nobody is admitted beyond the limit; what one process holds and does not use, others do without. So
what is not used within the time in which the bucket fills anyhow is given up: by then it would have overflowed.

One caller at a time takes a whole lease, and others meanwhile the tokens of one call, so no process ever holds more
than one lease for each key and priority.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from resilience.core.ledger import Claim

    Slot: TypeAlias = tuple[object, int]

__all__ = ["Lease", "Leases"]


class Leases:
    """The leases of one throttle. Not thread-safe by itself: the policy holds its lock around each method.

    Args:
        tokens: tokens of one lease, about.
        seconds: how long what is left of one may be used.
        most: leases held at a time.

    Attributes:
        held: the leases, by key and priority. To look one up needs no lock.
    """

    __slots__ = ("_most", "_seconds", "_tokens", "_under_way", "held")

    def __init__(self, tokens: int, seconds: float, most: int) -> None:
        self._tokens = tokens
        self._seconds = seconds
        self._most = most
        self.held: dict[Slot, Lease] = {}
        self._under_way: set[Slot] = set()

    def take(self, claim: Claim, now: float) -> bool:
        """Serve a claim from what is held."""
        lease = self.held.get((claim.key, claim.rank))
        if lease is None or lease.costs != claim.costs:
            return False
        if not lease.calls or now >= lease.ends:
            del self.held[claim.key, claim.rank]
            return False
        lease.calls -= 1
        claim.marks = lease.marks
        return True

    def begin(self, claim: Claim) -> int:
        """How many calls' worth to ask for. More than one is a lease, to be ended."""
        slot = (claim.key, claim.rank)
        calls = int(self._tokens // max(claim.costs))
        if calls < 2 or slot in self.held or slot in self._under_way or len(self.held) >= self._most:
            return 1
        self._under_way.add(slot)
        return calls

    def end(self, claim: Claim, calls: int, now: float) -> None:
        """A lease was granted, for `calls` calls besides the one that asked; or was not."""
        slot = (claim.key, claim.rank)
        self._under_way.discard(slot)
        if calls > 0:
            self.held[slot] = Lease(claim, calls, now + self._seconds)

    def sweep(self, now: float) -> None:
        """Give up what is too old, where there is no room for more."""
        if len(self.held) >= self._most:
            for slot in [slot for slot, lease in self.held.items() if now >= lease.ends or not lease.calls]:
                del self.held[slot]

    def forget(self, key: object) -> None:
        """Give up what is held for one key."""
        for slot in [slot for slot in self.held if slot[0] == key]:
            del self.held[slot]

    def emptied(self) -> Leases:
        """The same, with nothing held."""
        return Leases(self._tokens, self._seconds, self._most)

    @property
    def unused(self) -> int:
        """Calls that could be served at once."""
        return sum(lease.calls for lease in self.held.values())


class Lease:
    """Tokens for so many calls of one cost."""

    __slots__ = ("calls", "costs", "ends", "marks")

    def __init__(self, claim: Claim, calls: int, ends: float) -> None:
        self.costs, self.marks = claim.costs, claim.marks
        self.calls = calls
        self.ends = ends
