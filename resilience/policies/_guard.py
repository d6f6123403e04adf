"""Blocks under a policy: `with policy.guard() as g:`.

A block has no return value that a policy could look at and no name by which it could be called again, so what it means
has to be said from inside: `g.set_result(x)` for policies that judge results, `g.fail("reason")` and `g.ignore()` for
outcomes that are no exception, `g.settle(n)` for what it really cost. A guard serves one block.
"""

from __future__ import annotations

from resilience.core.verdict import FAILURE, IGNORED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Protocol, Self

    from resilience._scope import Scope
    from resilience.core.verdict import Verdict
    from resilience.policies._gate import GatePolicy

    class HasScopes(Protocol):
        """A policy that bounds time."""

        def _scope(self) -> Scope: ...
        def _cut_scope(self) -> Scope: ...


__all__ = ["GateGuard", "Guard", "ScopeGuard"]


class Guard:
    """A block under one policy or several; single use, by one thread or task."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = False

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("a guard serves one block: call policy.guard() again for the next")
        self._used = True

    def set_result(self, result: object) -> None:
        """Say what the block produced. Required where the policy has `on_result`."""

    def fail(self, reason: str) -> None:
        """Count the block as a failure, whatever else becomes of it."""

    def ignore(self) -> None:
        """Count the block neither way."""

    def settle(self, actual: Any) -> bool:
        """Say what the block really cost, in the throttle's resources.

        Raises:
            TypeError: the policy has no cost.
        """
        raise TypeError("this policy has no cost to settle: g.settle(n) belongs to a Throttle")


class GateGuard(Guard):
    """A block behind a gate."""

    __slots__ = ("_gate", "_options", "_permit", "_result", "_started", "_verdict")

    def __init__(self, gate: GatePolicy, options: dict[str, Any]) -> None:
        super().__init__()
        self._gate = gate
        self._options = options
        self._permit = -1
        self._started = 0.0
        self._result: tuple[object] | None = None
        self._verdict: tuple[Verdict, str | None] | None = None

    def __enter__(self) -> Self:
        self._use()
        self._permit = self._gate._claim(**self._options)
        self._started = self._gate._now() if self._gate._timed else 0.0
        return self

    async def __aenter__(self) -> Self:
        self._use()
        self._permit = await self._gate._claim_async(**self._options)
        self._started = self._gate._now() if self._gate._timed else 0.0
        return self

    def set_result(self, result: object) -> None:
        """Say what the block produced. Required where the policy has `on_result`."""
        self._result = (result,)

    def fail(self, reason: str) -> None:
        """Count the block as a failure, for `reason`."""
        self._verdict = (FAILURE, str(reason))

    def ignore(self) -> None:
        """Count the block neither way."""
        self._verdict = (IGNORED, None)

    def settle(self, actual: Any) -> bool:
        """Say what the block really cost. False if that was said before.

        Raises:
            TypeError: the policy has no cost.
        """
        return self._gate._charge(self._permit, actual)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, self._permit = self._permit, -1
        gate = self._gate
        if permit < 0:
            return
        if self._verdict is not None:
            gate._told(permit, *self._verdict, self._started)
        elif error is not None:
            gate._raised(permit, error, self._started)
        elif self._result is not None:
            gate._returned(permit, self._result[0], self._started)
        elif gate._judges_results:
            gate._told(permit, IGNORED, None, self._started)
            raise RuntimeError(f"{gate.name} has on_result, so the block must say what it produced: g.set_result(x)")
        elif gate._clean != permit:
            gate._returned(permit, None, self._started)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class ScopeGuard(Guard):
    """A block under a bound of time."""

    __slots__ = ("_open", "_policy")

    def __init__(self, policy: HasScopes) -> None:
        super().__init__()
        self._policy = policy
        self._open: Scope | None = None

    def _enter(self, scope: Scope) -> Self:
        self._use()
        scope.__enter__()
        self._open = scope
        return self

    def __enter__(self) -> Self:
        return self._enter(self._policy._scope())

    async def __aenter__(self) -> Self:
        return self._enter(self._policy._cut_scope())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.__exit__(kind, error, trace)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
