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

__all__ = ["ASK_AGAIN", "ASK_LATE", "CLOCK", "Race", "race"]

CLOCK = -1
"""The number of what runs beside the copies and tells the time."""

ASK_LATE, ASK_AGAIN = -2, -3
"""The numbers of questions to a budget that has to be awaited: for a copy that is late, or comes after a failure."""


class Race:
    """One hedged call. Belongs to that call alone.

    Args:
        hedge: the policy.
        deposits: whether a success is deposited in the budget.
        asks: whether the budget is awaited by whoever runs this, deposits included.

    Attributes:
        due: the reading at which it is time for the next copy; infinity for never.
    """

    __slots__ = (
        "_asking",
        "_asks",
        "_delay",
        "_deposits",
        "_hedge",
        "_last",
        "_left",
        "_rejection",
        "_running",
        "_started",
        "due",
    )

    def __init__(self, hedge: Hedge, *, deposits: bool, asks: bool = False) -> None:
        self._hedge = hedge
        self._deposits = deposits and not asks
        self._asks = asks
        self._asking = 0
        self._left = hedge._copies
        self._running = 1
        self._last: Outcome | None = None
        self._rejection: Outcome | None = None
        self._delay = hedge._began()
        self._started = hedge._clock.now()
        self.due = self._started + self._delay

    def after(self, outcome: Outcome) -> Outcome | int:
        """What to do now: the outcome of the whole race, or the number of the copy to send or of the question to ask, 0
        for neither.
        """
        if outcome.runner in (ASK_LATE, ASK_AGAIN):
            return self._answered(outcome)
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
            return self._waits()
        else:
            return outcome
        return self._another(failed=True) or self._waits()

    def _waits(self) -> Outcome | int:
        return 0 if self._running or self._asking else self._lost()

    def _another(self, *, failed: bool) -> int:
        """The number of the copy to send now, or of the question to ask first; 0 for neither."""
        hedge = self._hedge
        if not self._left or not (hedge._spend() if self._asks else hedge._afford()):
            # What was refused once is not asked for again by the clock, only by the next failure.
            self.due = inf
            return 0
        self._left -= 1
        if not self._asks:
            return self._send(failed=failed)
        self._asking += 1
        self.due = inf
        return ASK_AGAIN if failed else ASK_LATE

    def _answered(self, answer: Outcome) -> Outcome | int:
        if answer.error is not None:
            return answer
        self._asking -= 1
        if answer.result:
            return self._send(failed=answer.runner == ASK_AGAIN)
        self._hedge._give_back()
        self._left += 1
        self.due = inf
        return self._waits()

    def _send(self, *, failed: bool) -> int:
        hedge = self._hedge
        self._running += 1
        self.due = hedge._clock.now() + self._delay if self._left else inf
        copy = hedge._copies - self._left - self._asking
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
        """Let go of every outcome, so that no error is kept alive by its own traceback, and of what is still asked."""
        self._last = self._rejection = None
        while self._asking:
            self._asking -= 1
            self._hedge._give_back()


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
