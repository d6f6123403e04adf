"""The time in which a script plays.

Policies without a clock of their own get virtual time, the block's around the run or one of its own. A policy that was
built with `clock=VirtualClock()` keeps to that. One with any other clock would really wait, so it is refused.
"""

from __future__ import annotations

from contextlib import ExitStack

from resilience._runtime import current_runtime
from resilience.clock import default
from resilience.pipeline import Pipeline
from resilience.policies._base import Policy
from resilience.policies.keyed import Keyed
from resilience.testing.disabled_block import parts_of
from resilience.testing.virtual import Block, VirtualTime, _keep_policies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, TypeAlias

    from resilience.testing.clock import VirtualClock

    Moving: TypeAlias = VirtualClock | VirtualTime

__all__ = ["Stage"]


class Stage:
    """Virtual time for a policy, and its state given back afterwards: `with` or `async with`, once.

    Raises:
        TypeError: the policy has a clock that cannot be moved, or parts with different ones.
    """

    __slots__ = ("_own", "_stack")

    def __init__(self, policy: object) -> None:
        self._own = _own_clock(policy)
        self._stack = ExitStack()

    def __enter__(self) -> Moving:
        with ExitStack() as stack:
            outer = getattr(default.now, "__self__", None)
            clock: Moving
            if self._own is not None:
                clock = self._own
            elif isinstance(outer, VirtualTime):
                clock = outer
            else:
                clock = stack.enter_context(Block())
                self._stack = stack.pop_all()
                return clock
            for give_back in _keep_policies():
                stack.callback(give_back)
            self._stack = stack.pop_all()
            return clock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> Moving:
        clock = self.__enter__()
        if isinstance(clock, VirtualTime):
            # Virtual time that began before this loop does not know it yet.
            clock._take_over(current_runtime())
        return clock

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _own_clock(policy: object) -> VirtualClock | None:
    """The one clock of a policy and its parts; None for the shared one."""
    given: Any = policy
    parts = list(parts_of(given)) if isinstance(policy, Policy) else []
    clocks = {id(part._clock): part for part in parts if not isinstance(part, Pipeline | Keyed)}
    if len(clocks) > 1:
        first, second, *_ = clocks.values()
        raise TypeError(
            f"the parts of a policy in a script share one clock; {first!r} and {second!r} have different ones"
        )
    for part in clocks.values():
        clock: Any = part._clock
        if clock is default:
            break
        if not callable(getattr(clock, "advance", None)):
            raise TypeError(f"{part!r} has a clock that cannot be moved: leave it out, or write clock=VirtualClock()")
        own: VirtualClock = clock
        return own
    return None
