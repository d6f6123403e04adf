"""A ramp that has refused nobody yet."""

from __future__ import annotations

from resilience.core.ramp import Ramp


def test_nobody_waits_before_anybody_was_refused() -> None:
    """A new ramp, and one that has let everybody in so far, tells nobody to wait."""
    ramp = Ramp(100.0, 10.0)
    assert ramp.wait == 0.0
    assert ramp.admits(105.0, 0.25)
    assert ramp.wait == 0.0
