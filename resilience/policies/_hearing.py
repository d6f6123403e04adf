"""A gate that hears the end of every call that it has let in, and counts it under its lock.

What it hears is a verdict: the call came through, or it failed in a way that is named (`on`, `on_result`), or it ended
for no reason of its own. A call that our own timeout has cut was too slow, which is a failure; one whose caller went
away says nothing.
"""

from __future__ import annotations

import collections

from resilience._runtime import is_cancellation
from resilience._scope import cut_by_us
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.events import CallSucceeded
from resilience.policies._gate import ASK, GatePolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.verdict import Verdict
    from resilience.matching import Matcher

__all__ = ["HearingGate"]

_TELL_ALL = -2
"""Equal to no permit: every end is told."""


class HearingGate(GatePolicy):
    """The base of policies that learn from how calls end. A subclass says how it counts one, in `_count`."""

    __slots__ = ("_abandoned", "_matcher")

    def _listen_for(self, matcher: Matcher, *, timed: bool) -> None:
        self._matcher = matcher
        self._timed = timed
        self._permit = ASK
        self._clean = _TELL_ALL
        self._abandoned: collections.deque[tuple[int, float]] = collections.deque()

    def _count(self, permit: int, verdict: Verdict, elapsed: float, now: float) -> None:
        """Count the end of a call. Called with the lock held."""
        raise TypeError(f"{type(self).__name__} does not say how it counts: define _count")

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _returned(self, permit: int, result: object, started: float) -> None:
        verdict = IGNORED
        try:
            verdict = SUCCESS if self._matcher.result(result) is None else FAILURE
        finally:
            self._settle(permit, verdict, started)

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        now = self._clock.now()
        if isinstance(error, GeneratorExit):
            # A generator may be thrown away by a collection of garbage, on a thread that holds the lock: never wait.
            self._abandoned.append((permit, now - started))
            if not self._lock.locked():
                with self._lock:
                    self._take_back(now)
            return
        verdict = IGNORED
        try:
            if isinstance(error, Exception):
                verdict = IGNORED if self._matcher.error(error) is None else FAILURE
            elif is_cancellation(error) and cut_by_us():
                verdict = FAILURE
        finally:
            self._settle(permit, verdict, started)

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        self._settle(permit, verdict, started)

    def _settle(self, permit: int, verdict: Verdict, started: float) -> None:
        now = self._clock.now()
        with self._lock:
            if self._abandoned:
                self._take_back(now)
            self._count(permit, verdict, now - started, now)
        if self._channel.heard:
            if verdict is SUCCESS:
                self._channel.put(CallSucceeded(self.name, self.kind, now, attempts=1))
            self._channel.deliver()

    def _take_back(self, now: float) -> None:
        """Count the calls that were thrown away. Called with the lock held."""
        while self._abandoned:
            permit, elapsed = self._abandoned.popleft()
            self._count(permit, IGNORED, elapsed, now)

    @property
    def _judges_results(self) -> bool:
        return self._matcher.on_result is not None
