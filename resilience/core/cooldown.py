"""How long to stay away.

A cooldown is as good a use of a backoff as a retry is: the first opening may be a hiccup, the fifth in a row is an
outage, and a trial every thirty seconds for an hour is of no use to anybody. The number of the opening since the last
close takes the place of the number of the retry, and `u` is drawn once per opening, so that many clients of one service
do not all send their trials in the same moment.

A server that says when it will be back is believed, up to `LONGEST_HINT`. Beyond that a header with a slip in it could
keep a circuit open for a year, while one trial an hour harms nobody.

A backoff, and what `u` is drawn from, may be anybody's code, which nobody should run while holding a lock. So a
cooldown that grows begins without an end, says in `unmeasured` what its length depends on, and is told it afterwards.
"""

from __future__ import annotations

from math import inf, nextafter

from resilience._checks import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.backoff import Backoff

__all__ = ["LONGEST_HINT", "Cooldown", "first", "measure", "until"]

LONGEST_HINT = 3600.0
"""Seconds: a hint never keeps a circuit open for longer than this."""

_LARGEST_CHANCE = nextafter(1.0, 0.0)


def measure(backoff: Backoff, opening: int, previous: float, u: float) -> float:
    """Seconds of the cooldown after opening number `opening` since the last close.

    Raises:
        TypeError, ValueError: the backoff did not answer a number of seconds.
    """
    seconds = backoff(opening, previous, u)
    rule = "must answer a number of seconds, 0 or more"
    if not is_number(seconds):
        raise TypeError(f"the backoff {backoff!r} {rule}, got {seconds!r}")
    if not 0.0 <= seconds < inf:
        raise ValueError(f"the backoff {backoff!r} {rule}, got {seconds!r}")
    return float(seconds)


def first(backoff: Backoff) -> float:
    """The longest that the first cooldown may be, in seconds.

    Raises:
        TypeError, ValueError: the backoff did not answer a number of seconds.
    """
    return measure(backoff, 1, 0.0, _LARGEST_CHANCE)


def until(moment: float, now: float) -> float:
    """Seconds from one reading of the clock to a later one, enough to the last bit."""
    wait = moment - now
    while now + wait < moment:
        wait = nextafter(wait, inf)
    return wait


class Cooldown:
    """The cooldowns of one circuit, one after the other.

    Args:
        longest: seconds of each, or at most of the first where they grow.
        grows: whether each has to be told its length by `rest`.

    Attributes:
        ends: the reading of the clock at which the present one is over; infinite while it is unmeasured, 0.0
            before the first.
        rest: seconds of the present one, hints excluded; 0.0 before it is known.
        unmeasured: (number of the opening since the last close, cooldown before) while the length of the present one is
            yet to be told; else None.
    """

    __slots__ = ("_began", "_grows", "_hint", "_longest", "_openings", "ends", "rest", "unmeasured")

    _began: float
    _hint: float

    def __init__(self, longest: float, grows: bool) -> None:
        self._longest = longest
        self._grows = grows
        self._openings = 0
        self.ends: float = 0.0
        self.rest: float = 0.0 if grows else longest
        self.unmeasured: tuple[int, float] | None = None

    def begin(self, now: float, hint: float) -> None:
        """The circuit opens, for `hint` seconds at least."""
        hint = min(hint, LONGEST_HINT)
        self._began, self._hint = now, hint
        if self._grows:
            self._openings += 1
            self.ends, self.unmeasured = inf, (self._openings, self.rest)
        else:
            self.ends = now + max(self.rest, hint)

    def again(self, now: float) -> None:
        """The circuit is to stay open for the present cooldown anew; no hint has asked for that."""
        self._began, self._hint = now, 0.0
        if self.unmeasured is None:
            self.ends = now + self.rest

    def tell(self, opening: tuple[int, float], seconds: float) -> None:
        """Say how long the cooldown is for which `unmeasured` gave `opening`. Does nothing when that has been said."""
        if self.unmeasured == opening:
            self.rest, self.ends, self.unmeasured = seconds, self._began + max(seconds, self._hint), None

    def restart(self) -> None:
        """The circuit closes: growth begins anew."""
        self._openings, self.unmeasured = 0, None
        if self._grows:
            self.rest = 0.0

    @property
    def patience(self) -> float:
        """Seconds that a trial may take where nothing else was said: as long as the present cooldown without its hint,
        and not less than the first, which chance may have made very short.
        """
        return max(self._longest, self.rest)
