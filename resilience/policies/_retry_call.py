"""One call under a retry policy.

Everything that belongs to a single call lives here and dies with it: two concurrent calls of one decorated function share the policy's
configuration and nothing else. The object never keeps an error: whoever raised it keeps it, and when the last attempt fails the driver
re-raises it from where it was caught, the same object with its own traceback.
"""

from __future__ import annotations

import warnings

from resilience._attempt import current_attempt
from resilience._runtime import blocks_a_loop
from resilience._scope import CutScope, Scope, time_left
from resilience.core.retry import RetryRun
from resilience.errors import BlockingWarning, DeadlineExceeded, ResultNotAccepted
from resilience.events import AttemptFailed, CallSucceeded, RetryGaveUp, RetryScheduled
from resilience.matching import hint_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from resilience.policies.retry import Retry

__all__ = ["RetryCall"]

_NOTE = "resilience: gave up after "


class RetryCall:
    """The attempts of one call: a context manager around all of them, asked after each how to go on. Used by one task."""

    __slots__ = ("_depth", "_drawn", "_outer", "_policy", "_run", "_scope", "delay")

    def __init__(self, policy: Retry, scope: Scope | None) -> None:
        self._policy = policy
        self._scope = scope
        self._run = RetryRun(policy._plan)
        self._drawn: float | None = None
        self._depth = 0
        self._outer: tuple[int, int] | None = None
        self.delay = 0.0

    @property
    def number(self) -> int:
        """The number of the attempt that is running or comes next, from 1."""
        return self._run.attempt

    # --- around all attempts --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._outer = outer = current_attempt.get()
        if outer is not None:
            self._depth = outer[1] + 1
        if self._scope is not None:
            self._scope.__enter__()
        try:
            self.start()
            current_attempt.set((self._run.attempt, self._depth))
        except BaseException:
            if self._scope is not None:
                self._scope.__exit__(None, None, None)
            raise
        return self

    def start(self) -> None:
        """Note the time of the first attempt, where anything depends on it."""
        if self._run.started is None and self._policy._reads_clock:
            self._run.started = self._policy._clock.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current_attempt.set(self._outer)
        if self._scope is not None:
            self._scope.__exit__(kind, error, trace)

    # --- between them ---------------------------------------------------------------------------------------------------

    def failed(self, error: Exception) -> bool:
        """Whether to try again after an error; if so, `delay` is what to wait."""
        policy = self._policy
        asked = policy._matcher.error(error)
        if asked is None:
            if self._run.attempt > 1 and policy._channel.heard:
                self._gave_up("unmatched", error)
            return False
        return self._next(max(asked, hint_of(error)), error, None)

    def returned(self, result: object) -> bool:
        """Whether a result is final.

        Raises:
            ResultNotAccepted: it is not accepted, nothing is left to try, and the policy does not return such results.
        """
        policy = self._policy
        asked = policy._matcher.result(result)
        if asked is None:
            if policy._channel.heard:
                policy._send(CallSucceeded, attempts=self._run.attempt)
            return True
        if self._next(asked, None, result):
            return False
        if policy._returns_last:
            return True
        elapsed = policy._clock.now() - (self._run.started or 0.0)
        raise ResultNotAccepted(policy.name, result, self._run.attempt, elapsed)

    def _next(self, hint: float, error: Exception | None, result: object) -> bool:
        policy, run = self._policy, self._run
        heard = policy._channel.heard
        if heard:
            policy._send(AttemptFailed, attempt=run.attempt, depth=self._depth, error=error, result=result)
        now = 0.0 if run.started is None else policy._clock.now()
        u, self._drawn = policy._rng() if self._drawn is None else self._drawn, None
        delay = run.next_delay(now, u, hint, time_left())
        if delay is None:
            if error is not None and run.attempt > 1:
                _note(error, f"{_NOTE}{run.attempt} attempts and {run.waited:.3g} s of waiting, ended by {run.ended_by}")
            if heard:
                self._gave_up(run.ended_by or "", error)
            return False
        self.delay = delay
        if heard:
            policy._send(RetryScheduled, attempt=run.attempt, depth=self._depth, delay=delay)
        return True

    def expected_delay(self) -> float | None:
        """What will be waited if the running attempt fails without a hint; None if it is the last."""
        run = self._run
        if run.attempt >= run.plan.attempts:
            return None
        if self._drawn is None:
            self._drawn = self._policy._rng()
        return run.plan.backoff(run.attempt, run.previous, self._drawn)

    def _gave_up(self, reason: str, error: Exception | None) -> None:
        run = self._run
        self._policy._send(
            RetryGaveUp, attempts=run.attempt, depth=self._depth, waited=run.waited, reason=reason, error=error
        )

    # --- waiting --------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Wait before the next attempt and begin it."""
        self.wait()
        current_attempt.set((self._run.attempt, self._depth))

    async def pause_async(self) -> None:
        """Wait before the next attempt in the running event loop, and begin it."""
        await self.wait_async()
        current_attempt.set((self._run.attempt, self._depth))

    def wait(self) -> None:
        """Sleep for what is due, if anything is."""
        delay, self.delay = self.delay, 0.0
        if delay > 0.0:
            policy = self._policy
            if not policy._warned and blocks_a_loop():
                policy._warned = True
                warnings.warn(
                    f"{policy.name} sleeps on a thread that runs an event loop: decorate an async def instead",
                    BlockingWarning,
                    stacklevel=5,
                )
            policy._clock.sleep(delay)

    async def wait_async(self) -> None:
        """Sleep in the running event loop for what is due, if anything is."""
        delay, self.delay = self.delay, 0.0
        if delay > 0.0:
            await self._policy._clock.sleep_async(delay)


def open_scope(policy: Retry, *, cuts: bool) -> Scope | None:
    """The deadline around all attempts of a call, where the policy has one."""
    if policy._plan.within is None:
        return None
    kind = CutScope if cuts else Scope
    return kind(policy.name, policy._plan.within, policy._clock, DeadlineExceeded)


def _note(error: Exception, text: str) -> None:
    # The same error object may come by again, from an outer retry or from the next call: it carries the last note only.
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        notes[:] = [note for note in notes if not str(note).startswith(_NOTE)]
    error.add_note(text)
