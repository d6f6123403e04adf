"""Words that may be labels: never more than so many.

Each new value of a label is a new time series, in memory here and on disk there. Names of policies can come from keys,
and keys from users, so the number of words is bounded: the first so many are kept, whatever comes later is "other".
None is ever forgotten to make room, for a series that changes its meaning is worse than one that is coarse.
"""

from __future__ import annotations

import threading

from resilience._checks import positive_int
from resilience.telemetry._words import writable

__all__ = ["OTHER", "Labels"]

OTHER = "other"
_LONGEST = 120
_FEW = 64


class _Words:
    __slots__ = ("_known", "_lock", "_most")

    def __init__(self, most: int) -> None:
        self._known: set[str] = set()
        # A collection of garbage in here can end a call, whose events come back to this thread.
        self._lock = threading.RLock()
        self._most = most

    def word(self, text: str) -> str:
        """The text, cut to length, or "other" when there are too many already."""
        text = writable(text[:_LONGEST])
        # Words are only ever added, so one that is seen here stays.
        if text in self._known:
            return text
        with self._lock:
            if text not in self._known:
                if len(self._known) >= self._most:
                    return OTHER
                self._known.add(text)
        return text


class Labels:
    """The words of one exporter, safe from any thread: `max_names` names of policies, and 64 of everything else."""

    __slots__ = ("_words",)

    def __init__(self, max_names: int) -> None:
        most = {"policy": positive_int("max_names", max_names), "kind": _FEW, "event": _FEW, "reason": _FEW}
        self._words = {label: _Words(number) for label, number in most.items()}

    def bounded(self, labels: tuple[str, ...], values: tuple[str, ...]) -> tuple[str, ...]:
        """The values of some labels, in the same order, none of them beyond its bound."""
        return tuple([self._words[label].word(value) for label, value in zip(labels, values, strict=True)])
