"""The three ways to move a limit: each against a table, and what all have in common."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.limits import AIMD, Algorithm, Gradient, Vegas

TABLE: list[tuple[Algorithm, tuple[float, float, float, float], float]] = [
    # As fast as alone: up by half of the headroom. Twice as slow: half the way down to the half, plus that.
    (Gradient(), (100, 0.1, 0.1, 0.0), 101.5),
    (Gradient(), (100, 0.2, 0.1, 0.0), 76.5),
    (Gradient(), (100, 9.9, 0.1, 0.0), 76.5),
    (Gradient(), (100, 0.05, 0.1, 0.0), 111.5),
    (Gradient(headroom=0.1), (100, 0.1, 0.1, 0.0), 105.0),
    (Gradient(), (4, 0.1, 0.1, 0.0), 4.25),
    # A loss counts like a latency; a total one like the worst.
    (Gradient(), (100, 0.1, 0.1, 0.2), 91.5),
    (Gradient(), (100, 0.1, 0.1, 1.0), 76.5),
    # Where it rests: at 1 + headroom.
    (Gradient(), (100, 0.1 / 0.97, 0.1, 0.0), 100.0),
    (Vegas(), (100, 0.1, 0.1, 0.0), 105.0),
    (Vegas(), (100, 0.1 / 0.93, 0.1, 0.0), 100.0),
    (Vegas(), (100, 0.1 / 0.89, 0.1, 0.0), 95.0),
    (Vegas(), (100, 0.1, 0.1, 0.01), 95.0),
    (Vegas(), (10, 0.1, 0.1, 0.0), 11.0),
    (Vegas(), (10, 0.1 / 0.92, 0.1, 0.0), 10.0),
    (Vegas(low=0.2, high=0.5), (100, 0.1 / 0.7, 0.1, 0.0), 100.0),
    (AIMD(), (100, 0.1, 0.1, 0.0), 101.0),
    (AIMD(), (100, 0.112, 0.1, 0.0), 101.0),
    (AIMD(), (100, 0.113, 0.1, 0.0), 90.0),
    (AIMD(), (100, 0.1, 0.1, 0.01), 90.0),
    (AIMD(backoff=0.5, tolerance=2), (100, 0.3, 0.1, 0.0), 50.0),
]


@pytest.mark.parametrize(("algorithm", "seen", "limit"), TABLE, ids=[f"{row[0]!r}-{row[1]}" for row in TABLE])
def test_the_next_limit(algorithm: Algorithm, seen: tuple[float, float, float, float], limit: float) -> None:
    """Each algorithm gives the limit of the table."""
    assert algorithm.next_limit(*seen) == pytest.approx(limit)


@pytest.mark.parametrize("algorithm", [Gradient(), Vegas(), AIMD()], ids=repr)
@given(limit=st.floats(1, 1e6), least=st.floats(1e-6, 1e3), factor=st.floats(1, 1e3), lost=st.floats(0, 1))
def test_worse_is_never_answered_with_more(
    algorithm: Algorithm, limit: float, least: float, factor: float, lost: float
) -> None:
    """A slower window, or one with losses, never gets a higher limit than a good one; and none is halved at once."""
    good = algorithm.next_limit(limit, least, least, 0.0)
    bad = algorithm.next_limit(limit, least * factor, least, lost)
    assert bad <= good
    assert good > limit
    assert math.isfinite(bad)
    assert bad >= min(limit / 2, limit - 1)


@pytest.mark.parametrize("algorithm", [Gradient(headroom=0.2), Vegas(low=0.1, high=0.3), AIMD(backoff=0.7)], ids=repr)
def test_an_algorithm_is_a_value(algorithm: Any) -> None:
    """Algorithms compare by their numbers, hash, copy, pickle, and show how to write them."""
    assert algorithm == copy.copy(algorithm) == pickle.loads(pickle.dumps(algorithm))
    assert hash(algorithm) == hash(copy.copy(algorithm))
    assert algorithm != type(algorithm)()
    assert algorithm != "an algorithm"
    assert eval(repr(algorithm), {"Gradient": Gradient, "Vegas": Vegas, "AIMD": AIMD}) == algorithm
    assert Gradient() != Vegas()


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (Gradient, {"headroom": 0}, ValueError, "headroom must be a number above 0, at most 1, got 0"),
    (Gradient, {"headroom": True}, TypeError, "headroom must be a number above 0, at most 1, got True"),
    (Gradient, {"headroom": math.nan}, ValueError, "headroom must be a number above 0, at most 1, got nan"),
    (Vegas, {"low": 0.5}, ValueError, "low must be less than high=0.1, got 0.5"),
    (Vegas, {"high": -1}, ValueError, "high must be a number above 0, at most 1, got -1"),
    (AIMD, {"backoff": 1}, ValueError, "backoff must be below 1, got 1"),
    (AIMD, {"backoff": "0.9"}, TypeError, "backoff must be a number above 0, at most 1, got '0.9'"),
    (AIMD, {"tolerance": 1}, ValueError, "tolerance must be above 1, got 1"),
    (AIMD, {"tolerance": math.inf}, ValueError, "tolerance must be a number above 0, got inf"),
]


@pytest.mark.parametrize(("kind", "given_", "error", "message"), WRONG, ids=[row[3] for row in WRONG])
def test_a_wrong_number_is_refused(kind: Any, given_: dict[str, Any], error: type[Exception], message: str) -> None:
    """A parameter that breaks its rule is refused with the parameter, the rule and the value."""
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        kind(**given_)
