"""What happens, and when. Both runs go through the same scenes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

RATE = 40
"""Requests in a second, whatever becomes of those before: people do not wait for each other."""
PATIENCE = 1.0
"""Seconds after which a person has gone away."""
TICK = 0.5
"""Seconds of one line of the timeline."""


class Trouble(Enum):
    """What is wrong during a scene."""

    NONE = "all well"
    HANGS = "provider hangs"
    FAILS = "provider fails"
    LOCKED = "database locked"


@dataclass(frozen=True, slots=True)
class Scene:
    """A part of the run, `start` and `end` in seconds from its beginning."""

    trouble: Trouble
    start: float
    end: float


def _scenes(*lengths: tuple[Trouble, float]) -> tuple[Scene, ...]:
    scenes: list[Scene] = []
    start = 0.0
    for trouble, length in lengths:
        scenes.append(Scene(trouble, start, start + length))
        start += length
    return tuple(scenes)


SCENES = _scenes(
    (Trouble.NONE, 1.0),
    (Trouble.HANGS, 2.0),
    (Trouble.FAILS, 1.5),
    (Trouble.NONE, 1.5),
    (Trouble.LOCKED, 1.5),
    (Trouble.NONE, 1.5),
)
LENGTH = SCENES[-1].end


def scene_of(trouble: Trouble) -> Scene:
    """The scene in which this is wrong."""
    return next(scene for scene in SCENES if scene.trouble is trouble)


def scene_at(seconds: float) -> Scene:
    """The scene that is on at this time."""
    return next((scene for scene in SCENES if seconds < scene.end), SCENES[-1])
