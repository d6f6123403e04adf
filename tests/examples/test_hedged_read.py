"""The example of a hedged read runs, and shows what it says."""

from __future__ import annotations

import asyncio
import re

import pytest

from examples import hedged_read


def test_it_shows_a_shorter_tail_for_a_few_more_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """The hedged reads have at most half the p99 of the plain ones for at most 5.5 % more calls, slow or not."""
    asyncio.run(hedged_read.main())
    rows = {
        name.strip(): [float(number) for number in numbers.replace("%", "").split()]
        for name, numbers in re.findall(r"^([a-z][a-z0-9, ]*?) {2,}([\d .%]+)$", capsys.readouterr().out, re.MULTILINE)
    }
    assert list(rows) == ["plain", "hedged", "hedged, all slower"]
    assert rows["hedged"][2] <= rows["plain"][2] / 2
    assert rows["hedged"][0] == pytest.approx(rows["plain"][0], abs=1)
    assert [numbers[-1] <= 5.5 for numbers in rows.values()] == [True] * len(rows)
