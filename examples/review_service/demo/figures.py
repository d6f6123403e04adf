"""From samples to the figures that are shown."""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass, field

from examples.review_service.demo.load import Outcome, Sample
from examples.review_service.demo.script import TICK, Scene, Trouble, scene_at, scene_of

GOOD = frozenset({Outcome.FULL, Outcome.PLAIN})
PROMPT = 0.25
"""Seconds in which an answer comes when nothing is wrong, with room to spare."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A circuit breaker changed its state, `at` seconds into the run."""

    at: float
    policy: str
    state: str


@dataclass
class Run:
    """All that was seen of one run. Samples may come from any thread."""

    title: str
    samples: list[Sample] = field(default_factory=list[Sample])
    calls: dict[int, int] = field(default_factory=dict[int, int])
    """Calls of `/userinfo` that the provider counted, by tick."""
    turns: list[Turn] = field(default_factory=list[Turn])

    def __post_init__(self) -> None:
        """Make the lock."""
        self._lock = threading.Lock()

    def add(self, sample: Sample) -> None:
        """Take a sample in."""
        with self._lock:
            self.samples.append(sample)

    def turned(self, turn: Turn) -> None:
        """Take in what a circuit breaker did."""
        with self._lock:
            self.turns.append(turn)

    def turns_in(self, number: int) -> list[Turn]:
        """What the circuit breakers did in one tick, in order."""
        with self._lock:
            return [each for each in self.turns if number <= each.at / TICK < number + 1]

    def tick(self, number: int) -> list[Sample]:
        """The samples due in one tick, in order."""
        start, end = number * TICK, (number + 1) * TICK
        with self._lock:
            return sorted((each for each in self.samples if start <= each.due < end), key=lambda each: each.due)

    def during(self, scene: Scene) -> list[Sample]:
        """The samples due in a scene."""
        with self._lock:
            return [each for each in self.samples if scene.start <= each.due < scene.end]

    def outcomes(self) -> collections.Counter[Outcome]:
        """How many requests ended how."""
        return collections.Counter(each.outcome for each in self.samples)

    def statuses(self) -> collections.Counter[int | None]:
        """How many answers had which status; None for no answer in time."""
        return collections.Counter(None if each.outcome is Outcome.LATE else each.status for each in self.samples)

    def calls_during(self, scene: Scene) -> int:
        """Calls of the provider in a scene."""
        return sum(count for tick, count in self.calls.items() if scene.start <= tick * TICK < scene.end)

    def recovery(self, trouble: Trouble) -> float | None:
        """Seconds from the end of a trouble until everything is as before; None if it is not so before the next one.

        As before: every request answered in full, and without a wait.
        """
        end = scene_of(trouble).end
        quiet = sorted(self.during(scene_at(end)), key=lambda each: each.due)
        late = [each.outcome is not Outcome.FULL or each.seconds > PROMPT for each in quiet]
        if not late or late[-1]:
            return None
        first_good = len(late) - late[::-1].index(True) if True in late else 0
        return quiet[first_good].due - end


def percentile(samples: list[Sample], share: float) -> float:
    """The time within which this share of the samples was over, in seconds; 0.0 of none."""
    if not samples:
        return 0.0
    times = sorted(each.seconds for each in samples)
    return times[min(len(times) - 1, int(share * len(times)))]
