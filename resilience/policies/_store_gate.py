"""Gates whose state is elsewhere: the end of a call may have to be told, and telling takes time.

In plain code the driver of all gates serves these too. On a loop it would block, so coroutines and asynchronous blocks
have drivers of their own here, which await where the others call.

Being told the end of a call matters most when the call is cancelled: a trial that nobody settles blocks the circuit for
as long as its lease. So that one question is shielded from the cancellation, and bounded by the store's own time.
"""

from __future__ import annotations

import sys

from resilience._drivers import bind_gate
from resilience._runtime import current_runtime
from resilience._shape import shape_of
from resilience.core.verdict import IGNORED
from resilience.policies._by_argument import ByArgument
from resilience.policies._gate import ASK
from resilience.policies._guard import GateGuard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from types import TracebackType
    from typing import Any, Protocol, Self, TypeVar

    from resilience._kinds import Gate
    from resilience.policies._gate import GatePolicy

    T = TypeVar("T")
    Fn = Callable[..., Any]

    class SharedGate(Gate, Protocol):
        """A gate that is told the end of a call in two colours."""

        def _returned_async(self, permit: int, result: object, started: float, /) -> Coroutine[Any, Any, None]: ...
        def _raised_async(self, permit: int, error: BaseException, started: float, /) -> Coroutine[Any, Any, None]: ...


__all__ = ["SharedByArgument", "SharedGuard", "bind_shared", "shielded"]


def bind_shared(gate: SharedGate, fn: Fn) -> Fn:
    """Put a gate before a function of any shape."""
    shape = shape_of(fn)
    if shape == "coroutine":
        return _coroutine(gate, fn)
    return _generator(gate, fn) if shape == "async_generator" else bind_gate(gate, fn)


def _coroutine(gate: SharedGate, fn: Fn) -> Fn:
    async def gated(*args: Any, **kwargs: Any) -> Any:
        permit, started = ASK, 0.0
        try:
            permit = await gate._admit_async(args, kwargs)
            if gate._timed:
                started = gate._now()
            result = await fn(*args, **kwargs)
        except BaseException as error:
            if permit >= 0:
                await gate._raised_async(permit, error, started)
            raise
        if gate._clean != permit:
            await gate._returned_async(permit, result, started)
        return result

    return gated


def _generator(gate: SharedGate, fn: Fn) -> Fn:
    async def gated(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        permit, started = ASK, 0.0
        try:
            permit = await gate._admit_async(args, kwargs)
            started = gate._now()
            inner = fn(*args, **kwargs)
            try:
                step = await anext(inner)
                while True:
                    try:
                        sent = yield step
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step = await inner.athrow(thrown)
                    else:
                        step = await inner.asend(sent)
            except StopAsyncIteration:
                pass
            finally:
                await inner.aclose()
        except BaseException as error:
            if permit >= 0:
                await gate._raised_async(permit, error, started)
            raise
        await gate._returned_async(permit, None, started)

    return gated


async def shielded(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await to the end, whoever cancels meanwhile; the cancellation is delivered then."""
    if current_runtime() == "trio":
        with sys.modules["trio"].CancelScope(shield=True):
            return await ask()
    asyncio = sys.modules["asyncio"]
    task = asyncio.ensure_future(ask())
    cut: BaseException | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as cancelled:
            cut = cancelled
    try:
        if cut is not None:
            raise cut
        result: T = task.result()
        return result
    finally:
        del cut


class SharedByArgument(ByArgument):
    """A gate before one function, whose key is one of its arguments."""

    __slots__ = ("_shared",)

    def __init__(self, gate: Any, name: str, fn: Fn) -> None:
        super().__init__(gate, name, fn)
        self._shared: SharedGate = gate

    async def _returned_async(self, permit: int, result: object, started: float, /) -> None:
        await self._shared._returned_async(permit, result, started)

    async def _raised_async(self, permit: int, error: BaseException, started: float, /) -> None:
        await self._shared._raised_async(permit, error, started)


class SharedGuard(GateGuard):
    """A block behind a gate whose state is elsewhere. In an asynchronous block, what it cost is told at its end."""

    __slots__ = ("_actual", "_looped")

    def __init__(self, gate: GatePolicy, options: dict[str, Any]) -> None:
        super().__init__(gate, options)
        self._looped = False
        self._actual: tuple[Any] | None = None

    async def __aenter__(self) -> Self:
        self._looped = True
        return await super().__aenter__()

    def settle(self, actual: Any) -> bool:
        """Say what the block really cost. False if that was said before.

        Raises:
            TypeError: the policy has no cost.
        """
        if not self._looped:
            return super().settle(actual)
        gate: Any = self._gate
        gate._check_actual(self._permit, actual)
        if self._actual is not None or self._permit < 0:
            return False
        self._actual = (actual,)
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, self._permit = self._permit, -1
        gate: Any = self._gate
        if permit < 0:
            return
        if self._actual is not None:
            await gate._charge_async(permit, self._actual[0])
        if self._verdict is not None:
            await gate._told_async(permit, *self._verdict, self._started)
        elif error is not None:
            await gate._raised_async(permit, error, self._started)
        elif self._result is not None:
            await gate._returned_async(permit, self._result[0], self._started)
        elif gate._judges_results:
            await gate._told_async(permit, IGNORED, None, self._started)
            raise RuntimeError(f"{gate.name} has on_result, so the block must say what it produced: g.set_result(x)")
        elif gate._clean != permit:
            await gate._returned_async(permit, None, self._started)
