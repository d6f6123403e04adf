"""Events as words: a name, a level, and fields that are safe to write down.

What a call returned never leaves the process this way, only its type: results hold what is nobody's business. Of an
error there are the type and a short message. Names and messages may come from outside, so whoever writes them on a line
quotes them.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cache

from resilience.events import CircuitOpened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.events import Event

__all__ = ["DEBUG", "INFO", "LEVELS", "WARNING", "fields", "level", "spoken", "writable"]

DEBUG, INFO, WARNING = 10, 20, 30

LEVELS = {
    "AttemptFailed": INFO,
    "BudgetExhausted": WARNING,
    "CallRejected": INFO,
    "CallSucceeded": DEBUG,
    "CircuitClosed": INFO,
    "CircuitHalfOpened": INFO,
    "CircuitIsolated": WARNING,
    "CircuitOpened": WARNING,
    "DeadlineMissed": WARNING,
    "FallbackUsed": INFO,
    "HedgeStarted": DEBUG,
    "HedgeWon": DEBUG,
    "KeysFull": WARNING,
    "LateResult": DEBUG,
    "LeaseTooShort": WARNING,
    "LimitChanged": DEBUG,
    "RetryGaveUp": WARNING,
    "RetryScheduled": DEBUG,
    "StoreLost": WARNING,
    "StoreRecovered": INFO,
}
"""How loud each event is: a warning is for what a person may want to look at, and comes rarely."""

_LONGEST = 200
_SMALL_BIG = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def level(event: Event) -> int:
    """The level of an event, as a number of `logging`; of one that is not ours, INFO."""
    return LEVELS.get(type(event).__name__, INFO)


@cache
def spoken(event: type[Event]) -> str:
    """The name of a kind of event in small letters: `circuit_opened`."""
    return _SMALL_BIG.sub("_", event.__name__).lower()


def fields(event: Event) -> dict[str, str | int | float | bool | None]:
    """The fields of an event as plain values. An error becomes `error`, its type, and `message`."""
    told: dict[str, str | int | float | bool | None] = {}
    for name, value in zip(event._fields, event, strict=True):
        if name == "at":
            continue
        if isinstance(value, BaseException):
            told[name] = type(value).__name__
            told["message"] = _short(value)
        elif isinstance(event, CircuitOpened) and name == "last_error":
            kind, message = event.last_error or (None, None)
            told[name], told["message"] = kind, None if message is None else writable(message)
        elif name == "result":
            told[name] = None if value is None else type(value).__name__
        elif isinstance(value, Enum):
            told[name] = str(value.value) if isinstance(value, str) else value.name.lower()
        elif isinstance(value, str):
            told[name] = writable(str(value)[:_LONGEST])
        else:
            told[name] = value if isinstance(value, int | float | None) else type(value).__name__
    return told


def _short(error: BaseException) -> str:
    try:
        return writable(str(error)[:_LONGEST])
    except Exception:
        return ""


def writable(text: str) -> str:
    """The text with "?" for half characters, which cannot be encoded: one of them would stop a whole export."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
