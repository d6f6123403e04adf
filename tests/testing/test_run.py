"""`run`: a script is played through a policy, and the trace says what became of each call."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitState,
    Fallback,
    Hedge,
    Keyed,
    Pipeline,
    ResultNotAccepted,
    Retry,
    RetryBudget,
    Throttle,
    Throttled,
    TimedOut,
    Timeout,
    clock,
    listen,
)
from resilience._hub import HUB
from resilience.events import (
    AttemptFailed,
    BudgetExhausted,
    CallRejected,
    CallSucceeded,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    RetryGaveUp,
    RetryScheduled,
)
from resilience.testing.clock import VirtualClock
from resilience.testing.script import Trace, advance, run, run_async
from resilience.testing.virtual import virtual_time


def on_asyncio(policy: Any, script: list[Any]) -> Trace:
    """Play a script on asyncio."""
    return asyncio.run(run_async(policy, script))


def on_trio(policy: Any, script: list[Any]) -> Trace:
    """Play a script on trio."""
    trace: Trace = trio.run(run_async, policy, script, clock=MockClock())
    return trace


Player = Callable[[Any, list[Any]], Trace]

everywhere = pytest.mark.parametrize("play", [run, on_asyncio, on_trio], ids=["sync", "asyncio", "trio"])


@everywhere
def test_a_call_takes_as_many_entries_as_it_makes_attempts(play: Player) -> None:
    """The trace has one call for each that was made, with its outcome, attempts and waits."""
    dead = ConnectionError("dead")
    retry = Retry(on=ConnectionError, attempts=3, backoff=[1, 2])
    trace = play(retry, [ConnectionError(), ConnectionError, "page", "next", ValueError("no"), dead, dead, dead])
    assert [call.attempts for call in trace] == [3, 1, 1, 3]
    assert trace.outcomes[:2] == ["page", "next"]
    assert isinstance(trace[2].error, ValueError)
    assert trace[3].outcome is dead
    assert [call.waits for call in trace] == [[1.0, 2.0], [], [], [1.0, 2.0]]
    assert [call.at for call in trace] == [0.0, 3.0, 3.0, 3.0]
    assert [call.number for call in trace] == [1, 2, 3, 4]


@everywhere
def test_attempts_take_time_and_time_passes_between_calls(play: Player) -> None:
    """`(seconds, outcome)` takes that long, `advance(s)` lets s seconds pass, and neither is a wait."""
    retry = Retry(on=OSError, backoff=0.1)
    trace = play(
        retry, [(2, OSError()), (0.5, "a"), advance(60), advance(timedelta(hours=1)), (timedelta(minutes=1), "b")]
    )
    assert [(call.at, call.seconds, call.waits) for call in trace] == [(0.0, 2.6, [0.1]), (3662.6, 60.0, [])]


@everywhere
def test_events_belong_to_the_call_in_which_they_were_told(play: Player) -> None:
    """Each call has the events of every policy in it, in order."""
    retry = Retry(on=OSError, attempts=2, backoff=1, budget=RetryBudget(0, per_second=0, capacity=1))
    trace = play(retry, [OSError(), "page", OSError("dead")])
    assert [type(event) for event in trace[0].events] == [AttemptFailed, RetryScheduled, CallSucceeded]
    assert [type(event) for event in trace[1].events] == [AttemptFailed, BudgetExhausted, RetryGaveUp]
    assert [event.kind for event in trace.events] == ["retry"] * 4 + ["retry_budget", "retry"]


@everywhere
def test_the_life_of_a_circuit(play: Player) -> None:
    """A circuit opens, refuses, is tried after its cooldown and closes, and every step of it is in the trace."""
    breaker = CircuitBreaker(2, on=OSError, cooldown=30)
    trace = play(breaker, [OSError(), OSError(), "not made", advance(30), "back"])
    assert [type(outcome).__name__ for outcome in trace.outcomes] == ["OSError", "OSError", "CircuitOpen", "str"]
    told = [[type(event) for event in call.events] for call in trace]
    assert told == [[], [CircuitOpened], [CallRejected], [CircuitHalfOpened, CircuitClosed, CallSucceeded]]


@everywhere
def test_a_refused_call_takes_the_entry_that_it_would_have_used(play: Player) -> None:
    """A call that is refused before its first attempt has none, and the next call goes on behind its entry."""
    trace = play(Throttle("1/s"), ["a", "b", advance(1), "c"])
    assert [call.attempts for call in trace] == [1, 0, 1]
    assert isinstance(trace[1].error, Throttled)
    assert trace[2].result == "c"


@everywhere
def test_waits_of_any_policy_are_waits(play: Player) -> None:
    """A wait for a throttle's turn counts like a backoff, together with it where nothing runs in between."""
    policy = Pipeline(Retry(on=OSError, attempts=3, backoff=1), Throttle("1/minute", max_wait=math.inf))
    trace = play(policy, [OSError(), (3, OSError()), "page"])
    assert trace.waits == [60.0, 57.0]
    assert trace[0].seconds == 120.0


@everywhere
def test_results_may_be_replaced_and_refused(play: Player) -> None:
    """The outcome is what came out of the policy, not what the script put in."""
    policy = Pipeline(
        Fallback(on=ResultNotAccepted, value="stale"),
        Retry(on_result=lambda result: result is None, attempts=2, backoff=1),
    )
    assert play(policy, [None, None, None, "page"]).outcomes == ["stale", "page"]


def test_a_timeout_cuts_a_slow_attempt() -> None:
    """An attempt that takes too long is cut by a timeout, on a loop and on a worker."""
    script = [(2, "late"), (0.5, "page")]
    for trace in (run(Timeout(1, thread=True), script), on_asyncio(Timeout(1), script), on_trio(Timeout(1), script)):
        assert isinstance(trace[0].error, TimedOut)
        assert [(call.seconds, call.waits) for call in trace] == [(1.0, []), (0.5, [])]
        assert trace[1].result == "page"


@everywhere
def test_copies_of_a_hedge_are_attempts(play: Player) -> None:
    """The copy of a slow call takes the next entry, and the time in which either runs is no wait."""
    trace = play(Hedge(after=1, max_extra_load=1), [(2, "slow"), (0.5, "quick"), "next"])
    assert trace.outcomes == ["quick", "next"]
    assert (trace[0].attempts, trace[0].seconds, trace[0].waits) == (2, 1.5, [])


@everywhere
def test_what_is_no_exception_passes_and_is_an_outcome(play: Player) -> None:
    """A script may raise what no policy touches, and the trace holds it."""

    class Stop(BaseException):
        pass

    trace = play(Retry(on=Exception, backoff=1), [Stop("now"), "page"])
    assert isinstance(trace[0].error, Stop)
    assert (trace[0].attempts, trace[1].result) == (1, "page")


@everywhere
def test_tuples_that_do_not_begin_with_a_number_are_results(play: Player) -> None:
    """Only a pair of seconds and an outcome is a pair; a pair of numbers is returned by `(0, pair)`."""
    results: list[Any] = [("a", "b"), (1, 2, 3), (), (True, "x"), (0, (1, 2))]
    assert play(Bulkhead(1), results).outcomes == [("a", "b"), (1, 2, 3), (), (True, "x"), (1, 2)]


@everywhere
def test_the_policy_is_afterwards_as_it_was(play: Player) -> None:
    """The run begins with the state that a policy has, and gives it back, as it gives back the clock."""
    breaker, throttle = CircuitBreaker(2, on=OSError), Throttle("2/hour")
    with pytest.raises(OSError, match="down"):
        breaker.call(_raise, OSError("down"))
    assert throttle.try_acquire()
    trace = play(Pipeline(throttle, breaker), [OSError(), "refused"])
    assert isinstance(trace[1].error, Throttled)
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["failures"] == 1
    assert throttle.try_acquire()
    assert not throttle.try_acquire()
    assert clock.default.now is time.monotonic


@everywhere
def test_an_empty_script_makes_no_call(play: Player) -> None:
    """Nothing to do is done."""
    assert play(Retry(on=OSError), []) == ()
    assert play(Retry(on=OSError), [advance(1)]).outcomes == []


# --- whose time -------------------------------------------------------------------------------------------------------


@everywhere
def test_a_policy_may_have_a_virtual_clock_of_its_own(play: Player) -> None:
    """A policy that was built with a virtual clock waits on that."""
    own = VirtualClock()
    policy = Pipeline(Retry(on=OSError, backoff=1, clock=own), CircuitBreaker(2, on=OSError, cooldown=9, clock=own))
    trace = play(policy, [(2, OSError()), "a", advance(10), (3, "b")])
    assert [(call.at, call.seconds, call.waits) for call in trace] == [(0.0, 3.0, [1.0]), (13.0, 3.0, [])]
    assert own.now() == 16.0


@everywhere
def test_a_clock_that_cannot_be_moved_is_refused(play: Player) -> None:
    """A policy that would really wait, and parts that disagree about the time, are TypeErrors that say so."""

    class Machine:
        now, sleep, sleep_async = clock.default.now, clock.default.sleep, clock.default.sleep_async

    machine: Any = Machine()
    with pytest.raises(TypeError, match="cannot be moved: leave it out"):
        play(Retry(on=OSError, clock=machine), ["page"])
    with pytest.raises(TypeError, match="share one clock"):
        play(Pipeline(Retry(on=OSError), Timeout(1, thread=False, clock=VirtualClock())), ["page"])


def test_inside_virtual_time_it_goes_on_from_there() -> None:
    """In a block of virtual time, plain or on a loop, a run uses the block's clock."""
    retry, script = Retry(on=OSError, backoff=[1, 2]), [OSError(), OSError(), "page", advance(10)]
    with virtual_time() as outer:
        before = outer.now()
        assert run(retry, script).waits == [1.0, 2.0]
        assert outer.now() == pytest.approx(before + 13)
        assert on_asyncio(retry, script).waits == [1.0, 2.0]

    async def inside() -> list[float]:
        async with virtual_time():
            return (await run_async(retry, script)).waits

    assert asyncio.run(inside()) == trio.run(inside, clock=MockClock()) == [1.0, 2.0]


def test_each_colour_has_its_own_function() -> None:
    """`run` on a loop and `run_async` without one are RuntimeErrors that name the other."""

    async def main() -> None:
        run(Retry(on=OSError), [])

    with pytest.raises(RuntimeError, match="await run_async"):
        asyncio.run(main())
    with pytest.raises(RuntimeError, match="use run"):
        run_async(Retry(on=OSError), []).send(None)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([OSError()], "script ends in the middle of call 1: there is no entry for its attempt 2"),
        (["a", OSError(), advance(3), "b"], r"script goes on with script\[2\], advance\(3\), in the middle of call 2"),
    ],
)
def test_a_script_that_ends_in_the_middle_of_a_call_is_an_error(play: Player, script: list[Any], said: str) -> None:
    """An attempt without an entry is an error, which no retry, fallback or hedge can hide."""
    for policy in (
        Retry(on=Exception, backoff=0),
        Pipeline(Fallback(on=Exception, value="stale"), Retry(on=Exception, backoff=0)),
        Hedge(on=Exception, max_extra_load=1),
    ):
        with pytest.raises(ValueError, match=said):
            play(policy, script)


@everywhere
@pytest.mark.parametrize(
    ("entry", "error", "said"),
    [
        ((-1, "x"), ValueError, r"script\[1\] must be .*got -1"),
        ((math.nan, "x"), ValueError, r"script\[1\] must be"),
        ((math.inf, "x"), ValueError, r"script\[1\] must be"),
        ((1, advance(2)), TypeError, r"script\[1\] must be advance\(s\) alone"),
        (UnicodeDecodeError, TypeError, r"script\[1\].* UnicodeDecodeError needs arguments"),
    ],
)
def test_a_script_is_checked_before_anything_runs(play: Player, entry: Any, error: type[Exception], said: str) -> None:
    """A wrong entry is an error that says which it is, and no call was made."""
    heard: list[Any] = []
    stop = listen(heard.append)
    with pytest.raises(error, match=said):
        play(CircuitBreaker(), ["page", entry])
    stop()
    assert heard == []


@everywhere
def test_a_script_is_a_list_and_is_played_through_a_policy(play: Player) -> None:
    """Text, a class and a plain function are TypeErrors that say what was meant."""
    wrong: Any = "page"
    with pytest.raises(TypeError, match="script must be a list"):
        play(Retry(on=OSError), wrong)
    for policy in (Retry, print, Keyed(lambda _: Bulkhead(1))):
        with pytest.raises(TypeError):
            play(policy, ["page"])


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", None, True])
def test_advance_takes_seconds(seconds: Any) -> None:
    """What is not a finite number of seconds, 0 or more, is refused by name."""
    with pytest.raises((TypeError, ValueError), match="seconds must be"):
        advance(seconds)


def test_a_real_interrupt_is_no_outcome() -> None:
    """A KeyboardInterrupt that is not of the script's ends the run."""

    class Impatient:
        def bind(self, fn: Callable[..., Any]) -> Callable[..., Any]:
            return lambda: _raise(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        run(Impatient(), ["page"])
    assert clock.default.now is time.monotonic


# --- the table --------------------------------------------------------------------------------------------------------


def test_prints_as_a_table() -> None:
    """A trace prints a line for each call, under a heading, with errors by name and message."""
    policy = Pipeline(Retry(on=OSError, attempts=2, backoff=1.5), Bulkhead(1))
    trace = run(policy, [OSError("down"), "a\npage", advance(7), {"key": "v" * 99}, OSError(), OSError("dead")])
    assert str(trace).splitlines() == [
        "call  at   took  attempts  waits  outcome                                       events",
        f"----  ---  ----  --------  -----  {'-' * 44}  {'-' * len(TOLD)}",
        f"1     0    1.5   2         1.5    'a\\npage'                                     {TOLD}",
        f"2     8.5  0     1                {{'key': '{'v' * 32}...  CallSucceeded, CallSucceeded",
        f"3     8.5  1.5   2         1.5    OSError: dead{' ' * 33}{FAILED}",
    ]
    assert repr(trace) == f"<Trace of 3 calls>\n{trace}"
    assert repr(trace[0]) == "<call 1: 'a\\npage', 2 attempts, waits [1.5]>"


FAILED = "AttemptFailed, RetryScheduled, AttemptFailed, RetryGaveUp"
TOLD = "AttemptFailed, RetryScheduled, CallSucceeded, CallSucceeded"


def test_keeps_nothing_alive() -> None:
    """A run leaves no listener behind, and a policy that was played with is gone when nobody holds it."""
    before = HUB.listeners
    retry = Retry(on=OSError)
    trace = run(retry, ["page"])
    assert HUB.listeners == before
    alive = weakref.ref(retry)
    del retry
    gc.collect()
    assert alive() is None
    assert trace.outcomes == ["page"]


def _raise(error: BaseException) -> Any:
    raise error
