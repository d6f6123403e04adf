"""When to try again, and when to stop.

A retry is a bet: that the next attempt is likelier to succeed than this one was, and that waiting for it is worth more
to the caller than hearing the truth now. Every rule here calls the bet off as early as it can be known to be lost. An
attempt that could only start at the deadline is not worth a sleep, so the decision is made *before* the sleep; a server
that says "come back in an hour" is believed at once; and the error that is then raised is the real one, not a story
about retries.

    attempts   calls in all, the first included
    within     seconds for the whole, sleeps included, counted from the first attempt
    hint       what the other side asked for: "not sooner than this". It can lengthen a delay, never shorten it
    previous   the last *computed* delay. Hints are left out of it, so that one long hint does not stretch a
               decorrelated backoff
    pay        a token for the next attempt, out of a budget that all calls share; asked for last

`RetryPlan` is the configuration, shared by all calls. `RetryRun` is one call: a few numbers, no error object, so
nothing here can keep a traceback alive.
"""

from __future__ import annotations

from math import inf

from resilience._checks import is_number
from resilience.core.backoff import Constant, Exponential, Fibonacci, Linear, Schedule
from resilience.core.deadline import ends_at, fits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.core.backoff import Backoff

__all__ = ["RetryPlan", "RetryRun"]

_PURE = (Constant, Exponential, Fibonacci, Linear, Schedule)
_MOST_KNOWN = 16


class RetryPlan:
    """The immutable numbers of a retry policy; safe to share.

    Args:
        attempts: calls in all, the first included; `math.inf` for no bound.
        within: seconds for all attempts and sleeps together, or None.
        backoff: the delay before each retry.
        max_retry_after: a hint above this many seconds ends the run at once.

    Attributes:
        known: the delays before jitter that were computed beforehand, by the number of the attempt that failed; where
            none was, or jitter is more than a factor, the backoff is asked.
        jittered: whether the chance has any influence on the delay.
    """

    __slots__ = ("attempts", "backoff", "jittered", "known", "max_retry_after", "within")

    def __init__(self, attempts: float, within: float | None, backoff: Backoff, max_retry_after: float) -> None:
        self.attempts = attempts
        self.within = within
        self.backoff = backoff
        self.max_retry_after = max_retry_after
        self.known = _known(backoff, attempts)
        self.jittered = not (isinstance(backoff, _PURE) and backoff.jitter == "none")


class RetryRun:
    """One call under a `RetryPlan`. Belongs to that call alone.

    Args:
        plan: the numbers to keep to.
        now: the reading of the clock at the first attempt. It matters only where the plan has `within`.

    Attributes:
        attempt: the number of the attempt that is running or has just failed, from 1.
        started: the reading of the clock at the first attempt.
        limit: the reading of the clock at which `within` ends; `math.inf` without it.
        latest: the latest reading of the clock; an earlier one that comes after it buys no time.
        previous: the last computed delay in seconds, hints excluded; 0.0 before the first.
        waited: seconds of delay handed out so far.
        ended_by: the bound that ended the run: "attempts", "within", "deadline", "max_retry_after" or "budget"; None
            while it runs.
    """

    __slots__ = ("attempt", "ended_by", "latest", "limit", "plan", "previous", "started", "waited")

    def __init__(self, plan: RetryPlan, now: float = 0.0) -> None:
        self.plan = plan
        self.started = self.latest = now
        self.limit = ends_at(now, plan.within)
        self.attempt = 1
        self.previous: float = 0.0
        self.waited: float = 0.0
        self.ended_by: str | None = None

    def next_delay(
        self,
        now: float,
        u: float,
        hint: float = 0.0,
        left: float | None = None,
        pay: Callable[[], bool] | None = None,
    ) -> float | None:
        """Decide after a failed attempt: seconds to wait before the next one, or None to stop.

        Args:
            now: the present reading of the clock.
            u: a random number in [0, 1) for the jitter.
            hint: seconds that the other side asked to wait; 0.0 for none.
            left: seconds left until the caller's own deadline, or None.
            pay: takes a token for the next attempt from a budget, or answers that there is none. It is asked last, so
                that every token buys an attempt.

        Raises:
            TypeError, ValueError: the backoff did not answer a number of seconds.
        """
        plan = self.plan
        if self.attempt >= plan.attempts:
            self.ended_by = "attempts"
        elif hint > plan.max_retry_after:
            self.ended_by = "max_retry_after"
        else:
            computed = plan.backoff(self.attempt, self.previous, u)
            try:
                sane = 0.0 <= computed < inf
            except TypeError:
                sane = False
            if not sane:
                raise _no_delay(plan.backoff, computed)
            delay = computed
            if hint > delay:
                delay = hint
            if now > self.latest:
                self.latest = now
            if self.latest + delay >= self.limit:
                self.ended_by = "within"
            elif left is not None and not fits(delay, left):
                self.ended_by = "deadline"
            elif pay is not None and not pay():
                self.ended_by = "budget"
            else:
                self.attempt += 1
                self.previous = computed
                self.waited += delay
                return delay
        return None

    def still_fits(self, now: float, delay: float, left: float | None = None) -> bool:
        """Decide again about a delay that `next_delay` answered, where time has passed since; False ends the run."""
        if now > self.latest:
            self.latest = now
        if self.latest + delay >= self.limit:
            self.ended_by = "within"
        elif left is not None and not fits(delay, left):
            self.ended_by = "deadline"
        else:
            return True
        return False

    def expected_delay(self, now: float, u: float, left: float | None = None) -> float | None:
        """What `next_delay` would answer if the attempt failed now and nobody asked for more. Decides nothing."""
        before = self.attempt, self.previous, self.waited, self.ended_by
        delay = self.next_delay(now, u, 0.0, left)
        self.attempt, self.previous, self.waited, self.ended_by = before
        return delay


def _known(backoff: Backoff, attempts: float) -> tuple[float, ...]:
    """The first delays of a backoff that depends on nothing but the number, and whose jitter is none or a factor."""
    if not isinstance(backoff, _PURE) or backoff.jitter not in ("none", "full"):
        return ()
    return (0.0, *map(backoff.delay, range(1, int(min(attempts, _MOST_KNOWN)))))


def _no_delay(backoff: object, computed: object) -> Exception:
    kind = ValueError if is_number(computed) else TypeError
    return kind(f"the backoff {backoff!r} must answer a number of seconds, 0 or more, got {computed!r}")
