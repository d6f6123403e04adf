"""Promises by themselves: what is owed to whom, what a correction changes, and in which order their times come."""

from __future__ import annotations

import pytest

from resilience.core.ledger import Claim
from resilience.core.promises import Promises, Waiter


def promised(promises: Promises, number: int, at: float, *costs: float) -> Waiter:
    """One who came as `number` and was promised a time."""
    waiter = Waiter(None, costs, 1)
    waiter.number = number
    promises.make(waiter, at)
    return waiter


def test_a_new_waiter_neither_waits_nor_is_owed_anything() -> None:
    """It has come without a place, and can hand back nothing."""
    waiter = Waiter("key", (1.0, 2.0), 2)
    assert (waiter.key, waiter.costs, waiter.rank) == ("key", (1.0, 2.0), 2)
    assert waiter.waits is waiter.owed is False
    assert (waiter.number, waiter.deadline, waiter.at, waiter.retry_after) == (0, 0.0, 0.0, None)
    assert waiter.marks == waiter.returned == ()
    assert not Promises(1).holds(waiter) and not Promises(1).holds(Claim("key", (1.0,), 2))


def test_what_is_owed_is_the_sum_of_the_promises_per_rate() -> None:
    """A promise that is made adds to it, one that has come or is taken back does not count any more."""
    promises = Promises(2)
    assert not promises and promises.owed() == [0.0, 0.0]
    one, other = promised(promises, 1, 5.0, 1.0, 0.0), promised(promises, 2, 6.0, 2.0, 4.0)
    assert promises and promises.live == 2
    assert promises.owed() == [3.0, 4.0] and promises.holds(one) and promises.holds(other)
    assert list(promises.come(5.0)) == [one]
    assert promises.owed() == [2.0, 4.0] and promises.holds(one) is False
    promises.amend(other, (0.0, 0.0))
    assert not promises and promises.owed() == [0.0, 0.0] and not promises.holds(other)


def test_promises_come_in_the_order_of_their_times_and_then_of_arrival() -> None:
    """Neither the order of making counts nor the size; each comes once, at its time and not before."""
    promises = Promises(1)
    third, first, second = (promised(promises, number, at, 1.0) for number, at in ((1, 9.0), (2, 5.0), (3, 5.0)))
    assert promises.next_at == 5.0
    assert promises.to_come() == [first, second, third]
    assert list(promises.come(4.9)) == []
    assert list(promises.come(5.0)) == [first, second]
    assert promises.next_at == 9.0 and promises.to_come() == [third]
    assert list(promises.come(99.0)) == [third] and promises.to_come() == []
    assert list(promises.come(99.0)) == []


def test_a_promise_that_was_taken_back_is_passed_over() -> None:
    """The next one is the earliest of those that are still owed."""
    promises = Promises(1)
    first, second, third = (promised(promises, number, float(number), 1.0) for number in (1, 2, 3))
    promises.amend(first, (0.0,))
    assert promises.next_at == 2.0 and promises.to_come() == [second, third]
    promises.amend(third, (0.0,))
    assert list(promises.come(9.0)) == [second]
    assert not promises


@pytest.mark.parametrize(
    ("actual", "grew", "gaps"),
    [
        ((2.0, 5.0), [0.0, 0.0], False),
        ((3.0, 5.0), [1.0, 0.0], False),
        ((2.5, 5.25), [0.5, 0.25], False),
        ((1.0, 5.0), [0.0, 0.0], True),
        ((3.0, 4.5), [1.0, 0.0], True),
        ((0.0, 5.0), [0.0, 0.0], True),
    ],
)
def test_a_correction_says_by_how_much_a_promise_grew(actual: tuple[float, ...], grew: list[float], gaps: bool) -> None:
    """Per rate; what shrinks leaves a gap, and what is owed is what was corrected to."""
    promises = Promises(2)
    promised(promises, 1, 1.0, 10.0, 10.0)
    promise = promised(promises, 2, 2.0, 2.0, 5.0)
    assert promises.amend(promise, actual) == grew
    assert promises.gaps is gaps
    assert promise.costs == actual and promises.holds(promise) and promises.live == 2
    assert promises.owed() == [10.0 + actual[0], 10.0 + actual[1]]


def test_a_gap_stays_until_nothing_is_owed() -> None:
    """A correction that leaves none does not close one from before; the end of the last promise does."""
    promises = Promises(1)
    one, other = promised(promises, 1, 1.0, 5.0), promised(promises, 2, 2.0, 5.0)
    promises.amend(one, (4.0,))
    promises.amend(other, (6.0,))
    assert promises.gaps is True
    promises.amend(one, (0.0,))
    assert promises.gaps is True
    list(promises.come(2.0))
    assert promises.gaps is False


def test_a_correction_for_another_number_of_rates_is_refused() -> None:
    """Neither a rate left out nor one too many is taken for nothing; the promise stands."""
    promises = Promises(2)
    promise = promised(promises, 1, 1.0, 2.0, 5.0)
    for actual in ((1.0,), (1.0, 1.0, 1.0)):
        with pytest.raises(ValueError):
            promises.amend(promise, actual)
    assert promises.owed() == [2.0, 5.0] and promise.costs == (2.0, 5.0) and promises.gaps is False


def test_who_owes_nothing_to_anybody_has_no_promise_and_no_price() -> None:
    """All are forgotten but those that have come, which cost what they cost."""
    promises = Promises(2)
    come, one, other = (promised(promises, number, float(number), 2.0, 5.0) for number in (1, 2, 3))
    assert list(promises.come(1.0)) == [come]
    promises.forget()
    assert not promises and promises.live == 0 and promises.owed() == [0.0, 0.0] and promises.to_come() == []
    assert [each.costs for each in (come, one, other)] == [(2.0, 5.0), (0.0, 0.0), (0.0, 0.0)]
    assert not promises.holds(one) and not promises.holds(other)


def test_a_promise_taken_back_before_all_are_forgotten_is_dropped_once() -> None:
    """What is owed afterwards is what is promised afterwards."""
    promises = Promises(1)
    back, _ = promised(promises, 1, 1.0, 2.0), promised(promises, 2, 2.0, 3.0)
    promises.amend(back, (0.0,))
    promises.forget()
    assert promises.live == 0 and promises.owed() == [0.0]
    again = promised(promises, 3, 3.0, 4.0)
    assert promises.live == 1 and promises.owed() == [4.0] and promises.next_at == 3.0 and promises.to_come() == [again]


def test_what_is_owed_to_those_who_came_before_somebody() -> None:
    """A promise to one who came later does not count, nor does one that is owed no longer."""
    promises = Promises(2)
    one, _, late = (promised(promises, number, 9.0 - number, float(number), 1.0) for number in (2, 4, 6))
    assert [promises.owed_before(number) for number in (1, 3, 4, 5, 6, 7)] == [
        [0.0, 0.0],
        [2.0, 1.0],
        [2.0, 1.0],
        [6.0, 2.0],
        [12.0, 3.0],
        [12.0, 3.0],
    ]
    assert [promises.made_after(number) for number in (1, 5, 6, 7)] == [True, True, False, False]
    promises.amend(late, (0.0, 0.0))
    assert not promises.made_after(5) and promises.owed_before(5) == [6.0, 2.0]
    promises.amend(one, (0.0, 0.0))
    assert promises.owed_before(3) == [0.0, 0.0]
