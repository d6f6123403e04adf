"""How a retry goes on after a first attempt that was made without it.

A generated wrapper makes the first attempt itself. When that fails it asks the retry whether there is a second one, and
leaves that, and all that follow, to `again`: the loops of `_loop_driver`, entered after an attempt instead of before
it. What it hands over is a delay in the plainest of cases, else a `RetryCall` that has taken over.
"""

from __future__ import annotations

from resilience._loop_driver import _repeat, _repeat_async
from resilience._mark import Mark
from resilience._scope import Bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from resilience._kinds import Loop
    from resilience.policies._retry_call import RetryCall

    Fn = Callable[..., Any]
    Next: TypeAlias = float | RetryCall

__all__ = ["Rest"]


class Rest:
    """What a wrapper leaves to its retry.

    Attributes:
        watched: makes the whole call, while somebody listens.
        plainly: after a failed attempt, the seconds to wait before the next in the plainest of cases, else below 0.
        begin_late: then, what takes over from there, or None where that was the last attempt.
        again: makes the attempts from the second on; takes the seconds or what takes over, and the arguments.
    """

    __slots__ = ("again", "begin_late", "plainly", "watched")

    def __init__(self, loop: Loop, fn: Fn, *, awaits: bool) -> None:
        self.plainly = loop._plainly
        self.begin_late = loop._begin_late
        self.watched = (_watched_async if awaits else _watched)(loop, fn)
        self.again = (_again_async if awaits else _again)(loop, fn)


def _watched(loop: Loop, fn: Fn) -> Fn:
    def watched(*args: Any, **kwargs: Any) -> Any:
        return _repeat(loop._begin(cuts=False), fn, args, kwargs)

    return watched


def _watched_async(loop: Loop, fn: Fn) -> Fn:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        return await _repeat_async(loop._begin(cuts=True), fn, args, kwargs)

    return watched


def _again(loop: Loop, fn: Fn) -> Fn:
    budget = loop._budget

    def again(following: Next, /, *args: Any, **kwargs: Any) -> Any:
        if type(following) is not float and isinstance(following, Bound):
            begun: Any = following
            return _repeat(begun, fn, args, kwargs)
        delay: float = following
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
                mark = mark or Mark()
                mark.next(delay)
                if delay > 0.0:
                    loop._pause(delay)
                try:
                    result = fn(*args, **kwargs)
                except Exception as error:
                    delay = loop._plainly(error, mark)
                    if delay < 0.0:
                        late, mark = mark, None
                        if late is not None:
                            late.leave()
                        call = loop._begin_late(error, late)
                        if call is None:
                            raise
                else:
                    if budget is not None and budget._bucket.short:
                        budget.deposit()
                    return result
                if call is not None:
                    return _repeat(call, fn, args, kwargs)
        finally:
            if mark is not None:
                mark.leave()

    return again


def _again_async(loop: Loop, fn: Fn) -> Fn:
    budget = loop._budget

    async def again(following: Next, /, *args: Any, **kwargs: Any) -> Any:
        if type(following) is not float and isinstance(following, Bound):
            begun: Any = following
            return await _repeat_async(begun, fn, args, kwargs)
        delay: float = following
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
                mark = mark or Mark()
                mark.next(delay)
                if delay > 0.0:
                    await loop._pause_async(delay)
                try:
                    result = await fn(*args, **kwargs)
                except Exception as error:
                    delay = loop._plainly(error, mark)
                    if delay < 0.0:
                        late, mark = mark, None
                        if late is not None:
                            late.leave()
                        call = loop._begin_late(error, late)
                        if call is None:
                            raise
                else:
                    if budget is not None and budget._bucket.short:
                        budget.deposit()
                    return result
                if call is not None:
                    return await _repeat_async(call, fn, args, kwargs)
        finally:
            if mark is not None:
                mark.leave()

    return again
