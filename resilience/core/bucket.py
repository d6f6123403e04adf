"""The token bucket: so many a second, and so many at once.

A bucket holds at most `burst` tokens, gains `rate` a second, and a call takes what it costs. Written down like that,
its state is a level and the time of that level, and each step rounds both. Here the state is one number that no
passing of time ever touches.

Imagine a counter that nobody reads, the *line*: it stands at `now * rate` and only grows. Everything taken is added
up in another number, `v`. The bucket's level is how far `v` lags behind the line, and no more than the burst:

    level(now) = min(burst, now * rate - v)

                  full: v may not fall further behind         empty: v has caught up
                               |<----------- burst ----------->|
      ------------------------[floor]----------v------------[line]------------------->  tokens
                                               |<-- level ---->|

Taking is one addition and one comparison: `v' = max(v, floor) + cost`, granted if `v'` does not pass the line (or
stays `keep` tokens short of it, for calls that may not touch the last of the burst). A refusal writes nothing. That
is all of the generic cell rate algorithm (ITU-T I.371, 1993), in units of tokens instead of seconds, and it is why
the laws hold:

- Between two grants no rounding is added, however many refusals and however much time lie in between: nothing
  accumulates.
- `v` only grows, so a clock that stands still or steps back sees a lower line and a lower level: it mints nothing.
- What is in the bucket was not taken: in any stretch of w seconds `v` grows by at most burst + rate * w.

Precision. The line is the correctly rounded value of `now * amount / per`, whatever the rate. Sums are exact: where a
cost does not fit behind the last bit of `v`, as a cost of 0.1 or a count of 2**53 does not, what was rounded off is
kept beside it, and the state is a pair. What remains is the rounding of the line, once when the bucket was last full
and once now: together one unit in the last place of `now * rate` (or of `burst`, where that is larger). The common
state stays one float, so a hundred thousand buckets are a dict of floats.

*Giving back.* Tokens may come back later, when others have been taken since and the bucket may have been full in
between. Whoever took them remembers the *mark*, the value of `v` right after. If the bucket has filled up past the
mark, the tokens would have been there anyhow and nothing is owed; so at most `mark - floor` comes back. That is exact
when nothing was taken in between, and never too much otherwise: each time the bucket was full, at a floor f, whoever
had not taken c would have gained at most max(0, v - f) >= max(0, mark - f) by it, and floors only rise. Tokens that
others gave back meanwhile lower the mark by as much; `Ledger` counts them.
"""

from __future__ import annotations

from math import gcd, inf, nextafter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    State: TypeAlias = float | tuple[float, float]

__all__ = ["FULL", "Bucket", "Sums", "beyond", "gap", "plus"]

FULL = -inf
"""The state of a bucket that nobody has taken from."""


def plus(state: State, amount: float) -> State:
    """The exact sum, as one float where that holds it, else as a float and what it leaves out."""
    if isinstance(state, tuple):
        high, low = state
        total = high + amount
    else:
        high, low = state, 0.0
        total = high + amount
        # One of the two differences is computed without rounding, whichever number is the smaller.
        if total - high == amount and total - amount == high:
            return total
    # Knuth's two-sum: what `total` leaves out, without knowing which number is the larger.
    added = total - high
    low += (high - (total - added)) + (amount - added)
    high = total + low
    low -= high - total
    return (high, low) if low else high


def gap(state: State, line: float) -> float:
    """How far a state lies above a line."""
    if isinstance(state, tuple):
        high, low = state
        return (high - line) + low
    return state - line


def beyond(state: State, line: float) -> bool:
    """Whether a state has passed a line."""
    if isinstance(state, tuple):
        high, low = state
        return high > line or (high == line and low > 0.0)
    return state > line


class Sums:
    """Running sums, one per rate. They are exact, so what was added and taken away again leaves nothing."""

    __slots__ = ("_sums",)

    def __init__(self, rates: int) -> None:
        self._sums: list[State] = [0.0] * rates

    def add(self, amounts: Sequence[float], sign: float = 1.0) -> None:
        """Add an amount to each sum; with a sign of -1.0, take it away."""
        self._sums = [plus(total, sign * amount) for total, amount in zip(self._sums, amounts, strict=True)]

    def shift(self, amount: float) -> bool:
        """Add to the first sum where one float holds what comes out; else do nothing and return False."""
        total = self._sums[0]
        if isinstance(total, tuple):
            return False
        after = total + amount
        if after - total != amount or after - amount != total:
            return False
        self._sums[0] = after
        return True

    def sole(self) -> float | None:
        """The first sum, where one float holds it."""
        total = self._sums[0]
        return None if isinstance(total, tuple) else total

    def put(self, total: float) -> None:
        """Set the first sum to what came out of it elsewhere."""
        self._sums[0] = total

    def values(self) -> list[float]:
        """The sums, each rounded once."""
        return [gap(total, 0.0) for total in self._sums]


class Bucket:
    """One rate, without the state: that goes in and comes out. Immutable, so it may be shared.

    Args:
        amount: tokens gained every `per` seconds.
        per: seconds.
        burst: tokens held at most.

    Attributes:
        rate: tokens a second, rounded; for estimates.
        times, over: the line is `now * times / over`, of which one is 1.0; `times` is 0.0 where no such pair is exact.
    """

    __slots__ = ("_down", "_up", "burst", "over", "rate", "times")

    def __init__(self, amount: float, per: float, burst: float) -> None:
        amount_up, amount_down = amount.as_integer_ratio()
        per_up, per_down = per.as_integer_ratio()
        up, down = amount_up * per_down, amount_down * per_up
        common = gcd(up, down)
        self._up, self._down = up // common, down // common
        self.burst = float(burst)
        self.rate = self._up / self._down
        period = self._down / self._up
        self.times, self.over = 0.0, 1.0
        if self.rate.as_integer_ratio() == (self._up, self._down):
            self.times = self.rate
        elif period.as_integer_ratio() == (self._down, self._up):
            self.times, self.over = 1.0, period

    def at(self, now: float) -> float:
        """The line: `now * amount / per`, rounded once."""
        if self.times:
            return now * self.times / self.over
        up, down = now.as_integer_ratio()
        return up * self._up / (down * self._down)

    def floor(self, line: float) -> State:
        """The state of a full bucket when the line stands there."""
        floor = line - self.burst
        if line >= self.burst:
            return floor if line - floor == self.burst else plus(line, -self.burst)
        # Early in the life of a clock, the last place of the burst is the finest that one float can hold. Rounded down,
        # the last token of a full bucket is there.
        return floor if floor + self.burst <= line else nextafter(floor, -inf)

    def _raised(self, state: State, line: float) -> State:
        floor = self.floor(line)
        if isinstance(floor, tuple):
            return state if gap(state, floor[0]) > floor[1] else floor
        return state if beyond(state, floor) else floor

    def level(self, state: State, now: float) -> float:
        """Tokens in the bucket; below 0 when it is in debt."""
        return min(self.burst, -gap(state, self.at(now)))

    def take(self, state: State, cost: float, now: float, keep: float = 0.0, ahead: float = 0.0) -> State | None:
        """The state after taking `cost`, or None when that is refused.

        Args:
            state: the state before.
            cost: tokens to take.
            now: the present reading, in seconds.
            keep: tokens that must remain in the bucket.
            ahead: tokens in the bucket that are spoken for.
        """
        line = now * self.times / self.over if self.times else self.at(now)
        if not (keep or ahead or isinstance(state, tuple)):
            # What follows below, for the common case in which each sum is one float.
            floor = line - self.burst
            if line >= self.burst and line - floor == self.burst:
                full = state <= floor
                start = floor if full else state
                total = start + cost
                if total - cost == start and total - start == cost:
                    return total if total <= line or (full and cost <= self.burst) else None
        base = self._raised(state, line)
        taken = plus(base, cost)
        if base is not state and not ahead:
            # A full bucket is full, wherever the line was rounded to.
            return taken if cost + keep <= self.burst else None
        reach = plus(plus(taken, ahead), keep) if ahead or keep else taken
        return None if beyond(reach, line) else taken

    def wait(self, state: State, cost: float, now: float, keep: float = 0.0, ahead: float = 0.0) -> float:
        """Seconds until `take` would grant, if nobody takes but those ahead; 0.0 when it would now.

        `now + wait` is late enough also where that sum is rounded down, as it is by a tenth of a microsecond when `now`
        is 1e9. Infinite when the bucket is full and yet too much of it is spoken for: then it is not time that has to
        pass.
        """
        if self.take(state, cost, now, keep, ahead) is not None:
            return 0.0
        line = self.at(now)
        base = self._raised(state, line)
        if base is not state:
            return inf
        goal = plus(base, cost)
        if ahead or keep:
            goal = plus(plus(goal, ahead), keep)
        when = self.reached_at(goal, now, line)
        delay = when - now
        while now + delay < when:
            delay = nextafter(delay, inf)
        return delay

    def reached_at(self, goal: State, now: float, line: float) -> float:
        """The earliest reading, or one a last place later, at which the line has come from `line` as far as `goal`."""
        when = now + gap(goal, line) / self.rate
        while when < inf and beyond(goal, self.at(when)):
            when = nextafter(when, inf)
        return when

    def when(self, state: State, cost: float, keep: float = 0.0) -> float:
        """The reading, rounded, at which a bucket that was not full gets enough for `cost`; -inf for one that was."""
        return (gap(state, 0.0) + cost + keep) / self.rate

    def charge(self, state: State, cost: float, now: float) -> State:
        """The state after `cost` was taken at `now`, also into debt."""
        return plus(self._raised(state, self.at(now)), cost)

    def owing(self, mark: State, now: float) -> float:
        """The most that can come back to whoever left the state at `mark`."""
        return max(0.0, gap(plus(plus(mark, self.burst), -self.at(now)), 0.0))

    def is_full(self, state: State, now: float) -> bool:
        """Whether the bucket has filled up, so that its state can be forgotten."""
        return self._raised(state, self.at(now)) is not state

    def full_at(self, state: State) -> float:
        """The reading, rounded, at which the bucket will be full."""
        return self.when(state, self.burst)
