"""What a request says of itself, for every server.

Who sends it, how long it may take, how much it matters and how long it has waited: all of that stands in the address of
a connection and in a few header fields, and most of it anybody can write. So it is read in one place. What is believed
depends on how many proxies of one's own stand in front:

    X-Forwarded-For     the entry that the outermost of one's own proxies wrote; none without proxies
    X-Priority          with proxies, or when told to: nobody promotes himself
    X-Request-Start     with proxies: when the request arrived there, for the load shedder
    X-Deadline-Ms       always: it can only make less work
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from resilience import context
from resilience.context import Priority
from resilience.errors import DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack

__all__ = ["ARRIVAL", "PRIORITIES", "Arrival", "client_address", "seconds_told", "waited_since"]

ARRIVAL = "resilience.arrival"
"""Where a middleware leaves the `Arrival`: in the environ of WSGI, in the scope of ASGI. No header can write there."""

_LONGEST_WAIT = 60.0
"""Seconds. No proxy lets a request wait longer, so what says more was not written by one."""
_LONGEST_ENTRY = 80
"""Characters of an address with its port. What is longer is none, and is not to be remembered."""
PRIORITIES = {level.name.lower(): level for level in Priority}


class Arrival:
    """One request as it came in. Used by one thread or task at a time.

    Attributes:
        address: whose request it is, a key for throttles.
        seconds: the time it may take, in seconds; None where nothing was said.
        priority: how much it matters; None where nothing was said, or nothing that is believed.
        waited: seconds since the outermost proxy took it; None where nobody said.
        limits: the members of RateLimit-Policy and RateLimit that the answer will have.
        stack: what ends with the request; None where nobody would end it.
    """

    __slots__ = ("address", "limits", "priority", "seconds", "stack", "waited")

    def __init__(
        self,
        address: str,
        seconds: float | None = None,
        priority: Priority | None = None,
        waited: float | None = None,
    ) -> None:
        self.address = address
        self.seconds = seconds
        self.priority = priority
        self.waited = waited
        self.limits: list[tuple[str, str]] = []
        self.stack: ExitStack | None = None

    def begin(self, stack: ExitStack) -> None:
        """Give what follows in this context the request's priority, until the stack is closed.

        Raises:
            DeadlineExceeded: the time is up already.
        """
        self.stack = stack
        if self.priority is not None:
            stack.enter_context(context.priority(self.priority))
        if self.seconds == 0.0:
            raise DeadlineExceeded("deadline", 0.0)

    def fields(self) -> list[tuple[str, str]]:
        """The header fields that say how the caller stands."""
        if not self.limits:
            return []
        policies, standings = zip(*self.limits, strict=True)
        return [("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(standings))]


def client_address(peer: str | None, forwarded: str, trusted_proxies: int) -> str:
    """The address that the outermost of one's own proxies saw, or the one that is connected.

    X-Forwarded-For grows from left to right, and everybody can begin it. Only the last entries, as many as there are
    trusted proxies, were written by these. A whole /64 counts as one address: that is what a single household of IPv6
    is given.
    """
    if trusted_proxies > 0:
        entries = forwarded.rsplit(",", trusted_proxies)[-trusted_proxies:]
        if len(entries) == trusted_proxies:
            named = _canonical(_without_port(entries[0].strip()[:_LONGEST_ENTRY]))
            if named is not None:
                return named
    return _canonical(peer or "") or peer or "unknown"


@lru_cache(maxsize=1024)
def _canonical(address: str) -> str | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def seconds_told(told: str) -> float | None:
    told = told.strip()
    return int(told) / 1000 if told.isascii() and told.isdecimal() and len(told) <= 9 else None


def waited_since(told: str, now: float) -> float | None:
    """Seconds since a time of day in seconds, milli- or microseconds since the epoch, perhaps after "t="."""
    digits = told.strip().removeprefix("t=")
    if not digits.isascii() or not digits.replace(".", "", 1).isdigit() or len(digits) > 20:
        return None
    start = float(digits)
    while start > 1e11:
        start /= 1000.0
    waited = now - start
    # Two hosts' clocks differ a little: what seems to come from the near future has just come.
    return max(0.0, waited) if -_LONGEST_WAIT < waited < _LONGEST_WAIT else None
