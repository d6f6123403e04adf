"""What came of a script: each call with its outcome, its waits and its events, and all of them as a table."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from resilience.events import Event

__all__ = ["Call", "Trace"]

_LONGEST = 44


class Call:
    """One call through the policy.

    Attributes:
        number: which call it is, from 1.
        at: seconds from the beginning of the run to that of the call.
        seconds: how long it took.
        attempts: how many entries of the script were used for it; 0 for a call that was refused.
        waits: the seconds in which no attempt was running, each stretch of them, in order: before the first attempt,
            between two, after the last.
        result: what it returned; None where it raised.
        error: what it raised; None where it returned.
        events: what policies told while it ran, in order.
    """

    __slots__ = ("at", "attempts", "error", "events", "number", "result", "seconds", "waits")

    def __init__(self, number: int, at: float) -> None:
        self.number = number
        self.at = at
        self.seconds = 0.0
        self.attempts = 0
        self.waits: list[float] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.events: list[Event] = []

    @property
    def outcome(self) -> Any:
        """What it returned or raised."""
        return self.result if self.error is None else self.error

    def __repr__(self) -> str:
        return f"<call {self.number}: {self.outcome!r}, {self.attempts} attempts, waits {self.waits!r}>"


class Trace(tuple[Call, ...]):
    """The calls of a run, in order; `print(trace)` shows them as a table."""

    __slots__ = ()

    @property
    def outcomes(self) -> list[Any]:
        """What each call returned or raised."""
        return [call.outcome for call in self]

    @property
    def waits(self) -> list[float]:
        """The waits of all calls, in seconds."""
        return [wait for call in self for wait in call.waits]

    @property
    def events(self) -> list[Event]:
        """The events of all calls."""
        return [event for call in self for event in call.events]

    def table(self) -> str:
        """The calls as a table, for people to read; times are in seconds."""
        rows = [("call", "at", "took", "attempts", "waits", "outcome", "events"), *map(_row, self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} calls>\n{self.table()}"


def _row(call: Call) -> tuple[str, ...]:
    waits = ", ".join(f"{wait:.6g}" for wait in call.waits)
    outcome = " ".join(_told(call).split())
    if len(outcome) > _LONGEST:
        outcome = f"{outcome[: _LONGEST - 3]}..."
    events = ", ".join(type(event).__name__ for event in call.events)
    return f"{call.number}", f"{call.at:.6g}", f"{call.seconds:.6g}", f"{call.attempts}", waits, outcome, events


def _told(call: Call) -> str:
    return repr(call.result) if call.error is None else f"{type(call.error).__name__}: {call.error}".removesuffix(": ")
