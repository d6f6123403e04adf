"""The laws of this library, held against a policy of your own.

    from resilience.testing import conformance

    conformance.breaker(lambda clock: MyBreaker(5, cooldown=30, clock=clock))
    conformance.store(lambda clock: MyStore())

A breaker is written in an afternoon, and what is wrong with it comes out in the outage that it was written for: two
calls that end in the wrong order, a caller that goes away, a reading of the clock one ulp early. The laws say what must
hold then, in any order of events. Each check draws scripts of overlapping calls with times at and beside the
boundaries, plays them through fresh policies in virtual time, and raises a `Violation`, which is an `AssertionError`,
with the law, what was seen, and the shortest script that it could make of it. Nothing sleeps, nothing but the standard
library is needed, and a seed gives the same scripts each time.

The first argument makes the policy or store and is given a clock; where it names `rng` or `budget` as well, it gets
those. What a check has to know (a limit, a cooldown) it reads from the policy, or is told by keyword. `colours` are the
kinds of function to check with, "sync" and "async"; both for what has `call_async`, and "trio" too where callers wait.
Plain code calls these, where no event loop runs.
"""

from __future__ import annotations

import os
from functools import partial

from resilience.policies._store_words import check_store
from resilience.testing.clock import VirtualClock
from resilience.testing.conformance import (
    _breaker,
    _breaker_snapshot,
    _bulkhead,
    _retry,
    _store,
    _store_crowd,
    _throttle,
    _waiters,
)
from resilience.testing.conformance._search import Violation, search
from resilience.testing.conformance._subject import COLOURS, build, colours_of, half, own_loop, runtimes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.rates import Rate
    from resilience.testing.conformance._subject import Make

__all__ = ["Violation", "breaker", "bulkhead", "retry", "store", "throttle"]


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
    """Check a circuit breaker: B1 to B6, and what the states promise.

    B6 is checked where there is a `snapshot()` and plain calls: it is taken from a second thread, by `interleave`.

    Args:
        make: makes one, given a clock.
        cooldown: seconds that it stays open.
        trials: live trials in half-open at most, and successes that close it; 1 where nobody says.
        trial_lease: seconds after which a trial gives its place back; the cooldown by default.
        trip: failures in a row that open it. Where nobody says, what opens it is not checked.
        error: an error that it counts; made from its `on` by default.
        state: reads its state: "closed", "open" or "half_open"; its attribute `state` by default.
        colours: the kinds of function to check with.
        examples: scripts to play for each, and three times the orders of two threads to try.
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
        if colour == "sync":
            _breaker_snapshot.check_snapshots(facts, runs=max(1, examples // 3), seed=seed)


def throttle(
    make: Make,
    *,
    rate: str | Rate | None = None,
    burst: float | None = None,
    colours: Sequence[str] | None = None,
    examples: int = 150,
    seed: int = 0,
) -> None:
    """Check a throttle: T1 to T6 and T9 for those who ask; T7 and T8 for those who wait.

    It is asked by `try_acquire(cost=, key=)` and `acquire(cost=, key=, max_wait=)`, those of them that it has and with
    the keywords that they take, and by calls where it has neither.

    Args:
        make: makes one, given a clock.
        rate: its rate, as text or a `Rate`.
        burst: tokens that may be taken at once, where the rate does not say.
        colours: where to wait: "sync" for threads in `acquire(max_wait=)`, which no one cancels; "async" for tasks of
            asyncio and "trio" for those of trio in `acquire_async(max_wait=)`. By default, a policy of this library
            is waited for in all three, and another in asyncio, where it has an `acquire_async`.
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
    for runtime in runtimes_of(build(make, VirtualClock()), colours, ("async",)):
        if facts.blocks if runtime == "sync" else facts.waits:
            play = partial(_waiters.play, facts, runtime)
            search(play, _waiters.drawn(facts), examples=examples, seed=seed, colour=runtime)


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

    Its queue is checked with those who wait in it: threads, tasks of asyncio and tasks of trio.

    Args:
        make: makes one, given a clock.
        limit: calls in flight at most.
        queue: callers that may wait; 0 where nobody says.
        colours: the kinds of function to check with, and where: "sync" for plain calls and threads, "async" for
            asyncio, "trio". A policy of this library is checked in all three by default. Of another, those threads
            have to wait by the clock that it is given, or they are judged by where they stand.
        examples: scripts to play for each.
        seed: of the scripts.

    Raises:
        Violation: it breaks a law.
        TypeError: something about it is not known and was not said.
    """
    facts = _bulkhead.BulkheadFacts(make, limit=limit, queue=queue)
    made = build(make, VirtualClock())
    for colour in runtimes_of(made, colours, colours_of(made, None)):
        draw = _bulkhead.drawn(facts)
        in_line = colour != "sync" or facts.queue
        play = partial(_bulkhead.play_in_line, facts, colour) if in_line else partial(_bulkhead.play, facts)
        search(play, draw, examples=examples, seed=seed, colour=colour)


def store(make: Make, *, colours: Sequence[str] = COLOURS, examples: int = 50, seed: int = 0) -> None:
    """Check a store: that it decides as the pure cores do, each name by itself, and one question at a time.

    It is asked by `ask` and by `ask_async`, under names that nobody has used before, at readings that it is told. So
    `make` may return one store again and again, and a server behind it needs no clearing; nor is it cleared. What has a
    `close_async` is closed by it before the loop of the check is.

    Args:
        make: makes one, given a clock.
        colours: "sync" for `ask`, "async" for `ask_async` on asyncio.
        examples: scripts to play of each of seven sorts.
        seed: of the scripts.

    Raises:
        Violation: it breaks a law.
        TypeError: it has no `ask` or no `ask_async`.
    """
    made = build(make, VirtualClock())
    check_store("conformance.store", made, "")
    for colour in colours_of(made, colours):
        with own_loop(colour) as loop:
            facts = _store.StoreFacts(make, loop=loop)
            try:
                for draw in _store.draws():
                    search(partial(_store.play, facts), draw, examples=examples, seed=seed, colour=colour)
                _store_crowd.check_crowd(facts, f"conformance {os.urandom(8).hex()}")
            finally:
                facts.close()
