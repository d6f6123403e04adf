"""What sending a request under a policy means, for every client.

A policy retries a function; a client sends a request, which is more delicate: its body may be spent, the server may
have acted on it, and the answer that says "not now" is no exception. So each request is an `Exchange`, which knows
whether it may be sent again, and the policy is bound around the sending of one.

A response that says "not now" is raised as a `Refused` for the policies to see, and returned in the end. The attempts
of a retry are made in `_repeating`.
"""

from __future__ import annotations

from resilience._attempt import current_attempt
from resilience._notes import leave_note
from resilience._scope import refuse_if_late, time_left
from resilience.context import Priority, current_priority
from resilience.errors import Rejected
from resilience.http import client_policy, is_idempotent, not_sent, transient, transient_response
from resilience.integrations._repeating import after_failure, after_failure_async, repeating, repeating_async
from resilience.pipeline import Pipeline
from resilience.policies.breaker import CircuitBreaker
from resilience.policies.bulkhead import Bulkhead
from resilience.policies.hedge import Hedge
from resilience.policies.keyed import Keyed
from resilience.policies.retry import Retry
from resilience.policies.throttle import Throttle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
    from typing import Any

    Fn = Callable[..., Any]

__all__ = ["Courier", "Exchange", "Refused", "position", "replayable"]

_MOST_ORIGINS = 1024
_GATES = (CircuitBreaker, Throttle, Bulkhead)


class Refused(Exception):
    """A response that says "not now", as policies see it; whoever called gets the response.

    Attributes:
        response: the client's own response.
        retry_after: seconds that it asks to wait; 0.0 where it does not say.
    """

    def __init__(self, response: Any, retry_after: float) -> None:
        super().__init__(f"the response was {response!r}")
        self.response = response
        self.retry_after = retry_after


class Exchange:
    """One request of one client and the attempts to get it answered. Used by one thread or task.

    Args:
        method: the request's method.
        headers: the request's headers.
    """

    __slots__ = ("attempt", "failed", "headers", "method", "open", "outer", "repeat")

    def __init__(self, method: str, headers: Any) -> None:
        self.method = method.upper()
        self.headers = headers
        self.repeat: Collection[str] = ()
        self.attempt = 0
        self.failed: Exception | None = None
        self.open: Any = None
        around = current_attempt()
        self.outer = 0 if around is None else around[0] - 1

    def origin(self) -> str:
        """Scheme, host and port of where it goes."""
        raise NotImplementedError

    def rewind(self) -> bool:
        """Make the body ready to be sent again; False where it is spent for good."""
        return True

    def bound(self, left: float) -> None:
        """Let no wait of the client last longer than `left` seconds."""

    def begin(self) -> None:
        """Before an attempt: write what the next service should know.

        Raises:
            TimedOut: no time is left to begin it in.
        """
        refuse_if_late()
        self.attempt += 1
        headers = self.headers
        headers["X-Attempt"] = str(self.outer + self.attempt)
        left = time_left()
        if left is not None:
            headers["X-Deadline-Ms"] = str(max(0, int(left * 1000)))
            self.bound(left)
        priority = current_priority()
        if priority is not Priority.DEFAULT:
            headers["X-Priority"] = priority.name.lower()

    def judge(self, response: Any) -> Any:
        """After an attempt: the response, unless it says "not now".

        Raises:
            Refused: it does.
        """
        asked = transient_response(response)
        if asked is False:
            return response
        self.open = response
        raise Refused(response, 0.0 if asked is True else asked)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the request may be sent again after this error. Where that is a pity, a note on it says why not."""
        if isinstance(error, Rejected):
            return True
        if not (not_sent(error) or self.method in self.repeat or is_idempotent(self.method, self.headers)):
            reason = f"a {self.method} may have been carried out; it has no Idempotency-Key"
        elif not self.rewind():
            reason = "its body is spent and cannot be rewound"
        else:
            return True
        if not isinstance(error, Refused) and transient(error):
            leave_note(error, "resilience: not sent again: ", reason)
        return False

    def taken(self) -> Any:
        """The refused response that is still open, if there is one, for the asker to close."""
        left, self.open = self.open, None
        return left


class Courier:
    """Sends exchanges under a policy. Safe from any thread and task.

    Args:
        policy: a policy, a `Keyed` by origin, or None for `client_policy()`.
        repeat: methods that may be sent twice although they are not idempotent.
        send: sends an exchange once and returns the response; for async clients, what is to be awaited for it.
        close: closes a response, in the same colour.

    Raises:
        TypeError: `policy` holds a `Hedge`, whose copies would share one body, or is no policy.
    """

    def __init__(self, policy: Any, repeat: Collection[str], send: Fn, close: Fn, *, is_async: bool) -> None:
        if isinstance(repeat, str):
            raise TypeError(f"repeat must be a collection of methods such as {{'POST'}}, got {repeat!r}")
        self._policy = client_policy() if policy is None else policy
        self._repeat = frozenset(method.upper() for method in repeat)
        self._fn = _sending_async(send, close) if is_async else _sending(send, close)
        self._close = close
        self._is_async = is_async
        self._by_origin: dict[str, tuple[Any, Fn]] = {}
        self._one = None if isinstance(self._policy, Keyed) else self._around(self._policy)
        self._rest: Fn | None = None

    def brisk(self) -> list[Any] | None:
        """The policies of a courier whose first attempts may be made without it: a retry, and gates inside it.

        They may where nothing is to be noted before an attempt: nobody listens to the retry, and it has neither a time
        limit nor results to look at. None where that is not so, ever. After a failure the exchange is delivered with
        the error in `failed`, in the place of its first attempt.
        """
        if self._one is None:
            return None
        retry, *gates = _parts(self._policy)
        if not (isinstance(retry, Retry) and retry._lean and all(map(_is_gate, gates))):
            return None
        fn = self._inside(gates, self._fn)
        fn = after_failure_async(fn) if self._is_async else after_failure(fn)
        self._rest = self._inside([retry], fn)
        return [retry, *gates]

    def deliver(self, exchange: Exchange) -> Any:
        """Send, again if need be, and return the last response."""
        exchange.repeat = self._repeat
        through = self._one if exchange.failed is None else self._rest
        result = None
        try:
            result = (through or self._for(exchange.origin()))(exchange)
        except Refused as refused:
            result = refused.response
        finally:
            if exchange.open is not None:
                left = exchange.taken()
                if left is not result:
                    self._close(left)
        return result

    async def deliver_async(self, exchange: Exchange) -> Any:
        """Send, again if need be, and return the last response."""
        exchange.repeat = self._repeat
        through = self._one if exchange.failed is None else self._rest
        result = None
        try:
            result = await (through or self._for(exchange.origin()))(exchange)
        except Refused as refused:
            result = refused.response
        finally:
            if exchange.open is not None:
                left = exchange.taken()
                if left is not result:
                    await self._close(left)
        return result

    def _for(self, origin: str) -> Fn:
        policy = self._policy[origin]
        known = self._by_origin.get(origin)
        if known is not None and known[0] is policy:
            return known[1]
        if len(self._by_origin) >= _MOST_ORIGINS:
            self._by_origin.clear()
        bound = self._around(policy)
        self._by_origin[origin] = policy, bound
        return bound

    def _around(self, policy: Any) -> Fn:
        return self._inside(_parts(policy), self._fn)

    def _inside(self, parts: Sequence[Any], fn: Fn) -> Fn:
        for part in reversed(parts):
            if isinstance(part, Hedge):
                raise TypeError("a client's policy cannot hold a Hedge: two copies of a request would share one body")
            if not callable(getattr(part, "bind", None)):
                raise TypeError(f"policy must be a policy, or a Keyed by origin, got {part!r}")
            if isinstance(part, Retry):
                fn = (repeating_async if self._is_async else repeating)(part, fn, self._close)
            else:
                fn = part.bind(fn)
        return fn


def _is_gate(part: Any) -> bool:
    """Whether a policy lets calls in or not, and looks neither at their arguments nor at the time they have."""
    asked = [part._arguments.get(name) for name in ("key", "cost")] if isinstance(part, _GATES) else ["no"]
    return not any(callable(value) or isinstance(value, str) for value in asked)


def _parts(policy: Any) -> list[Any]:
    return list(policy._flat()) if isinstance(policy, Pipeline) else [policy]


def _sending(send: Fn, close: Fn) -> Fn:
    def sending(exchange: Exchange) -> Any:
        if exchange.open is not None:  # of somebody else's loop, which does not know
            close(exchange.taken())
        exchange.begin()
        return exchange.judge(send(exchange))

    return sending


def _sending_async(send: Callable[..., Awaitable[Any]], close: Callable[..., Awaitable[Any]]) -> Fn:
    async def sending(exchange: Exchange) -> Any:
        if exchange.open is not None:  # of somebody else's loop, which does not know
            await close(exchange.taken())
        exchange.begin()
        return exchange.judge(await send(exchange))

    return sending


def replayable(body: Any, start: int | None) -> bool:
    """Make a body of plain Python ready to be sent again: rewinds a file to `start`; False where that cannot be."""
    if body is None or isinstance(body, str | bytes | bytearray | memoryview):
        return True
    if hasattr(body, "read"):
        if start is None:
            return False
        try:
            body.seek(start)
        except (OSError, ValueError, AttributeError):
            return False
        return True
    return hasattr(body, "__iter__") and _iterator(body) is not body


def _iterator(body: Any) -> Iterator[Any]:
    return iter(body)


def position(body: Any) -> int | None:
    """Where a file stands before it is sent, or None for whatever cannot say."""
    if not hasattr(body, "read"):
        return None
    try:
        start: int = body.tell()
    except (OSError, ValueError, AttributeError):
        return None
    return start
