"""The circuit against a second model that remembers everything and decides from that.

The model keeps the whole history as a list and derives each answer by looking through it; nothing is shared with the
circuit but the words. Time is counted in quarters of a second, which floats hold exactly, so every boundary is hit
exactly, and just missed on either side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience.core.breaker import REFUSED, Circuit, Settled
from resilience.core.trip import Consecutive, FailureRate, SlowRate
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict

TICK = 0.25
SLOW = 8  # ticks: two seconds

TRIPS = {
    "consecutive": (Consecutive(3),),
    "one": (Consecutive(1),),
    "last calls": (FailureRate(0.5, calls=5, minimum_calls=3),),
    "last seconds": (FailureRate(0.5, window=10, minimum_calls=3),),
    "slow": (SlowRate(0.5, slower_than=2, calls=4, minimum_calls=2),),
    "any": (Consecutive(4), FailureRate(0.75, window=10, minimum_calls=4), SlowRate(1.0, slower_than=2, calls=3)),
}


@dataclass
class Trial:
    """A call admitted in half-open."""

    until: int
    place: bool = True


@dataclass
class Naive:
    """What a circuit should do, decided from a list of all that happened."""

    trip: str
    cooldown: int
    trials: int
    lease: int
    now: int = 0
    state: str = "closed"
    since: int | None = None
    opened: int = 0
    passed: int = 0
    finished: list[tuple[int, Verdict, int]] = field(default_factory=list)
    admitted: dict[int, object] = field(default_factory=dict)
    """What each permit in use is: the number of a closed generation, or a trial."""
    generation: int = 0
    isolations: set[int] = field(default_factory=set)
    changes: list[tuple[str, str]] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    """How the trials of this half-open gave their places back: "lapsed" or "ended"."""
    warnings: int = 0

    def tick(self, now: int) -> None:
        self.now = max(self.now, now)
        if self.state == "open" and self.now >= self.opened + self.cooldown:
            self.enter("half_open")
        for trial in self.live():
            if trial.until <= self.now:
                trial.place = False
                self.endings.append("lapsed")
                run = len(self.endings) - max((i + 1 for i, e in enumerate(self.endings) if e == "ended"), default=0)
                self.warnings += run % 2 == 0

    def live(self) -> list[Trial]:
        return [it for it in self.admitted.values() if isinstance(it, Trial) and it.place]

    def enter(self, state: str) -> None:
        for trial in self.live():
            trial.place = False
        self.generation += 1
        self.passed, self.endings = 0, []
        if state == "open":
            self.opened = self.now
        if state == "closed":
            self.finished = []
        if state != self.state:
            self.changes.append((self.state, state))
            self.state, self.since = state, self.now

    def admits(self) -> bool:
        free = len(self.live()) + self.passed < self.trials
        return self.state == "closed" or (self.state == "half_open" and free)

    def settle(self, permit: int, verdict: Verdict, elapsed: int) -> bool:
        """Whether it counted."""
        it = self.admitted[permit]
        slow = self.trip in {"slow", "any"} and elapsed > SLOW
        if isinstance(it, Trial):
            if not it.place:
                return False
            it.place = False
            self.endings.append("ended")
            if verdict is FAILURE or slow:
                self.enter("open")
            elif verdict is SUCCESS:
                self.passed += 1
                if self.passed == self.trials:
                    self.enter("closed")
            return True
        if self.state != "closed" or it != self.generation:
            return False
        self.finished.append((self.now, verdict, elapsed))
        if any(bad >= share * calls and calls >= least for bad, calls, share, least in self.tallies()):
            self.enter("open")
        return True

    def tallies(self) -> list[tuple[int, int, float, int]]:
        """(bad, calls, share that trips, least calls) of each trip."""
        judged = [(at, verdict is FAILURE) for at, verdict, _ in self.finished if verdict is not IGNORED]
        timed = [elapsed > SLOW for _, verdict, elapsed in self.finished if verdict is not IGNORED or elapsed > SLOW]
        second = int(1 / TICK)
        recent = [bad for at, bad in judged if at // second > self.now // second - 10]
        row = 0
        for _, bad in judged:
            row = row + 1 if bad else 0

        def share(bad: list[bool], ratio: float, least: int) -> tuple[int, int, float, int]:
            return sum(bad), len(bad), ratio, least

        return {
            "consecutive": [(row, row, 1.0, 3)],
            "one": [(row, row, 1.0, 1)],
            "last calls": [share([bad for _, bad in judged][-5:], 0.5, 3)],
            "last seconds": [share(recent, 0.5, 3)],
            "slow": [share(timed[-4:], 0.5, 2)],
            "any": [(row, row, 1.0, 4), share(recent, 0.75, 4), share(timed[-3:], 1.0, 3)],
        }[self.trip]

    def retry_after(self) -> float | None:
        if self.state == "open":
            return (self.opened + self.cooldown - self.now) * TICK
        if self.state == "half_open":
            return 0.0 if self.admits() else (min(trial.until for trial in self.live()) - self.now) * TICK
        return None

    def counts(self) -> tuple[int, int]:
        if self.state == "half_open":
            return 0, self.passed
        return max((bad, calls) for bad, calls, _, _ in self.tallies())


class Circuits(RuleBasedStateMachine):
    """One circuit and its model, told the same."""

    @initialize(
        trip=st.sampled_from(sorted(TRIPS)),
        cooldown=st.sampled_from([1, 4, 20]),
        trials=st.integers(1, 3),
        lease=st.sampled_from([1, 4, 20, 100]),
        start=st.sampled_from([0, 7, 4_000_000_000]),
    )
    def build(self, trip: str, cooldown: int, trials: int, lease: int, start: int) -> None:
        self.it = Circuit(TRIPS[trip], cooldown * TICK, trials, lease * TICK)
        self.model = Naive(trip, cooldown, trials, lease, now=start)
        self.permits: list[int] = []
        self.tokens: list[int] = []
        self.warnings = 0
        self.at = start
        self.it.look(start * TICK)

    def tell(self, now: int | None = None) -> float:
        """The reading to pass on; the model hears it too."""
        reading = self.at if now is None else now
        self.model.tick(reading)
        return reading * TICK

    @rule(ticks=st.sampled_from([0, 1, 2, 3, 4, 5, 19, 20, 21, 39, 40, 41, 200]))
    def pass_time(self, ticks: int) -> None:
        """Time goes on; nobody looks."""
        self.at += ticks

    @precondition(lambda self: self.model.state in {"open", "half_open"})
    @rule(past=st.sampled_from([-1, 0, 1]))
    def pass_time_to_a_boundary(self, past: int) -> None:
        """Time goes on to where a cooldown or a lease ends, or to just before or after."""
        ends = [trial.until for trial in self.model.live()] or [self.model.opened + self.model.cooldown]
        self.at = max(self.at, min(ends) + past)

    @rule(ticks=st.sampled_from([1, 5, 100]))
    def step_back(self, ticks: int) -> None:
        """The clock steps back."""
        self.at -= ticks

    @rule()
    def look(self) -> None:
        """Somebody asks for the state."""
        now = self.tell()
        assert self.it.look(now) == self.model.state

    @rule()
    def acquire(self) -> None:
        """A call arrives."""
        now = self.tell()
        admits = self.model.admits()
        permit = self.it.acquire(now)
        assert (permit != REFUSED) == admits
        if not admits:
            return
        if self.model.state == "closed":
            assert self.model.admitted.setdefault(permit, self.model.generation) == self.model.generation
        else:
            assert permit not in self.model.admitted, "a permit is drawn once"
            self.model.admitted[permit] = Trial(self.model.now + self.model.lease)
        self.permits.append(permit)

    def end(self, permit: int, verdict: Verdict, elapsed: int) -> None:
        now = self.tell()
        counted = self.model.settle(permit, verdict, elapsed)
        settled = self.it.settle(permit, verdict, now, elapsed * TICK)
        assert settled is (Settled.COUNTED if counted else Settled.LATE)

    verdicts = st.sampled_from([SUCCESS, FAILURE, FAILURE, IGNORED])
    spans = st.sampled_from([0, SLOW - 1, SLOW, SLOW + 1])

    @precondition(lambda self: self.permits)
    @rule(verdict=verdicts, elapsed=spans)
    def settle_the_newest(self, verdict: Verdict, elapsed: int) -> None:
        """The call that came last ends."""
        self.end(self.permits[-1], verdict, elapsed)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), verdict=verdicts, elapsed=spans)
    def settle_any(self, data: st.DataObject, verdict: Verdict, elapsed: int) -> None:
        """Any call that ever came ends, perhaps a second time."""
        self.end(data.draw(st.sampled_from(self.permits)), verdict, elapsed)

    @rule(verdict=verdicts)
    def call(self, verdict: Verdict) -> None:
        """A call comes and ends."""
        before = len(self.permits)
        self.acquire()
        if len(self.permits) > before:
            self.end(self.permits[-1], verdict, 0)

    @rule()
    def fail_often(self) -> None:
        """Several calls come and fail."""
        for _ in range(4):
            self.call(FAILURE)

    @rule(verb=st.sampled_from(["open", "close", "reset"]))
    def by_hand(self, verb: str) -> None:
        """Somebody turns the switch."""
        now = self.tell()
        getattr(self.it, verb)(now)
        if verb == "reset":
            self.model.isolations.clear()
        if verb == "reset" or self.model.state != "isolated":
            self.model.enter("open" if verb == "open" else "closed")

    @rule()
    def isolate(self) -> None:
        """Somebody takes the circuit out of service."""
        now = self.tell()
        token = self.it.isolate("", now)
        assert token not in self.model.admitted and token not in self.tokens
        self.tokens.append(token)
        self.model.isolations.add(token)
        self.model.enter("isolated")

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """An isolation is released, perhaps a second time."""
        now = self.tell()
        token = data.draw(st.sampled_from(self.tokens))
        held = token in self.model.isolations
        assert self.it.release(token, now) is held
        self.model.isolations.discard(token)
        if held and not self.model.isolations:
            self.model.enter("closed")

    @invariant()
    def agree(self) -> None:
        """Everything that can be seen of the circuit is what the model says."""
        if not hasattr(self, "it"):
            return
        it, model = self.it, self.model
        assert it.state == model.state
        assert it.since == (None if model.since is None else model.since * TICK)
        assert it.latest == model.now * TICK
        assert it.retry_after() == model.retry_after()
        assert it.counts() == model.counts()
        assert it.clean == (
            model.state == "closed"
            and model.trip in {"consecutive", "one"}
            and all(bad == 0 for bad, _, _, _ in model.tallies())
        )
        assert it.changes == model.changes
        # B1, and that a place is taken only for what is needed.
        assert len(it.leases) == len(model.live()) <= it.trials - model.passed
        assert sorted(it.leases.values()) == sorted(trial.until * TICK for trial in model.live())
        if it.short_leases:
            self.warnings += 1
            it.short_leases = False
        assert self.warnings <= model.warnings
        assert (self.warnings > 0) == (model.warnings > 0)

    @invariant()
    def half_open_is_always_left_or_tried_again(self) -> None:
        """B5: from here, within a lease, somebody is admitted."""
        if hasattr(self, "it") and self.model.state == "half_open":
            wait = self.it.retry_after()
            assert wait is not None and wait <= self.model.lease * TICK


Circuits.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestCircuits = Circuits.TestCase
