"""Retrying a block.

    for attempt in retry.attempts():
        with attempt:
            ...

A block cannot be called again, but a loop can run it again: the iterator decides whether there is a next round, and the
`with` keeps the error from leaving while there is. What stands around the attempts of a call stands here around each
block, so breaking out of the loop leaves nothing behind.
"""

from __future__ import annotations

from resilience.policies._retry_call import RetryCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn, Self

    from resilience.policies.retry import Retry

__all__ = ["Attempt", "Attempts"]


class Attempts:
    """The attempts of one run of a block: iterate once, with `for` or `async for`. Used by one thread or task."""

    __slots__ = ("_call", "_handed", "_policy")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._call: RetryCall | None = None
        self._handed: Attempt | None = None

    def __iter__(self) -> Self:
        self._refuse_reuse()
        return self

    def __aiter__(self) -> Self:
        self._refuse_reuse()
        return self

    def _refuse_reuse(self) -> None:
        if self._handed is not None:
            raise RuntimeError("attempts() serves one loop: call it again for the next")

    def __next__(self) -> Attempt:
        if not self._goes_on():
            raise StopIteration
        call = self._call = self._call or self._policy._begin(cuts=False)
        call.pause()
        return self._hand(call)

    async def __anext__(self) -> Attempt:
        if not self._goes_on():
            raise StopAsyncIteration
        call = self._call = self._call or self._policy._begin(cuts=True)
        await call.pause_async()
        return self._hand(call)

    def _goes_on(self) -> bool:
        if self._handed is None:
            return True
        if not self._handed._entered:
            raise RuntimeError("the attempt was not made: write `with attempt:` round what is to be tried again")
        return self._handed._again

    def _hand(self, call: RetryCall) -> Attempt:
        self._handed = Attempt(call)
        return self._handed


class Attempt:
    """One attempt: a block to write with `with`. Single use.

    Attributes:
        number: which attempt this is, from 1.
    """

    __slots__ = ("_again", "_call", "_ended", "_entered", "_next_wait", "_result", "number")

    def __init__(self, call: RetryCall) -> None:
        self.number = call.attempt
        self._call = call
        self._result: tuple[object] | None = None
        self._entered = False
        self._ended = False
        self._again = False
        self._next_wait: float | None = None

    @property
    def next_wait(self) -> float | None:
        """Seconds to the next attempt; None if there is none.

        While this one runs: what is to be waited if it fails now and nobody asks for more. Afterwards: what is waited.
        """
        return self._next_wait if self._ended else self._call.forecast()

    def set_result(self, result: object) -> None:
        """Say what the attempt produced, for `on_result` to judge."""
        self._result = (result,)

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("an attempt is one block: let the loop go round for the next")
        self._entered = True
        self._call.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        call = self._call
        try:
            if error is None:
                self._again = not call.returned(self._produced())
            elif isinstance(error, Exception):
                self._again = call.failed(error)
        finally:
            self._ended = True
            call.__exit__(kind, error, trace)
        if self._again:
            self._next_wait = call.delay
        return self._again

    def _produced(self) -> object:
        if self._result is not None:
            return self._result[0]
        policy = self._call.policy
        if policy._matcher.on_result is not None:
            raise RuntimeError(
                f"{policy.name} has on_result, so the block must say what it produced: attempt.set_result(x)"
            )
        return None

    async def __aenter__(self) -> NoReturn:
        raise TypeError("an attempt is entered by a plain `with attempt:`, in `async for` too")

    async def __aexit__(self, *_: object) -> None:
        raise TypeError("an attempt is entered by a plain `with attempt:`, in `async for` too")
