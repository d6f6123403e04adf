"""`Chaos` took anything for a clock, and failed in the first call that it made wait."""

from __future__ import annotations

from typing import Any

import pytest

from resilience.testing import Chaos


@pytest.mark.parametrize("clock", [True, 3.0, "now", []])
def test_what_is_no_clock_is_refused(clock: Any) -> None:
    """An object without the three methods of a clock is an error that names the parameter and the value."""
    with pytest.raises(TypeError, match="clock must have now") as caught:
        Chaos(clock=clock)
    assert repr(clock) in str(caught.value)
