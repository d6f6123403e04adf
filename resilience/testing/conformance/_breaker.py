"""The laws of a circuit breaker, B1 to B5, over random interleavings; B6 is in `_breaker_snapshot`.

The model here knows no window and no rate: what opens a closed circuit is the policy's own affair. It follows the state
that the policy says it has, and holds against it who may come in, what an ending may do, and when time may do
something. Where the trip is a number of failures in a row, that is counted too.
"""

from __future__ import annotations

from math import ulp

from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._breaker_facts import BreakerFacts, plain
from resilience.testing.conformance._search import Broken
from resilience.testing.conformance._subject import CANCELLED, Flight, build, half, inner_rejection

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.testing.conformance._search import Step

__all__ = ["BreakerFacts", "drawn", "play"]

B1 = "B1: never more than `trials` live trials in half-open, and none while open"
B2 = "B2: a result of an older generation or of a lapsed trial changes nothing"
B3 = "B3: exactly one event per transition, in order"
B4 = "B4: ignored, cancelled and inner-rejected calls give the place back and are neutral"
B5 = "B5: open ends with the cooldown, and half-open is always left or re-tried within the lease"
CLOSED = "closed: every call is let in, and the trip alone opens it"
TRIALS = "half-open: `trials` successes close it and the first failure opens it"

ENDINGS = ("ok", "fail", "cancel", "ignored", "rejected")
_STATE_OF = {
    "CircuitOpened": "open",
    "CircuitHalfOpened": "half_open",
    "CircuitClosed": "closed",
    "CircuitIsolated": "isolated",
}


def drawn(facts: BreakerFacts) -> Callable[[random.Random], Step]:
    """What draws a step for this breaker."""
    times = facts.times()
    endings = [ending for ending in ENDINGS if facts.ours or ending not in ("ignored", "rejected")]
    if facts.unmatched is None and "ignored" in endings:
        endings.remove("ignored")

    def draw(rng: random.Random) -> Step:
        match rng.randrange(10):
            case 0 | 1 if facts.failures:
                return ("fail until open",)
            case 2 | 3 | 4:
                return ("begin",)
            case 5 | 6:
                return "end", rng.randrange(4), rng.choice(endings)
            case 7 | 8:
                return "advance", rng.choice(times)
            case _:
                return "call", rng.choice(endings)

    return draw


def play(facts: BreakerFacts, script: Sequence[Step]) -> None:
    """Play one script.

    Raises:
        Broken: a law is.
    """
    watch = _Watch(facts)
    try:
        for step in script:
            watch.do(step)
    finally:
        for call in watch.open_calls:
            call.flight.end("ok")


class _Call:
    """A call that has been let in, and when."""

    __slots__ = ("at", "epoch", "flight", "name", "trial")

    def __init__(self, flight: Flight, name: str, at: float, epoch: int, trial: bool) -> None:
        self.flight = flight
        self.name = name
        self.at = at
        self.epoch = epoch
        self.trial = trial


class _Watch:
    """A breaker that is played on, and what is known of it."""

    def __init__(self, facts: BreakerFacts) -> None:
        self.facts = facts
        self.colour = facts.colour
        self.clock = VirtualClock()
        self.policy = build(facts.make, self.clock, rng=half)
        self.log: list[str] = []
        self.open_calls: list[_Call] = []
        self.heard: list[Any] = []
        self.listens = callable(getattr(self.policy, "listen", None))
        if self.listens:
            self.policy.listen(self.heard.append)
        self.count = 0
        self.epoch = 0
        self.since = 0.0
        self.state: str = facts.state(self.policy)
        self.told = self.state
        self.succeeded = self.streak = 0
        self.gave_back = False
        self.lazy = False

    # --- steps --------------------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        match step:
            case ("advance", seconds):
                self.log.append(f"advance({seconds!r})")
                self.clock.advance(seconds)
                self.look(self.by_time())
            case ("begin",):
                self.begin()
            case ("end", int(place), ending) if self.open_calls:
                self.end(self.open_calls[place % len(self.open_calls)], ending)
            case ("call", ending):
                if (call := self.begin()) is not None:
                    self.end(call, ending)
            case ("fail until open",):
                self.log.append("while closed: begin().end('fail')")
                for _ in range(self.facts.failures):
                    if self.state != "closed" or (call := self.begin(quiet=True)) is None:
                        break
                    self.end(call, "fail", quiet=True)
            case _:
                pass

    def begin(self, *, quiet: bool = False) -> _Call | None:
        self.count += 1
        name = f"call_{self.count}"
        now = self.clock.now()
        flight = Flight(self.policy, self.facts.loop)
        trial = self.state == "half_open"
        if not quiet:
            self.log.append(f"{name} = begin()    # {self.state}: {'let in' if flight.admitted else 'refused'}")
        call = _Call(flight, name, now, self.epoch, trial)
        live = sum(self.is_live(each) for each in self.open_calls)
        if flight.admitted:
            self.lazy = False
            self.open_calls.append(call)
            if self.state in ("open", "isolated"):
                self.broken(B1, f"{name} was let in while {self.state}")
            if trial and live >= self.facts.trials:
                self.broken(B1, f"{name} was let in beside {live} live trials; trials is {self.facts.trials}")
        elif self.state == "closed" and not self.facts.ramp:
            self.broken(CLOSED, f"{name} was refused: {flight.error!r}")
        elif (
            trial and live + self.succeeded < self.facts.trials and (self.facts.lease is not None or not self.on_trial)
        ):
            why = f"{name} was refused in half-open, with {live} live trials and {self.succeeded} successes"
            self.broken(B4 if self.gave_back else B5, why)
        self.look(None if self.facts.slow else self.state)
        return call if flight.admitted else None

    def end(self, call: _Call, ending: str, *, quiet: bool = False) -> None:
        facts = self.facts
        self.open_calls.remove(call)
        if not quiet:
            self.log.append(f"{call.name}.end({ending!r})    # let in while {'half-open' if call.trial else 'closed'}")
        late = call.epoch != self.epoch or (call.trial and self.lapsed(call))
        doubtful = self.doubtful(call)
        outcome = {
            "ok": "ok",
            "fail": facts.error,
            "cancel": CANCELLED,
            "ignored": facts.unmatched,
            "rejected": inner_rejection(),
        }[ending]
        call.flight.end(outcome)
        late_results = sum(type(event).__name__ == "LateResult" for event in self.heard)
        if ending == "fail" and call.flight.error is not facts.error:
            self.broken(CLOSED, f"{call.name} raised {call.flight.error!r} instead of its own error")
        fails = ending == "fail" or (ending == "cancel" and facts.cancel_fails and self.colour == "async")
        if doubtful:
            self.succeeded += call.trial and ending == "ok"
            self.look(None)
        elif late:
            self.look(self.state, B2)
            if facts.ours and ending in ("ok", "fail") and late_results != 1:
                self.broken(B2, f"{late_results} LateResult events for the end of {call.name}")
        elif not fails and ending != "ok":
            self.gave_back = call.trial or self.gave_back
            self.look(self.state, B4)
        elif call.trial:
            self.succeeded += not fails
            closes = not fails and self.succeeded >= facts.trials
            self.look("open" if fails else "closed" if closes else "half_open", TRIALS)
        else:
            self.streak = self.streak + 1 if fails else 0
            trips = None if facts.trip is None else fails and self.streak >= facts.trip
            self.look(None if trips is None else "open" if trips else "closed", CLOSED)

    # --- what it says of itself ---------------------------------------------------------------------------------------

    @property
    def on_trial(self) -> bool:
        """Whether a trial of this generation has not ended, lapsed or not."""
        return any(call.trial and call.epoch == self.epoch for call in self.open_calls)

    def is_live(self, call: _Call) -> bool:
        if not call.trial or call.epoch != self.epoch:
            return False
        # How long a lease is that goes by a growing cooldown, nobody says; but it is longer than no time at all.
        return call.at == self.clock.now() if self.facts.lease is None else not self.lapsed(call)

    def doubtful(self, call: _Call) -> bool:
        """Whether this call may have been slow, or lapsed, without our knowing."""
        if call.epoch != self.epoch or self.clock.now() <= call.at:
            return False
        return self.facts.slow or (call.trial and self.facts.lease is None)

    def lapsed(self, call: _Call) -> bool:
        return self.facts.lease is not None and self.clock.now() >= call.at + self.facts.lease

    def by_time(self) -> str | None:
        """The state that time alone leads to; None where it may be either."""
        if self.state != "open":
            return None if self.facts.slow and self.state == "closed" else self.state
        if not self.facts.steady:
            return None
        due, now = self.since + self.facts.cooldown, self.clock.now()
        exact = self.since % 1.0 == self.facts.cooldown % 1.0 == 0.0
        if not exact and abs(now - due) <= ulp(due):
            return None
        return "half_open" if now >= due else "open"

    def read(self) -> str:
        """The state. One that is only decided when a call comes is taken for what it would then be."""
        state = self.facts.state(self.policy)
        lazy = state == "open" and self.facts.steady and not self.facts.ours
        over = self.state == "open" and self.clock.now() >= self.since + self.facts.cooldown
        self.lazy = lazy and (over or self.lazy)
        return "half_open" if self.lazy else state

    def look(self, expected: str | None, law: str = B5) -> None:
        """Read the state, hold it against the one expected, and the events against the change."""
        before, self.state = self.state, self.read()
        if expected is not None and self.state != expected:
            self.broken(law, f"the circuit went from {before} to {self.state}, not to {expected}")
        if self.listens:
            self.hear()
        if self.state != before:
            self.epoch += 1
            self.since = self.clock.now()
            self.succeeded = self.streak = 0
            self.gave_back = False

    def hear(self) -> None:
        for event in self.heard:
            name = type(event).__name__
            state = _STATE_OF.get(name)
            if state is None:
                continue
            previous = plain(getattr(event, "previous", self.told))
            if state == self.told or previous != self.told:
                self.broken(B3, f"{name} (previous {previous}) was told when {self.told} had been told last")
            self.told = state
        if self.told != self.state and not self.lazy:
            self.broken(B3, f"it is {self.state}, and {self.told} was told last")
        self.heard.clear()

    def broken(self, law: str, seen: str) -> None:
        raise Broken(law, seen, self.log)
