"""Retrying a block.

    for attempt in retry.attempts():
        with attempt:
            ...

A block cannot be called again, but a loop can run it again: the iterator decides whether there is a next round, and the `with` keeps the
error from leaving while there is. The deadline of `within` is entered and left with each block, so breaking out of the loop leaves
nothing behind.
"""

from __future__ import annotations

from resilience._scope import CutScope, Scope
from resilience.errors import DeadlineExceeded
from resilience.policies._retry_call import RetryCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from resilience.policies.retry import Retry

__all__ = ["Attempt", "Attempts"]


class Attempts:
    """The attempts of one run of a block: iterate once, with `for` or `async for`. Used by one thread or task."""

    __slots__ = ("_began", "_call", "_cuts", "_done", "_policy")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._call = RetryCall(policy, None)
        self._cuts = False
        self._done = False
        self._began: float | None = None

    def __iter__(self) -> Self:
        self._claim()
        return self

    def __aiter__(self) -> Self:
        self._claim()
        self._cuts = True
        return self

    def _claim(self) -> None:
        if self._began is not None:
            raise RuntimeError("attempts() serves one loop: call it again for the next")
        self._began = self._policy._clock.now()
        self._call.start()

    def __next__(self) -> Attempt:
        if self._done:
            raise StopIteration
        self._call.wait()
        return self._attempt()

    async def __anext__(self) -> Attempt:
        if self._done:
            raise StopAsyncIteration
        await self._call.wait_async()
        return self._attempt()

    def _attempt(self) -> Attempt:
        # A block that is left by `continue` before its `with` would come back here: it counts as done, not as an endless loop.
        self._done = True
        return Attempt(self)

    def _scope(self) -> Scope | None:
        within = self._policy._plan.within
        if within is None or self._began is None:
            return None
        kind = CutScope if self._cuts else Scope
        left = within - (self._policy._clock.now() - self._began)
        return kind(self._policy.name, max(left, 0.0), self._policy._clock, DeadlineExceeded)


class Attempt:
    """One attempt: a block to write with `with`.

    Attributes:
        number: which attempt this is, from 1.
    """

    __slots__ = ("_next_wait", "_owner", "_result", "_running", "_scope", "number")

    def __init__(self, owner: Attempts) -> None:
        self._owner = owner
        self._scope: Scope | None = None
        self._result: tuple[object] | None = None
        self.number = owner._call.number
        self._running = True
        self._next_wait: float | None = None

    @property
    def next_wait(self) -> float | None:
        """Seconds to the next attempt. While this one runs, what is to be waited if it fails and nobody asks for more; afterwards, what
        is waited. None if there is no next one."""
        return self._owner._call.expected_delay() if self._running else self._next_wait

    def set_result(self, result: object) -> None:
        """Say what the attempt produced, for `on_result` to judge."""
        self._result = (result,)

    def __enter__(self) -> Self:
        self._scope = self._owner._scope()
        self._owner._call.__enter__()
        if self._scope is not None:
            try:
                self._scope.__enter__()
            except BaseException:
                self._owner._call.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        owner = self._owner
        again = False
        try:
            if self._scope is not None:
                self._scope.__exit__(kind, error, trace)
            if isinstance(error, Exception):
                again = owner._call.failed(error)
            elif error is None:
                again = not self._accepted(owner)
        finally:
            owner._call.__exit__(None, None, None)
            self._running = False
        owner._done = not again
        self._next_wait = owner._call.delay if again else None
        return again

    def _accepted(self, owner: Attempts) -> bool:
        if self._result is None:
            if owner._policy._matcher.on_result is not None:
                raise RuntimeError(
                    f"{owner._policy.name} has on_result, so the block must say what it produced: attempt.set_result(x)"
                )
            return owner._call.returned(None)
        return owner._call.returned(self._result[0])
