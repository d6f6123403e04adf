"""Storms of cancellations over every gate that lends something out: nothing is leaked, nothing is lost."""

from __future__ import annotations

import pytest

from tests.colours import Colour, async_colours
from tests.policies.storms import GATES, Gate, blow


@pytest.mark.parametrize("gate", GATES)
@async_colours
async def test_a_storm_leaves_nothing(colour: Colour, gate: type[Gate]) -> None:
    """A thousand tasks, two thirds of them cancelled at random, leave the gate as if they had never been there."""
    await blow(gate, colour, 1_000, seed=0)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("gate", GATES)
@async_colours
async def test_ten_thousand_tasks_in_a_storm(colour: Colour, gate: type[Gate], seed: int) -> None:
    """The same with ten thousand tasks and twenty seeds."""
    await blow(gate, colour, 10_000, seed)
