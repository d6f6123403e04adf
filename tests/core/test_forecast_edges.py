"""A forecast by itself: whose turn comes when, and what a promise changes about it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, ulp

import pytest

from resilience.core.bucket import FULL, Bucket
from resilience.core.forecast import Forecast, broken
from resilience.core.ledger import Claim, Ledger
from resilience.core.promises import Waiter

NONE: tuple[float, ...] = (0.0, 0.0)
LATE = 2.0**40
PLACE = ulp(LATE)


def ledger_of(*buckets: tuple[float, float], keeps: Sequence[Sequence[float]] = (NONE, NONE, NONE)) -> Ledger:
    """Rates given as (tokens a second, burst), and per rank what it may not touch."""
    return Ledger([Bucket(rate, 1.0, burst) for rate, burst in buckets], keeps, 10)


def promised(number: int, at: float, *costs: float) -> Waiter:
    """One who came as `number` and was promised a time."""
    waiter = Waiter(None, costs, 1)
    waiter.number, waiter.at = number, at
    return waiter


def served(forecast: Forecast, number: float, *costs: float, rank: int = 1) -> float:
    """When the next one takes who came as `number`; the forecast stands there afterwards."""
    when = forecast.serve(Claim(None, costs, rank), number)
    assert forecast.now == when
    return when


def test_each_takes_when_enough_has_come_after_the_one_before() -> None:
    """A full bucket serves its burst at once, then as many as come in."""
    forecast = Forecast(ledger_of((2.0, 2.0)), [FULL], [], 10.0)
    assert forecast.now == 10.0
    assert [served(forecast, inf, 1.0) for _ in range(4)] == [10.0, 10.0, 10.5, 11.0]
    assert served(forecast, inf, 2.0) == 12.0


def test_what_came_in_beyond_the_burst_is_lost() -> None:
    """A bucket that has long been full holds its burst and no more, and one in debt pays that first."""
    forecast = Forecast(ledger_of((2.0, 2.0)), [-50.0], [], 10.0)
    assert [served(forecast, inf, 1.0) for _ in range(3)] == [10.0, 10.0, 10.5]
    assert served(Forecast(ledger_of((2.0, 2.0)), [24.0], [], 10.0), inf, 1.0) == 12.5


def test_a_rank_leaves_what_it_may_not_touch() -> None:
    """It waits until as much is there besides, which a higher one takes at once."""
    forecast = Forecast(ledger_of((2.0, 2.0), keeps=((0.0,), (1.0,), (1.5,))), [FULL], [], 10.0)
    assert served(forecast, inf, 1.0, rank=1) == 10.0
    assert served(forecast, inf, 0.5, rank=2) == 10.5
    assert served(forecast, inf, 1.0, rank=1) == 10.75
    assert served(forecast, inf, 1.0, rank=0) == 10.75


def test_of_two_rates_the_later_decides_and_the_other_overflows() -> None:
    """While one keeps somebody waiting, the other gains no more than its burst; nobody goes before the one before."""
    forecast = Forecast(ledger_of((1.0, 1.0), (1.0, 2.0)), [FULL, FULL], [], 100.0)
    assert served(forecast, inf, 1.0, 0.0) == 100.0
    assert served(forecast, inf, 1.0, 0.0) == 101.0
    assert served(forecast, inf, 0.0, 2.0) == 101.0
    assert served(forecast, inf, 1.0, 1.0) == 102.0
    assert served(forecast, inf, 0.0, 1.0) == 103.0
    assert served(forecast, inf, 1.0, 0.0) == 103.0
    assert served(forecast, inf, 1.0, 0.0) == 104.0


def test_states_of_another_number_of_rates_are_refused() -> None:
    """Neither a rate without a state is left out nor a state without a rate."""
    for states in ([FULL], [FULL, FULL, FULL]):
        with pytest.raises(ValueError):
            Forecast(ledger_of((1.0, 1.0), (1.0, 2.0)), states, [], 100.0)


def test_a_copy_goes_its_own_way() -> None:
    """What is served to one of the two, a promise among it, is not served to the other."""
    promises = [promised(1, 102.0, 2.0)]
    states = [100.0]
    forecast = Forecast(ledger_of((1.0, 5.0)), states, promises, 100.0)
    assert served(forecast, 0, 0.5) == 102.5
    other = forecast.copy()
    assert other.now == 102.5
    assert [served(other, 2, 1.0) for _ in range(3)] == [103.5, 104.5, 105.5]
    early = Forecast(ledger_of((1.0, 5.0)), states, promises, 100.0)
    assert served(early.copy(), 2, 1.0) == served(early, 2, 1.0) == served(early.copy(), 2, 0.5) - 0.5 == 103.0
    assert served(forecast, 2, 1.0) == 103.5
    assert states == [100.0] and len(promises) == 1


def test_who_came_after_a_promise_waits_for_what_was_promised_too() -> None:
    """It is spoken for until it is taken, and then it is not counted twice."""
    forecast = Forecast(ledger_of((1.0, 5.0)), [100.0], [promised(1, 102.0, 2.0), promised(3, 104.0, 1.0)], 100.0)
    assert served(forecast, 2, 0.5) == 102.5
    assert served(forecast, 2, 0.5) == 103.0
    assert served(forecast, 4, 1.0) == 105.0
    assert served(forecast, 5, 1.0) == 106.0


@pytest.mark.parametrize(("at", "when", "then"), [(102.0, 103.0, 104.0), (103.0, 101.0, 104.0), (104.0, 101.0, 102.0)])
def test_who_came_before_a_promise_goes_first_where_that_breaks_none(at: float, when: float, then: float) -> None:
    """It takes while enough comes in until the time promised, to the last token, else after that."""
    forecast = Forecast(ledger_of((1.0, 5.0)), [100.0], [promised(3, at, 2.0)], 100.0)
    assert served(forecast, 1, 1.0) == when
    assert served(forecast, 2, 1.0) == then


def test_of_several_promises_those_come_first_that_would_be_broken() -> None:
    """They are taken one after the other, in the order of their times, until none that is left would be broken."""
    promises = [promised(3, 102.0, 2.0), promised(4, 110.0, 7.0), promised(5, 130.0, 1.0)]
    forecast = Forecast(ledger_of((1.0, 10.0)), [100.0], promises, 100.0)
    assert served(forecast, 1, 1.0) == 103.0
    assert served(forecast, 1, 1.0) == 111.0
    assert served(forecast, 1, 1.0) == 112.0
    both = [promised(3, 103.0, 2.0), promised(4, 104.0, 2.0)]
    assert served(Forecast(ledger_of((1.0, 10.0)), [100.0], both, 100.0), 1, 1.0) == 105.0


@pytest.mark.parametrize(
    ("cost", "keep", "when"),
    [(5.0, 0.0, 100.0), (4.0, 1.0, 100.0), (5.5, 0.0, 200.5), (5.0, 1.0, 201.0), (4.0, 2.0, 201.0)],
)
def test_a_full_bucket_serves_at_once_what_fits_beside_a_promise(cost: float, keep: float, when: float) -> None:
    """What does not fit into it, together with what was promised and what is kept, waits until that has been taken."""
    ledger = ledger_of((1.0, 10.0), keeps=((0.0,), (keep,), (0.0,)))
    forecast = Forecast(ledger, [FULL], [promised(1, 200.0, 5.0)], 100.0)
    assert served(forecast, 2, cost) == when


def test_a_promise_of_one_rate_is_nothing_to_who_needs_another() -> None:
    """Who needs only the other one takes at once, whether it came before or after."""
    for number in (1, 3):
        forecast = Forecast(ledger_of((1.0, 5.0), (1.0, 5.0)), [100.0, FULL], [promised(2, 105.0, 5.0, 0.0)], 100.0)
        assert served(forecast, number, 0.0, 5.0) == 100.0
        assert served(forecast, number, 1.0, 0.0) == 106.0
    both = Forecast(ledger_of((1.0, 5.0), (1.0, 5.0)), [100.0, FULL], [promised(2, 105.0, 5.0, 0.0)], 100.0)
    assert served(both, 1, 2.0, 5.0) == 107.0


@pytest.mark.parametrize(("places", "when"), [(5.0, -5.0), (4.0, -4.0), (3.0, 4.0), (-4.0, 8.0)])
def test_at_the_same_time_to_the_last_place_the_promise_comes_first(places: float, when: float) -> None:
    """Where one is ready less than four last places before the time promised; with more, who is first goes first."""
    promise = promised(2, LATE, (4.0 + max(places, 0.0)) * PLACE)
    forecast = Forecast(ledger_of((1.0, 10.0)), [LATE - 1.0 - places * PLACE], [promise], LATE - 2.0)
    assert served(forecast, 1, 1.0) == LATE + when * PLACE


@pytest.mark.parametrize(("places", "breach"), [(-1.0, False), (4.0, False), (5.0, True)])
def test_a_last_place_is_no_breach(places: float, breach: bool) -> None:
    """A promise is broken by what lacks more than four last places of the tokens that have come by then."""
    state = LATE + places * PLACE
    ledger, claim = ledger_of((1.0, 10.0)), Claim(None, (1.0,), 1)
    promises = [promised(2, LATE + 1.0, 1.0 - PLACE), promised(3, LATE + 2.0, 1.0 + PLACE)]
    assert broken(ledger, claim, [state], promises) is breach


def test_only_what_both_need_can_be_taken_from_a_promise() -> None:
    """A rate in debt breaks no promise of it if the claim does not take from it, nor one that does not need it."""
    ledger = ledger_of((1.0, 5.0), (1.0, 5.0))
    states = [100.0, 200.0]
    for costs, promise, breach in (
        ((1.0, 0.0), (0.0, 1.0), False),
        ((1.0, 0.0), (1.0, 1.0), False),
        ((1.0, 1.0), (1.0, 0.0), False),
        ((0.0, 1.0), (1.0, 1.0), True),
        ((1.0, 1.0), (0.0, 1.0), True),
    ):
        assert broken(ledger, Claim(None, costs, 1), states, [promised(1, 110.0, *promise)]) is breach
    assert broken(ledger, Claim(None, (1.0, 1.0), 1), states, []) is False
    assert states == [100.0, 200.0]


def test_a_bucket_that_fills_up_between_two_promises_keeps_its_burst() -> None:
    """What overflows until a promise comes is not there for the next."""
    ledger, claim = ledger_of((1.0, 5.0)), Claim(None, (1.0,), 1)
    pair = [promised(1, 200.0, 3.0), promised(2, 200.0, 2.0)]
    assert broken(ledger, claim, [100.0], pair) is False
    assert broken(ledger, claim, [100.0], [*pair, promised(3, 201.0, 2.0)]) is True
