"""B6, the law of a circuit breaker that concerns who only looks: no reader sees a torn snapshot.

One thread drives a breaker through its states while another takes snapshots, in many orders of their instructions.
What may be seen is what is seen where nobody else is at work, from step to step, and in that order: a snapshot that is
none of these was put together from two moments, and one that comes back after a later one is from yesterday.
"""

from __future__ import annotations

from contextlib import suppress

from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._search import Violation
from resilience.testing.conformance._subject import bound, build, half
from resilience.testing.interleave_threads import InterleavingError, interleave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.testing.conformance._breaker_facts import BreakerFacts

__all__ = ["check_snapshots"]

B6 = "B6: no reader sees a torn snapshot"
LOOKS = 6
MOST_FAILURES = 3
"""Failures that a thread makes at most: a breaker that needs more is not opened in each order."""


def check_snapshots(facts: BreakerFacts, *, runs: int, seed: int) -> None:
    """Look at a breaker from beside, where it has a `snapshot`.

    Raises:
        Violation: a snapshot is torn.
    """
    if not callable(getattr(build(facts.make, VirtualClock(), rng=half), "snapshot", None)):
        return
    allowed = _moments(facts)
    if allowed != _moments(facts):
        return  # what it tells is never the same, so nothing can be told from it

    def work(run: _Run) -> None:
        run.work(_nobody)

    def look(run: _Run) -> None:
        for _ in range(LOOKS):
            run.seen.append(run.policy.snapshot())

    def check(run: _Run) -> None:
        place = 0
        for number, seen in enumerate(run.seen, 1):
            if seen not in allowed[place:]:
                torn = seen not in allowed
                raise AssertionError(
                    f"snapshot {number} is {'of no moment' if torn else 'from before the last'}: {seen}"
                )
            place = allowed.index(seen, place)

    try:
        interleave(work, look, setup=lambda: _Run(facts), check=check, seed=seed, runs=runs)
    except InterleavingError as error:
        cause = error.__cause__
        raise Violation(B6, f"{cause or error} (seed {seed})", _steps(facts)) from error


def _moments(facts: BreakerFacts) -> list[Any]:
    """What one who is alone sees, from step to step."""
    run = _Run(facts)
    moments: list[Any] = [run.policy.snapshot()]
    run.work(lambda: moments.append(run.policy.snapshot()))
    return moments


def _steps(facts: BreakerFacts) -> list[str]:
    failures = min(facts.failures, MOST_FAILURES)
    calls = f"{failures} calls that fail, a second apart"
    steps = [calls, f"advance({facts.cooldown!r})", f"{facts.trials} calls that return"]
    return [*steps, f"beside it, {LOOKS} times: snapshot()"]


class _Run:
    """A breaker, and what was seen of it."""

    def __init__(self, facts: BreakerFacts) -> None:
        self.clock = VirtualClock()
        self.policy = build(facts.make, self.clock, rng=half)
        self.seen: list[Any] = []
        self._facts = facts
        self._fails = False
        self._inside: Callable[[], object] = _nobody
        self._call = bound(self.policy, self._function)

    def _function(self, *_: object) -> str:
        self._inside()
        if self._fails:
            raise self._facts.error
        return "ok"

    def work(self, between: Callable[[], object]) -> None:
        """Go through the states, with `between` at every moment that may be seen."""
        facts = self._facts
        self._inside = between
        for fails in [True] * min(facts.failures, MOST_FAILURES):
            # Else nobody could tell what was written then from what was written before.
            self._pass(1.0, between)
            self._make(fails)
            between()
        self._pass(facts.cooldown, between)
        for _ in range(facts.trials):
            self._make(False)
            between()

    def _pass(self, seconds: float, between: Callable[[], object]) -> None:
        self.clock.advance(seconds)
        between()

    def _make(self, fails: bool) -> None:
        self._fails = fails
        with suppress(Exception):
            self._call()


def _nobody() -> None:
    """Nobody looks."""
