"""The laws of this library, held against a policy of your own.

    from resilience.testing import conformance

    conformance.breaker(lambda clock: MyBreaker(5, cooldown=30, clock=clock))

A breaker is written in an afternoon, and what is wrong with it comes out in the outage that it was written for: two
calls that end in the wrong order, a caller that goes away, a reading of the clock one ulp early. The laws say what must
hold then, in any order of events. Each check draws scripts of overlapping calls with times at and beside the
boundaries, plays them through fresh policies in virtual time, and raises a `Violation`, which is an `AssertionError`,
with the law, what was seen, and the shortest script that it could make of it. Nothing sleeps, nothing but the standard
library is needed, and a seed gives the same scripts each time.

The first argument makes the policy and is given a clock; where it names `rng` or `budget` as well, it gets those. What
a check has to know (a limit, a cooldown) it reads from the policy, or is told by keyword. `colours` are the kinds of
function to check with, "sync" and "async"; both for what has `call_async`. Plain code calls these, where no event loop
runs.
"""

from __future__ import annotations

from functools import partial

from resilience.testing.clock import VirtualClock
from resilience.testing.conformance import _breaker, _bulkhead, _retry, _throttle, _waiters
from resilience.testing.conformance._search import Violation, search
from resilience.testing.conformance._subject import build, colours_of, half, own_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.rates import Rate
    from resilience.testing.conformance._subject import Make

__all__ = ["Violation", "breaker", "bulkhead", "retry", "throttle"]


def breaker(
    make: Make,
    *,
    cooldown: float | None = None,
    trials: int | None = None,
    trial_lease: float | None = None,
    trip: int | None = None,
    error: Exception | None = None,
    state: Callable[[Any], Any] | None = None,
    colours: Sequence[str] | None = None,
    examples: int = 150,
    seed: int = 0,
) -> None:
    """Check a circuit breaker: B1 to B5, and what the states promise.

    Args:
        make: makes one, given a clock.
        cooldown: seconds that it stays open.
        trials: live trials in half-open at most, and successes that close it; 1 where nobody says.
        trial_lease: seconds after which a trial gives its place back; the cooldown by default.
        trip: failures in a row that open it. Where nobody says, what opens it is not checked.
        error: an error that it counts; made from its `on` by default.
        state: reads its state: "closed", "open" or "half_open"; its attribute `state` by default.
        colours: the kinds of function to check with.
        examples: scripts to play for each.
        seed: of the scripts.

    Raises:
        Violation: it breaks a law.
        TypeError: something about it is not known and was not said.
    """
    for colour in colours_of(build(make, VirtualClock(), rng=half), colours):
        with own_loop(colour) as loop:
            facts = _breaker.BreakerFacts(
                make,
                cooldown=cooldown,
                trials=trials,
                trial_lease=trial_lease,
                trip=trip,
                error=error,
                state=state,
                colour=colour,
                loop=loop,
            )
            search(partial(_breaker.play, facts), _breaker.drawn(facts), examples=examples, seed=seed, colour=colour)


def throttle(
    make: Make,
    *,
    rate: str | Rate | None = None,
    burst: float | None = None,
    examples: int = 150,
    seed: int = 0,
) -> None:
    """Check a throttle: T1 to T6 and T9 for those who ask; T7 and T8 where there is an `acquire_async` to wait in.

    It is asked by `try_acquire(cost=, key=)` and `acquire(cost=, key=, max_wait=)`, those of them that it has and with
    the keywords that they take, and by calls where it has neither.

    Args:
        make: makes one, given a clock.
        rate: its rate, as text or a `Rate`.
        burst: tokens that may be taken at once, where the rate does not say.
        examples: scripts to play for each way of asking.
        seed: of the scripts.

    Raises:
        Violation: it breaks a law.
        TypeError: something about it is not known and was not said.
    """
    facts = _throttle.ThrottleFacts(make, rate=rate, burst=burst)
    _throttle.check_cost_above_burst(facts)
    _throttle.check_refunds(facts)
    for start in (0.0, 1e9):
        search(partial(_throttle.play, facts, start), _throttle.drawn(facts), examples=examples, seed=seed)
    if facts.waits:
        search(partial(_waiters.play, facts), _waiters.drawn(facts), examples=examples, seed=seed, colour="async")


def retry(
    make: Make,
    *,
    attempts: float | None = None,
    within: float | None = None,
    error: Exception | None = None,
    colours: Sequence[str] | None = None,
    examples: int = 150,
    seed: int = 0,
) -> None:
    """Check a retry: which outcomes it repeats, how often, when it stops, and what comes out.

    How jitter and cap go together is checked where `make` names `rng`, and what a budget is asked where it names
    `budget`.

    Args:
        make: makes one, given a clock.
        attempts: calls at most, the first included.
        within: seconds for the whole; no limit where nobody says.
        error: an error that it retries; made from its `on` by default.
        colours: the kinds of function to check with.
        examples: scripts to play for each.
        seed: of the scripts.

    Raises:
        Violation: it breaks a law.
        TypeError: something about it is not known and was not said.
    """
    policy = build(make, VirtualClock(), rng=half, budget=_retry.a_budget())
    for colour in colours_of(policy, colours):
        facts = _retry.RetryFacts(make, attempts=attempts, within=within, error=error, colour=colour)
        search(partial(_retry.play, facts), _retry.drawn(facts), examples=examples, seed=seed, colour=colour)
        if colour == "sync":
            _retry.check_jitter(facts)


def bulkhead(
    make: Make,
    *,
    limit: int | None = None,
    queue: int | None = None,
    colours: Sequence[str] | None = None,
    examples: int = 150,
    seed: int = 0,
) -> None:
    """Check a bulkhead: the limit, the order of its queue, and that no place is ever lost.

    The queue is checked with tasks of asyncio, so only for what takes an async function.

    Args:
        make: makes one, given a clock.
        limit: calls in flight at most.
        queue: callers that may wait; 0 where nobody says.
        colours: the kinds of function to check with.
        examples: scripts to play for each.
        seed: of the scripts.

    Raises:
        Violation: it breaks a law.
        TypeError: something about it is not known and was not said.
    """
    facts = _bulkhead.BulkheadFacts(make, limit=limit, queue=queue)
    for colour in colours_of(build(make, VirtualClock()), colours):
        play = _bulkhead.play if colour == "sync" else _bulkhead.play_async
        search(partial(play, facts), _bulkhead.drawn(facts), examples=examples, seed=seed, colour=colour)
