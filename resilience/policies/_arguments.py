"""A gate whose key is one of the arguments of the call.

    @Throttle("10/minute", key="user")
    def report(user, day): ...

Where the argument stands is found out once, when the function is decorated; a name that the function does not have is
an error then, not at the first call.
"""

from __future__ import annotations

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
    """One function's view of a gate.

    Raises:
        TypeError: the function has no such parameter.
    """

    __slots__ = ("_clean", "_default", "_gate", "_index", "_name", "_raised", "_returned")

    _permit: int = ASK
    _timed: bool = False

    def __init__(self, gate: KeyedGate, name: str, fn: Callable[..., Any]) -> None:
        from inspect import Parameter, signature

        parameters = signature(fn).parameters
        found = parameters.get(name)
        if found is None or found.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            known = ", ".join(parameters) or "none"
            raise TypeError(
                f"key names the parameter {name!r}, which {fn!r} does not have; its parameters are: {known}"
            )
        self._gate = gate
        self._clean = gate._clean
        self._name = None if found.kind is Parameter.POSITIONAL_ONLY else name
        self._index = None if found.kind is Parameter.KEYWORD_ONLY else list(parameters).index(name)
        self._default = None if found.default is Parameter.empty else found.default
        self._returned = gate._returned
        self._raised = gate._raised

    def _now(self) -> float:
        return self._gate._now()

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._name is not None and self._name in kwargs:
            return kwargs[self._name]
        if self._index is not None and self._index < len(args):
            return args[self._index]
        return self._default

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._gate._admit_for(self._key(args, kwargs), args, kwargs)

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return await self._gate._admit_for_async(self._key(args, kwargs), args, kwargs)
