"""A retry in a coroutine whose budget has to be asked elsewhere.

A budget that several processes share is in a store, so a withdrawal is a question that takes as long as the store does.
A plain call waits for the answer; a coroutine awaits it, or it would hold up everybody on its loop, at the very moment
when much goes wrong. The same goes for the deposits, which are brought to the store about once a second.

The question comes last, after everything that could end the call without it, and nothing is decided while it is under
way: a call that is cancelled then has made no further attempt, and whether its token was taken is for the store to
know. Time passes meanwhile, so whether the next attempt still comes in time is asked again afterwards. A deposit comes
after `within` has been left, since a result that came in time stays one.

For budgets of this process, which answer at once, the same loop is in `resilience._loop_driver`.
"""

from __future__ import annotations

from resilience.policies._retry_call import RetryCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.policies.budget import RetryBudget
    from resilience.policies.retry import Retry

    Fn = Callable[..., Any]

__all__ = ["asking", "failed_async", "returned_async"]


def asking(retry: Retry, fn: Fn, budget: RetryBudget) -> Fn:
    """Make each call of a coroutine function as a `RetryCall` from its first attempt on, and await `budget`."""

    async def asked(*args: Any, **kwargs: Any) -> Any:
        call = retry._begin(cuts=True)
        result, good = None, None
        with call:
            while good is None:
                if call.delay > 0.0:
                    await call.pause_async()
                try:
                    result = await fn(*args, **kwargs)
                except Exception as error:
                    if not await failed_async(call, error, budget):
                        raise
                else:
                    good = await returned_async(call, result, budget)
        if good:
            await budget.deposit_async()
        return result

    return asked


async def failed_async(call: RetryCall, error: Exception, budget: RetryBudget) -> bool:
    """As `call.failed(error)`, without blocking the loop."""
    if type(call) is not RetryCall:
        return call.failed(error)  # a disabled retry has calls of its own kind, which ask nobody
    hint = call._hint(error)
    return hint is not None and await _goes_on(call, hint, error, None, budget)


async def returned_async(call: RetryCall, result: object, budget: RetryBudget) -> bool | None:
    """As `call.returned(result)`, less the deposit: True where one is due, False where the result is final without.

    None means that another attempt is due.

    Raises:
        ResultNotAccepted: it is not accepted, nothing is left to try, and the policy does not return such results.
    """
    if type(call) is not RetryCall:
        return not call.returned(result)
    hint = call.policy._matcher.result(result)
    if hint is None:
        call._succeeded()
        return True
    if await _goes_on(call, hint, None, result, budget):
        return None
    call._given_up(result)
    return False


async def _goes_on(call: RetryCall, hint: float, error: Exception | None, result: object, budget: RetryBudget) -> bool:
    call._tell_failed(error, result)
    before = call.attempt, call.previous, call.waited
    delay = call.next_delay(call.clock.now(), call._draw(), hint, call._left_outside())
    if delay is not None:
        after = call.attempt, call.previous, call.waited
        call.attempt, call.previous, call.waited = before
        if not await budget.withdraw_async():
            call.ended_by = "budget"
        elif call.still_fits(now := call.clock.now(), delay, call._left_outside()):
            call.attempt, call.previous, call.waited = after
            call._scheduled(delay, now)
            return True
    call._ended(error)
    return False
