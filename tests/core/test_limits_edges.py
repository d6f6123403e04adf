"""The ways to move a limit where their conditions are met exactly, and how they are built and compared."""

from __future__ import annotations

import pytest

from resilience.core.limits import AIMD, Algorithm, Gradient, Vegas


def test_the_defaults() -> None:
    """What is left out is what the documentation says."""
    assert Gradient() == Gradient(headroom=0.03)
    assert Vegas() == Vegas(low=0.04, high=0.1)
    assert AIMD() == AIMD(backoff=0.9, tolerance=1.125)


@pytest.mark.parametrize(
    ("algorithm", "seen", "limit"),
    [
        # Exactly `high` of eight wait, then exactly `low` of them: neither more than one nor fewer than the other.
        (Vegas(low=0.25, high=0.5), (8.0, 2.0, 1.0, 0.0), 8.0),
        (Vegas(low=0.25, high=0.5), (8.0, 4.0, 3.0, 0.0), 8.0),
        # One and a half of four wait, which is more than a whole one; half a call is not fewer than half a call.
        (Vegas(), (4.0, 8.0, 5.0, 0.0), 3.0),
        (Vegas(), (4.0, 4.0, 3.0, 0.0), 4.0),
        (Vegas(), (4.0, 8.0, 7.0, 0.0), 4.0),
        # Exactly as slow as is tolerated.
        (AIMD(tolerance=2.0), (10.0, 2.0, 1.0, 0.0), 11.0),
    ],
)
def test_a_bound_that_is_met_exactly_is_not_passed(
    algorithm: Algorithm, seen: tuple[float, float, float, float], limit: float
) -> None:
    """A queue or a latency exactly at its bound is still within it."""
    assert algorithm.next_limit(*seen) == limit


def test_low_and_high_must_differ() -> None:
    """Between `low` and `high` there has to be room to rest in, and each is refused by its own name."""
    with pytest.raises(ValueError, match=r"^low must be less than high=0\.1, got 0\.1$"):
        Vegas(low=0.1)
    with pytest.raises(ValueError, match=r"^low must be a number above 0, at most 1, got 0$"):
        Vegas(low=0)
    with pytest.raises(ValueError, match=r"^high must be a number above 0, at most 1, got 2$"):
        Vegas(high=2)


def test_a_kind_of_ones_own_is_another_value() -> None:
    """A subclass may move a limit otherwise, so it never equals its base, though it compares by numbers too."""

    class Timid(Gradient):
        __slots__ = ()

        def next_limit(self, limit: float, latency: float, least: float, lost: float) -> float:
            return min(limit, super().next_limit(limit, latency, least, lost))

    assert Timid() != Gradient()
    assert Gradient() != Timid()
    assert hash(Timid()) != hash(Gradient())
    assert Timid(headroom=0.5) == Timid(headroom=0.5) != Timid()
    assert repr(Timid()).endswith("Timid(headroom=0.03)")
    assert hash(Gradient()) == hash(Gradient())
    assert hash(Gradient()) != hash(Gradient(headroom=0.5))
