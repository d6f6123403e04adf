"""A first attempt through httpx that leaves nothing behind.

Most requests succeed at once, and for those an exchange, a retry's loop and a courier are made, asked nothing, and
thrown away. So the transport makes the first attempt itself where a retry has nothing to note before it: nobody
listens, no deadline stands around, the priority is the usual one, and the body can be sent again as it is. What is left
is to write the number of the attempt, and to look at the status. If it fails, an exchange begins with the failure, and
goes on as if it had been there.

The number is a line among the headers. httpx has no quick way to add one, and keeps them as a list of `(name, name in
lower case, value)`. A transport makes sure of that by a trial when it is built; where it is not so, every attempt goes
the long way.
"""

from __future__ import annotations

from resilience._compile import compiled
from resilience.errors import Rejected
from resilience.http import transient_response
from resilience.integrations._exchange import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any

    from resilience.policies.budget import RetryBudget

    Fn = Callable[..., Any]

__all__ = ["FIRST", "Gated", "can_append", "number_first", "refusal", "was_sent"]

_NAME = "X-Attempt"
FIRST = (b"X-Attempt", b"x-attempt", b"1")
"""The header of a first attempt as httpx keeps it. Found at the end of the list, it is this very object."""


def can_append(client: Any) -> bool:
    """Whether the headers of this client are a list that a header can be appended to."""
    try:
        written, appended = client.Headers(), client.Headers({"A": "1"})
        written[_NAME] = "1"
        appended._list.append(FIRST)
        read = appended.get(_NAME), (FIRST[0], FIRST[2]) in appended.raw
        return bool(written._list == [FIRST] and read == ("1", True))
    except Exception:
        return False


def number_first(headers: Any) -> None:
    """Say that this is the first attempt."""
    fields = headers._list
    for field in fields:
        if field[1] == b"x-attempt":
            headers[_NAME] = "1"
            return
    fields.append(FIRST)


def refusal(response: Any) -> Refused | None:
    """The error that a response means, if it says "not now"."""
    asked = transient_response(response)
    return None if asked is False else Refused(response, 0.0 if asked is True else asked)


def _judge(response: Any) -> None:
    """Return if a response does not say "not now".

    Raises:
        Refused: it does.
    """
    asked = transient_response(response)
    if asked is not False:
        raise Refused(response, 0.0 if asked is True else asked)  # in no local, which its traceback would hold


class Gated:
    """A transport with the gates of a policy around it, for first attempts. Safe from any thread and task.

    Args:
        wrapped: the transport.
        gates: from the outermost on.
        budget: what a success is deposited in, if anything.
    """

    __slots__ = ("handle_async_request", "handle_request")

    def __init__(self, wrapped: Any, gates: Sequence[Any], budget: RetryBudget | None) -> None:
        def sent(request: Any) -> Any:
            response = wrapped.handle_request(request)
            if response.status_code != 200:
                _judge(response)
            return response

        async def sent_async(request: Any) -> Any:
            response = await wrapped.handle_async_request(request)
            if response.status_code != 200:
                _judge(response)
            return response

        self.handle_request = _around(gates, sent)
        self.handle_async_request = _around(gates, sent_async)
        if budget is not None:
            self.handle_request = _paid(self.handle_request, budget)
            self.handle_async_request = _paid_async(self.handle_async_request, budget)


def _around(gates: Sequence[Any], fn: Fn) -> Fn:
    wrapper = compiled(gates, fn)
    if wrapper is not None:
        return wrapper
    for gate in reversed(gates):
        fn = gate.bind(fn)
    return fn


def _paid(fn: Fn, budget: RetryBudget) -> Fn:
    def paid(request: Any) -> Any:
        response = fn(request)
        if budget._bucket.short:
            budget.deposit()
        return response

    return paid


def _paid_async(fn: Fn, budget: RetryBudget) -> Fn:
    async def paid(request: Any) -> Any:
        response = await fn(request)
        if budget._bucket.short:
            budget.deposit()
        return response

    return paid


def was_sent(error: Exception) -> bool:
    """Whether the transport was asked before this error was raised, and not only the gates around it."""
    if not isinstance(error, Rejected):
        return True
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == __file__ and code.co_name.startswith("sent"):
            return True
        trace = trace.tb_next
    return False
