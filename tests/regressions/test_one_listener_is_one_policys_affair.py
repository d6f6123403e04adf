"""A listener to one policy sent every retry of the process the long way round."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import Retry, listen
from resilience._attempt import current_attempt
from resilience._hub import HUB
from tests.colours import Colour, every_colour


@every_colour
@pytest.mark.parametrize("ear", [Retry(on=OSError).listen, listen], ids=["another", "all"])
async def test_a_retry_goes_the_long_way_only_where_it_is_heard(colour: Colour, ear: Any) -> None:
    """Whoever listens to another policy changes nothing for a retry; whoever listens to all is told by it."""
    if HUB.listeners:
        pytest.skip("somebody listens to all")
    heard: list[object] = []
    marks: list[object] = []

    def look() -> None:
        marks.append(current_attempt())

    async def look_async() -> None:
        look()

    bound: Any = Retry(on=OSError).bind(look_async if colour.is_async else look)
    stop = ear(heard.append)
    try:
        await colour.invoke(bound)
    finally:
        stop()
    assert (marks, len(heard)) == (([(1, 0)], 1) if ear is listen else ([None], 0))
