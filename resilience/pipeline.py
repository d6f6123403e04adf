"""Several policies as one.

    Pipeline(Fallback(...), Retry(...), CircuitBreaker(...), Throttle(...), Timeout(...))      # outermost first

The order is the meaning. A retry outside a breaker asks the breaker before each attempt; a retry inside one shows it a
single call. A timeout inside a retry bounds an attempt, one outside bounds the whole. The order we teach, outermost
first: fallback, timeout for the whole, retry, breaker, throttle, timeout for the attempt.

A pipeline is nothing but its parts, each wrapped round the next; anything with `bind(fn) -> fn` can be a part, so a
policy of your own, or another pipeline, fits anywhere.
"""

from __future__ import annotations

import warnings
from types import FunctionType

from resilience.errors import PipelineWarning
from resilience.policies._base import Policy
from resilience.policies._guard import Guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AsyncExitStack, ExitStack
    from types import TracebackType
    from typing import Any, Protocol, Self, TypeVar, overload

    F_co = TypeVar("F_co", covariant=True)

    class Bindable(Protocol):
        """Anything that wraps a function."""

        def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]: ...
else:
    F_co = None

__all__ = ["Pipeline"]


class Pipeline(Policy[F_co]):
    """Policies around one call, outermost first.

    Holds no state of its own: the parts are shared, by threads, event loops and other pipelines alike.

    Args:
        policies: at least one policy, or object with `bind(fn) -> fn`.
        name: for the registry; parts without a name are named after it ("auth0.circuit_breaker").

    Warns:
        PipelineWarning: the order cannot work as meant; see `check`.

    Raises:
        TypeError: a part cannot wrap a function.
    """

    __slots__ = ("_policies",)

    kind = "pipeline"
    _form = "Retry(on=ConnectionError), Timeout(2)"

    if TYPE_CHECKING:

        @overload
        def __init__(self, *policies: Policy[F_co], name: str | None = None) -> None: ...
        @overload
        def __init__(self: Pipeline[Any], *policies: Policy[Any] | Bindable, name: str | None = None) -> None: ...

    def __init__(self, *policies: Any, name: str | None = None) -> None:
        if not policies:
            raise TypeError("Pipeline must hold at least one policy, got none")
        for part in policies:
            _check_part(part)
        self._policies = policies
        self._setup(name, None, {"policies": policies, "name": name})
        if name is not None:
            self._name_parts(name)
        for complaint in self.check():
            warnings.warn(complaint, PipelineWarning, stacklevel=2)

    @property
    def policies(self) -> tuple[Policy[F_co], ...]:
        """The parts, outermost first."""
        return self._policies

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        for part in reversed(self._policies):
            bound: Any = part.bind(fn)
            if bound is not fn and isinstance(bound, FunctionType):
                # A part further out may name a parameter of the function, so its signature has to show through.
                bound.__wrapped__ = fn  # type: ignore[attr-defined]
            fn = bound
        return fn

    def _chain(self) -> tuple[Any, ...]:
        # A subclass that wraps in its own way is one part, whatever it holds.
        if next(kind for kind in type(self).__mro__ if "bind" in vars(kind)) is not Pipeline:
            return (self,)
        chain: list[Any] = []
        for part in self._policies:
            inner: Any = part
            chain += inner._chain() if isinstance(part, Pipeline) else (part,)
        return tuple(chain)

    def check(self) -> list[str]:
        """What cannot work in this order of policies, a sentence each; empty where nothing is known to be wrong.

        It is called when a pipeline is built, and what it says is issued as a `PipelineWarning`.
        """
        from resilience.policies._order import complaints

        return complaints(list(self._flat()))

    def describe(self) -> str:
        """The policies as a numbered list, outermost first, for people to read."""
        lines = [f"{self.name}, outermost first:"]
        for number, part in enumerate(self._flat(), 1):
            named = f"{part.name}: " if isinstance(part, Policy) else ""
            lines.append(f"{number:3}. {named}{part!r}")
        return "\n".join(lines)

    def _flat(self) -> Iterator[Any]:
        for part in self._policies:
            inner: Any = part
            if isinstance(part, Pipeline):
                yield from inner._flat()
            else:
                yield part

    def guard(self) -> PipelineGuard:
        """A block under every part, with `with` or `async with`. Single use.

        Raises:
            TypeError: a part cannot guard a block, such as a retry; the message says why.
        """
        return PipelineGuard([_guard_of(part) for part in self._policies])

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values: that of each part, outermost first."""
        parts = [part.snapshot() for part in self._policies if isinstance(part, Policy)]
        return {**super().snapshot(), "policies": parts}

    def _at_rest(self) -> bool:
        return all(part._at_rest() for part in self._policies if isinstance(part, Policy))

    def _adopt(self, name: str) -> None:
        if self._name is None:
            super()._adopt(name)
            self._name_parts(name)

    def _name_parts(self, name: str) -> None:
        seen: dict[str, int] = {}
        for part in self._policies:
            if isinstance(part, Policy):
                seen[part.kind] = count = seen.get(part.kind, 0) + 1
                part._adopt(f"{name}.{part.kind}" if count == 1 else f"{name}.{part.kind}_{count}")

    def _rebuild(self, arguments: dict[str, Any]) -> Self:
        policies: tuple[Any, ...] = arguments["policies"]
        fresh: list[Any] = [part.replace() if isinstance(part, Policy) else part for part in policies]
        return type(self)(*fresh, name=arguments["name"])

    def __repr__(self) -> str:
        named = "" if self._arguments["name"] is None else f", name={self._arguments['name']!r}"
        return f"Pipeline({', '.join(map(repr, self._policies))}{named})"


def _check_part(part: object) -> None:
    if isinstance(part, type) or not callable(getattr(part, "bind", None)):
        raise TypeError(f"a pipeline holds policies, or objects with bind(fn) -> fn, got {part!r}")


def _guard_of(part: object) -> Any:
    guard = getattr(part, "guard", None)
    if guard is None:
        raise TypeError(f"{part!r} cannot guard a block: it has no guard()")
    return guard()


class PipelineGuard(Guard):
    """A block under several policies; what is said in it is said to each."""

    __slots__ = ("_guards", "_stack", "_tasks")

    _stack: ExitStack
    _tasks: AsyncExitStack

    def __init__(self, guards: list[Any]) -> None:
        super().__init__()
        self._guards = guards

    def set_result(self, result: object) -> None:
        """Say what the block produced. Required where a policy has `on_result`."""
        for guard in self._guards:
            guard.set_result(result)

    def fail(self, reason: str) -> None:
        """Count the block as a failure, for `reason`."""
        for guard in self._guards:
            guard.fail(reason)

    def ignore(self) -> None:
        """Count the block neither way."""
        for guard in self._guards:
            guard.ignore()

    def settle(self, actual: Any) -> bool:
        """Say what the block really cost. False if that was said before.

        Raises:
            TypeError: no policy here has a cost.
        """
        settled = None
        for guard in self._guards:
            try:
                settled = guard.settle(actual) or bool(settled)
            except TypeError as error:
                if "no cost" not in str(error):
                    raise
        return super().settle(actual) if settled is None else settled

    def __enter__(self) -> Self:
        from contextlib import ExitStack

        self._use()
        with ExitStack() as stack:
            for guard in self._guards:
                stack.enter_context(guard)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        from contextlib import AsyncExitStack

        self._use()
        async with AsyncExitStack() as stack:
            for guard in self._guards:
                await stack.enter_async_context(guard)
            self._tasks = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._tasks.__aexit__(kind, error, trace)
