"""What gates have in common: how they bind, and how they guard a block.

A gate lets a call in or refuses it. What it hands out is an integer, the permit, and everything that it hands out comes
back through one of three doors: the call returned, the call raised, or a guarded block said what to make of it.
"""

from __future__ import annotations

from resilience._drivers import bind_gate
from resilience.policies._base import Policy
from resilience.policies._guard import GateGuard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Never  # noqa: F401 - named in quotes as an argument of the base class

    from resilience.core.verdict import Verdict

__all__ = ["ASK", "GatePolicy"]

ASK = -1
"""No permit is free for the taking: ask the gate."""


class GatePolicy(Policy["Never"]):
    """The base of breakers, throttles and their like. Subclasses fill in the decisions."""

    __slots__ = ("_clean", "_permit", "_timed")

    _clean: int
    _permit: int
    _timed: bool

    @property
    def _judges_results(self) -> bool:
        return False

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        return bind_gate(self, fn)

    def guard(self) -> GateGuard:
        """A block behind this gate, with `with` or `async with`. Single use; raises as a call would when refused."""
        return GateGuard(self, {})

    # --- what a subclass decides --------------------------------------------------------------------------------------

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        raise TypeError(f"{type(self).__name__} does not say whom it admits: define _admit")

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._admit(args, kwargs)

    def _claim(self) -> int:
        """Admit a guarded block; a subclass takes here what its `guard` takes."""
        permit = self._permit
        return permit if permit >= 0 else self._admit((), {})

    async def _claim_async(self) -> int:
        permit = self._permit
        return permit if permit >= 0 else await self._admit_async((), {})

    def _returned(self, permit: int, result: object, started: float) -> None:
        """The call returned."""

    def _raised(self, permit: int, error: BaseException, started: float) -> None:
        """The call raised."""

    def _told(self, permit: int, verdict: Verdict, reason: str | None, started: float) -> None:
        """A guarded block said what to make of it."""

    def _charge(self, permit: int, actual: Any) -> bool:
        """A guarded block said what it really cost."""
        raise TypeError(f"{type(self).__name__} has no cost to settle: g.settle(n) belongs to a Throttle")
