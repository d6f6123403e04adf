"""The circuit against a second model that remembers everything and decides from that.

The model keeps the whole history as a list and derives each answer by looking through it; nothing is shared with the
circuit but the words. Time is counted in quarters of a second, which floats hold exactly, so every boundary is hit
exactly, and just missed on either side. Shares of a ramp are counted in fractions, which are exact too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

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
class Call:
    """A call admitted while closed."""

    generation: int
    began: int
    slow_at: int | None = None
    """When it entered the window of slow calls, if that was before its end."""
    ended: bool = False


@dataclass
class Naive:
    """What a circuit should do, decided from a list of all that happened."""

    trip: str
    cooldown: int
    trials: int
    lease: int | None
    ramp: int | None = None
    growing: list[int] | None = None
    """The cooldowns in turn, of which the last repeats; None where `cooldown` is all of them."""
    now: int = 0
    state: str = "closed"
    since: int | None = None
    opened: int = 0
    openings: int = 0
    """Since the last close."""
    hint: int = 0
    rising: int | None = None
    """When the ramp began."""
    shares: list[Fraction] = field(default_factory=list)
    """The share of the ramp at each call that came in it."""
    let_in: int = 0
    """How many of those were let in."""
    passed: int = 0
    finished: list[tuple[int, Verdict, int]] = field(default_factory=list)
    slow: list[tuple[int, bool]] = field(default_factory=list)
    """What entered the windows of slow calls, and when."""
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
        if self.state == "open" and self.now >= self.reopens():
            self.enter("half_open")
        if self.state == "closed" and self.watches():
            calls = [it for it in self.admitted.values() if isinstance(it, Call) and it.generation == self.generation]
            hung = [it for it in calls if not it.ended and it.slow_at is None and self.now - it.began > SLOW]
            # Each is looked at in turn, before anything trips.
            tripped = [self.enter_slow(it) for it in hung]
            if any(tripped):
                self.enter("open")
        if self.rising is not None and self.ramp is not None and self.now >= self.rising + self.ramp:
            self.rising = None
        for trial in self.live():
            if trial.until <= self.now:
                trial.place = False
                self.endings.append("lapsed")
                run = len(self.endings) - max((i + 1 for i, e in enumerate(self.endings) if e == "ended"), default=0)
                self.warnings += run % 2 == 0

    def watches(self) -> bool:
        return self.trip in {"slow", "any"}

    def enter_slow(self, call: Call) -> bool:
        call.slow_at = self.now
        self.slow.append((self.now, True))
        bad, calls, ratio, least = self.tallies()[-1]
        return bad >= ratio * calls and calls >= least

    def rest(self) -> int:
        """The present cooldown without its hint."""
        return self.cooldown if self.growing is None else self.growing[min(self.openings, len(self.growing)) - 1]

    def reopens(self) -> int:
        return self.opened + max(self.rest(), self.hint)

    def patience(self) -> int:
        if self.lease is not None:
            return self.lease
        return self.rest() if self.growing is None else max(self.growing[0], self.rest())

    def live(self) -> list[Trial]:
        return [it for it in self.admitted.values() if isinstance(it, Trial) and it.place]

    def enter(self, state: str, hint: int = 0) -> None:
        for trial in self.live():
            trial.place = False
        self.generation += 1
        self.passed, self.endings = 0, []
        if state == "open":
            self.openings += self.state != "open"
            self.opened, self.hint = self.now, hint
        if state == "closed":
            self.finished, self.slow = [], []
            self.openings = 0
            if self.state != "closed" and self.ramp is not None:
                self.rising, self.shares, self.let_in = self.now, [], 0
        else:
            self.rising = None
        if state != self.state:
            self.changes.append((self.state, state))
            self.state, self.since = state, self.now

    def comes(self, u: Fraction) -> bool:
        """Whether a call that comes now is admitted; the ramp remembers that it came."""
        if self.rising is None or self.ramp is None:
            return self.admits()
        self.shares.append(Fraction(self.now - self.rising, self.ramp))
        admitted = u < sum(self.shares) - self.let_in
        self.let_in += admitted
        assert abs(sum(self.shares) - self.let_in) < 1
        return admitted

    def admits(self) -> bool:
        free = len(self.live()) + self.passed < self.trials
        return self.state == "closed" or (self.state == "half_open" and free)

    def settle(self, permit: int, verdict: Verdict, elapsed: int, now: int, hint: int) -> bool:
        """Whether it counted."""
        it = self.admitted[permit]
        again = False
        if isinstance(it, Call) and self.watches():
            # Its end is its first access to itself.
            again, it.ended = it.ended, True
        self.tick(now)
        slow = self.watches() and elapsed > SLOW
        if isinstance(it, Trial):
            if not it.place:
                return False
            it.place = False
            self.endings.append("ended")
            if verdict is FAILURE or slow:
                self.enter("open", hint)
            elif verdict is SUCCESS:
                self.passed += 1
                if self.passed == self.trials:
                    self.enter("closed")
            return True
        assert isinstance(it, Call)
        if again or self.state != "closed" or it.generation != self.generation:
            return False
        before = len(self.slow)
        if it.slow_at is None and (verdict is not IGNORED or slow):
            self.slow.append((self.now, slow))
        self.finished.append((self.now, verdict, elapsed))
        looked = self.tallies()
        if self.watches() and len(self.slow) == before:
            # What entered before its end is not looked at once more.
            looked = looked[:-1]
        if any(bad >= share * calls and calls >= least for bad, calls, share, least in looked):
            self.enter("open", hint)
        return True

    def tallies(self) -> list[tuple[int, int, float, int]]:
        """(bad, calls, share that trips, least calls) of each trip."""
        judged = [(at, verdict is FAILURE) for at, verdict, _ in self.finished if verdict is not IGNORED]
        timed = [slow for _, slow in self.slow]
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
            return (self.reopens() - self.now) * TICK
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
        lease=st.sampled_from([1, 4, 20, 100, None]),
        ramp=st.sampled_from([None, None, 4, 16]),
        growing=st.sampled_from([None, None, [4, 1, 20], [1, 4]]),
        start=st.sampled_from([0, 7, 4_000_000_000]),
    )
    def build(
        self,
        trip: str,
        cooldown: int,
        trials: int,
        lease: int | None,
        ramp: int | None,
        growing: list[int] | None,
        start: int,
    ) -> None:
        self.it = Circuit(
            TRIPS[trip],
            (growing[0] if growing else cooldown) * TICK,
            trials,
            None if lease is None else lease * TICK,
            grows=growing is not None,
            ramp=None if ramp is None else ramp * TICK,
        )
        self.model = Naive(trip, cooldown, trials, lease, ramp, growing, now=start)
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
        ends = [trial.until for trial in self.model.live()] or [self.model.reopens()]
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
        self.measure()

    @rule(eighths=st.integers(0, 7))
    def acquire(self, eighths: int = 4) -> None:
        """A call arrives."""
        now = self.tell()
        admits = self.model.comes(Fraction(eighths, 8))
        permit = self.it.acquire(now, eighths / 8)
        self.measure()
        assert (permit != REFUSED) == admits
        if not admits:
            if self.model.rising is not None:
                left = (self.model.rising + (self.model.ramp or 0) - self.model.now) * TICK
                assert self.it.ramp is not None and 0 < self.it.ramp.wait <= left
            return
        if self.model.state == "closed" and not self.model.watches():
            call = self.model.admitted.setdefault(permit, Call(self.model.generation, self.model.now))
            assert isinstance(call, Call) and call.generation == self.model.generation
        else:
            assert permit not in self.model.admitted, "a permit is drawn once"
            trial = Trial(self.model.now + self.model.patience())
            closed = self.model.state == "closed"
            self.model.admitted[permit] = Call(self.model.generation, self.model.now) if closed else trial
        self.permits.append(permit)

    def measure(self) -> None:
        """Whoever opened a circuit whose cooldown grows says for how long."""
        opening = self.it.unmeasured
        if opening is not None:
            assert self.it.retry_after() == math.inf
            number, before = opening
            growing = self.model.growing
            assert growing is not None and number == self.model.openings
            assert before == (growing[min(number - 1, len(growing)) - 1] * TICK if number > 1 else 0.0)
            self.it.cooldown.tell(opening, self.model.rest() * TICK)
            self.it.cooldown.tell(opening, 1e9)

    def end(self, permit: int, verdict: Verdict, elapsed: int, hint: int = 0) -> None:
        counted = self.model.settle(permit, verdict, elapsed, self.at, hint)
        settled = self.it.settle(permit, verdict, self.at * TICK, elapsed * TICK, hint * TICK)
        self.measure()
        assert settled is (Settled.COUNTED if counted else Settled.LATE)

    verdicts = st.sampled_from([SUCCESS, FAILURE, FAILURE, IGNORED])
    spans = st.sampled_from([0, SLOW - 1, SLOW, SLOW + 1])

    @precondition(lambda self: self.permits)
    @rule(verdict=verdicts, elapsed=spans, hint=st.sampled_from([0, 0, 3, 30]))
    def settle_the_newest(self, verdict: Verdict, elapsed: int, hint: int) -> None:
        """The call that came last ends."""
        self.end(self.permits[-1], verdict, elapsed, hint)

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
        if verb == "reset":
            self.model.rising = None
        self.measure()

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
        assert it.unmeasured is None
        assert it.lease == model.patience() * TICK or model.openings == 0
        assert (it.ramp is None) == (model.rising is None)
        under_way = [c for c in model.admitted.values() if isinstance(c, Call) and c.generation == model.generation]
        running = set() if it.watches is None else it.watches.under_way
        assert len(running) == sum(model.watches() and not call.ended for call in under_way)
        assert it.at_rest(it.latest) == (model.state == "closed" and model.rising is None and not running)
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
            assert wait is not None and wait <= self.model.patience() * TICK


Circuits.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestCircuits = Circuits.TestCase
