"""How a retry goes on after a first attempt that was made without it.

A generated wrapper makes the first attempt itself. When that fails it asks the retry whether there is a second one, and
leaves that, and all that follow, to `again`: the loops of `_loop_driver`, entered after an attempt instead of before
it. What it hands over is a delay in the plainest of cases, else a `RetryCall` that has taken over.
"""

from __future__ import annotations

from resilience._loop_driver import repeat, repeat_async, watched_async, watched_sync
from resilience._mark import Mark
from resilience._scope import Bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from resilience._hub import Channel
    from resilience._kinds import Loop
    from resilience.policies._retry_call import RetryCall

    Fn = Callable[..., Any]
    Next: TypeAlias = float | RetryCall

__all__ = ["Rest"]


class Rest:
    """What a wrapper leaves to its retry.

    Attributes:
        channel: says whether somebody listens to the retry.
        watched: makes the whole call, while somebody listens.
        again: makes the attempts from the second on; takes the seconds or what takes over, and the arguments.
    """

    __slots__ = ("_loop", "again", "channel", "watched")

    def __init__(self, loop: Loop, fn: Fn, *, awaits: bool) -> None:
        policy: Any = loop
        self._loop = loop
        self.channel: Channel = policy._channel
        self.watched = (watched_async if awaits else watched_sync)(loop, fn)
        self.again = (_again_async if awaits else _again)(loop, fn)

    # The methods of the loop are looked up each time: a disabled retry has others.

    def plainly(self, error: Exception, mark: None) -> float:
        """The seconds to wait before the second attempt in the plainest of cases, else below 0."""
        return self._loop._plainly(error, mark)

    def begin_late(self, error: Exception, mark: None) -> RetryCall | None:
        """What takes over where it is not plain, or None where that was the last attempt."""
        return self._loop._begin_late(error, mark)


def _again(loop: Loop, fn: Fn) -> Fn:
    budget = loop._budget

    def again(following: Next, /, *args: Any, **kwargs: Any) -> Any:
        if type(following) is not float and isinstance(following, Bound):
            begun: Any = following
            return repeat(begun, fn, args, kwargs)
        delay: float = following
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
                mark = Mark(delay) if mark is None else mark.next(delay)
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
                    return repeat(call, fn, args, kwargs)
        finally:
            if mark is not None:
                mark.leave()

    return again


def _again_async(loop: Loop, fn: Fn) -> Fn:
    budget = loop._budget

    async def again(following: Next, /, *args: Any, **kwargs: Any) -> Any:
        if type(following) is not float and isinstance(following, Bound):
            begun: Any = following
            return await repeat_async(begun, fn, args, kwargs)
        delay: float = following
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
                mark = Mark(delay) if mark is None else mark.next(delay)
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
                    return await repeat_async(call, fn, args, kwargs)
        finally:
            if mark is not None:
                mark.leave()

    return again
