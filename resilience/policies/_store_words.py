"""What a policy says to its store, and what may be said to a policy about its store."""

from __future__ import annotations

from math import inf, isnan

from resilience._checks import wrong_value
from resilience.core.trip import Consecutive, FailureRate, SlowRate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from resilience.core.trip import Trip
    from resilience.rates import Rate
    from resilience.stores import Word

    OnStoreError = Literal["local", "allow", "deny"]

_WAYS_OUT: tuple[OnStoreError, ...] = ("local", "allow", "deny")

__all__ = ["WrongStore", "check_store", "numbers_of", "rate_words", "trip_words", "way_out"]


class WrongStore(TypeError):
    """A store is used in a way that it was not made for: the programmer's mistake, not an outage."""


def way_out(on_store_error: object) -> OnStoreError:
    """Check what a policy is to do without its store."""
    for known in _WAYS_OUT:
        if on_store_error == known:
            return known
    raise wrong_value("on_store_error", '"local", "allow" or "deny"', on_store_error)


def check_store(policy: str, store: object, name: str | None) -> str:
    """Refuse what is no store, and a policy without a name; returns the name.

    Raises:
        TypeError: as said.
    """
    for method in ("ask", "ask_async"):
        if not callable(getattr(store, method, None)):
            raise TypeError(f"store must have ask(...) and ask_async(...), got {store!r}")
    if name is None:
        raise TypeError(f"{policy}(store=...) needs name=: it is the key under which processes share the state")
    return name


def rate_words(rates: Iterable[Rate]) -> list[Word]:
    """Rates as a store takes them."""
    words: list[Word] = []
    for rate in rates:
        words += [rate.amount, rate.per, rate.burst]
    return [len(words) / 3, *words]


def numbers_of(answer: Sequence[Word], count: int) -> list[float]:
    """An answer of so many numbers, at least.

    Raises:
        ValueError: it is something else.
    """
    numbers = [float(word) for word in answer]
    if len(numbers) < count or any(map(isnan, numbers)):
        raise ValueError(f"the store answered {answer!r}, and {count} numbers were expected")
    return numbers


def trip_words(trips: tuple[Trip, ...]) -> list[Word]:
    """Trips as a store takes them.

    Raises:
        TypeError: a trip of somebody's own, which only this process could count.
    """
    words: list[Word] = [len(trips)]
    for trip in trips:
        if isinstance(trip, Consecutive):
            words += [1, trip.failures, 0, 0, -1]
        elif isinstance(trip, FailureRate | SlowRate):
            slower = trip.slower_than if isinstance(trip, SlowRate) else -1
            size = trip.calls if trip.calls is not None else trip.window
            kind = 2 if trip.calls is not None else 3
            words += [kind, trip.ratio, trip.minimum_calls, inf if size is None else size, slower]
        else:
            raise TypeError(f"a store counts failures in a row, FailureRate and SlowRate, not {trip!r}")
    return words
