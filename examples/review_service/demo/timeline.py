"""The timeline as it happens: one line for half a second, one mark for a request.

The lines only ever grow at the end, so they read the same in a terminal, a file or the log of a build.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from examples.review_service.demo.figures import Turn, percentile
from examples.review_service.demo.load import Outcome, Sample
from examples.review_service.demo.script import RATE, TICK, Scene, Trouble

STYLE = {Outcome.FULL: "green", Outcome.PLAIN: "yellow", Outcome.REFUSED: "magenta", Outcome.LATE: "red"}
_MARKS = {Outcome.FULL: "█", Outcome.PLAIN: "▓", Outcome.REFUSED: "▒", Outcome.LATE: "·"}
_ASCII = {Outcome.FULL: "#", Outcome.PLAIN: "+", Outcome.REFUSED: "x", Outcome.LATE: "."}
_TURNS = {
    "open": ("opens", "no more calls, for now"),
    "half_open": ("half-opens", "one call goes through, to see"),
    "closed": ("closes", "it is back"),
}
_PROTECTED = {"userinfo": "provider", "reading": "database", "writing": "database (writing)"}


class Timeline:
    """Writes to a console. Its methods may be called from any thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._marks = _ASCII if console.options.ascii_only else _MARKS

    def legend(self) -> None:
        """Say what the marks mean."""
        for outcome in Outcome:
            self._console.print(Text(f"  {self._marks[outcome]} ", STYLE[outcome]).append(outcome.value, "default"))
        self._console.print("  slowest: of these answers; calls: how often the service asked the provider")

    def tick(self, number: int, scene: Scene, samples: list[Sample], calls: int) -> None:
        """Write the line of one tick."""
        line = Text(f"{(number + 1) * TICK:5.1f} s  ")
        line.append(f"{scene.trouble.value:<17}", "default" if scene.trouble is Trouble.NONE else "bold red")
        for each in samples:
            line.append(self._marks[each.outcome], STYLE[each.outcome])
        line.append(" " * (int(RATE * TICK) - len(samples)))
        line.append(f"  slowest {percentile(samples, 1.0) * 1000:4.0f} ms  calls {calls:3}")
        self._console.print(line, soft_wrap=True)

    def turn(self, turn: Turn) -> None:
        """Write down what a circuit breaker did."""
        what, meaning = _TURNS[turn.state]
        whose = _PROTECTED[turn.policy.partition(".")[0]]
        self._console.print(Text(f"{turn.at:5.1f} s  {whose} breaker {what}: {meaning}", "cyan"), soft_wrap=True)
