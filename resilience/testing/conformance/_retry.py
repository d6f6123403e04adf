"""The laws of a retry, over what its attempts do and how long they take."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from resilience.events import RetryScheduled
from resilience.policies.budget import RetryBudget
from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._line import on_a_loop
from resilience.testing.conformance._search import Broken, Violation
from resilience.testing.conformance._subject import bound, build, fact, in_seconds, is_ours, matching, unmatched

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from resilience.testing.conformance._search import Step
    from resilience.testing.conformance._subject import Make

__all__ = ["RetryFacts", "a_budget", "check_jitter", "drawn", "play"]

ATTEMPTS = "attempts: never more than `attempts` calls, and no fewer while they fail and nothing else ends it"
MATCHED = "matching: only what `on` matches is retried, and never what is no Exception"
UNCHANGED = "unchanged: the last outcome comes out as it is, the same object, with at most one note"
WITHIN = "within: where a delay would end at the limit or past it, the call ends before the sleep"
NO_SLEEP = "sleep: nothing is slept before the first attempt or after the last, and a zero delay calls no sleep"
HINT = "hint: a retry comes no sooner than the hint, and not at all when it is above `max_retry_after`"
BUDGET = "budget: one withdrawal for each retry, one deposit for each call that succeeds"
JITTER = "jitter: a delay is capped first and spread then, so that callers at the cap do not come back together"
EVENTS = "events: one RetryScheduled for each retry"

MOST = 60


def a_budget(clock: VirtualClock | None = None) -> RetryBudget:
    """A budget that is neither full nor short, and changes by what it is asked alone."""
    budget = RetryBudget(0.5, per_second=0, capacity=1000, clock=clock)
    for _ in range(500):
        budget.withdraw()
    return budget


class Gone(BaseException):
    """What is no Exception."""


class RetryFacts:
    """What the check has to know of the retry."""

    def __init__(
        self,
        make: Make,
        *,
        attempts: float | None,
        within: float | None,
        error: Exception | None,
        colour: str,
    ) -> None:
        policy = build(make, VirtualClock(), rng=_high, budget=a_budget())
        self.make = make
        self.colour = colour
        self.ours = is_ours(policy)
        self.attempts = float(fact(policy, "attempts", attempts))
        limit = fact(policy, "within", within, None)
        self.within = inf if limit is None else in_seconds(limit)
        on = fact(policy, "on", None, Exception)
        self.kind = type(matching(on, error))
        self.error = error
        self.on = on
        self.unmatched = unmatched(on)
        most = fact(policy, "max_retry_after", None, 60.0)
        self.max_hint = in_seconds(most)
        self.budgeted = fact(policy, "budget", None, None) is not None

    def failure(self) -> Exception:
        """A fresh error that is retried."""
        return matching(self.on, None) if self.error is None else type(self.error)(*self.error.args)


def drawn(facts: RetryFacts) -> Callable[[random.Random], Step]:
    """What draws an attempt for this retry."""
    limit = facts.within if facts.within < inf else 1.0
    lengths = [0.0, 0.0, 0.0, limit / 2, limit, limit * 0.9, 0.1]
    hints = [0.5, facts.max_hint, facts.max_hint * 2 + 1, limit, 0.0]
    others = ["gone"] + ["unmatched"] * (facts.unmatched is not None)

    def draw(rng: random.Random) -> Step:
        seconds = rng.choice(lengths)
        match rng.randrange(10):
            case 0 | 1:
                return "attempt", seconds, "ok", None
            case 2:
                return "attempt", seconds, rng.choice(others), None
            case 3 if facts.ours:
                return "attempt", seconds, "fail", rng.choice(hints)
            case _:
                return "attempt", seconds, "fail", None

    return draw


def play(facts: RetryFacts, script: Sequence[Step]) -> None:
    """Play one script: as many calls as it takes to use it up.

    Raises:
        Broken: a law is.
    """
    watch = _Watch(facts, script)
    if facts.colour == "sync":
        while watch.left:
            with watch:
                watch.result = bound(watch.policy, watch.attempt)()
            watch.judge()
        return

    async def main() -> None:
        while watch.left:
            with watch:
                watch.result = await bound(watch.policy, watch.attempt_async)()
            watch.judge()

    on_a_loop(main)


class _Done:
    """One attempt."""

    __slots__ = ("began", "ended", "hint", "outcome", "verb")

    def __init__(self, began: float) -> None:
        self.began = self.ended = began
        self.outcome: object = None
        self.verb = ""
        self.hint: float | None = None


class _Watch:
    """A retry that is played on; as a block, around one call."""

    def __init__(self, facts: RetryFacts, script: Sequence[Step]) -> None:
        self.facts = facts
        self.left = list(script)
        self.clock = VirtualClock()
        self.budget = a_budget(self.clock)
        self.policy = build(facts.make, self.clock, rng=_high, budget=self.budget)
        self.log: list[str] = []
        self.done: list[_Done] = []
        self.scheduled: list[RetryScheduled] = []
        if facts.ours:
            self.policy.listen(self.scheduled.append, RetryScheduled)
        self.start = self.level = 0.0
        self.result: object = None
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        self.log.append("call()")
        self.done = []
        self.scheduled.clear()
        self.start = self.clock.now()
        self.level = self.budget.snapshot()["level"]
        self.clock.sleeps.clear()
        self.result = self.error = None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        self.error = error
        return not isinstance(error, Broken)

    def attempt(self, *_: object) -> object:
        done, seconds = self.begin()
        if seconds:
            self.clock.advance(seconds)
        return self.finish(done)

    async def attempt_async(self, *_: object) -> object:
        return self.attempt()

    def begin(self) -> tuple[_Done, float]:
        done = _Done(self.clock.now())
        before = self.done[-1] if self.done else None
        self.done.append(done)
        _, seconds, verb, hint = self.left.pop(0) if self.left else ("attempt", 0.0, "ok", None)
        said = verb if hint is None else f"{verb}, retry_after={hint!r}"
        self.log.append(f"    attempt {len(self.done)} at {done.began - self.start:.9g} s: {seconds!r} s, {said}")
        done.verb, done.hint = verb, hint
        if len(self.done) > self.facts.attempts:
            self.broken(ATTEMPTS, f"attempt {len(self.done)} of {self.facts.attempts:g}")
        if before is not None and before.verb != "fail":
            self.broken(MATCHED, f"attempt {len(self.done)} came after {before.outcome!r}")
        if before is not None and done.began >= self.start + self.facts.within:
            late = done.began - self.start
            self.broken(WITHIN, f"attempt {len(self.done)} began after {late!r} s, within is {self.facts.within!r}")
        return done, seconds

    def finish(self, done: _Done) -> object:
        facts = self.facts
        done.ended = self.clock.now()
        match done.verb:
            case "ok":
                done.outcome = object()
                return done.outcome
            case "gone":
                error: BaseException = Gone()
            case "unmatched" if facts.unmatched is not None:
                error = type(facts.unmatched)(*facts.unmatched.args)
            case _:
                error = facts.failure()
                if done.hint is not None:
                    vars(error)["retry_after"] = done.hint
        done.outcome = error
        raise error

    def judge(self) -> None:
        """Hold a call that has ended against the laws."""
        facts, done = self.facts, self.done
        if not done:
            self.broken(ATTEMPTS, f"no attempt was made: {self.error!r}")
        last = done[-1]
        outcome = self.result if self.error is None else self.error
        if outcome is not last.outcome:
            self.broken(UNCHANGED, f"{outcome!r} came out, the last attempt ended in {last.outcome!r}")
        notes = getattr(self.error, "__notes__", [])
        if len(notes) > (len(done) > 1):
            self.broken(UNCHANGED, f"{len(notes)} notes after {len(done)} attempts: {notes!r}")
        now = self.clock.now()
        if now > last.ended:
            law = WITHIN if facts.within < inf else NO_SLEEP
            self.broken(law, f"it slept {now - last.ended!r} s after the last attempt, to {now - self.start!r} s")
        if done[0].began > self.start or 0.0 in self.clock.sleeps:
            self.broken(NO_SLEEP, f"sleeps were {self.clock.sleeps!r}")
        self.judge_hints()
        ended_early = last.verb == "fail" and len(done) < facts.attempts
        if ended_early and facts.within == inf and not facts.budgeted and (last.hint or 0.0) <= facts.max_hint:
            self.broken(ATTEMPTS, f"it gave up after {len(done)} of {facts.attempts:g}")
        if facts.ours and len(self.scheduled) != len(done) - 1:
            self.broken(EVENTS, f"{len(self.scheduled)} for {len(done) - 1} retries")
        level = self.budget.snapshot()["level"]
        expected = self.level - (len(done) - 1) + 0.5 * (last.verb == "ok")
        if facts.budgeted and level not in (expected, self.level):
            self.broken(
                BUDGET, f"{level - self.level:+g} tokens for {len(done)} attempts, not {expected - self.level:+g}"
            )

    def judge_hints(self) -> None:
        for before, after in pairwise(self.done):
            if before.hint is None:
                continue
            if before.hint > self.facts.max_hint or after.began < before.ended + before.hint:
                gap = after.began - before.ended
                self.broken(HINT, f"a retry came {gap!r} s after the hint {before.hint!r}")

    def broken(self, law: str, seen: str) -> None:
        raise Broken(law, seen, self.log)


# --- jitter -----------------------------------------------------------------------------------------------------------


def check_jitter(facts: RetryFacts) -> None:
    """Where delays are spread at all, they still are at the cap.

    Two callers with other luck wait differently for the first retry; so they must for the fortieth. Delays that depend
    on those before (decorrelated ones) are another matter: they are spread by what has gone before.

    Raises:
        Violation: they are not.
    """
    usual, other = _waits(facts, [0.5] * MOST), _waits(facts, [0.999] * MOST)
    if not usual or not other or usual[0] == other[0]:
        return
    after_another = _waits(facts, [0.999] + [0.5] * MOST)
    if after_another[1:] != usual[1 : len(after_another)]:
        return
    for place, (first, second) in enumerate(zip(usual, other, strict=False)):
        if first == second:
            seen = (
                f"retry {place + 1} comes after {first!r} s for u = 0.5 and for u = 0.999; retry 1 after {usual[0]!r}"
            )
            raise Violation(JITTER, f"{seen} and {other[0]!r}")


def _waits(facts: RetryFacts, luck: list[float]) -> list[float]:
    clock = VirtualClock()
    left = iter(luck)
    policy = build(facts.make, clock, rng=lambda: next(left, 0.5), budget=a_budget(clock))
    began: list[float] = []

    def fail(*_: object) -> object:
        began.append(clock.now())
        if len(began) > MOST:
            raise Gone
        raise facts.failure()

    try:
        bound(policy, fail)()
    except (Exception, Gone):
        return [round(after - before, 9) for before, after in pairwise(began)]
    return []


def _high() -> float:
    return 0.75
