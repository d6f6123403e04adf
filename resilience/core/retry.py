"""When to try again, and when to stop.

A retry is a bet: that the next attempt is likelier to succeed than this one was, and that waiting for it is worth more to the caller
than hearing the truth now. Every rule here calls the bet off as early as it can be known to be lost. An attempt that could only start
at the deadline is not worth a sleep, so the decision is made *before* the sleep; a server that says "come back in an hour" is believed
at once; and the error that is then raised is the real one, not a story about retries.

    attempts   calls in all, the first included
    within     seconds for the whole, sleeps included, counted from the first attempt
    hint       what the other side asked for: "not sooner than this". It can lengthen a delay, never shorten it
    previous   the last *computed* delay. Hints are left out of it, so that one long hint does not stretch a decorrelated backoff

`RetryPlan` is the configuration, shared by all calls. `RetryRun` is one call: a few numbers, no error object, so nothing here can keep
a traceback alive.
"""

from __future__ import annotations

from resilience.core.deadline import fits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.backoff import Backoff

__all__ = ["RetryPlan", "RetryRun"]


class RetryPlan:
    """The immutable numbers of a retry policy; safe to share.

    Args:
        attempts: calls in all, the first included; `math.inf` for no bound.
        within: seconds for all attempts and sleeps together, or None.
        backoff: the delay before each retry.
        max_retry_after: a hint above this many seconds ends the run at once.
    """

    __slots__ = ("attempts", "backoff", "max_retry_after", "within")

    def __init__(self, attempts: float, within: float | None, backoff: Backoff, max_retry_after: float) -> None:
        self.attempts = attempts
        self.within = within
        self.backoff = backoff
        self.max_retry_after = max_retry_after


class RetryRun:
    """One call under a `RetryPlan`. Belongs to that call alone.

    Attributes:
        attempt: the number of the attempt that is running or has just failed, from 1.
        started: the reading of the clock at the first attempt, or None where nobody has asked for it yet.
        previous: the last computed delay in seconds, hints excluded; 0.0 before the first.
        waited: seconds of delay handed out so far.
        ended_by: the bound that ended the run: "attempts", "within", "deadline" or "max_retry_after"; None while it runs.
    """

    __slots__ = ("attempt", "ended_by", "plan", "previous", "started", "waited")

    def __init__(self, plan: RetryPlan, started: float | None = None) -> None:
        self.plan = plan
        self.attempt = 1
        self.started = started
        self.previous = 0.0
        self.waited = 0.0
        self.ended_by: str | None = None

    def next_delay(self, now: float, u: float, hint: float = 0.0, left: float | None = None) -> float | None:
        """Decide after a failed attempt: seconds to wait before the next one, or None to stop.

        Args:
            now: the present reading of the clock; looked at only where `within` is set.
            u: a random number in [0, 1) for the jitter.
            hint: seconds that the other side asked to wait; 0.0 for none.
            left: seconds left until the caller's own deadline, or None.
        """
        plan = self.plan
        if self.attempt >= plan.attempts:
            return self._end("attempts")
        if hint > plan.max_retry_after:
            return self._end("max_retry_after")
        computed = plan.backoff(self.attempt, self.previous, u)
        delay = hint if hint > computed else computed
        if plan.within is not None and self.started is not None:
            over = self.started + plan.within
            if now + delay >= over:
                return self._end("within")
        if not fits(delay, left):
            return self._end("deadline")
        self.attempt += 1
        self.previous = computed
        self.waited += delay
        return delay

    def _end(self, bound: str) -> None:
        self.ended_by = bound
