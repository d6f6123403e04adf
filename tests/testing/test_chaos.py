"""Chaos: which faults, in which order, and what a call makes of them."""

from __future__ import annotations

import inspect
import math
import threading
from datetime import timedelta
from typing import Any

import pytest

from resilience import CircuitBreaker, Pipeline, Retry, TimedOut, Timeout
from resilience.testing.chaos import Chaos, Fault
from tests.colours import Colour, async_colours, every_colour


def outcomes(chaos: Chaos, calls: int) -> list[Any]:
    """What so many calls of a function that returns "page" come to: results, and errors as their text."""

    @chaos
    def fetch() -> str:
        return "page"

    found: list[Any] = []
    for _ in range(calls):
        try:
            found.append(fetch())
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}".rstrip(": "))
    return found


@every_colour
async def test_a_script_says_what_each_call_meets(colour: Colour) -> None:
    """Calls meet the steps of a script in order, each taking its time, and nothing once it is over."""
    steps = [None, ConnectionError("reset"), 2.5, Chaos.returns("nonsense"), (1, KeyError), (0.5, Chaos.returns(None))]
    chaos = Chaos(script=steps, clock=colour.clock)
    fetch = colour.function(["page", ...])
    harassed = chaos(fetch)
    found = []
    for _ in range(8):
        before = colour.clock.now()
        try:
            outcome = await colour.invoke(harassed)
        except Exception as error:
            outcome = repr(error)
        found.append((colour.clock.now() - before, outcome))
    assert found == [
        (0, "page"),
        (0, "ConnectionError('reset')"),
        (2.5, "page"),
        (0, "nonsense"),
        (1, "KeyError()"),
        (0.5, None),
        (0, "page"),
        (0, "page"),
    ]
    assert len(fetch.calls) == 4
    assert chaos.calls == 8


@every_colour
async def test_what_hangs_ends_with_a_timeout_error(colour: Colour) -> None:
    """A call that hangs takes its time and then fails, without the function."""
    chaos = Chaos(hangs=1, hang=timedelta(minutes=5), clock=colour.clock)
    fetch = colour.function([])
    with pytest.raises(TimeoutError, match="hung for 300 s"):
        await colour.invoke(chaos(fetch))
    assert colour.clock.now() == 300
    assert fetch.calls == []


@async_colours
async def test_a_timeout_cuts_what_hangs(colour: Colour) -> None:
    """A timeout around a call that hangs cuts it when its time is over."""
    fetch = Pipeline(Timeout(2), Chaos(script=[Chaos.hang()]))(colour.function(["page"]))
    with pytest.raises(TimedOut):
        await colour.invoke(fetch)
    assert colour.clock.now() == 2
    assert await colour.invoke(fetch) == "page"


@every_colour
async def test_fits_in_a_pipeline(colour: Colour) -> None:
    """Inside a pipeline it stands for the network: the policies outside see its faults."""
    breaker = CircuitBreaker(5, on=OSError, clock=colour.clock)
    retry = Retry(on=OSError, attempts=3, backoff=1, clock=colour.clock)
    chaos = Chaos(script=[ConnectionResetError, (3, BrokenPipeError)], clock=colour.clock)
    assert await colour.call(Pipeline(retry, breaker, chaos), colour.function(["page"])) == "page"
    assert colour.clock.sleeps == [1, 3, 1]


def test_waits_by_the_default_clock_where_it_has_none() -> None:
    """Without a clock of its own it follows the one that policies follow, wherever that is pointed."""
    colour = Colour.named("sync")

    async def scenario() -> None:
        assert Chaos(latency=7)(len)("abc") == 3

    colour.run(scenario)
    assert colour.clock.sleeps == [7]


def test_the_same_seed_gives_the_same_faults() -> None:
    """Two objects with one seed fault alike, another seed does not, and the seed is in what it prints."""
    rates: dict[str, Any] = {"errors": 0.3, "results": 0.2, "result": "", "latency": (0.0, 0.001), "slow": 0.5}
    first, second = Chaos(seed=11, **rates), Chaos(seed=11, **rates)
    assert first.preview(500) == second.preview(500)
    assert first.preview(500) != Chaos(seed=12, **rates).preview(500)
    assert repr(first).endswith("seed=11)")


def test_the_preview_is_what_happens() -> None:
    """A preview names the faults of the first calls, changes nothing, and a reset begins with them again."""
    chaos = Chaos(errors=0.4, error=[OSError("a"), KeyError], results=0.3, result="b", script=[KeyError], seed=5)
    names = {"raises OSError('a')": "OSError: a", "raises KeyError": "KeyError", "returns 'b'": "b", "nothing": "page"}
    expected = [names[repr(fault)] for fault in chaos.preview(200)]
    assert outcomes(chaos, 120) == expected[:120]
    assert chaos.preview(200) == Chaos(**chaos._given).preview(200)
    assert outcomes(chaos, 80) == expected[120:]
    chaos.reset()
    assert outcomes(chaos, 50) == expected[:50]
    assert set(expected) == {"OSError: a", "KeyError", "b", "page"}


def test_a_script_does_not_move_what_comes_after_it() -> None:
    """Every call draws the same number of numbers, so those after a script meet what they would have met without."""
    plain = Chaos(errors=0.5, latency=(0, 9), seed=2).preview(50)
    scripted = Chaos(errors=0.5, latency=(0, 9), seed=2, script=[None] * 20).preview(50)
    assert scripted[20:] == plain[20:]
    assert scripted[:20] == [Fault()] * 20
    later = Chaos(errors=0.5, hangs=0.2, latency=(0, 9), slow=0.3, seed=2).preview(50)
    assert [fault.error for fault in plain if fault.error] == [
        f.error for f, p in zip(later, plain, strict=True) if p.error
    ]


def test_rates_are_kept_on_average() -> None:
    """Of many calls, the share that meets each fault is its rate, and latencies are even between their bounds."""
    faults = Chaos(errors=0.2, hangs=0.1, results=0.3, latency=(1, 3), slow=0.5, seed=1).preview(20_000)
    plain = [fault for fault in faults if not fault.hangs]
    share = {
        "errors": sum(fault.error is not None for fault in plain),
        "hangs": sum(fault.hangs for fault in faults),
        "results": sum(not fault.passes and fault.error is None for fault in faults),
        "slow": sum(fault.after > 0 for fault in plain) / len(plain) * len(faults),
    }
    for name, rate in {"errors": 0.2, "hangs": 0.1, "results": 0.3, "slow": 0.5}.items():
        assert math.isclose(share[name] / len(faults), rate, abs_tol=0.015), name
    waits = [fault.after for fault in plain if fault.after]
    assert 1 <= min(waits) < 1.01
    assert 2.99 < max(waits) <= 3
    assert math.isclose(sum(waits) / len(waits), 2, abs_tol=0.03)


def test_threads_share_the_numbering() -> None:
    """Many threads together meet exactly the faults of the first calls, each once."""
    chaos = Chaos(errors=0.3, results=0.3, result="", seed=8)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.extend(outcomes(chaos, 250))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = outcomes(Chaos(errors=0.3, results=0.3, result="", seed=8), 2000)
    assert sorted(found) == sorted(alone)


def test_a_decorated_function_is_what_it_was() -> None:
    """It keeps its name, its signature and whether it is async, and shows its chaos."""

    async def fetch(path: str) -> str:
        """Fetch a page."""
        return path

    chaos = Chaos()
    harassed: Any = chaos(fetch)
    assert (harassed.__name__, harassed.__doc__) == ("fetch", "Fetch a page.")
    assert inspect.signature(harassed) == inspect.signature(fetch)
    assert inspect.iscoroutinefunction(harassed)
    assert harassed.chaos is chaos


def test_a_coroutine_never_awaited_costs_nothing() -> None:
    """Nothing is drawn and no call is counted before a coroutine's first step."""

    async def fetch() -> None: ...

    chaos = Chaos(errors=1)
    coroutine: Any = chaos(fetch)()
    coroutine.close()
    assert chaos.calls == 0


def test_an_error_that_is_raised_again_keeps_no_old_traceback() -> None:
    """One error object raised by many calls has the traceback of the last."""
    fetch = Chaos(errors=1, error=OSError("down"))(len)
    depths = []
    for _ in range(3):
        with pytest.raises(OSError, match="down") as caught:
            fetch("")
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"errors": 1.5}, ValueError, "errors must be a number from 0 to 1, got 1.5"),
        ({"errors": True}, TypeError, "errors must be a number from 0 to 1, got True"),
        ({"hangs": math.nan}, ValueError, "hangs must be"),
        ({"results": -0.1}, ValueError, "results must be"),
        ({"slow": "all"}, TypeError, "slow must be"),
        ({"errors": 0.5, "hangs": 0.4, "results": 0.2}, ValueError, r"errors \+ hangs \+ results must be at most 1"),
        ({"error": "oops"}, TypeError, "error must be an error, a type of error"),
        ({"error": []}, TypeError, "error must be an error, a type of error"),
        ({"error": UnicodeDecodeError}, TypeError, "error must be an error, or a type of error that needs no"),
        ({"hang": 0}, ValueError, "hang must be"),
        ({"hang": math.inf}, ValueError, "hang must be"),
        ({"latency": -1}, ValueError, "latency must be"),
        ({"latency": (2, 1)}, ValueError, "latency must be a pair of which the second"),
        ({"latency": (1, 2, 3)}, ValueError, "latency must be a number of seconds, or a pair"),
        ({"script": "reset"}, TypeError, "script must be a list of steps"),
        ({"script": 3}, TypeError, "script must be a list of steps"),
        ({"script": [None, "reset"]}, TypeError, r"script\[1\] must be None, seconds, an error"),
        ({"script": [-1]}, ValueError, r"script\[0\] must be"),
        ({"script": [(1, 2)]}, TypeError, r"script\[0\] must be"),
        ({"script": [(1, Chaos.hang(2))]}, TypeError, r"script\[0\] must be"),
        ({"script": [UnicodeDecodeError]}, TypeError, r"script\[0\] must be"),
        ({"seed": 1.0}, TypeError, "seed must be an integer, got 1.0"),
    ],
)
def test_bad_parameters_are_named(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """A parameter that breaks its rule is an error with the parameter, the rule and the value."""
    with pytest.raises(error, match=says):
        Chaos(**arguments)


def test_wraps_functions_only() -> None:
    """A generator is not one call, and what is no function is not wrapped."""

    def pages() -> Any:
        yield 1

    with pytest.raises(TypeError, match="is a generator"):
        Chaos()(pages)
    with pytest.raises(TypeError, match="wraps a function, got 'page'"):
        Chaos().bind("page")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n must be an integer, 0 or more, got -1"):
        Chaos().preview(-1)
