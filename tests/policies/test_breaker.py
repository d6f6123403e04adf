"""What a circuit breaker does for one caller after the other, in every colour and every call form."""

from __future__ import annotations

import json
import math
import pickle
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from resilience import (
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Consecutive,
    FailureRate,
    Fallback,
    Rejected,
    Retry,
    SlowRate,
    Throttled,
    TimedOut,
    backoff,
)
from resilience.testing import VirtualClock
from tests.colours import Colour, every_colour

EVERY_FORM = ("call", "decorator", "guard", "generator")
in_every_form = pytest.mark.parametrize("form", EVERY_FORM)

Body = Callable[[], Coroutine[Any, Any, Any]]


class Boom(Exception):
    """What the callee raises in these tests."""


def by_hand(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("this coroutine suspends")


def painted(colour: Colour, body: Body) -> Callable[[], Any]:
    """A def or an async def of this colour that does what `body` does."""

    def plain() -> Any:
        return by_hand(body())

    async def coloured() -> Any:
        return await body()

    return coloured if colour.is_async else plain


async def through(colour: Colour, breaker: Any, form: str, body: Body) -> Any:
    """Run `body` once behind the breaker in one of the call forms; in a generator it makes the only item."""
    if form == "guard" and colour.is_async:
        async with breaker.guard():
            return await body()
    if form == "guard":
        with breaker.guard():
            return await body()
    if form != "generator":
        return await colour.call(breaker, painted(colour, body), form=form)
    items = []
    if colour.is_async:

        async def coloured():
            yield await body()

        async for item in breaker(coloured)():
            items.append(item)
    else:

        def plain():
            yield by_hand(body())

        items += breaker(plain)()
    return items[0]


async def fails() -> None:
    """Raise."""
    raise Boom("down")


async def works() -> str:
    """Return."""
    return "fine"


async def outcome_of(awaitable: Awaitable[Any]) -> Any:
    """What was returned, or the exception that was raised, as a value."""
    try:
        return await awaitable
    except Exception as error:
        return error


def opened(clock: VirtualClock, **parameters: Any) -> CircuitBreaker:
    """A breaker that one failure has just opened."""
    breaker = CircuitBreaker(1, on=Boom, clock=clock, **parameters)
    with pytest.raises(Boom), breaker.guard():
        raise Boom("down")
    assert breaker.state == "open"
    return breaker


def half_open(clock: VirtualClock, **parameters: Any) -> CircuitBreaker:
    """A breaker that has just become half-open."""
    breaker = opened(clock, **parameters)
    clock.advance(parameters.get("cooldown", 30.0))
    assert breaker.state == "half_open"
    return breaker


# --- the round --------------------------------------------------------------------------------------------------------


@in_every_form
@every_colour
async def test_closed_open_half_open_closed(colour: Colour, form: str) -> None:
    """Five failures in a row open it, the cooldown makes it half-open, one success closes it."""
    breaker = CircuitBreaker(clock=colour.clock)
    for _ in range(5):
        assert breaker.state == "closed"
        with pytest.raises(Boom):
            await through(colour, breaker, form, fails)
    assert breaker.state is CircuitState.OPEN
    ran = []

    async def runs() -> None:
        ran.append(1)

    with pytest.raises(CircuitOpen):
        await through(colour, breaker, form, runs)
    assert not ran
    colour.clock.advance(30.0)
    assert await through(colour, breaker, form, works) == "fine"
    assert breaker.state == "closed"
    with pytest.raises(Boom):
        await through(colour, breaker, form, fails)
    assert breaker.state == "closed"


@in_every_form
@every_colour
async def test_the_tripping_call_raises_its_own_error(colour: Colour, form: str) -> None:
    """Whoever opens the circuit hears the callee; everybody after hears `CircuitOpen`, with how long and why."""
    breaker = CircuitBreaker(2, cooldown=20, name="auth0", clock=colour.clock)
    error = Boom("no route")

    async def raises() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(Boom) as own:
            await through(colour, breaker, form, raises)
        assert own.value is error
    colour.clock.advance(5)
    with pytest.raises(CircuitOpen) as refused:
        await through(colour, breaker, form, works)
    it = refused.value
    assert (it.policy, it.state, it.retry_after) == ("auth0", "open", 15.0)
    assert it.last_error == ("Boom", "no route")
    assert str(it) == "auth0: the circuit is open; last failure Boom: no route; try again in 15 s"
    assert isinstance(it, Rejected)
    assert it.__cause__ is None and it.__context__ is None


@in_every_form
@every_colour
async def test_a_failed_trial_opens_it_for_another_cooldown(colour: Colour, form: str) -> None:
    """The first failure in half-open opens the circuit again."""
    breaker = half_open(colour.clock, cooldown=10.0, trials=2)
    await through(colour, breaker, form, works)
    colour.clock.advance(3)
    with pytest.raises(Boom):
        await through(colour, breaker, form, fails)
    with pytest.raises(CircuitOpen) as refused:
        await through(colour, breaker, form, works)
    assert refused.value.retry_after == 10.0


@every_colour
async def test_a_success_is_counted_whatever_way_it_is_clean(colour: Colour) -> None:
    """A success between two failures starts the count anew, in whatever form it came."""
    breaker = CircuitBreaker(2, on=Boom, clock=colour.clock)
    for form in EVERY_FORM:
        for _ in range(3):
            with pytest.raises(Boom):
                await through(colour, breaker, "call", fails)
            assert await through(colour, breaker, form, works) == "fine"
    assert breaker.state == "closed"


@in_every_form
@every_colour
async def test_a_rate_may_trip_on_a_success(colour: Colour, form: str) -> None:
    """The call that completes `minimum_calls` is looked at, though it succeeded."""
    breaker = CircuitBreaker(FailureRate(0.5, calls=4), on=Boom, clock=colour.clock)
    for body in (fails, fails, works):
        await outcome_of(through(colour, breaker, form, body))
    assert breaker.state == "closed"
    assert await through(colour, breaker, form, works) == "fine"
    assert breaker.state == "open"


@in_every_form
@every_colour
async def test_slow_calls_open_it_and_a_slow_trial_opens_it_again(colour: Colour, form: str) -> None:
    """With a `SlowRate`, time counts in every form: successes that take too long trip, and fail as trials."""
    breaker = CircuitBreaker(SlowRate(1.0, slower_than=2, calls=2), cooldown=10, clock=colour.clock)

    def takes(seconds: float) -> Body:
        async def slow() -> str:
            await colour.sleep(seconds)
            return "fine"

        return slow

    for seconds in (3, 2, 3, 3):
        assert breaker.state == "closed"
        assert await through(colour, breaker, form, takes(seconds)) == "fine"
    assert breaker.state == "open"
    colour.clock.advance(10)
    assert await through(colour, breaker, form, takes(2.5)) == "fine"
    assert breaker.state == "open"
    colour.clock.advance(10)
    await through(colour, breaker, form, takes(2))
    assert breaker.state == "closed"


@in_every_form
@every_colour
async def test_time_counts_where_only_one_of_several_trips_asks_for_it(colour: Colour, form: str) -> None:
    """A `SlowRate` beside another trip is enough for calls to be timed."""
    breaker = CircuitBreaker((5, SlowRate(1.0, slower_than=2, calls=1)), clock=colour.clock)

    async def slow() -> None:
        await colour.sleep(3)

    await through(colour, breaker, form, slow)
    assert breaker.state == "open"


@in_every_form
@every_colour
async def test_an_error_that_is_neutral_is_not_slow_either(colour: Colour, form: str) -> None:
    """What `on` does not name says nothing, however long it took."""
    breaker = CircuitBreaker(SlowRate(1.0, slower_than=0.5, calls=1), on=Boom, clock=colour.clock)

    async def slow() -> None:
        await colour.sleep(3)
        raise KeyError

    with pytest.raises(KeyError):
        await through(colour, breaker, form, slow)
    assert (breaker.state, breaker.snapshot()["calls"]) == ("closed", 0)


@every_colour
async def test_a_time_window_through_the_policy(colour: Colour) -> None:
    """Failures out of the window do not count, those within do."""
    breaker = CircuitBreaker(FailureRate(1.0, window=10, minimum_calls=3), on=Boom, clock=colour.clock)
    for _ in range(3):
        await outcome_of(colour.call(breaker, painted(colour, fails)))
        await colour.sleep(9)
    assert breaker.state == "closed"
    for _ in range(2):
        await outcome_of(colour.call(breaker, painted(colour, fails)))
    assert breaker.state == "open"


def test_one_of_several_trips_suffices() -> None:
    """A tuple trips when any of it does."""
    breaker = CircuitBreaker((50, FailureRate(0.2, calls=5)), on=Boom)
    for i in range(5):
        with pytest.raises(Boom) if i == 0 else pytest.MonkeyPatch.context(), breaker.guard():
            if i == 0:
                raise Boom
    assert breaker.state == "open"


# --- what counts ------------------------------------------------------------------------------------------------------


def after(breaker: CircuitBreaker, outcome: object) -> tuple[int, str]:
    """(failures counted, state) after one call that raises or returns `outcome`."""

    def scripted() -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    try:
        breaker.call(scripted)
    except BaseException as error:
        assert error is outcome
    snapshot = breaker.snapshot()
    return snapshot["failures"], snapshot["state"]


@pytest.mark.parametrize(
    ("parameters", "outcome", "counts"),
    [
        ({}, Boom(), True),
        ({}, "fine", False),
        ({"on": OSError}, Boom(), False),
        ({"on": OSError}, ConnectionError(), True),
        ({"on": (KeyError, Boom)}, Boom(), True),
        ({"on": lambda error: "down" in str(error)}, Boom("down"), True),
        ({"on": lambda error: "down" in str(error)}, Boom("mine"), False),
        ({"on": lambda _: 0.0}, Boom(), True),
        ({"on": lambda _: None}, Boom(), False),
        ({"on": OSError, "ignore": FileNotFoundError}, FileNotFoundError(), False),
        ({"ignore": lambda error: True}, Boom(), False),
        ({"on": OSError}, TimedOut("timeout", 2.0), True),
        ({}, ExceptionGroup("", [Boom(), OSError()]), True),
        ({"on": OSError}, ExceptionGroup("", [Boom(), OSError()]), False),
        ({"ignore": OSError}, ExceptionGroup("", [Boom(), OSError()]), False),
        ({}, Throttled("throttle"), False),
        ({"on": lambda error: True}, Throttled("throttle"), False),
        ({"on": Rejected}, Throttled("throttle"), True),
        ({"on": (Boom, Throttled)}, Throttled("throttle"), True),
        ({}, ExceptionGroup("", [Boom(), Throttled("throttle")]), False),
        ({"on_result": lambda result: result >= 500}, 503, True),
        ({"on_result": lambda result: result >= 500}, 404, False),
        ({}, KeyboardInterrupt(), False),
        ({}, SystemExit(1), False),
        ({}, GeneratorExit(), False),
        ({}, BaseExceptionGroup("", [Boom(), KeyboardInterrupt()]), False),
        ({"on": BaseException}, KeyboardInterrupt(), False),
        ({"on": BaseException}, Boom(), True),
    ],
)
def test_what_counts_as_a_failure(parameters: dict[str, Any], outcome: object, counts: bool) -> None:
    """`on`, `ignore` and `on_result` decide; a rejection, a way out of the program and an unnamed error are neutral."""
    breaker = CircuitBreaker(3, **parameters)
    assert after(breaker, outcome) == (int(counts), "closed")


@pytest.mark.parametrize(
    "outcome", [OSError(), Throttled("throttle"), KeyboardInterrupt(), SystemExit(), GeneratorExit()]
)
def test_what_is_neutral_neither_counts_nor_resets(outcome: BaseException) -> None:
    """B4: between two failures, a neutral call leaves the count as it is."""
    breaker = CircuitBreaker(2, on=Boom)
    assert after(breaker, Boom()) == (1, "closed")
    assert after(breaker, outcome) == (1, "closed")
    assert after(breaker, Boom()) == (2, "open")


@in_every_form
@every_colour
async def test_a_predicate_that_raises_is_heard_and_counts_nothing(colour: Colour, form: str) -> None:
    """An error in `on` reaches the caller, names the predicate, and gives the place back."""

    def looks_down(error: Exception) -> bool:
        raise LookupError("no idea")

    breaker = half_open(colour.clock).replace(on=looks_down)
    breaker.open()
    colour.clock.advance(30)
    for _ in range(3):
        with pytest.raises(LookupError, match="no idea") as heard:
            await through(colour, breaker, form, fails)
        assert "looks_down" in heard.value.__notes__[0]
        assert isinstance(heard.value.__context__, Boom)
        assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


@every_colour
async def test_a_predicate_of_results_that_raises_is_heard_and_counts_nothing(colour: Colour) -> None:
    """The same for `on_result`, and for an answer that means nothing."""
    answers: list[Any] = [KeyError("no idea"), "yes", [True]]

    def not_good(result: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    breaker = CircuitBreaker(1, on_result=not_good, clock=colour.clock)
    breaker.open()
    colour.clock.advance(30)
    for kind in (KeyError, TypeError, TypeError):
        with pytest.raises(kind) as heard:
            await colour.call(breaker, painted(colour, works))
        assert "not_good" in str(heard.value) + str(getattr(heard.value, "__notes__", ""))
        assert (breaker.state, breaker.snapshot()["trials"]) == ("half_open", 0)


def test_an_error_that_cannot_be_printed_still_counts() -> None:
    """The last error is kept as text; an error without text is no reason not to count it."""

    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    breaker = CircuitBreaker(1)
    after(breaker, Shy())
    assert breaker.state == "open"
    assert breaker.snapshot()["last_error"] == ["Shy", "<unprintable: RuntimeError>"]


def test_what_is_kept_of_an_error_is_short() -> None:
    """A page of text is cut, and nothing of the error itself stays alive."""
    import weakref

    breaker = CircuitBreaker(1)
    error = Boom("x" * 10_000)
    gone = weakref.ref(error)
    with pytest.raises(Boom), breaker.guard():
        raise error
    del error
    assert breaker.snapshot()["last_error"] == ["Boom", "x" * 200]
    assert gone() is None


def test_a_refused_result_is_the_last_error() -> None:
    """What `on_result` refuses is told like an error, and returned to the caller as it is."""
    breaker = CircuitBreaker(1, on_result=lambda status: status >= 500)
    assert breaker.call(lambda: 503) == 503
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(lambda: 200)
    assert refused.value.last_error == ("result", "503")


def test_the_breaker_passes_arguments_on() -> None:
    """All of them, by position and by name, `self`, `fn` and `permit` included."""
    breaker = CircuitBreaker()

    def echo(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert breaker.call(echo, 1, fn=2, self=3, permit=4) == ((1,), {"fn": 2, "self": 3, "permit": 4})
    assert breaker(echo)(1, gate=2) == ((1,), {"gate": 2})


# --- composition ------------------------------------------------------------------------------------------------------


@every_colour
async def test_a_retry_outside_waits_for_the_breaker(colour: Colour) -> None:
    """`Retry(on=CircuitOpen)` waits at least as long as the breaker says, and then is the trial."""
    breaker = opened(colour.clock, cooldown=20)
    retry = Retry(on=CircuitOpen, attempts=2, backoff=0, clock=colour.clock)
    fn = colour.function(["fine"])
    assert await colour.call(retry, breaker(fn)) == "fine"
    assert colour.clock.sleeps == [20.0] and breaker.state == "closed"


@every_colour
async def test_a_breaker_around_a_breaker_is_blind_to_its_refusals(colour: Colour) -> None:
    """An inner rejection gives the outer trial's place back and counts neither way; the outer stays half-open."""
    inner, outer = opened(colour.clock, cooldown=1000), half_open(colour.clock)
    fn = inner(colour.function(["never"]))
    for _ in range(5):
        with pytest.raises(CircuitOpen) as refused:
            await colour.call(outer, fn)
        assert refused.value.retry_after == 970.0
    assert (outer.state, outer.snapshot()["trials"], outer.snapshot()["calls"]) == ("half_open", 0, 0)


@every_colour
async def test_a_fallback_outside_stands_in_for_a_refusal(colour: Colour) -> None:
    """`Fallback(on=CircuitOpen)` answers while the circuit is open."""
    breaker = opened(colour.clock)
    fallback = Fallback(on=CircuitOpen, value="stale", clock=colour.clock)
    assert await colour.call(fallback, breaker(colour.function([]))) == "stale"


@in_every_form
@every_colour
async def test_a_breaker_starts_no_thread(colour: Colour, form: str) -> None:
    """Point 21: whatever state it goes through, nothing runs but what was there."""
    before = threading.active_count()
    breaker = half_open(colour.clock)
    breaker.listen(lambda _: None)
    for body in (works, fails, works):
        await outcome_of(through(colour, breaker, form, body))
    assert threading.active_count() == before


# --- by hand ----------------------------------------------------------------------------------------------------------


@in_every_form
@every_colour
async def test_an_isolated_breaker_refuses_until_released(colour: Colour, form: str) -> None:
    """In a block, counted; no time is named, and no failure survives it."""
    breaker = CircuitBreaker(2, on=Boom, clock=colour.clock)
    await outcome_of(through(colour, breaker, form, fails))
    with breaker.isolate("deploy"):
        second = breaker.isolate()
        colour.clock.advance(1e6)
        with pytest.raises(CircuitOpen) as refused:
            await through(colour, breaker, form, works)
        assert (refused.value.state, refused.value.retry_after) == ("isolated", None)
        assert second.release() and not second.release()
        assert breaker.state == "isolated"
    assert breaker.state == "closed"
    await outcome_of(through(colour, breaker, form, fails))
    assert breaker.state == "closed"


def test_forgetting_an_isolation_releases_nothing() -> None:
    """Only an explicit release, or a reset, ends it; not the collector."""
    import gc

    breaker = CircuitBreaker()
    breaker.isolate()
    gc.collect()
    assert breaker.state == "isolated"
    breaker.reset()
    assert breaker.state == "closed"


def test_an_isolation_released_within_its_block_ends_once() -> None:
    """The end of the block is then a no-op, also with an error under way and with another isolation since."""
    breaker = CircuitBreaker()
    with pytest.raises(Boom), breaker.isolate() as isolation:
        assert isolation.release()
        other = breaker.isolate()
        raise Boom
    assert breaker.state == "isolated"
    assert other.release()


def test_a_reset_makes_old_isolations_void() -> None:
    """What is released after a reset changes nothing."""
    breaker = CircuitBreaker()
    old = breaker.isolate()
    breaker.reset()
    breaker.isolate()
    assert not old.release()
    assert breaker.state == "isolated"


@pytest.mark.parametrize("reason", [None, 3, True, OSError("no")])
def test_the_reason_of_an_isolation_is_text(reason: Any) -> None:
    """Anything else is refused, with the value, and isolates nothing."""
    breaker = CircuitBreaker()
    with pytest.raises(TypeError) as refused:
        breaker.isolate(reason)
    assert str(refused.value) == f"reason must be a string, got {reason!r}"
    assert breaker.state == "closed"


def test_open_and_close_by_hand() -> None:
    """The switch works at once, forgets what there was, and does nothing while isolated."""
    clock = VirtualClock()
    breaker = CircuitBreaker(2, on=Boom, clock=clock)
    breaker.open()
    assert breaker.state == "open"
    clock.advance(20)
    breaker.open()
    clock.advance(20)
    assert breaker.state == "open"
    breaker.close()
    assert breaker.state == "closed"
    after(breaker, Boom())
    breaker.close()
    assert after(breaker, Boom()) == (1, "closed")
    with breaker.isolate():
        breaker.open()
        breaker.close()
        assert breaker.state == "isolated"


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_the_snapshot_of_each_state() -> None:
    """Plain values, ready for JSON, and the present state, whatever the last call saw."""
    clock = VirtualClock(100.0)
    breaker = CircuitBreaker(2, on=Boom, cooldown=20, trials=2, name="db", clock=clock)
    about = {"name": "db", "kind": "circuit_breaker"}
    quiet = {"failures": 0, "calls": 0, "trials": 0, "retry_after": None, "last_error": None}
    assert breaker.snapshot() == {**about, **quiet, "state": "closed", "since": None}
    after(breaker, Boom("down"))
    down = {**about, **quiet, "last_error": ["Boom", "down"]}
    assert breaker.snapshot() == {**down, "state": "closed", "since": None, "failures": 1, "calls": 1}
    after(breaker, Boom("down"))
    clock.advance(5)
    assert breaker.snapshot() == {
        **down, "state": "open", "since": 100.0, "failures": 2, "calls": 2, "retry_after": 15.0,
    }  # fmt: skip
    clock.advance(15)
    with breaker.guard():
        assert breaker.snapshot() == {**down, "state": "half_open", "since": 120.0, "trials": 1, "retry_after": 0.0}
        with breaker.guard():
            clock.advance(1)
            assert breaker.snapshot()["retry_after"] == 19.0
    assert breaker.snapshot() == {**down, "state": "closed", "since": 121.0}
    breaker.isolate()
    assert json.loads(json.dumps(breaker.snapshot())) == {**down, "state": "isolated", "since": 121.0}


def test_replace_gives_fresh_state_and_keeps_the_rest() -> None:
    """A replaced breaker has the same parameters but those named, no failures, and no listeners."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, on=Boom, cooldown=7, name="db", clock=clock)
    heard: list[object] = []
    breaker.listen(heard.append)
    after(breaker, Boom())
    heard.clear()
    fresh = breaker.replace()
    assert (fresh.state, breaker.state) == ("closed", "open")
    other = breaker.replace(cooldown=3, trip=2)
    assert other.name == "db"
    after(other, KeyError()), after(other, Boom()), after(other, Boom())
    clock.advance(2.9)
    assert other.state == "open"
    clock.advance(0.1)
    assert other.state == "half_open" and breaker.state == "open"
    assert heard == []
    with pytest.raises(TypeError, match="CircuitBreaker has no parameter 'reset_timeout'; it has trip, on, ignore"):
        breaker.replace(reset_timeout=3)
    with pytest.raises(ValueError, match="cooldown must be a number of seconds above 0, got -1"):
        breaker.replace(cooldown=-1)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_refusal_pickles(protocol: int) -> None:
    """`CircuitOpen` crosses a process boundary whole."""
    breaker = opened(VirtualClock(), name="db")
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(int)
    copy = pickle.loads(pickle.dumps(refused.value, protocol))
    assert type(copy) is CircuitOpen and str(copy) == str(refused.value)
    assert (copy.policy, copy.state, copy.retry_after) == ("db", CircuitState.OPEN, 30.0)
    assert copy.last_error == ("Boom", "down") and copy.state is CircuitState.OPEN


@pytest.mark.parametrize(
    ("state", "retry_after", "last", "text"),
    [
        (
            "open",
            2.5,
            ("OSError", "no route"),
            "db: the circuit is open; last failure OSError: no route; try again in 2.5 s",
        ),
        ("half_open", 0.25, None, "db: the circuit is half-open; try again in 0.25 s"),
        ("isolated", None, None, "db: the circuit is isolated"),
    ],
)
def test_a_refusal_reads_as_a_sentence(state: str, retry_after: float, last: Any, text: str) -> None:
    """It says who refused, why, and when to come back."""
    assert str(CircuitOpen("db", retry_after, CircuitState(state), last)) == text


# --- parameters -------------------------------------------------------------------------------------------------------

NUMBER = "must be a number of seconds above 0, got"
BACKOFF = "a backoff, a number of seconds or a sequence of them"
COUNT = "must be an integer, 1 or more, got"
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    *[({"cooldown": bad}, ValueError, f"cooldown {NUMBER} {bad!r}") for bad in (0, -1.5, math.nan, math.inf)],
    *[({"cooldown": bad}, TypeError, f"cooldown must be {BACKOFF}, got {bad!r}")
      for bad in (True, "30", None, 3j, {30})],
    ({"cooldown": []}, ValueError, f"cooldown must be {BACKOFF}, got []"),
    ({"cooldown": [5, -1]}, ValueError, "cooldown[1] must be a number of seconds, 0 or more, got -1"),
    ({"cooldown": ["5"]}, TypeError, "cooldown[0] must be a number of seconds, 0 or more, got '5'"),
    *[({"cooldown": bad}, ValueError, "cooldown must be longer than 0 seconds each time, got")
      for bad in ([0, 5], [5, 0], backoff.exponential(0), backoff.constant(0), backoff.decorrelated(0))],
    ({"cooldown": backoff.exponential}, TypeError, "write backoff.exponential(...)"),
    ({"cooldown": lambda: 5}, TypeError, "cooldown must be a backoff, to be called with (retry, previous, u)"),
    ({"cooldown": lambda *_: "5"}, TypeError, "must answer a number of seconds, 0 or more, got '5'"),
    ({"cooldown": lambda *_: math.inf}, ValueError, "must answer a number of seconds, 0 or more, got inf"),
    *[({"ramp": bad}, ValueError, f"ramp {NUMBER} {bad!r}") for bad in (0, -1, math.nan, math.inf)],
    *[({"ramp": bad}, TypeError, f"ramp {NUMBER} {bad!r}") for bad in (True, "5", [5])],
    ({"ramp": timedelta(0)}, ValueError, f"ramp {NUMBER}"),
    ({"rng": 0.5}, TypeError, "rng must be a callable or None, got 0.5"),
    ({"cooldown": timedelta(0)}, ValueError, f"cooldown {NUMBER}"),
    *[({"trial_lease": bad}, ValueError, f"trial_lease {NUMBER} {bad!r}") for bad in (0, -1, math.nan, math.inf)],
    *[({"trial_lease": bad}, TypeError, f"trial_lease {NUMBER} {bad!r}") for bad in (True, "5")],
    *[({"trials": bad}, ValueError, f"trials {COUNT} {bad!r}") for bad in (0, -1)],
    *[({"trials": bad}, TypeError, f"trials {COUNT} {bad!r}") for bad in (True, 1.0, math.inf, math.nan, "1", None)],
    *[({"trip": bad}, ValueError, f"trip {COUNT} {bad!r}") for bad in (0, -5)],
    *[({"trip": bad}, TypeError, "trip must be a number of failures in a row") for bad in (None, "5", [5], 5.0)],
    ({"trip": True}, TypeError, f"trip {COUNT} True"),
    ({"trip": 0.5}, TypeError, "write FailureRate(0.5), got 0.5"),
    ({"trip": math.nan}, TypeError, "got nan"),
    ({"trip": ()}, ValueError, "trip must be at least one condition, got ()"),
    ({"trip": SlowRate}, TypeError, "SlowRate(0.8, slower_than=2.0), got <class"),
    ({"on": None}, TypeError, "on must be an exception type, a tuple of them or a predicate, got None"),
    ({"on": ()}, TypeError, "on must name at least one exception type, got an empty tuple"),
    ({"on": "OSError"}, TypeError, "on must be an exception type, a tuple of them or a predicate, got 'OSError'"),
    ({"on": [OSError]}, TypeError, "on must be an exception type, a tuple of them or a predicate, got ["),
    ({"on": int}, TypeError, "on must be an exception type, a tuple of them or a predicate; got <class 'int'>"),
    ({"on": OSError()}, TypeError, "on must be an exception type"),
    ({"ignore": (OSError, 3)}, TypeError, "ignore must be an exception type, a tuple of them or a predicate; got 3"),
    ({"on_result": 503}, TypeError, "on_result must be a predicate of the result or None, got 503"),
    *[({"on_cancel": bad}, ValueError, f"on_cancel must be \"ignore\" or \"failure\", got {bad!r}")
      for bad in ("ignored", "", None, True, 1)],
    ({"name": ""}, ValueError, "name must be a string that is not empty, or None, got ''"),
    ({"name": 5}, TypeError, "name must be a string that is not empty, or None, got 5"),
    ({"clock": 5}, TypeError, "clock must have now(), sleep(s) and sleep_async(s); 5 has no now"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "kind", "message"), WRONG, ids=[f"{next(iter(p))}-{m[-30:]}" for p, _, m in WRONG]
)
def test_a_bad_parameter_is_refused_with_its_name_its_rule_and_its_value(
    parameters: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """Bools, NaN, infinity, negative numbers and wrong types never make a breaker."""
    with pytest.raises(kind) as refused:
        CircuitBreaker(**parameters)
    assert message in str(refused.value)


def test_everything_but_the_trip_is_by_keyword() -> None:
    """The second argument cannot be mistaken for anything."""
    with pytest.raises(TypeError, match="positional"):
        CircuitBreaker(5, 30.0)


def test_parameters_that_do_not_exist_yet_are_refused() -> None:
    """No parameter does nothing."""
    for name in ("store", "fail_max", "reset_timeout"):
        with pytest.raises(TypeError, match=name):
            CircuitBreaker(**{name: 1})


def test_durations_may_be_timedeltas() -> None:
    """The cooldown and the lease of a trial."""
    clock = VirtualClock()
    breaker = opened(clock, cooldown=timedelta(minutes=1), trial_lease=timedelta(seconds=2))
    clock.advance(60)
    guard = breaker.guard()
    guard.__enter__()
    assert breaker.snapshot()["retry_after"] == 2.0


def test_the_defaults() -> None:
    """Five failures in a row of any error, thirty seconds, one trial, as long a lease."""
    clock = VirtualClock()
    breaker = CircuitBreaker(clock=clock)
    assert [after(breaker, Boom())[0] for _ in range(5)] == [1, 2, 3, 4, 5]
    clock.advance(math.nextafter(30.0, 0.0))
    assert breaker.state == "open"
    clock.advance(1e-9)
    with breaker.guard(), pytest.raises(CircuitOpen) as refused, breaker.guard():
        pytest.fail("a second trial")
    assert refused.value.retry_after == 30.0


def test_a_bare_decorator_is_refused_with_what_to_write() -> None:
    """`@CircuitBreaker` without a call shows the right form."""
    with pytest.raises(TypeError, match=r"write @CircuitBreaker\(5, on=ConnectionError\)"):

        @CircuitBreaker
        def fetch() -> None: ...


def test_a_coroutine_in_place_of_its_function_is_refused_with_what_to_write() -> None:
    """`breaker.call(fetch(url))` says to pass the function, and closes the coroutine."""
    with pytest.raises(TypeError, match=r"write policy\.call\(fn"):
        CircuitBreaker().call(works())  # type: ignore[arg-type]


@every_colour
async def test_no_block_by_the_breaker_itself(colour: Colour) -> None:
    """`with breaker:` would not say what to make of the block; the error says what to write."""
    breaker = CircuitBreaker()
    with pytest.raises(TypeError, match=r"write with policy\.guard\(\):"), breaker:
        pytest.fail("entered")
    if colour.is_async:
        with pytest.raises(TypeError, match=r"write async with policy\.guard\(\):"):
            async with breaker:
                pytest.fail("entered")


def test_the_parameters_show_in_the_repr() -> None:
    """A breaker reads like what was written."""
    breaker = CircuitBreaker(FailureRate(0.5), on=OSError, name="db")
    assert repr(breaker).startswith("CircuitBreaker(trip=FailureRate(ratio=0.5, window=30.0, minimum_calls=10), on=")
    assert "name='db'" in repr(breaker)
    assert repr(CircuitBreaker(Consecutive(2))).startswith("CircuitBreaker(trip=Consecutive(failures=2)")
