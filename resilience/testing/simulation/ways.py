"""What do policies ask of whoever runs them?

Most only decide, and need nobody. A timeout asks for the task that it is to cancel, a hedge for tasks of its own, a
queue for somebody to wake those who wait in it. Which it is is read off their kinds and parameters, and what is not
known to do without is given a task.
"""

from __future__ import annotations

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    LoadShedder,
    Retry,
    Throttle,
)
from resilience.testing.simulation.plain import PlainCalls
from resilience.testing.simulation.tasks import TaskCalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from resilience.testing.simulation.loop import Loop
    from resilience.testing.simulation.tally import Tally

__all__ = ["calls_for", "decides_only"]


def calls_for(parts: Sequence[Any], loop: Loop, tally: Tally) -> PlainCalls | TaskCalls:
    """The way to make calls through these policies, the cheapest that will do."""
    if all(map(decides_only, parts)):
        return PlainCalls(loop, tally)
    return TaskCalls(loop, tally)


# By kind, the parameter that makes it cut, wait in a queue, or await what a user has written.
_DECIDES: dict[type[Any], str] = {
    AdaptiveLimit: "",
    AdaptiveThrottle: "",
    Bulkhead: "queue",
    CircuitBreaker: "",
    Fallback: "call",
    LoadShedder: "",
    Retry: "within",
    Throttle: "max_wait",
}


def decides_only(part: Any) -> bool:
    """Whether a policy only decides, and waits at most on its clock. Subclasses may always do more."""
    kind: Any = part.__class__
    if kind not in _DECIDES:
        return False
    arguments: dict[str, Any] = part._arguments
    return not (arguments.get("store") or arguments.get(_DECIDES[kind]))
