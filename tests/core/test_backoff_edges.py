"""The last retry that a formula covers, and backoffs as values."""

from __future__ import annotations

import pytest

from resilience import backoff
from resilience.core.backoff import Backoff, Constant, Curve, Exponential, Fibonacci, Linear

LARGEST = 1.7976931348623157e308

KINDS: list[Backoff] = [
    backoff.exponential(),
    backoff.constant(0.5),
    backoff.linear(1),
    backoff.fibonacci(),
    backoff.decorrelated(),
    backoff.schedule([0.1, 0.5, 2]),
]


def test_fibonacci_is_exact_while_a_float_holds_it() -> None:
    """Up to the last Fibonacci number that fits in a float, number 1476, a delay is the nearest float to it."""
    a, b = 0, 1
    growth = Fibonacci(1.0, LARGEST, "none")
    for retry in range(1, 1477):
        a, b = b, a + b
        if retry in {2, 80, 1475, 1476}:
            assert growth.delay(retry) == float(a)
    assert growth.delay(1477) == LARGEST


def test_each_kind_and_each_number_hashes_otherwise() -> None:
    """Backoffs that differ in a number or in their kind alone hash otherwise, so that dictionaries stay quick."""
    assert len({hash(b) for b in KINDS}) == len(KINDS)
    assert hash(backoff.linear(1)) != hash(backoff.linear(2))
    assert hash(Linear(1.0, 30.0, "full")) != hash(Fibonacci(1.0, 30.0, "full"))


def test_what_is_built_is_what_was_asked_for() -> None:
    """Each factory hands every number on under its own name."""
    built = Exponential(1.0, 2.0, 3.0, "equal")
    assert (built.base, built.factor, built.cap, built.jitter) == (1.0, 2.0, 3.0, "equal")
    assert (Constant(4.0, 0.5).seconds, Constant(4.0, 0.5).jitter) == (4.0, 0.5)


@pytest.mark.parametrize("numbers", [(1.0,), (1.0, 2.0, 3.0)])
def test_a_curve_of_ones_own_names_each_of_its_numbers(numbers: tuple[float, ...]) -> None:
    """A curve that is filled with more or fewer numbers than it has names is refused, and not half filled."""

    class Bent(Curve):
        __slots__ = __match_args__ = ("first", "second")

        def __init__(self, *values: float) -> None:
            self._fill(*values)

    with pytest.raises(ValueError, match="argument 2"):
        Bent(*numbers)
