"""How a courier sends again: a retry's attempts at one exchange.

A bound function that fails is called again, and that is all that `Retry.bind` knows. An exchange has more to say. An
error that forbids to repeat it has to pass the retry by without a wait, and yet be seen by the breaker inside the retry
and by those around it. And the response of a refused attempt holds a connection, which nobody should hold while he
waits: it is closed when it is certain that another attempt comes, and before the wait for it. Until then it may be the
last one, which whoever called is to get.

So these are the loops of the retry's own driver once more, with those two lines in them.
"""

from __future__ import annotations

from resilience.policies._asking import failed_async, returned_async
from resilience.policies._deposits import without_deposits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.policies._retry_call import RetryCall
    from resilience.policies.budget import RetryBudget
    from resilience.policies.retry import Retry

    Fn = Callable[..., Any]

__all__ = ["after_failure", "after_failure_async", "repeating", "repeating_async"]


def repeating(retry: Retry, fn: Fn, close: Fn) -> Fn:
    """Send exchanges by `fn`, again as `retry` and they themselves allow."""
    budget = retry._budget
    if budget is not None:
        fn = without_deposits(fn, budget)

    def repeated(exchange: Any) -> Any:
        if retry._channel.heard or not retry._lean:
            return _repeat(retry._begin(cuts=False), fn, close, exchange)
        try:
            result = fn(exchange)
        except Exception as error:
            call = retry._begin_late(error, None) if exchange.may_repeat(error) else None
            if call is None:
                raise
        else:
            if budget is not None and budget._bucket.short:
                budget.deposit()
            return result
        return _repeat(call, fn, close, exchange)

    return repeated


def repeating_async(retry: Retry, fn: Fn, close: Fn) -> Fn:
    """The same for coroutine functions."""
    budget = retry._budget
    if budget is not None:
        fn = without_deposits(fn, budget)

    if budget is not None and budget._elsewhere:
        return _asking(retry, fn, close, budget)

    async def repeated(exchange: Any) -> Any:
        if retry._channel.heard or not retry._lean:
            return await _repeat_async(retry._begin(cuts=True), fn, close, exchange)
        try:
            result = await fn(exchange)
        except Exception as error:
            call = retry._begin_late(error, None) if exchange.may_repeat(error) else None
            if call is None:
                raise
        else:
            if budget is not None and budget._bucket.short:
                budget.deposit()
            return result
        return await _repeat_async(call, fn, close, exchange)

    return repeated


def _asking(retry: Retry, fn: Fn, close: Fn, budget: RetryBudget) -> Fn:
    """The same where the budget has to be asked elsewhere: see `resilience.policies._asking`."""

    async def asked(exchange: Any) -> Any:
        call = retry._begin(cuts=True)
        result, good = None, None
        with call:
            while good is None:
                if exchange.open is not None:
                    await close(exchange.taken())
                if call.delay > 0.0:
                    await call.pause_async()
                try:
                    result = await fn(exchange)
                except Exception as error:
                    if not exchange.may_repeat(error):
                        _told_unmatched(call, error)
                        raise
                    if not await failed_async(call, error, budget):
                        raise
                else:
                    good = await returned_async(call, result, budget)
        if good:
            await budget.deposit_async()
        return result

    return asked


def after_failure(fn: Fn) -> Fn:
    """Send exchanges by `fn`, but for a first attempt that has failed already, whose error is raised again instead."""

    def resumed(exchange: Any) -> Any:
        error, exchange.failed = exchange.failed, None
        if error is None:
            return fn(exchange)
        try:
            raise error
        finally:
            error = None  # whose traceback holds this frame

    return resumed


def after_failure_async(fn: Fn) -> Fn:
    """The same for coroutine functions."""

    async def resumed(exchange: Any) -> Any:
        error, exchange.failed = exchange.failed, None
        if error is None:
            return await fn(exchange)
        try:
            raise error
        finally:
            error = None  # whose traceback holds this frame

    return resumed


def _repeat(call: RetryCall, fn: Fn, close: Fn, exchange: Any) -> Any:
    with call:
        while True:
            if exchange.open is not None:
                close(exchange.taken())
            if call.delay > 0.0:
                call.pause()
            try:
                result = fn(exchange)
            except Exception as error:
                if not _goes_on(call, exchange, error):
                    raise
            else:
                if call.returned(result):
                    return result


async def _repeat_async(call: RetryCall, fn: Fn, close: Fn, exchange: Any) -> Any:
    with call:
        while True:
            if exchange.open is not None:
                await close(exchange.taken())
            if call.delay > 0.0:
                await call.pause_async()
            try:
                result = await fn(exchange)
            except Exception as error:
                if not _goes_on(call, exchange, error):
                    raise
            else:
                if call.returned(result):
                    return result


def _goes_on(call: RetryCall, exchange: Any, error: Exception) -> bool:
    if exchange.may_repeat(error):
        return call.failed(error)
    _told_unmatched(call, error)
    return False


def _told_unmatched(call: RetryCall, error: Exception) -> None:
    if call.attempt > 1:
        call._gave_up("unmatched", error)
