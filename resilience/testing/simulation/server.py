"""The server of a scenario: so many workers, a queue before them, and no idea who still waits for an answer."""

from __future__ import annotations

from collections import deque
from heapq import heappush
from math import exp, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any, Protocol

    from resilience.testing.simulation.loop import Loop
    from resilience.testing.simulation.scenario import Incident, Server

    class Waiting(Protocol):
        """Somebody who waits for an answer."""

        def done(self) -> bool:
            """Whether they have gone."""
            ...


__all__ = ["ANSWER", "Refused", "Workers"]

ANSWER = object()
"""What the server answers; whatever else a client gets was made up by its policies."""


class Refused(ConnectionError):
    """The server has no room in its queue, or is down."""


class Workers:
    """A server at work. Belongs to one run.

    Args:
        model: what it is like.
        loop: whose time it is.
        dice: for the work of a call.
        answer: takes whoever waits, and `ANSWER` or the error that they are to get.
    """

    __slots__ = (
        *("_answer", "_busy", "_down", "_draw", "_finished", "_free", "_loop", "_model", "_queue", "_slow", "_staff"),
        "_troubles",
    )

    def __init__(self, model: Server, loop: Loop, dice: Random, answer: Callable[[Any, object], None]) -> None:
        self._model = model
        self._loop = loop
        self._answer = answer
        # Bound once, not once for each request.
        self._finished = self._finish
        self._draw = _service(model, dice)
        self._queue: deque[Waiting | None] = deque()
        self._busy = 0
        self._troubles: list[Incident] = []
        self._apply()

    def arrive(self, waiting: Waiting | None) -> None:
        """Take a request, with whoever waits for it, or of somebody who does not matter here."""
        if self._busy < self._free:
            # As `_begin` does: most of what is simulated comes this way.
            loop = self._loop
            self._busy += 1
            heappush(loop.due, (loop.now + self._draw() * self._slow, loop.serial(), self._finished, waiting))
        elif self._down or len(self._queue) >= self._model.queue:
            if waiting is not None:
                self._loop.at(self._loop.now + self._model.refusal, self._refuse, waiting)
        else:
            self._queue.append(waiting)

    def begin_incident(self, incident: Incident) -> None:
        """Let something go wrong."""
        self._troubles.append(incident)
        self._apply()

    def end_incident(self, incident: Incident) -> None:
        """Let it be right again."""
        self._troubles.remove(incident)
        self._apply()
        self._fill()

    def _apply(self) -> None:
        self._slow = 1.0
        left = 1.0
        self._down = False
        for trouble in self._troubles:
            self._slow *= trouble.factor or 1.0
            left *= 1.0 - (trouble.share or 0.0)
            self._down = self._down or trouble.kind == "down"
        self._staff = max(1, round(self._model.workers * left))
        # Nobody is free in a server that is down, though what it was at is finished.
        self._free = 0 if self._down else self._staff

    def _begin(self, waiting: Waiting | None) -> None:
        loop = self._loop
        self._busy += 1
        heappush(loop.due, (loop.now + self._draw() * self._slow, loop.serial(), self._finished, waiting))

    def _finish(self, waiting: Waiting | None) -> None:
        self._busy -= 1
        if self._queue:
            self._fill()
        if waiting is not None:
            self._answer(waiting, ANSWER)

    def _fill(self) -> None:
        queue, notices = self._queue, self._model.notices
        while queue and self._busy < self._staff:
            waiting = queue.popleft()
            if not (notices and waiting is not None and waiting.done()):
                self._begin(waiting)

    def _refuse(self, waiting: Waiting) -> None:
        self._answer(waiting, Refused("the server has no room for another call"))


def _service(model: Server, dice: Random) -> Callable[[], float]:
    """Draws the seconds of work for a call."""
    mean, spread = model.service, model.spread
    if model.distribution == "constant":
        return lambda: mean
    if model.distribution == "exponential":
        rate = 1.0 / mean
        return lambda: dice.expovariate(rate)
    # The mean of a lognormal variable is exp(middle + spread**2 / 2).
    middle = log(mean) - spread * spread / 2
    return lambda: exp(middle + spread * dice.gauss(0.0, 1.0))
