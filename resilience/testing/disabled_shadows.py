"""What a policy is while it is disabled.

A policy is bound into functions long before a test wants it out of the way, so nothing that is bound may have to be
bound again. But whatever is bound asks the policy at each call, and an object can change its class. So a disabled
policy is the same object with another class, its *shadow*: a subclass of the real one, without a slot of its own, that
answers every question of a driver so that the call just passes. Nothing is added to any call while nobody is disabled.

- A gate gives every call the same permit, `PASS`, and wants to hear no more of it. What was let in before comes back
  as it would.
- A loop makes one attempt, a scope bounds nothing, a value replaces nothing, a budget always has a token and takes
  none. What runs calls on workers or side by side runs them where it is called, and nothing beside them.

State, configuration, listeners and everything done by hand stay those of the policy.
"""

from __future__ import annotations

from math import inf

from resilience._scope import Scope
from resilience.policies._attempts import Attempts
from resilience.policies._base import Policy
from resilience.policies._gate import GatePolicy
from resilience.policies._hearing import HearingGate
from resilience.policies._retry_call import RetryCall
from resilience.policies.breaker import CircuitBreaker
from resilience.policies.budget import RetryBudget
from resilience.policies.fallback import Fallback
from resilience.policies.hedge import Hedge
from resilience.policies.keyed import Keyed
from resilience.policies.retry import Retry
from resilience.policies.shed import LoadShedder
from resilience.policies.throttle import Throttle
from resilience.policies.timeout import Timeout
from resilience.testing.disabled_gates import (
    BreakerShadow,
    GateShadow,
    HearingShadow,
    ShedderShadow,
    ThrottleShadow,
    real,
    real_class,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from resilience._mark import Mark
    from resilience.events import Event

__all__ = ["real_class", "shadow_of"]


class _AnyShadow(Policy[object]):
    def _rebuild(self, arguments: dict[str, Any]) -> Self:
        # A replacement is another policy: whether it is disabled is its own affair.
        kind: Any = real_class(self)
        made: Self = kind._rebuild(object.__new__(kind), arguments)
        return made


class _OneAttempt(RetryCall):
    """A call that is made once, whatever becomes of it."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def failed(self, error: Exception) -> bool:
        """Not to be tried again."""
        return False

    def returned(self, result: object) -> bool:
        """Good enough."""
        return True

    def forecast(self) -> None:
        """There is no next attempt."""


class _RetryShadow(Retry):
    def _begin(self, *, cuts: bool) -> RetryCall:
        return _OneAttempt(self, False)

    def _plainly(self, error: Exception, mark: Mark | None) -> float:
        # A mark says that this call was under way before.
        return -1.0 if mark is None else float(real(self)._plainly(self, error, mark))

    def _begin_late(self, error: Exception, mark: Mark | None) -> RetryCall | None:
        call: RetryCall | None = None if mark is None else real(self)._begin_late(self, error, mark)
        return call

    def attempts(self) -> Attempts:
        """Run a block once."""
        once = Attempts(self)
        once._call = _OneAttempt(self, False)
        return once


class _BudgetShadow(RetryBudget):
    def deposit(self) -> None:
        """Keep what there is."""

    async def deposit_async(self) -> None:
        """Keep what there is."""

    def _take(self) -> bool:
        return True

    async def withdraw_async(self) -> bool:
        """Take nothing; True."""
        return True


class _OpenScope(Scope):
    """Bounds nothing."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _TimeoutShadow(Timeout):
    def _by_worker(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fn(*args, **kwargs)

    def _scope(self) -> Scope:
        real(self)._scope(self)  # which says so where a plain block cannot be bounded
        return self._cut_scope()

    def _cut_scope(self) -> Scope:
        return _OpenScope(self.name, inf, self._clock, cuts=False)

    def _send(self, event: type[Event], **fields: object) -> None:
        pass


class _FallbackShadow(Fallback[object]):
    def _replaces_error(self, error: Exception) -> bool:
        return False

    def _replaces_result(self, result: object) -> bool:
        return False


class _HedgeShadow(Hedge):
    def _race(self, deposits: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fn(*args, **kwargs)

    async def _race_async(
        self, deposits: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await fn(*args, **kwargs)


class _KeyedShadow(Keyed["Any", "Any"]):
    def _made(self, key: Any, label: str) -> Any:
        from resilience.testing.disabled_block import join_blocks_of

        made: Any = real(self)._made(self, key, label)
        policy: Any = made
        if isinstance(made, Policy):
            join_blocks_of(self, policy)  # before anybody has it
        return policy


_KINDS: list[tuple[type[Policy[Any]], type[Policy[Any]]]] = [
    (GatePolicy, GateShadow),
    (CircuitBreaker, BreakerShadow),
    (HearingGate, HearingShadow),
    (LoadShedder, ShedderShadow),
    (Throttle, ThrottleShadow),
    (Retry, _RetryShadow),
    (RetryBudget, _BudgetShadow),
    (Timeout, _TimeoutShadow),
    (Fallback, _FallbackShadow),
    (Hedge, _HedgeShadow),
    (Keyed, _KeyedShadow),
]


def shadow_of(kind: type[Policy[Any]]) -> type[Policy[Any]] | None:
    """The shadow of a class of policies; None where it has none: a `Pipeline`, whose parts have, or a stranger."""
    if kind not in _shadows:
        _shadows[kind] = _make_shadow(kind)
    return _shadows[kind]


_shadows: dict[type, type[Policy[Any]] | None] = {}


def _make_shadow(kind: type[Policy[Any]]) -> type[Policy[Any]] | None:
    parts = [shadow for base, shadow in _KINDS if issubclass(kind, base)]
    if not parts:
        return None
    names: dict[str, Any] = {"__slots__": (), "__module__": kind.__module__, "__doc__": kind.__doc__}
    for part in (_AnyShadow, *parts):
        names |= {name: value for name, value in vars(part).items() if not name.startswith("__")}
    names |= {"__qualname__": kind.__qualname__, "_real_class": kind}
    return type(kind.__name__, (kind,), names)
