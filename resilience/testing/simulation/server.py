"""The server of a scenario: so many workers, a queue before them, and no idea who still waits for an answer."""

from __future__ import annotations

from collections import deque
from math import exp, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from random import Random

    from resilience.testing.simulation.loop import Loop
    from resilience.testing.simulation.scenario import Incident, Server
    from resilience.testing.simulation.tally import Tally

__all__ = ["ANSWER", "Refused", "Workers"]

ANSWER = object()
"""What the server answers; whatever else a client gets was made up by its policies."""


class Refused(ConnectionError):
    """The server has no room in its queue, or is down."""


class Workers:
    """A server at work. Belongs to one run."""

    __slots__ = ("_busy", "_down", "_draw", "_loop", "_model", "_queue", "_slow", "_staff", "_tally", "_troubles")

    def __init__(self, model: Server, loop: Loop, dice: Random, tally: Tally) -> None:
        self._model = model
        self._loop = loop
        self._tally = tally
        self._draw = _service(model, dice)
        self._queue: deque[asyncio.Future[object] | None] = deque()
        self._busy = 0
        self._troubles: list[Incident] = []
        self._apply()

    def request(self) -> asyncio.Future[object]:
        """Send a request, and return what to await for the answer."""
        waiting: asyncio.Future[object] = self._loop.create_future()
        self.arrive(waiting)
        return waiting

    def arrive(self, waiting: asyncio.Future[object] | None) -> None:
        """Take a request, with whoever waits for it, or of somebody who does not matter here."""
        if self._down or (self._busy >= self._staff and len(self._queue) >= self._model.queue):
            if waiting is not None:
                self._loop.at(self._loop.now + self._model.refusal, _refuse, waiting)
        elif self._busy < self._staff:
            self._begin(waiting)
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

    def _begin(self, waiting: asyncio.Future[object] | None) -> None:
        self._busy += 1
        self._loop.at(self._loop.now + self._draw() * self._slow, self._finish, waiting)

    def _finish(self, waiting: asyncio.Future[object] | None) -> None:
        self._busy -= 1
        if waiting is not None:
            if waiting.done():
                self._tally.wasted(self._loop.now)
            else:
                waiting.set_result(ANSWER)
        self._fill()

    def _fill(self) -> None:
        queue, notices = self._queue, self._model.notices
        while queue and self._busy < self._staff:
            waiting = queue.popleft()
            if not (notices and waiting is not None and waiting.done()):
                self._begin(waiting)


def _refuse(waiting: asyncio.Future[object]) -> None:
    if not waiting.done():
        waiting.set_exception(Refused("the server has no room for another call"))


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
