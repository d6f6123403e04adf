"""Which attempt is this?

A retry that runs inside another retry's attempt multiplies load, and the only defence is to know. A retry stands in the
chain of bounds around whatever it calls, with the number of its attempt, so an inner retry's events can tell how deep
they are and an HTTP client can pass the number on to the next service.
"""

from __future__ import annotations

from resilience._scope import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience._scope import Bound

__all__ = ["current_attempt", "depth_inside"]


def current_attempt() -> tuple[int, int] | None:
    """(number of the attempt, depth of the retry that makes it), outside of any retry None.

    The first attempt of a retry to which nobody listens, and that has neither `within` nor `on_result`, is not marked:
    it costs nothing and says nothing.
    """
    bound = _retry_around(current.get())
    return None if bound is None else (bound.attempt, bound.depth)


def depth_inside(bound: Bound) -> int:
    """How many retries are around whatever runs inside `bound`."""
    outer = _retry_around(bound)
    return 0 if outer is None else outer.depth + 1


def _retry_around(bound: Bound | None) -> Bound | None:
    while bound is not None and not bound.attempt:
        bound = bound.parent
    return bound
