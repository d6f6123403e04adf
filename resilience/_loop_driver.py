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

from resilience._mark import Mark
from resilience._shape import shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience._hub import Channel
    from resilience._kinds import Loop
    from resilience.policies._retry_call import RetryCall
    from resilience.policies.budget import RetryBudget

    Fn = Callable[..., Any]

__all__ = ["bind_loop", "repeat", "repeat_async", "watched_async", "watched_sync"]


def bind_loop(loop: Loop, channel: Channel, fn: Fn, refusal: str) -> Fn:
    """Call a function again as the loop decides, the long way while its channel is heard. A generator cannot be begun
    anew without repeating what it has yielded.
    """
    shape = shape_of(fn)
    if shape == "sync":
        return _loop_sync(loop, channel, fn)
    if shape == "coroutine":
        return _loop_async(loop, channel, fn)
    raise TypeError(refusal)


# --- plain functions --------------------------------------------------------------------------------------------------


def _loop_sync(loop: Loop, channel: Channel, fn: Fn) -> Fn:
    watched = watched_sync(loop, fn)
    if not loop._lean:
        return watched
    if loop._budget is not None:
        return _paid_sync(loop, channel, fn, watched, loop._budget)
    return _lean_sync(loop, channel, fn, watched)


def _lean_sync(loop: Loop, channel: Channel, fn: Fn, watched: Fn) -> Fn:
    def retried(*args: Any, **kwargs: Any) -> Any:
        if channel.heard:
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
                    return repeat(call, fn, args, kwargs)
                mark = Mark(delay) if mark is None else mark.next(delay)
                if delay > 0.0:
                    loop._pause(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def _paid_sync(loop: Loop, channel: Channel, fn: Fn, watched: Fn, budget: RetryBudget) -> Fn:
    def retried(*args: Any, **kwargs: Any) -> Any:
        if channel.heard:
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
                    return repeat(call, fn, args, kwargs)
                mark = Mark(delay) if mark is None else mark.next(delay)
                if delay > 0.0:
                    loop._pause(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def watched_sync(loop: Loop, fn: Fn) -> Fn:
    """Make each call as a `RetryCall` from its first attempt on."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        # `repeat`, without a frame of its own.
        call = loop._begin(cuts=False)
        call.__enter__()
        try:
            while True:
                if call.delay > 0.0:
                    call.pause()
                try:
                    result = fn(*args, **kwargs)
                except Exception as error:
                    if not call.failed(error):
                        raise
                else:
                    if call.returned(result):
                        return result
        finally:
            # By name, which is quicker than `with`. A sync call cuts nothing, so what was raised is no matter.
            call.__exit__(None, None, None)

    return watched


def repeat(call: RetryCall, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the attempts of a call that is under way."""
    with call:
        while True:
            if call.delay > 0.0:
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


def _loop_async(loop: Loop, channel: Channel, fn: Fn) -> Fn:
    watched = watched_async(loop, fn)
    if not loop._lean:
        return watched
    if loop._budget is not None:
        return _paid_async(loop, channel, fn, watched, loop._budget)
    return _lean_async(loop, channel, fn, watched)


def _lean_async(loop: Loop, channel: Channel, fn: Fn, watched: Fn) -> Fn:
    async def retried(*args: Any, **kwargs: Any) -> Any:
        if channel.heard:
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
                    return await repeat_async(call, fn, args, kwargs)
                mark = Mark(delay) if mark is None else mark.next(delay)
                if delay > 0.0:
                    await loop._pause_async(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def _paid_async(loop: Loop, channel: Channel, fn: Fn, watched: Fn, budget: RetryBudget) -> Fn:
    async def retried(*args: Any, **kwargs: Any) -> Any:
        if channel.heard:
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
                    return await repeat_async(call, fn, args, kwargs)
                mark = Mark(delay) if mark is None else mark.next(delay)
                if delay > 0.0:
                    await loop._pause_async(delay)
        finally:
            if mark is not None:
                mark.leave()

    return retried


def watched_async(loop: Loop, fn: Fn) -> Fn:
    """Make each call as a `RetryCall` from its first attempt on, cut at `within`."""

    async def watched(*args: Any, **kwargs: Any) -> Any:
        return await repeat_async(loop._begin(cuts=True), fn, args, kwargs)

    return watched


async def repeat_async(call: RetryCall, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the attempts of a call that is under way."""
    with call:
        while True:
            if call.delay > 0.0:
                await call.pause_async()
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                if not call.failed(error):
                    raise
            else:
                if call.returned(result):
                    return result
