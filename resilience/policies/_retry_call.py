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

import sys
import warnings

from resilience._attempt import retry_around
from resilience._notes import leave_note
from resilience._runtime import blocks_a_loop
from resilience._scope import Bound, current, refuse_if_late
from resilience.core.retry import RetryRun
from resilience.errors import BlockingWarning, DeadlineExceeded, ResultNotAccepted
from resilience.events import AttemptFailed, CallSucceeded, RetryGaveUp, RetryScheduled, build
from resilience.matching import hint_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

    from resilience.policies.retry import Retry

__all__ = ["RetryCall"]


class RetryCall(RetryRun, Bound):
    """The attempts of one call: a context manager around them, asked after each how to go on. Used by one task.

    Attributes:
        delay: seconds that are due before the next attempt.
    """

    __slots__ = ("_cut", "_cuts", "_drawn", "_token", "clock", "delay", "depth", "parent", "policy")

    def __init__(self, policy: Retry, cuts: bool) -> None:
        plan = policy._plan
        RetryRun.__init__(self, plan, policy._clock.now() if policy._reads_clock else 0.0)
        self.policy = policy
        self.clock = policy._clock
        self.parent = parent = current.get()
        outer = None if parent is None else retry_around(parent)
        self.depth = 0 if outer is None else outer.depth + 1
        self.delay = 0.0
        self._cuts = cuts and plan.within is not None
        self._cut = None
        self._drawn: float | None = None

    def __enter__(self) -> Self:
        if self.parent is not None and self.plan.within is not None:
            refuse_if_late()
        self.open(self._cuts)
        return self

    def late(self) -> DeadlineExceeded:
        """The error that says that `within` has passed."""
        return DeadlineExceeded(self.policy.name, self.plan.within or 0.0)

    # --- after an attempt ---------------------------------------------------------------------------------------------

    def failed(self, error: Exception) -> bool:
        """Whether to try again after an error; if so, `delay` is what to wait."""
        matched = self.policy._matcher.error(error)
        if matched is None:
            if self.attempt > 1:
                self._gave_up("unmatched", error)
            return False
        asked = hint_of(error)
        hint = asked if asked > matched else matched  # noqa: FURB136 - max() takes five times as long
        return self._goes_on(hint, error, None)

    def returned(self, result: object) -> bool:
        """Whether a result is final.

        Raises:
            ResultNotAccepted: it is not accepted, nothing is left to try, and the policy does not return such results.
        """
        policy = self.policy
        hint = None if policy._matcher.on_result is None else policy._matcher.result(result)
        if hint is None:
            if policy._tell is not None:
                policy._tell(build(CallSucceeded, (policy.name, "retry", self.clock.now(), self.attempt)))
            return True
        if self._goes_on(hint, None, result):
            return False
        if policy._returns_last:
            return True
        raise ResultNotAccepted(policy.name, result, self.attempt, self.clock.now() - self.started)

    def _goes_on(self, hint: float, error: Exception | None, result: object) -> bool:
        policy, now = self.policy, self.clock.now
        tell = policy._tell
        if tell is not None:
            tell(build(AttemptFailed, (policy.name, "retry", now(), self.attempt, self.depth, error, result)))
        u = self._drawn
        if u is None:
            u = policy._rng()
        else:
            self._drawn = None
        left = None if self.parent is None and self._cut is None else self._left_outside()
        delay = self.next_delay(now(), u, hint, left)
        if delay is None:
            if error is not None and self.attempt > 1:
                tried = f"{self.attempt} attempts and {self.waited:.3g} s of waiting, ended by {self.ended_by}"
                leave_note(error, "resilience: gave up after ", tried)
            self._gave_up(self.ended_by, error)
            return False
        self.delay = delay
        if tell is not None:
            tell(build(RetryScheduled, (policy.name, "retry", now(), self.attempt, self.depth, delay)))
        return True

    def _gave_up(self, reason: str | None, error: Exception | None) -> None:
        policy, tell = self.policy, self.policy._tell
        if tell is not None:
            told = (policy.name, "retry", self.clock.now(), self.attempt, self.depth, self.waited, reason, error)
            tell(build(RetryGaveUp, told))

    def forecast(self) -> float | None:
        """What will be waited if the running attempt fails without a hint; None if it is the last. It comes true."""
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
            delay, self.delay = self.delay, 0.0
            if not self.policy._warned and blocks_a_loop():
                self.policy._warned = True
                warnings.warn(
                    f"{self.policy.name} sleeps on a thread that runs an event loop: decorate an async def instead",
                    BlockingWarning,
                    stacklevel=_frames_of_ours() + 1,
                )
            self.clock.sleep(delay)

    async def pause_async(self) -> None:
        """Wait in the running event loop for what is due, if anything is."""
        if self.delay > 0.0:
            delay, self.delay = self.delay, 0.0
            await self.clock.sleep_async(delay)


def _frames_of_ours() -> int:
    """How many frames of this package are on top of whoever used it, the caller's included."""
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("resilience."):
        frame = frame.f_back
        count += 1
    return count
