"""Running copies of a call side by side, until one has an acceptable answer.

The same few steps in every runtime: start a copy; take whatever comes first, the end of one or the time for the next;
stop when there is a winner, or nothing is left to hope for. `Race` is those steps, as a plain object that is told what
happened and says what to do. Here it is run on worker threads; on the tasks of an event loop, in `_race_tasks`.

Threads cannot be cancelled. Copies that lose are left behind, and settle when they end.
"""

from __future__ import annotations

from math import inf

from resilience.errors import Rejected, ResultNotAccepted
from resilience.policies._mailbox import Mailbox, warn_on_a_loop
from resilience.policies._outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.policies.hedge import Hedge

__all__ = ["CLOCK", "Race", "race"]

CLOCK = -1
"""The number of what runs beside the copies and tells the time."""


class Race:
    """One hedged call. Belongs to that call alone.

    Attributes:
        due: the reading at which it is time for the next copy; infinity for never.
    """

    __slots__ = ("_delay", "_deposits", "_hedge", "_last", "_left", "_rejection", "_running", "_started", "due")

    def __init__(self, hedge: Hedge, *, deposits: bool) -> None:
        self._hedge = hedge
        self._deposits = deposits
        self._left = hedge._copies
        self._running = 1
        self._last: Outcome | None = None
        self._rejection: Outcome | None = None
        self._delay = hedge._began()
        self._started = hedge._clock.now()
        self.due = self._started + self._delay

    def after(self, outcome: Outcome) -> Outcome | int:
        """What to do now: the outcome of the whole race, or the number of the copy to send, 0 for none."""
        if outcome.runner == CLOCK:
            return outcome if outcome.error is not None else self._another(failed=False)
        self._running -= 1
        error = outcome.error
        if error is None:
            if not self._hedge._refuses(outcome.result):
                self._hedge._won(outcome.runner, self._started, deposits=self._deposits)
                return outcome
            self._last = outcome
        elif not isinstance(error, Exception):
            return outcome
        elif self._hedge._acts_on(error):
            self._last = outcome
        elif isinstance(error, Rejected):
            # No call was made, so nothing was learnt: neither a reason to send another, nor to give up the others.
            self._rejection = outcome
            return 0 if self._running else self._lost()
        else:
            return outcome
        copy = self._another(failed=True)
        return copy if copy or self._running else self._lost()

    def _another(self, *, failed: bool) -> int:
        """The number of the copy to send now; 0 for none."""
        hedge = self._hedge
        if not self._left or not hedge._afford():
            # What was refused once is not asked for again by the clock, only by the next failure.
            self.due = inf
            return 0
        self._left -= 1
        self._running += 1
        self.due = hedge._clock.now() + self._delay if self._left else inf
        copy = hedge._copies - self._left
        hedge._sent(copy, failed=failed)
        return copy

    def _lost(self) -> Outcome:
        """The outcome of a race without a winner: that of the last copy; a rejection only where there is no other."""
        hedge, last = self._hedge, self._last or self._rejection
        if last is not None and last.error is not None:
            return last
        sent = 1 + hedge._copies - self._left
        result = None if last is None else last.result
        return Outcome(error=ResultNotAccepted(hedge.name, result, sent, hedge._clock.now() - self._started))

    def forget(self) -> None:
        """Let go of every outcome, so that no error is kept alive by its own traceback."""
        self._last = self._rejection = None


def race(hedge: Hedge, deposits: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Hedge a plain function on worker threads."""
    warn_on_a_loop(hedge)
    course = Race(hedge, deposits=deposits)
    with Mailbox(hedge._clock) as mailbox:
        try:
            mailbox.order(fn, args, kwargs)
            while True:
                step = course.after(mailbox.get(course.due) or Outcome(runner=CLOCK))
                if isinstance(step, Outcome):
                    return step.get()
                if step:
                    mailbox.order(fn, args, kwargs, step)
        finally:
            course.forget()
            step = 0
