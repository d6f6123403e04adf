"""The four kinds of policy, as a driver sees them.

This is all that the code around a call knows of a policy, and all that a policy has to fill in to get its sync, async
and generator forms for nothing. The names start with an underscore because callers have no business with them; the
types are for the checkers alone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    from resilience._mark import Mark
    from resilience.policies._retry_call import RetryCall
    from resilience.policies.budget import RetryBudget

    class Gate(Protocol):
        """A policy that admits or refuses, and hears the end of what it admitted.

        `_permit` is the permit of a call that may enter without asking, or below 0: ask. `_clean` is the permit whose
        success need not
        be told, or below 0: tell every one. Both are read without a lock. `_timed` says that it matters how long a call
        took.
        """

        _permit: int
        _clean: int
        _timed: bool

        def _now(self) -> float: ...
        def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int: ...
        async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int: ...
        def _returned(self, permit: int, result: object, started: float) -> None: ...
        def _raised(self, permit: int, error: BaseException, started: float) -> None: ...

    class Loop(Protocol):
        """A policy that calls again.

        `_lean` says that a first success needs nothing but the call itself, and a deposit where there is a budget.
        """

        _budget: RetryBudget | None
        _lean: bool

        def _begin(self, *, cuts: bool) -> RetryCall: ...
        def _plainly(self, error: Exception, mark: Mark | None) -> float: ...
        def _begin_late(self, error: Exception, mark: Mark | None) -> RetryCall | None: ...
        def _pause(self, seconds: float) -> None: ...
        async def _pause_async(self, seconds: float) -> None: ...

    class Scoped(Protocol):
        """A policy that bounds time, plainly or by a cut."""

        def _scope(self) -> AbstractContextManager[object]: ...
        def _cut_scope(self) -> AbstractContextManager[object]: ...

    class Value(Protocol):
        """A policy that replaces outcomes. `_awaits` says that what stands in must be awaited."""

        _awaits: bool

        def _replaces_error(self, error: Exception) -> bool: ...
        def _replaces_result(self, result: object) -> bool: ...
        def _refused(self, result: object) -> Exception: ...
        def _substitute(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
