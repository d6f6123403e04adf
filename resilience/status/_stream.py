"""Server-sent events: everything once, then what has changed.

A stream begins with the whole board, so a page that connects again, to this process or to the next, is right at once.
After that a row is sent only when it differs from what was sent, with as much history as the reader may have missed.
A stream ends by itself after two minutes and the page opens another, so none outlives a reader that went silently.
"""

from __future__ import annotations

from resilience._checks import wrong_type, wrong_value
from resilience.status._answers import encoded
from resilience.status._board import shared
from resilience.status._minute import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["EVERY", "TICKS", "Stream", "check_streams"]

EVERY = 0.5
"""Seconds between two looks."""
TICKS = 240
"""Looks of one stream."""


def check_streams(streams: object) -> None:
    """Check how many readers may have a stream at the same time."""
    rule = "an integer, 0 or more"
    if not isinstance(streams, int) or isinstance(streams, bool):
        raise wrong_type("streams", rule, streams)
    if streams < 0:
        raise wrong_value("streams", rule, streams)


class Stream:
    """What one reader has been sent. Used by one reader at a time."""

    def __init__(self, *, guarded: bool) -> None:
        self._guarded = guarded
        self._sent: dict[tuple[str, str], Any] = {}
        self._second: int | None = None
        self._seen: dict[str, Any] | None = None

    def next(self) -> bytes:
        """The next message; a comment where nothing has changed."""
        board = shared()
        view = self._seen = board.glance(self._seen)
        if self._second is None:
            self._second = view["second"]
            self._sent = {(row["name"], row["kind"]): _essence(row) for row in view["policies"]}
            return b"retry: 1000\nevent: full\ndata: " + encoded({**view, "guarded": self._guarded}) + b"\n\n"
        behind = min(SECONDS, view["second"] - self._second + 2)
        changed: list[Any] = []
        seen = {(row["name"], row["kind"]): row for row in view["policies"]}
        for at, row in seen.items():
            essence = _essence(row)
            if self._sent.get(at) != essence:
                changed.append({**row, "history": {key: counts[-behind:] for key, counts in row["history"].items()}})
                self._sent[at] = essence
        gone = [list(at) for at in self._sent.keys() - seen.keys()]
        for name, kind in gone:
            del self._sent[name, kind]
        if not (changed or gone) and view["second"] == self._second:
            return b": \n\n"
        self._second = view["second"]
        return b"event: tick\ndata: " + encoded({**view, "policies": changed, "gone": gone}) + b"\n\n"


def _essence(row: dict[str, Any]) -> Any:
    """What makes a row worth sending again: everything, but of its history only whether it has moved."""
    history = row["history"]
    return {**row, "history": [(counts[-1], sum(counts[-3:])) for counts in history.values()]}
