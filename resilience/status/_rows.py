"""From the snapshots of policies to the rows of the page.

Policies of one name and kind share a row, as they share their series in telemetry: the worst state, the sum of the
rest. A row says its state in a word and how good that is in another, so that no reader depends on colours.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["merged", "row"]

_LEVELS = ("good", "warn", "bad")
_OF_STATES = {"closed": "good", "half_open": "warn", "open": "bad", "isolated": "bad"}


def row(name: str, kind: str, view: dict[str, Any]) -> dict[str, Any]:
    """One policy as a row, from its snapshot."""
    state, level = _state(view)
    return {
        "name": name,
        "kind": kind,
        "state": state,
        "level": level,
        "in_flight": view.get("in_flight"),
        "detail": _detail(view),
        "last_error": view.get("last_error"),
        "count": 1,
    }


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two rows of one name and kind as one."""
    worse = max(one, other, key=lambda each: _LEVELS.index(each["level"]))
    flights = [each["in_flight"] for each in (one, other) if each["in_flight"] is not None]
    return {
        **worse,
        "in_flight": sum(flights) if flights else None,
        "last_error": worse["last_error"] or one["last_error"] or other["last_error"],
        "count": one["count"] + other["count"],
    }


def _state(view: dict[str, Any]) -> tuple[str, str]:
    """The state in a word, and how good it is."""
    state = view.get("state")
    if isinstance(state, str):
        return state.replace("_", "-"), _OF_STATES.get(state, "warn")
    if view.get("shedding"):
        return "shedding", "warn"
    if view.get("rejection"):
        return "holding back", "warn"
    if "level" in view and view["level"] < 1:
        return "exhausted", "warn"
    if view.get("queued") or view.get("waiting"):
        return "queueing", "warn"
    if view.get("limit") is not None and view.get("in_flight", 0) >= view["limit"]:
        return "full", "warn"
    if view.get("full"):
        return "full", "warn"
    return "ok", "good"


def _detail(view: dict[str, Any]) -> str:
    """The figures behind the state, for people."""
    told: list[str] = []
    if "trials" in view:
        told.append(f"{view['failures']} failures of {view['calls']} calls")
        if view.get("retry_after") is not None:
            told.append(f"asked again in {view['retry_after']:.0f} s")
    if "capacity" in view:
        told.append(f"{view['level']:.1f} of {view['capacity']:g} tokens")
    for rate in view.get("rates", ()):
        left = f"{rate['remaining']:.1f} of {rate['burst']:g} {rate['of']}, " if "remaining" in rate else ""
        told.append(f"{left}{rate['amount']:g} per {rate['per']:g} s")
    if "limit" in view:
        told.append(f"at most {view['limit']} in flight")
    for key, words in (("queued", "{} queued"), ("waiting", "{} waiting"), ("keys", "{} keys")):
        if view.get(key):
            told.append(words.format(view[key]))
    if view.get("rejection"):
        told.append(f"{view['rejection']:.0%} held back")
    if isinstance(view.get("seconds"), int | float):
        told.append(f"bound {view['seconds']:g} s")
    return ", ".join(told)
