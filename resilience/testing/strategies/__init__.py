"""Hypothesis strategies for policies, for what happens to them, and for when.

    @given(strategies.retries(), strategies.scripts())
    def test_no_more_calls_than_attempts(retry, script):
        assert all(call.attempts <= 6 for call in run(retry, script))

A policy is tested with the parameters that somebody thought of, at times that somebody found handy. Here both are
drawn: parameters in all their combinations, and times that lie where policies change their minds, such as exactly at
the end of a cooldown, at the moment of a refill, and one float beside.

What is drawn shrinks to the fewest parameters and the roundest numbers, and Hypothesis prints it as the code that
builds it. Each strategy takes the parameters of its policy, as values or as strategies, in the place of what would be
drawn: `breakers(trials=1, cooldown=st.floats(1, 60))`. A policy has no clock of its own unless one is given, so `run`
and `virtual_time` move it; give `clock=st.shared(st.builds(VirtualClock), key="clock")` to hold it yourself.
"""

from __future__ import annotations

import inspect
from functools import cache

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "resilience.testing.strategies needs Hypothesis: pip install 'resilience-policies[hypothesis]'",
        name="hypothesis",
    ) from error

from resilience import backoff
from resilience._checks import positive_int, seconds
from resilience.core.trip import FailureRate, SlowRate
from resilience.pipeline import Pipeline
from resilience.policies.breaker import CircuitBreaker
from resilience.policies.bulkhead import Bulkhead
from resilience.policies.retry import Retry
from resilience.policies.throttle import Throttle
from resilience.policies.timeout import Timeout
from resilience.rates import Rate
from resilience.testing.script_entries import advance
from resilience.testing.strategies._times import arrivals, spans_up_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from typing import Any, TypeAlias, TypeGuard, TypeVar

    from hypothesis.strategies import DrawFn, SearchStrategy

    from resilience.core.backoff import Backoff
    from resilience.policies._base import Policy

    T = TypeVar("T")
    Parts: TypeAlias = dict[str, SearchStrategy[Any]]

__all__ = ["arrivals", "backoffs", "breakers", "bulkheads", "pipelines", "rates", "retries", "scripts", "throttles"]

_JITTERS = st.sampled_from(["none", "full", "equal"]) | st.sampled_from([0.1, 0.2, 0.5])


def backoffs(*, max_delay: float | timedelta = 60.0) -> SearchStrategy[Backoff]:
    """Backoffs of every kind, no delay of which is above `max_delay` seconds.

    Raises:
        TypeError, ValueError: `max_delay` is not a number of seconds above 0.
    """
    # A fraction spreads a delay upwards too, by half of it at most.
    most = seconds("max_delay", max_delay) / 1.5
    spans, few = spans_up_to(most), st.lists(spans_up_to(most), min_size=1, max_size=4)
    return st.one_of(
        st.builds(backoff.constant, spans, jitter=_JITTERS),
        st.builds(backoff.schedule, few, jitter=_JITTERS),
        st.builds(
            backoff.exponential, base=spans, factor=st.sampled_from([2.0, 1.0, 1.5, 10.0]), cap=spans, jitter=_JITTERS
        ),
        st.builds(backoff.linear, spans, cap=spans, jitter=_JITTERS),
        st.builds(backoff.fibonacci, base=spans, cap=spans, jitter=_JITTERS),
        st.builds(backoff.decorrelated, base=spans, cap=spans),
    )


def retries(**given: Any) -> SearchStrategy[Retry]:
    """Retries on `ConnectionError`, of at most 6 attempts.

    Args:
        given: parameters of `Retry`, each a value or a strategy.

    Raises:
        TypeError: a parameter is none of `Retry`.
    """
    always: Parts = {"on": st.just(ConnectionError), "attempts": st.integers(1, 6), "backoff": backoffs()}
    return _built(Retry, always, {"within": spans_up_to(), "max_retry_after": spans_up_to()}, given)


def breakers(**given: Any) -> SearchStrategy[CircuitBreaker]:
    """Circuit breakers with every kind of trip.

    Args:
        given: parameters of `CircuitBreaker`, each a value or a strategy.

    Raises:
        TypeError: a parameter is none of `CircuitBreaker`.
    """
    always: Parts = {"trip": _trips(), "cooldown": spans_up_to()}
    sometimes: Parts = {
        "trials": st.integers(1, 3),
        "trial_lease": spans_up_to(),
        "on_cancel": st.sampled_from(["ignore", "failure"]),
        "ramp": spans_up_to(),
    }
    return _built(CircuitBreaker, always, sometimes, given)


def _trips() -> SearchStrategy[Any]:
    ratios = st.sampled_from([0.5, 1.0, 0.1]) | st.floats(0.01, 1.0)
    calls = st.integers(1, 20)
    one = st.one_of(
        st.integers(1, 5),
        st.builds(FailureRate, ratios, calls=calls),
        st.builds(FailureRate, ratios, window=spans_up_to(), minimum_calls=calls),
        st.builds(SlowRate, ratios, slower_than=spans_up_to(), calls=calls),
    )
    return one | st.tuples(st.integers(1, 5), st.builds(FailureRate, ratios, calls=calls))


def rates() -> SearchStrategy[Rate]:
    """Rates with a burst of 1 or more, so that a call of cost 1 can pass."""
    amounts = st.sampled_from([1.0, 2.0, 10.0, 100.0, 1 / 3, 0.1]) | st.floats(0.01, 1000.0)
    pers = st.sampled_from([1.0, 60.0, 3.0, 0.1])
    return st.builds(Rate, amounts, per=pers) | st.builds(Rate, amounts, per=pers, burst=st.integers(1, 20))


def throttles(**given: Any) -> SearchStrategy[Throttle]:
    """Throttles of one rate or two.

    Args:
        given: parameters of `Throttle`, each a value or a strategy; `rates` is a list of either.

    Raises:
        TypeError: a parameter is none of `Throttle`.
    """
    options: Parts = {"max_wait": spans_up_to(10.0)}
    if "rates" in given:
        parts = [_strategy(rate) for rate in given.pop("rates")]
        return _built(Throttle, {}, options, given, parts)
    one, more = rates(), rates()
    return _built(Throttle, {}, options, given, (one,)) | _built(Throttle, {}, options, given, (one, more))


def bulkheads(**given: Any) -> SearchStrategy[Bulkhead]:
    """Bulkheads of a few places.

    Args:
        given: parameters of `Bulkhead`, each a value or a strategy.

    Raises:
        TypeError: a parameter is none of `Bulkhead`.
    """
    return _built(
        Bulkhead, {"limit": st.integers(1, 5)}, {"queue": st.integers(0, 5), "max_wait": spans_up_to()}, given
    )


def pipelines(
    *, outer: SearchStrategy[Policy[Any]] | None = None, inner: SearchStrategy[Policy[Any]] | None = None
) -> SearchStrategy[Pipeline[Any]]:
    """Pipelines of one part to four, in the order that we teach: retry, breaker, throttle, bulkhead, timeout.

    Args:
        outer: policies to put outside of each.
        inner: policies to put inside of each, next to the call.
    """
    kinds: list[SearchStrategy[Any]] = [
        retries(),
        breakers(),
        throttles(),
        bulkheads(),
        st.builds(Timeout, spans_up_to(), thread=st.just(False)),
    ]
    places = st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=4, unique=True)
    ends = ([outer] if outer is not None else []), ([inner] if inner is not None else [])

    @cache
    def of(chosen: tuple[int, ...]) -> SearchStrategy[Pipeline[Any]]:
        return st.builds(Pipeline, *ends[0], *(kinds[place] for place in chosen), *ends[1])

    @st.composite
    def drawn(draw: DrawFn) -> Pipeline[Any]:
        return draw(of(tuple(sorted(draw(places)))))

    return drawn()


def scripts(
    *,
    results: SearchStrategy[Any] | None = None,
    errors: SearchStrategy[Exception] | None = None,
    spans: SearchStrategy[float] | None = None,
    repeated: bool = True,
    max_size: int = 20,
) -> SearchStrategy[list[Any]]:
    """Scripts for `run`: results, exceptions, pairs of seconds and either, and `advance(s)`.

    Args:
        results: what attempts return; "ok" by default.
        errors: what they raise; `ConnectionError()` by default.
        spans: the seconds that attempts take and that pass between calls.
        repeated: whether the script is for a policy that repeats a call. It ends in a result then, and time passes only
            after one, since a script must not stop in the middle of a call.
        max_size: entries at most.

    Raises:
        TypeError, ValueError: `max_size` is not an integer, 1 or more.
    """
    most = int(positive_int("max_size", max_size))
    times = spans or st.just(0.0) | spans_up_to()
    good = results or st.just("ok")
    bad = errors or st.builds(ConnectionError)
    waits: SearchStrategy[Any] = st.builds(advance, times)
    entries: SearchStrategy[Any] = st.one_of(good, bad, st.tuples(times, good), st.tuples(times, bad), waits)
    plain = st.lists(entries, min_size=1, max_size=most)
    if not repeated:
        return plain

    @st.composite
    def ended(draw: DrawFn) -> list[Any]:
        script: list[Any] = []
        waits_may_come = False
        for _ in range(draw(st.integers(0, most - 1))):
            kind = draw(st.integers(0, 4 if waits_may_come else 3))
            outcome = draw((good, bad, good, bad, waits)[kind])
            script.append((draw(times), outcome) if kind in (2, 3) else outcome)
            waits_may_come = kind in (0, 2, 4)
        return [*script, draw(good)]

    return ended()


def _built(
    kind: type[T], always: Parts, sometimes: Parts, given: dict[str, Any], rest: Sequence[Any] = ()
) -> SearchStrategy[T]:
    """Build a policy from what is given and what is drawn; what need not be said is said now and then."""
    _, *known = inspect.signature(vars(kind)["__init__"]).parameters
    for name in given:
        if name not in known:
            raise TypeError(f"{kind.__name__} has no parameter {name!r}; it has {', '.join(known)}")
    fixed = {name: _strategy(value) for name, value in given.items()}
    optional = {name: part for name, part in sometimes.items() if name not in fixed}

    @cache
    def with_these(names: tuple[str, ...]) -> SearchStrategy[T]:
        return st.builds(kind, *rest, **{**always, **{name: optional[name] for name in names}, **fixed})

    @st.composite
    def drawn(draw: DrawFn) -> T:
        return draw(with_these(tuple(name for name in optional if draw(st.booleans()))))

    return drawn()


def _strategy(value: Any) -> SearchStrategy[Any]:
    return value if _is_strategy(value) else st.just(value)


def _is_strategy(value: object) -> TypeGuard[SearchStrategy[Any]]:
    return isinstance(value, st.SearchStrategy)
