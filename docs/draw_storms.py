"""Draws the plots of "Will it storm?": `python docs/draw_storms.py`, with the extra `plot` installed.

A plot is a function of its scenario and seeds, so drawing again changes a file only where a scenario or a policy has
changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from resilience.testing.simulation import ready, simulate

SEEDS = 5

if __name__ == "__main__":
    for name in ready():
        report = simulate(name, seeds=SEEDS)
        report.plot(Path(__file__).parent / "_static" / f"{name}.svg")
        sys.stdout.write(f"{report.table()}\n\n")
