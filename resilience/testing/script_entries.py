"""What a script may hold, and whose turn it is.

Everything is checked before the first call: a mistake in the ninth entry is no outcome of a policy.
"""

from __future__ import annotations

import threading

from resilience._checks import is_number, is_timedelta
from resilience._checks import seconds as checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from typing import Any

__all__ = ["Advance", "Overrun", "Script", "Step", "advance"]


class Advance:
    """Time that passes between two calls."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"advance({self.seconds:g})"


def advance(seconds: float | timedelta, /) -> Advance:
    """An entry of a script for `run`: let `seconds` pass before the next call.

    Raises:
        TypeError, ValueError: `seconds` is not a finite number of seconds, 0 or more.
    """
    return Advance(checked("seconds", seconds, zero=True))


class Step:
    """What one attempt does: after `seconds`, return or raise."""

    __slots__ = ("outcome", "seconds")

    def __init__(self, seconds: float, outcome: Any) -> None:
        self.seconds = seconds
        self.outcome = outcome

    @property
    def raises(self) -> bool:
        """Whether the outcome is to be raised."""
        outcome = self.outcome
        return isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException))

    def do(self) -> Any:
        """Return the outcome, or raise it."""
        if self.raises:
            raise self.outcome
        return self.outcome


class Overrun(BaseException):
    """An attempt for which there is no entry. No `Exception`, so no policy retries or replaces it."""


class Script:
    """A checked script, and how far it has come. Safe from any thread.

    Raises:
        TypeError, ValueError: an entry is none; the message says which.
    """

    __slots__ = ("_entries", "_lock", "_next", "overrun")

    def __init__(self, script: Sequence[Any]) -> None:
        given: object = script
        if not isinstance(given, list | tuple):
            raise TypeError(f"script must be a list of results, exceptions, pairs and advance(s), got {script!r}")
        self._entries = [_checked_entry(place, entry) for place, entry in enumerate(script)]
        self._lock = threading.Lock()
        self._next = 0
        self.overrun: str | None = None

    def look(self) -> Step | Advance | None:
        """The next entry; None at the end."""
        return self._entries[self._next] if self._next < len(self._entries) else None

    def take(self) -> None:
        """Go past the next entry."""
        self._next += 1

    def attempt(self, call: int, attempt: int) -> Step:
        """The entry for an attempt.

        Raises:
            Overrun: there is none.
        """
        with self._lock:
            entry = self.look()
            if isinstance(entry, Step):
                self.take()
                return entry
            what = "ends" if entry is None else f"goes on with script[{self._next}], {entry!r},"
            self.overrun = f"script {what} in the middle of call {call}: there is no entry for its attempt {attempt}"
            raise Overrun(self.overrun)


def _checked_entry(place: int, entry: Any) -> Step | Advance:
    name = f"script[{place}]"
    if isinstance(entry, Advance):
        return entry
    seconds, outcome = entry if _is_pair(entry) else (0.0, entry)
    step = Step(checked(name, seconds, zero=True), outcome)
    if isinstance(step.outcome, Advance):
        raise TypeError(f"{name} must be advance(s) alone, or (seconds, result or exception), got {entry!r}")
    if step.raises and isinstance(step.outcome, type):
        try:
            step.outcome()
        except TypeError as error:
            made = step.outcome.__name__
            raise TypeError(f"{name} must be an exception, and {made} needs arguments: write {made}(...)") from error
    return step


def _is_pair(entry: Any) -> bool:
    # A tuple of anything else is a result.
    return entry.__class__ is tuple and len(entry) == 2 and (is_number(entry[0]) or is_timedelta(entry[0]))
