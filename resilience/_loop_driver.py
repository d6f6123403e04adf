"""Where a policy that calls again meets a call.

Of the four drivers this is the one with most to lose: a retry stands around nearly every call of a service, and nearly
every call succeeds at once. So the closure that a function is bound with does nothing before the call and, without a
budget, nothing after it. When an attempt fails in the plainest way, the next needs a look at the backoff and a `Mark`
of its number; whatever else may be asked of a retry, from a deadline to a listener, is answered by a `RetryCall`, which
can take over after any attempt.

With a budget there is one thing to do after a success, a deposit where the bucket is short of tokens; that variant is
written out, too, so that those who have none do not pay for the question.
"""

from __future__ import annotations

from resilience._hub import HUB
from resilience._mark import Mark
from resilience._shape import shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience._kinds import Loop
    from resilience.policies._retry_call import RetryCall
    from resilience.policies.budget import RetryBudget

    Fn = Callable[..., Any]

__all__ = ["bind_loop"]


def bind_loop(loop: Loop, fn: Fn, refusal: str) -> Fn:
    """Call a function again as the loop decides. A generator cannot be begun anew without repeating what it has
    yielded.
    """
    shape = shape_of(fn)
    if shape == "sync":
        return _loop_sync(loop, fn)
    if shape == "coroutine":
        return _loop_async(loop, fn)
    raise TypeError(refusal)


# --- plain functions --------------------------------------------------------------------------------------------------


def _loop_sync(loop: Loop, fn: Fn) -> Fn:
    def watched(*args: Any, **kwargs: Any) -> Any:
        return _repeat(loop._begin(cuts=False), fn, args, kwargs)

    if not loop._lean:
        return watched
    if loop._budget is not None:
        return _paid_sync(loop, fn, watched, loop._budget)
    return _lean_sync(loop, fn, watched)


def _lean_sync(loop: Loop, fn: Fn, watched: Fn) -> Fn:
    def retried(*args: Any, **kwargs: Any) -> Any:
        if HUB.heard:
            return watched(*args, **kwargs)
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
                try:
                    return fn(*args, **kwargs)
                except Exception as error:
                    delay = loop._plainly(error, mark)
                    if delay < 0.0:
                        late, mark = mark, None
                        if late is not None:
                            late.leave()
                        call = loop._begin_late(error, late)
                        if call is None:
                            raise
                if call is not None:
                    return _repeat(call, fn, args, kwargs)
                mark = mark or Mark()
                mark.next(delay)
                if delay > 0.0:
                    loop._pause(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def _paid_sync(loop: Loop, fn: Fn, watched: Fn, budget: RetryBudget) -> Fn:
    def retried(*args: Any, **kwargs: Any) -> Any:
        if HUB.heard:
            return watched(*args, **kwargs)
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
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
                    if budget._bucket.short:
                        budget.deposit()
                    return result
                if call is not None:
                    return _repeat(call, fn, args, kwargs)
                mark = mark or Mark()
                mark.next(delay)
                if delay > 0.0:
                    loop._pause(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def _repeat(call: RetryCall, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with call:
        while True:
            call.pause()
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                if not call.failed(error):
                    raise
            else:
                if call.returned(result):
                    return result


# --- coroutines -------------------------------------------------------------------------------------------------------


def _loop_async(loop: Loop, fn: Fn) -> Fn:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        return await _repeat_async(loop._begin(cuts=True), fn, args, kwargs)

    if not loop._lean:
        return watched
    if loop._budget is not None:
        return _paid_async(loop, fn, watched, loop._budget)
    return _lean_async(loop, fn, watched)


def _lean_async(loop: Loop, fn: Fn, watched: Fn) -> Fn:
    async def retried(*args: Any, **kwargs: Any) -> Any:
        if HUB.heard:
            return await watched(*args, **kwargs)
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
                try:
                    return await fn(*args, **kwargs)
                except Exception as error:
                    delay = loop._plainly(error, mark)
                    if delay < 0.0:
                        late, mark = mark, None
                        if late is not None:
                            late.leave()
                        call = loop._begin_late(error, late)
                        if call is None:
                            raise
                if call is not None:
                    return await _repeat_async(call, fn, args, kwargs)
                mark = mark or Mark()
                mark.next(delay)
                if delay > 0.0:
                    await loop._pause_async(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def _paid_async(loop: Loop, fn: Fn, watched: Fn, budget: RetryBudget) -> Fn:
    async def retried(*args: Any, **kwargs: Any) -> Any:
        if HUB.heard:
            return await watched(*args, **kwargs)
        mark: Mark | None = None
        call: RetryCall | None = None
        try:
            while True:
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
                    if budget._bucket.short:
                        budget.deposit()
                    return result
                if call is not None:
                    return await _repeat_async(call, fn, args, kwargs)
                mark = mark or Mark()
                mark.next(delay)
                if delay > 0.0:
                    await loop._pause_async(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


async def _repeat_async(call: RetryCall, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with call:
        while True:
            await call.pause_async()
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                if not call.failed(error):
                    raise
            else:
                if call.returned(result):
                    return result
