"""The calls of an adaptive limit: which window they are of, when that ends, and what of them counts."""

from __future__ import annotations

import pytest

from resilience.core.adaptive import REFUSED, ConcurrencyLimit
from resilience.core.limits import Gradient
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS


def limit_of(initial: int = 200) -> ConcurrencyLimit:
    """A limit that may grow a little."""
    return ConcurrencyLimit(Gradient(), initial, 1, 1000)


def admit(limit: ConcurrencyLimit, calls: int, now: float) -> set[int]:
    """Admit so many; the permits that were given."""
    return {limit.acquire(now) for _ in range(calls)}


def end(limit: ConcurrencyLimit, calls: int, now: float, permit: int = 1, elapsed: float = 0.5) -> None:
    """Let so many of a window come through."""
    for _ in range(calls):
        limit.settle(permit, SUCCESS, elapsed, now)


def learnt(limit: ConcurrencyLimit) -> tuple[int, float] | None:
    """The calls from which the least is known, and their mean."""
    return None if limit.least is None else (limit.least.calls, limit.least.mean)


def test_a_window_takes_a_hundred_calls_in_a_quarter_of_a_second() -> None:
    """It is full with both; who comes until its calls are back is of none, and who comes then of the next."""
    limit = limit_of(100)
    assert admit(limit, 100, 1.0) == {1}
    end(limit, 1, 1.2499)
    assert admit(limit, 1, 1.2499) == {1}
    end(limit, 1, 1.25)
    assert admit(limit, 1, 1.25) == {2}
    assert admit(limit, 1, 1.25) == {REFUSED}
    end(limit, 98, 1.3)
    assert admit(limit, 1, 1.3) == {2}
    end(limit, 1, 1.3)
    assert admit(limit, 1, 1.3) == {3}


def test_a_window_of_few_calls_goes_on() -> None:
    """It has one less than a hundred after a long time, and is full with one more; none of them is in flight then."""
    limit = limit_of(50)
    for _ in range(99):
        assert limit.acquire(limit.latest + 1.0 if limit.latest > 0.0 else 1.0) == 1
        end(limit, 1, limit.latest)
    assert learnt(limit) is None
    assert admit(limit, 1, limit.latest) == {1}
    end(limit, 1, limit.latest)
    assert learnt(limit) == (100, 0.5)
    assert admit(limit, 1, limit.latest) == {3}


def test_a_large_limit_has_large_windows() -> None:
    """As many calls as are allowed are of one window where that is more than a hundred."""
    limit = limit_of(150)
    admit(limit, 149, 0.0)
    assert admit(limit, 1, 9.0) == {1}
    assert admit(limit, 1, 9.0) == {REFUSED}
    end(limit, 1, 9.0)
    assert admit(limit, 1, 9.0) == {2}


@pytest.mark.parametrize(("back", "elapsed", "patience", "mean"), [(50, 0.5, 2.0, 1.25), (0, 0.0, 4.0, 4.0)])
def test_a_full_window_waits_for_its_slow_calls(back: int, elapsed: float, patience: float, mean: float) -> None:
    """Four times as long as its calls took, or as it took to fill if none is back; then they count as so long."""
    limit = limit_of(100)
    admit(limit, 100, 10.0)
    end(limit, back, 11.0, elapsed=elapsed)
    assert limit.acquire(11.0) == (2 if back else REFUSED)
    assert limit.acquire(11.0 + patience - 0.001) == (2 if back else REFUSED)
    assert learnt(limit) is None
    assert limit.acquire(11.0 + patience) == (3 if back else REFUSED)
    assert learnt(limit) == (100, mean)


def test_a_call_that_was_given_up_waiting_for_is_of_no_window() -> None:
    """It frees its place when it ends, and changes nothing besides."""
    limit = limit_of(100)
    admit(limit, 100, 10.0)
    end(limit, 90, 11.0)
    limit.acquire(13.0)
    assert learnt(limit) is not None
    assert limit.in_flight == 11
    end(limit, 10, 20.0)
    assert limit.in_flight == 1
    assert (limit._window.ended, limit._window.lost, limit._window.out) == (0, 0, 1)


def test_a_verdict_says_what_a_call_counts_as() -> None:
    """A success is a sample, a failure is lost, and what was ignored was never there; each frees its place."""
    limit = limit_of()
    admit(limit, 6, 0.0)
    window = limit._window
    for verdict, elapsed in ((SUCCESS, 2.0), (FAILURE, 9.0), (FAILURE, 9.0), (IGNORED, 9.0), (SUCCESS, 4.0)):
        limit.settle(1, verdict, elapsed, 0.1)
    assert limit.in_flight == 1
    assert (window.out, window.ended, window.lost, window.calls) == (1, 2, 2, 5)
    sample = window.sample()
    assert sample is not None and sample.mean == 3.0
    assert limit._window is window


def test_a_window_whose_calls_were_all_ignored_says_nothing() -> None:
    """The next one begins, and nothing is learnt."""
    limit = limit_of(100)
    admit(limit, 100, 0.0)
    assert limit.acquire(1.0) == REFUSED
    for _ in range(100):
        limit.settle(1, IGNORED, 1.0, 1.0)
    assert (learnt(limit), limit.limit) == (None, 100)
    assert admit(limit, 1, 1.0) == {3}


def test_a_window_knows_how_much_was_in_flight() -> None:
    """Seconds spent by all calls together, and the most at a time, from its first call on."""
    limit = limit_of()
    limit.acquire(1.0)
    limit.settle(1, IGNORED, 0.0, 2.0)
    admit(limit, 3, 5.0)
    window = limit._window
    assert (window.opened, window.busy, window.peak) == (5.0, 0.0, 3)
    end(limit, 2, 7.0)
    end(limit, 1, 10.0)
    assert (window.opened, window.busy, window.peak) == (5.0, 9.0, 3)
    limit.acquire(4.0)
    assert (limit.latest, window.busy, window.peak) == (10.0, 9.0, 3)


def test_who_left_at_once_was_in_flight() -> None:
    """The most at a time counts who was ignored, too, as long as no time has passed since."""
    limit = limit_of()
    admit(limit, 3, 5.0)
    for _ in range(3):
        limit.settle(1, IGNORED, 0.0, 5.0)
    limit.acquire(5.0)
    assert limit._window.peak == 3


def test_a_new_window_begins_with_who_is_in_flight() -> None:
    """Those who came while the one before waited for its calls are at work beside its own."""
    limit = limit_of(100)
    admit(limit, 100, 0.0)
    end(limit, 50, 1.0)
    assert admit(limit, 20, 1.0) == {2}
    end(limit, 50, 1.5)
    window = limit._window
    assert (window.permit, window.opened, window.peak, window.busy, window.calls) == (3, 1.5, 20, 0.0, 0)


def test_calls_that_were_forgotten_change_nothing() -> None:
    """Neither those of the window nor those that were of none; whoever is admitted from then on counts."""
    limit = limit_of(100)
    admit(limit, 100, 0.0)
    end(limit, 1, 1.0)
    assert limit.acquire(1.0) == 2
    limit.forget_calls()
    assert limit.in_flight == 0
    assert (limit._window.permit, limit._window.opened, limit._window.peak) == (3, 1.0, 0)
    assert admit(limit, 2, 1.0) == {3}
    for permit in (1, 2):
        limit.settle(permit, SUCCESS, 0.5, 1.0)
    assert (limit.in_flight, limit._window.ended) == (2, 0)
    limit.settle(3, SUCCESS, 0.5, 1.0)
    assert (limit.in_flight, limit._window.ended) == (1, 1)


def test_calls_that_were_taken_over_free_their_places() -> None:
    """They are no samples of the new limit; and what the old one had forgotten stays forgotten."""
    old = limit_of()
    admit(old, 4, 0.0)
    old.forget_calls()
    assert admit(old, 3, 1.0) == {3}
    limit = limit_of()
    limit.take_over(old)
    assert limit.in_flight == 3
    assert (limit._window.permit, limit._window.peak) == (5, 3)
    assert limit.acquire(2.0) == 5
    limit.settle(1, SUCCESS, 2.0, 3.0)
    assert limit.in_flight == 4
    limit.settle(3, SUCCESS, 2.0, 3.0)
    assert (limit.in_flight, limit._window.ended) == (3, 0)
    limit.settle(5, SUCCESS, 1.0, 3.0)
    assert (limit.in_flight, limit._window.ended) == (2, 1)
