"""The demonstration: one scripted outage, seen twice.

script.py    what happens, and when            timeline.py   a line for each half second, as it happens
stage.py     the processes, and what is broken  figures.py    from samples to figures
load.py      real HTTP, sent by the clock      table.py, plot.py, words.py    what is left at the end
"""

from __future__ import annotations

from examples.review_service.demo.play import demo

__all__ = ["demo"]
