"""One function's view of a gate whose key is one of the function's arguments.

    @Throttle("10/minute", key="user")
    def report(user, day): ...

The gate serves many functions, and in each the argument may stand elsewhere. So each gets a gate of its own that
finds the key and passes everything on.
"""

from __future__ import annotations

from resilience._argument import argument_of
from resilience.policies._gate import ASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class KeyedGate(Protocol):
        """A gate that can be told the key of a call."""

        _clean: int

        def _now(self) -> float: ...
        def _admit_for(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int: ...
        async def _admit_for_async(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int: ...
        def _returned(self, permit: int, result: object, started: float) -> None: ...
        def _raised(self, permit: int, error: BaseException, started: float) -> None: ...


__all__ = ["ByArgument"]


class ByArgument:
    """A gate before one function.

    Raises:
        TypeError: the function has no such parameter.
    """

    __slots__ = ("_clean", "_gate", "_key", "_now", "_permit", "_raised", "_returned", "_timed")

    def __init__(self, gate: KeyedGate, name: str, fn: Callable[..., Any]) -> None:
        self._key = argument_of(fn, name, "key")
        self._gate = gate
        self._permit, self._clean, self._timed = ASK, gate._clean, False
        self._now, self._returned, self._raised = gate._now, gate._returned, gate._raised

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._gate._admit_for(self._key(args, kwargs), args, kwargs)

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return await self._gate._admit_for_async(self._key(args, kwargs), args, kwargs)
