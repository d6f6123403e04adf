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
from resilience.core.deadline import fits
from resilience.core.retry import RetryRun
from resilience.errors import DeadlineExceeded, ResultNotAccepted
from resilience.events import AttemptFailed, CallSucceeded, RetryGaveUp, RetryScheduled, build
from resilience.matching import _blame, _meaning, hint_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from resilience.policies.retry import Retry

__all__ = ["RetryCall", "begun"]

_new = object.__new__


class RetryCall(RetryRun, Bound):
    """The attempts of one call: a context manager around them, asked after each how to go on. Used by one task.

    Attributes:
        delay: seconds that are due before the next attempt.
    """

    __slots__ = ("_cut", "_cuts", "_drawn", "_token", "clock", "delay", "depth", "parent", "policy")

    _cuts: bool
    _drawn: float | None
    policy: Retry

    def __init__(self, policy: Retry, cuts: bool) -> None:
        begun(policy, cuts=cuts, call=self)

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
        policy, plan, attempt = self.policy, self.plan, self.attempt
        known = plan.known
        # What is plain is in one piece here, for a call of ours costs as much as what it does. It is `_hint` and
        # `_goes_on` of a named error that asks for nothing, where the delay is known.
        if attempt >= len(known) or self._drawn is not None or type(error) not in policy._matcher.sure:
            return self._failed(error)
        try:
            asks = getattr(error, "retry_after", None) is not None or getattr(error, "response", None) is not None
        except Exception:
            asks = True
        if asks and hint_of(error):
            return self._failed(error)
        tell, read = policy._tell, self.clock.now
        if tell is not None:
            told = (policy._name or "retry", "retry", read(), attempt, self.depth, error, None)
            try:
                tell(build(AttemptFailed, told))
            except Exception as fault:
                report(tell, fault)
        u, delay = 0.0, known[attempt]
        if plan.jittered:
            u = policy._rng()
            delay *= u
        # Whoever was told may have taken their time, so the clock is read again.
        now = read()
        if not (now >= self.latest and 0.0 <= delay < inf and now + delay < self.limit):
            return self._decided(0.0, error, u, now)
        if (self.parent is not None or self._cut is not None) and not fits(delay, self._left_outside() or 0.0):
            return self._decided(0.0, error, u, now)
        # An empty budget is asked once more by the long way, which says that it was.
        if policy._budget is not None and not policy._budget._take():
            return self._decided(0.0, error, u, now)
        self.latest = now
        self.attempt = attempt = attempt + 1
        self.previous = self.delay = delay
        self.waited += delay
        tell = policy._tell
        if tell is not None:
            coming = (policy._name or "retry", "retry", now, attempt, self.depth, delay)
            try:
                tell(build(RetryScheduled, coming))
            except Exception as fault:
                report(tell, fault)
        return True

    def returned(self, result: object) -> bool:
        """Whether a result is final; if it is a success, the budget has its deposit.

        Raises:
            ResultNotAccepted: it is not accepted, nothing is left to try, and the policy does not return such results.
        """
        policy = self.policy
        on_result, hint = policy._matcher.on_result, None
        if on_result is not None:
            # `Matcher.result`, with the answer that nearly every result gets looked at here.
            try:
                answer: object = on_result(result)
            except Exception as error:
                _blame("on_result", on_result, error)
                raise
            if answer is not False and answer is not None:
                hint = _meaning("on_result", on_result, answer)
        if hint is not None:
            return not self._goes_on(hint, None, result) and self._given_up(result)
        if policy._budget is not None and policy._budget._bucket.short:
            policy._budget.deposit()
        tell = policy._tell
        if tell is not None:
            try:
                tell(build(CallSucceeded, (policy._name or "retry", "retry", self.clock.now(), self.attempt)))
            except Exception as fault:
                report(tell, fault)
        return True

    def _failed(self, error: Exception) -> bool:
        hint = self._hint(error)
        return hint is not None and self._goes_on(hint, error, None)

    def _hint(self, error: Exception) -> float | None:
        """What an error asks to wait; None where it is not to be retried at all."""
        matched = self.policy._matcher.error(error)
        if matched is None:
            if self.attempt > 1:
                self._gave_up("unmatched", error)
            return None
        return max(matched, hint_of(error))

    def _goes_on(self, hint: float, error: Exception | None, result: object) -> bool:
        self._tell_failed(error, result)
        return self._decided(hint, error, self._draw(), self.clock.now())

    def _tell_failed(self, error: Exception | None, result: object) -> None:
        policy, tell = self.policy, self.policy._tell
        if tell is not None:
            told = (policy._name or "retry", "retry", self.clock.now(), self.attempt, self.depth, error, result)
            try:
                tell(build(AttemptFailed, told))
            except Exception as fault:
                report(tell, fault)

    def _draw(self) -> float:
        u, self._drawn = self._drawn, None
        if u is None:
            u = self.policy._rng() if self.plan.jittered and self.attempt < self.plan.attempts else 0.0
        return u

    def _decided(self, hint: float, error: Exception | None, u: float, now: float) -> bool:
        delay = self.next_delay(now, u, hint, self._left_outside(), self.policy._pay)
        if delay is None:
            self._ended(error)
            return False
        self._scheduled(delay, now)
        return True

    def _scheduled(self, delay: float, now: float) -> None:
        policy, tell = self.policy, self.policy._tell
        self.delay = delay
        if tell is not None:
            coming = (policy._name or "retry", "retry", now, self.attempt, self.depth, delay)
            try:
                tell(build(RetryScheduled, coming))
            except Exception as fault:
                report(tell, fault)

    def _succeeded(self) -> None:
        policy, tell = self.policy, self.policy._tell
        if tell is not None:
            try:
                tell(build(CallSucceeded, (policy._name or "retry", "retry", self.clock.now(), self.attempt)))
            except Exception as fault:
                report(tell, fault)

    def _given_up(self, result: object) -> bool:
        policy = self.policy
        if policy._returns_last:
            return True
        raise ResultNotAccepted(policy.name, result, self.attempt, self.clock.now() - self.started)

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


def begun(policy: Retry, *, cuts: bool, call: RetryCall | None = None) -> RetryCall:
    """Begin a call; or begin with one that is made already."""
    # `RetryRun.__init__` is written out, and the type not called, which costs as much as all the rest.
    if call is None:
        call = _new(RetryCall)
    call.plan = plan = policy._plan
    call.policy = policy
    call.clock = clock = policy._clock
    call.attempt = 1
    call.previous = call.waited = call.delay = 0.0
    call.ended_by = call._cut = call._drawn = None
    call.parent = parent = current.get()
    call.depth = 0 if parent is None else depth_inside(parent)
    call.started = call.latest = now = clock.now() if policy._reads_clock else 0.0
    within = plan.within
    if within is None:
        call.limit = inf
        call._cuts = False
    else:
        call.limit = now + within
        call._cuts = cuts
    return call
