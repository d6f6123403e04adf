"""One call under a retry policy.

Everything that belongs to a single call lives here and dies with it: two concurrent calls of one decorated function
share the policy's configuration and nothing else. It is a run of the plan, which decides, and it stands in the chain of
bounds, so that what it calls knows how much time is left and which attempt it is. The object never keeps an error:
whoever raised it keeps it, and when the last attempt fails the driver re-raises it from where it was caught, the same
object with its own traceback.

A retry has no state that calls share, so its events have no order among calls that a queue would have to keep: each
call tells its own, in order, on its own thread.
"""

from __future__ import annotations

from math import inf

from resilience._attempt import depth_inside
from resilience._hub import report
from resilience._notes import leave_note
from resilience._scope import Bound, current, refuse_if_late
from resilience.core.retry import RetryRun
from resilience.errors import DeadlineExceeded, ResultNotAccepted
from resilience.events import AttemptFailed, CallSucceeded, RetryGaveUp, RetryScheduled, build
from resilience.matching import hint_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from resilience.policies.retry import Retry

__all__ = ["RetryCall"]


class RetryCall(RetryRun, Bound):
    """The attempts of one call: a context manager around them, asked after each how to go on. Used by one task.

    Attributes:
        delay: seconds that are due before the next attempt.
    """

    __slots__ = ("_cut", "_cuts", "_drawn", "_token", "clock", "delay", "depth", "parent", "policy")

    def __init__(self, policy: Retry, cuts: bool) -> None:
        self._begin(policy, cuts)

    def _begin(self, policy: Retry, cuts: bool) -> None:
        # This is `RetryRun.__init__` too, written out: every call begins with it.
        self.plan = plan = policy._plan
        self.policy = policy
        self.clock = clock = policy._clock
        self.attempt = 1
        self.previous = self.waited = self.delay = 0.0
        self.ended_by = self._cut = None
        self._drawn: float | None = None
        self.parent = parent = current.get()
        self.depth = 0 if parent is None else depth_inside(parent)
        self.started = self.latest = now = clock.now() if policy._reads_clock else 0.0
        within = plan.within
        if within is None:
            self.limit = inf
            self._cuts = False
        else:
            self.limit = now + within
            self._cuts = cuts

    def __enter__(self) -> None:
        parent = self.parent = current.get()
        if parent is not None and self.plan.within is not None:
            refuse_if_late()
        if self._cuts:
            self.open(True)
        else:
            self._token = current.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._cut is not None:
            return Bound.__exit__(self, kind, error, trace)
        try:
            current.reset(self._token)
        except ValueError:
            return None  # as in `Bound.leave`
        return None

    def late(self) -> DeadlineExceeded:
        """The error that says that `within` has passed."""
        return DeadlineExceeded(self.policy.name, self.plan.within or 0.0)

    # --- after an attempt ---------------------------------------------------------------------------------------------

    def failed(self, error: Exception) -> bool:
        """Whether to try again after an error; if so, `delay` is what to wait."""
        matcher = self.policy._matcher
        matched = 0.0 if type(error) in matcher.sure else matcher.error(error)
        if matched is None:
            if self.attempt > 1:
                self._gave_up("unmatched", error)
            return False
        asked = hint_of(error)
        if matched > asked:
            asked = matched
        return self._goes_on(asked, error, None)

    def returned(self, result: object) -> bool:
        """Whether a result is final.

        Raises:
            ResultNotAccepted: it is not accepted, nothing is left to try, and the policy does not return such results.
        """
        policy = self.policy
        hint = None if policy._matcher.on_result is None else policy._matcher.result(result)
        if hint is None:
            if policy._budget is not None and policy._budget._bucket.short:
                policy._budget.deposit()
            tell = policy._tell
            if tell is not None:
                try:
                    tell(build(CallSucceeded, (policy._name or "retry", "retry", self.clock.now(), self.attempt)))
                except Exception as fault:
                    report(tell, fault)
            return True
        if self._goes_on(hint, None, result):
            return False
        if policy._returns_last:
            return True
        raise ResultNotAccepted(policy.name, result, self.attempt, self.clock.now() - self.started)

    def _goes_on(self, hint: float, error: Exception | None, result: object) -> bool:
        policy, plan, attempt = self.policy, self.plan, self.attempt
        tell, read = policy._tell, self.clock.now
        if tell is not None:
            told = (policy._name or "retry", "retry", read(), attempt, self.depth, error, result)
            try:
                tell(build(AttemptFailed, told))
            except Exception as fault:
                report(tell, fault)
        u, self._drawn = self._drawn, None
        if u is None:
            u = policy._rng() if plan.jittered and attempt < plan.attempts else 0.0
        # Whoever was told may have taken their time, so the clock is read again.
        now = read()
        delay = self._listed(u, now) if hint == 0.0 else None
        if delay is None:
            left = None if self.parent is None and self._cut is None else self._left_outside()
            delay = self.next_delay(now, u, hint, left, policy._pay)
            if delay is None:
                self._ended(error)
                return False
        self.delay = delay
        tell = policy._tell
        if tell is not None:
            coming = (policy._name or "retry", "retry", now, self.attempt, self.depth, delay)
            try:
                tell(build(RetryScheduled, coming))
            except Exception as fault:
                report(tell, fault)
        return True

    def _listed(self, u: float, now: float) -> float | None:
        """Go on with a delay that is known, where nobody else has a say; None leaves it all to `next_delay`."""
        plan, attempt, budget = self.plan, self.attempt, self.policy._budget
        if attempt >= len(plan.known) or self.parent is not None or self._cut is not None:
            return None
        delay = u * plan.known[attempt] if plan.jittered else plan.known[attempt]
        if not (now >= self.latest and 0.0 <= delay < inf and now + delay < self.limit):
            return None
        # An empty budget is asked once more by the long way, which says that it was.
        if budget is not None and not budget._take():
            return None
        self.latest = now
        self.attempt = attempt + 1
        self.previous = delay
        self.waited += delay
        return delay

    def _ended(self, error: Exception | None) -> None:
        if error is not None and self.attempt > 1:
            tried = f"{self.attempt} attempts and {self.waited:.3g} s of waiting, ended by {self.ended_by}"
            leave_note(error, "resilience: gave up after ", tried)
        self._gave_up(self.ended_by, error)

    def _gave_up(self, reason: str | None, error: Exception | None) -> None:
        policy, tell = self.policy, self.policy._tell
        if tell is not None:
            told = (policy.name, "retry", self.clock.now(), self.attempt, self.depth, self.waited, reason, error)
            try:
                tell(build(RetryGaveUp, told))
            except Exception as fault:
                report(tell, fault)

    def forecast(self) -> float | None:
        """What will be waited if the running attempt fails without a hint; None if it is the last. It comes true."""
        if self.attempt >= self.plan.attempts:
            return None
        if self._drawn is None:
            self._drawn = self.policy._rng()
        return self.expected_delay(self.clock.now(), self._drawn, self._left_outside())

    def _left_outside(self) -> float | None:
        """Seconds left by the bounds around this call, and none once it has begun to cut its own attempt."""
        if self._cut is not None:
            return self.left()
        return None if self.parent is None else self.parent.left()

    # --- before the next ----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Wait for what is due, if anything is."""
        if self.delay > 0.0:
            self.policy._pause(self.delay)

    async def pause_async(self) -> None:
        """Wait in the running event loop for what is due, if anything is."""
        if self.delay > 0.0:
            await self.policy._pause_async(self.delay)
