"""A KeyboardInterrupt while a hedge noted an answer made later answers raise an IndexError."""

from __future__ import annotations

from resilience.core.hedge import Hedging


def test_half_a_note_is_made_good() -> None:
    """Where only half of an answer was noted, the next ones are noted whole, and the delay is of those that count."""
    hedging = Hedging(0.5, None)
    for number in range(300):
        hedging.succeeded(float(number))
    # What an interrupt leaves behind: counted among the recent, and not yet sorted in.
    del hedging._sorted[-1]
    hedging._recent.append(1000.0)
    for _ in range(300):
        hedging.succeeded(1.0)
    assert hedging.delay() == 1.0
    assert len(hedging._sorted) == len(hedging._recent)
