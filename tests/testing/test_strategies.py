"""What the strategies draw, what it shrinks to, and how it is printed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

import resilience
from resilience import (
    Bulkhead,
    CircuitBreaker,
    FailureRate,
    Pipeline,
    Rate,
    Retry,
    SlowRate,
    Throttle,
    Timeout,
    backoff,
)
from resilience.core.backoff import Constant
from resilience.policies._base import Policy
from resilience.testing import VirtualClock, strategies
from resilience.testing.script import run
from resilience.testing.script_entries import Advance, advance

quick = settings(max_examples=60, deadline=None, database=None, derandomize=True)
any_at_all = settings(quick, max_examples=2000, phases=(Phase.generate,))
NAMES: dict[str, Any] = {
    **{name: getattr(resilience, name) for name in resilience.__all__},
    **{name: getattr(backoff, name) for name in backoff.__all__},
    "VirtualClock": VirtualClock,
    "advance": advance,
}
POLICIES: dict[str, Callable[[], st.SearchStrategy[Policy[Any]]]] = {
    "retries": strategies.retries,
    "breakers": strategies.breakers,
    "throttles": strategies.throttles,
    "bulkheads": strategies.bulkheads,
    "pipelines": strategies.pipelines,
}


def falsified(strategy: st.SearchStrategy[Any], wanted: Callable[[Any], bool] = lambda _: True) -> str:
    """What Hypothesis prints for the smallest value of `strategy` that is wanted."""

    @settings(quick, phases=(Phase.generate, Phase.shrink))
    @given(strategy)
    def check(value: Any) -> None:
        if wanted(value):
            raise LookupError

    with pytest.raises(LookupError) as caught:
        check()
    note = next(note for note in caught.value.__notes__ if "value=" in note)
    # The one argument, between its name and the bracket that closes the call.
    return note.partition("value=")[2].partition("\n)")[0].rstrip().removesuffix(",")


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_drawn_prints_as_the_code_that_builds_it(name: str) -> None:
    """A policy is printed as an expression, and what that builds has the same parameters."""
    found: list[Policy[Any]] = []

    def remembered(policy: Policy[Any]) -> bool:
        found.append(policy)
        return True

    printed = falsified(POLICIES[name](), remembered)
    assert repr(eval(printed, NAMES)) == repr(found[-1])


def test_they_shrink_to_readable_policies() -> None:
    """The smallest example has few parameters and round numbers."""
    assert falsified(strategies.breakers()) == "CircuitBreaker(trip=1, cooldown=1.0)"
    assert falsified(strategies.throttles()) == "Throttle(Rate(1))"
    assert falsified(strategies.bulkheads()) == "Bulkhead(limit=1)"
    retry = "Retry(on=ConnectionError, attempts=1, backoff=constant(1.0, jitter='none'))"
    assert repr(eval(falsified(strategies.retries()), NAMES)) == repr(eval(retry, NAMES))
    assert falsified(strategies.scripts()) == "['ok']"
    assert falsified(strategies.arrivals(30.0), lambda times: 30.0 in times) == "[0.0, 30.0]"


def test_scripts_print_as_code() -> None:
    """Exceptions and pauses in a script are printed as what builds them."""
    printed = falsified(
        strategies.scripts(repeated=False),
        lambda script: (
            any(isinstance(each, Advance) for each in script) and any(isinstance(each, Exception) for each in script)
        ),
    )
    script = eval(printed, NAMES)
    assert sorted(type(each).__name__ for each in script) == ["Advance", "ConnectionError"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("breakers", lambda policy: isinstance(policy._arguments["trip"], FailureRate)),
        ("breakers", lambda policy: isinstance(policy._arguments["trip"], SlowRate)),
        ("breakers", lambda policy: isinstance(policy._arguments["trip"], tuple)),
        ("breakers", lambda policy: policy._arguments["ramp"] is not None),
        ("retries", lambda policy: policy._arguments["within"] is not None),
        ("retries", lambda policy: not isinstance(policy._arguments["backoff"], Constant)),
        ("throttles", lambda policy: len(policy._arguments["rates"]) == 2),
        ("throttles", lambda policy: policy._arguments["max_wait"] > 0),
        ("bulkheads", lambda policy: policy._arguments["queue"] > 0),
        ("pipelines", lambda policy: len(policy._chain()) >= 3),
    ],
)
def test_every_kind_of_parameter_is_drawn(name: str, wanted: Callable[[Any], bool]) -> None:
    """Trips, backoffs, bounds and several rates all come up within a few hundred examples."""
    kinds = (Retry, CircuitBreaker, Throttle, Bulkhead, Pipeline)
    assert isinstance(find(POLICIES[name](), wanted, settings=any_at_all), kinds)


CLOCKS = st.shared(st.builds(VirtualClock), key="clock")


@given(
    strategies.retries(on=OSError, attempts=st.just(9), clock=CLOCKS),
    strategies.breakers(trip=2, clock=CLOCKS),
    strategies.throttles(rates=[Rate(5), st.just("1/s")], max_wait=0),
)
@quick
def test_parameters_can_be_given(retry: Retry, breaker: CircuitBreaker, throttle: Throttle) -> None:
    """What is given, as a value or as a strategy, takes the place of what would be drawn."""
    assert retry._arguments["on"] is OSError
    assert retry._arguments["attempts"] == 9
    assert breaker._arguments["trip"] == 2
    assert retry._arguments["clock"] is breaker._arguments["clock"]
    assert throttle._arguments["rates"] == (Rate(5), "1/s")


def test_unknown_parameters_are_refused_at_once() -> None:
    """A parameter that the policy does not have is an error before anything is drawn."""
    anything: Any = object()
    with pytest.raises(TypeError, match="CircuitBreaker has no parameter 'fail_max'; it has trip, on"):
        strategies.breakers(fail_max=3)
    with pytest.raises(ValueError, match="max_size"):
        strategies.scripts(max_size=0)
    with pytest.raises(TypeError, match="a boundary is a policy, a rate or a number"):
        strategies.arrivals(anything)


@given(strategies.backoffs(max_delay=20), st.integers(1, 50), st.floats(0.0, 0.999))
@quick
def test_backoffs_keep_to_the_longest_delay(drawn: Any, retry: int, u: float) -> None:
    """No delay of a backoff that was drawn is above `max_delay`, whatever the luck."""
    assert 0.0 <= drawn(retry, 5.0, u) <= 20.0


@given(strategies.pipelines(), strategies.scripts())
@settings(quick, suppress_health_check=[HealthCheck.too_slow])
def test_every_script_can_be_played_through_every_pipeline(pipeline: Pipeline[Any], script: list[Any]) -> None:
    """A script that was drawn never ends in the middle of a call, whatever the policy makes of it."""
    trace = run(pipeline, script)
    assert sum(max(call.attempts, 1) for call in trace) == sum(not isinstance(entry, Advance) for entry in script)


@given(
    strategies.pipelines(outer=st.builds(Timeout, st.just(99.0), thread=st.just(False)), inner=strategies.bulkheads())
)
@quick
def test_pipelines_can_be_held_on_both_sides(pipeline: Pipeline[Any]) -> None:
    """What is given as outer and inner stands there."""
    first, *_, last = pipeline._chain()
    assert isinstance(first, Timeout)
    assert isinstance(last, Bulkhead)


@given(
    st.sampled_from([(0.0, 7.3), (1e9, 0.1)]).flatmap(
        lambda each: st.tuples(st.just(each[0]), strategies.arrivals(each[1], start=each[0]))
    )
)
@quick
def test_arrivals_are_in_order(drawn: tuple[float, list[float]]) -> None:
    """Times of calls never go back, and begin at the start."""
    start, times = drawn
    assert times[0] == start
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("boundary", "span"),
    [
        (CircuitBreaker(3, cooldown=7.3), 7.3),
        (CircuitBreaker(3, cooldown=backoff.exponential(3, jitter="none")), 6.0),
        (CircuitBreaker(FailureRate(0.5, window=12.5)), 12.5),
        (CircuitBreaker(3, trial_lease=2.2), 2.2),
        (Throttle("4/s burst 6"), 0.25),
        (Throttle("4/s", burst=6), 1.5),
        ("3/minute", 20.0),
        (Retry(on=OSError, within=9.5), 9.5),
        (Pipeline(Retry(on=OSError, within=9.5), Bulkhead(2)), 9.5),
        (Timeout(2.5, thread=False), 2.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("beside", [-inf, None, inf], ids=["below", "at", "above"])
def test_arrivals_lie_at_boundaries_and_beside(boundary: Any, span: float, beside: float | None) -> None:
    """Some call comes exactly a boundary after another one, some one float sooner, and some one float later."""
    moment = 5.0 + span if beside is None else nextafter(5.0 + span, beside)
    times = find(
        strategies.arrivals(boundary, start=5.0),
        lambda drawn: moment in drawn,
        settings=any_at_all,
    )
    assert times[0] == 5.0
    assert times == sorted(times)


def test_without_hypothesis_the_error_names_the_extra() -> None:
    """Where Hypothesis is missing, the strategies say what to install, and the checks of laws run without it."""
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from resilience import Bulkhead\n"
        "from resilience.testing.conformance import bulkhead\n"
        "bulkhead(lambda clock: Bulkhead(1, clock=clock), examples=5)\n"
        "import resilience.testing.strategies\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith(
        "ImportError: resilience.testing.strategies needs Hypothesis: pip install 'resilience-policies[hypothesis]'"
    )
