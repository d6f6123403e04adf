"""When calls come: at the moments in which policies change their minds, and one float beside them.

A mistake of `<` for `<=` shows at one reading of the clock and at no other, so random times do not find it. The moments
are sums, as the policies form them: an earlier call plus a length.
"""

from __future__ import annotations

from math import inf, nextafter

from hypothesis import strategies as st

from resilience._checks import is_number, is_timedelta, number, positive_int, seconds
from resilience.pipeline import Pipeline
from resilience.policies._base import Policy
from resilience.policies.throttle import Throttle
from resilience.rates import Rate, rates_from
from resilience.testing.conformance._subject import each_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from typing import Any

    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["arrivals", "spans_up_to"]

_LENGTHS = ("cooldown", "trial_lease", "ramp", "within", "max_retry_after", "max_wait", "seconds", "backoff", "after")
_ROUND = (1.0, 2.0, 10.0, 0.5, 0.1, 1 / 3, 30.0)


def spans_up_to(most: float = 120.0) -> SearchStrategy[float]:
    """Seconds above zero, the round ones first."""
    return st.sampled_from([span for span in _ROUND if span <= most]) | st.floats(0.001, most)


def arrivals(
    *boundaries: Policy[Any] | Rate | str | float | timedelta, start: float = 0.0, max_size: int = 20
) -> SearchStrategy[list[float]]:
    """Times of calls, in order, in seconds: many lie exactly a boundary after an earlier one, or one float beside it.

    Args:
        boundaries: what changes its mind after a time, or that time in seconds. Of a breaker, these are the cooldown,
            the lease, the ramp and windows; of a rate or a throttle, a token and a full bucket; of a retry, `within`
            and the first delays; of a pipeline, those of its parts. Some round numbers if there are none.
        start: the first reading, in seconds.
        max_size: calls at most.

    Raises:
        TypeError, ValueError: a boundary is none of these; `start` or `max_size` is not what it has to be.
    """
    first = number("start", start, zero=True)
    most = int(positive_int("max_size", max_size))
    spans = sorted({span for boundary in boundaries for span in _boundaries_of(boundary)}) or sorted(_ROUND)

    @st.composite
    def drawn(draw: DrawFn) -> list[float]:
        times = [first]
        for _ in range(draw(st.integers(0, most - 1))):
            since = times[-1 - draw(st.integers(0, min(2, len(times) - 1)))]
            kind = draw(st.integers(0, 4))
            moment = since + (draw(st.sampled_from(spans)) if kind < 3 else draw(st.just(0.0) | spans_up_to()))
            if kind in (1, 2):
                moment = nextafter(moment, inf if kind == 1 else -inf)
            times.append(max(first, moment))
        return sorted(times)

    return drawn()


def _boundaries_of(boundary: Any) -> Iterator[float]:
    if is_number(boundary) or is_timedelta(boundary):
        yield seconds("boundary", boundary)
    elif isinstance(boundary, str | Rate):
        for rate in rates_from((boundary,)):
            yield rate.per / rate.amount
            yield rate.burst * rate.per / rate.amount
    elif isinstance(boundary, Policy):
        yield from _boundaries_in(boundary)
    else:
        raise TypeError(f"a boundary is a policy, a rate or a number of seconds, got {boundary!r}")


def _boundaries_in(policy: Any) -> Iterator[float]:
    if isinstance(policy, Pipeline):
        for part in policy._chain():
            yield from _boundaries_of(part)
        return
    arguments: dict[str, Any] = policy._arguments
    if isinstance(policy, Throttle):
        burst = arguments["burst"]
        for rate in rates_from(arguments["rates"]):
            yield from _boundaries_of(rate if burst is None else Rate(rate.amount, rate.per, burst=burst, of=rate.of))
    for name, value in arguments.items():
        for each in each_of(value):
            yield from _lengths_in(name, each)


def _lengths_in(name: str, value: Any) -> Iterator[float]:
    """The seconds in one parameter: a length, a backoff, or the window of a trip."""
    if name in _LENGTHS and (is_number(value) or is_timedelta(value)):
        length = seconds(name, value, zero=True, infinite=True)
        if 0.0 < length < inf:
            yield length
        return
    preview: Any = getattr(value, "preview", None)
    if callable(preview):
        pairs: Any = preview(3)
        yield from {length for pair in pairs for length in pair if length > 0.0}
    for field in ("window", "slower_than"):
        bound: float | None = getattr(value, field, None)
        if bound is not None:
            yield bound
