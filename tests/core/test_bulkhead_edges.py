"""The numbers of callers, and how many alarms are kept for them."""

from __future__ import annotations

from math import inf

from resilience.core.bulkhead import Places
from tests.core.test_bulkhead import Caller, come, crowd


def test_callers_are_numbered_from_one() -> None:
    """Numbers count those who were let in, whether they wait or not, and skip none; who is refused gets none."""
    places = Places(2, 2)
    callers = crowd(places, 4)
    assert come(places) is None
    places.leave(callers[0].number)
    newcomer = come(places)
    assert newcomer is not None
    assert [caller.number for caller in [*callers, newcomer]] == [1, 2, 3, 4, 5]


def test_whoever_stops_waiting_is_told_so() -> None:
    """A wait that ends with a place, without one, or by going away leaves `waits` False: a bool, as it was before."""
    places = Places(1, 3)
    holder, served, gone = crowd(places, 3)
    late = Caller()
    assert places.join(late, 0.0, 1.0)
    places.pump(1.0)
    places.withdraw(gone, 1.0)
    places.leave(holder.number)
    assert [served.waits, gone.waits, late.waits] == [False, False, False]


def test_who_waits_for_ever_needs_no_alarm() -> None:
    """However many wait without a bound, nothing is kept to wake them by."""
    places = Places(1, 8)
    crowd(places, 9)
    assert places._alarms == []
    assert places.alarm == inf


def test_alarms_are_swept_at_twice_the_queue() -> None:
    """Alarms of those who left are kept up to twice the queue and swept then, not at each arrival."""
    places, kept = Places(1, 4), []
    crowd(places, 1)
    for _ in range(100):
        brief = come(places, 0.0, 10.0)
        assert brief is not None
        places.withdraw(brief, 0.0)
        kept.append(len(places._alarms))
    assert kept[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert max(kept) == 8
