"""Deliberate errors: each line that ends in `# wrong` must be reported by every checker, and no other line may be.

The file is read by checkers and never imported: most of these are refused at run time too.
"""

from __future__ import annotations

from resilience import CircuitBreaker, Fallback, Pipeline, Policy, Retry, Throttle, Timeout, backoff

retry = Retry(on=ConnectionError)
or_none = Fallback(on=ConnectionError, value=None)


@retry
def plain(number: int) -> int:
    """A function of one int."""
    return number


@retry
async def coroutine(number: int) -> int:
    """A coroutine function of one int."""
    return number


@or_none
def replaced(number: int) -> int:
    """A function whose result may become None."""
    return number


plain("one")  # wrong: the parameters are kept
plain()  # wrong: none may be left out
plain(1, 2)  # wrong: none may be added
text: str = plain(1)  # wrong: the result is kept
number: int = replaced(1)  # wrong: it may be None now
later: int = coroutine(1)  # wrong: it is to be awaited
called: str = retry.call(plain, 1)  # wrong: `call` keeps the result
retry.call(plain, "one")  # wrong: and the parameters
strict: Policy[int] = or_none  # wrong: it may answer None

Retry(ConnectionError)  # wrong: `on` is a keyword
Retry(on=ConnectionError, attempts="3")  # wrong: a number
Retry(on="ConnectionError")  # wrong: a type, not its name
Retry(on=ConnectionError, backoff="1s")  # wrong: seconds
CircuitBreaker(trip="5")  # wrong: a number or a trip
CircuitBreaker(5, 30)  # wrong: everything after the first is a keyword
CircuitBreaker(5, cooldwon=30)  # wrong: misspelt
Throttle(5)  # wrong: a rate has a time
Throttle("5/s", max_wait="1")  # wrong: seconds
Timeout()  # wrong: a timeout has a length
Timeout("5")  # wrong: seconds
Pipeline(retry, 5)  # wrong: not a policy
backoff.exponential(jitter="half")  # wrong: none, full or equal
backoff.schedule(1)  # wrong: a sequence
