"""What a status of gRPC means, and one call under a policy.

gRPC has no methods as HTTP has: nothing on the wire says whether a call may be carried out twice. So there are three
ways to be allowed a second attempt: the call never left, the server says when to come back, or the name was given.
"""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from math import inf

from resilience._notes import leave_note
from resilience.errors import Rejected
from resilience.http import transient_response
from resilience.integrations._exchange import Exchange, Refused, replayable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    class RpcError(Exception): ...

else:
    from grpc import RpcError

__all__ = ["CallExchange", "Failed", "Seen", "asked_of", "never_left"]

_PUSHBACK = "grpc-retry-pushback-ms"
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_AS_HTTP = {"UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504, "RESOURCE_EXHAUSTED": 429}
# How the core of gRPC begins when a call found no connection to go out on. None of them reaches a server.
_NO_CONNECTION = (
    "failed to connect to all addresses",
    "errors resolving ",
    "DNS resolution failed",
    "empty address list",
)


class Seen:
    """A failed call as `transient` sees it: a response with the status that HTTP has for that.

    Attributes:
        error: the client's own error.
        status_code: 503, 504 or 429.
        headers: the wait that the server asks for, if it does, as Retry-After.
    """

    __slots__ = ("error", "headers", "status_code")

    def __init__(self, error: Any, asked: bool | float) -> None:
        self.error = error
        self.status_code = _AS_HTTP[error.code().name]
        self.headers = {} if asked is True else {"retry-after": f"{float(asked):.3f}"}

    def __repr__(self) -> str:
        return f"{self.error.code()}: {self.error.details()}"


class Failed(Refused, RpcError):
    """A call that may succeed another time, as policies see it: `on=transient` matches it, `on=grpc.RpcError` too."""

    def __init__(self, error: Any, asked: bool | float) -> None:
        super().__init__(Seen(error, asked), 0.0 if asked is True else asked)
        self.error = error

    def code(self) -> Any:
        """The status."""
        return self.error.code()

    def details(self) -> Any:
        """The text that came with it."""
        return self.error.details()

    def trailing_metadata(self) -> Any:
        """The metadata that came with it."""
        return self.error.trailing_metadata()


class CallExchange(Exchange):
    """One call and its attempts. Used by one thread or task.

    Args:
        details: what is called, and how.
        request: a message, or what yields the messages.
        streams: whether it is the latter.
        proceed: makes the call.
        names: patterns of the methods that may be repeated.
    """

    __slots__ = ("_begun", "_names", "call", "details", "last", "path", "proceed", "request", "streams", "timeout")

    def __init__(self, details: Any, request: Any, proceed: Any, names: Collection[str], *, streams: bool) -> None:
        path = details.method
        self.path: str = path.decode() if isinstance(path, bytes) else path
        super().__init__(self.path, {})
        self.details = details
        self.request = request
        self.streams = streams
        self.proceed = proceed
        self.timeout: float | None = details.timeout
        self.call: Any = None
        self.last: Any = None
        self._names = names
        self._begun = time.monotonic()

    def origin(self) -> str:
        """The service, such as `shop.Orders`: an interceptor does not know where its channel leads."""
        return self.path.strip("/").partition("/")[0]

    def begin(self) -> None:
        """Before an attempt: write what the next service should know.

        Raises:
            TimedOut: no time is left to begin it in.
            RpcError: the last one, where the caller's own timeout has passed.
        """
        if self.last is not None and self.own_left() <= 0.0:
            raise self.failure(self.last)
        super().begin()

    def bound(self, left: float) -> None:
        """Let the next attempt last no longer than `left` seconds; gRPC sends that along as `grpc-timeout`."""
        self.timeout = min(self.own_left(), left)

    def rewind(self) -> bool:
        """Whether the messages can be sent again: one always, several where they are not an iterator."""
        body = self.request
        if self.streams and hasattr(body, "__aiter__"):
            return body.__aiter__() is not body
        return not self.streams or (not isinstance(body, str | bytes) and replayable(body, None))

    def messages(self) -> Any:
        """The request for one attempt; a blocking channel wants an iterator."""
        return iter(self.request) if self.streams else self.request

    def metadata(self) -> list[tuple[str, Any]]:
        """The caller's metadata with ours; the deadline is in `grpc-timeout` already."""
        ours = {name.lower(): value for name, value in self.headers.items() if name != "X-Deadline-Ms"}
        kept = [(key, value) for key, value in self.details.metadata or () if key.lower() not in ours]
        return [*kept, *ours.items()]

    def failure(self, error: Any) -> Any:
        """What policies are to see of an error."""
        asked = asked_of(error)
        self.last = error
        return error if asked is False else Failed(error, asked)

    def own_left(self) -> float:
        """What is left of the seconds that the caller gave the call, which may be infinitely many."""
        own: float | None = self.details.timeout
        return inf if own is None else own - (time.monotonic() - self._begun)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the call may be made again after this error. Where that is a pity, a note on it says why not."""
        if isinstance(error, Rejected):
            return True
        if self.own_left() <= 0.0:
            return False
        own: Any = error.error if isinstance(error, Failed) else error
        asked = _pushback(own)
        if asked is not None and asked < 0.0:
            reason = "the server said not to"
        elif asked is None and not never_left(own) and not any(fnmatchcase(self.path, name) for name in self._names):
            reason = f"{self.path} may have been carried out; repeat= does not name it"
        elif not self.rewind():
            reason = "its messages are spent and cannot be had again"
        else:
            return True
        if isinstance(error, Failed):
            leave_note(own, "resilience: not sent again: ", reason)
        return False


def asked_of(error: Any) -> bool | float:
    """Whether an error of gRPC says "not now"; a number says yes, after that many seconds.

    UNAVAILABLE and DEADLINE_EXCEEDED do; RESOURCE_EXHAUSTED where it comes with a time, as it is also said of a message
    that is too large. The time is the largest of `grpc-retry-pushback-ms`, `google.rpc.RetryInfo`, `retry-after` and
    the reset of a rate limit.
    """
    name = _code(error)
    if name not in _AS_HTTP:
        return False
    trailers = _trailers(error)
    response = Seen.__new__(Seen)
    response.status_code, response.headers = 429, {key: value for key, value in trailers.items() if key != "date"}
    told = transient_response(response)
    hints = [told] if type(told) is float else []
    pushback = _pushback(error)
    if pushback is not None and pushback >= 0.0:
        hints.append(pushback)
    info = _retry_info(trailers.get("grpc-status-details-bin"))
    if info is not None:
        hints.append(info)
    if hints:
        return max(hints)
    return name != "RESOURCE_EXHAUSTED"


def never_left(error: Any) -> bool:
    """Whether gRPC says that there was no connection for the call to go out on.

    It says so in words only, and has no other sign of it: what it calls "received from peer" may be its own. A server
    that hands on another's words is known only by the metadata that it sends with them.
    """
    if _code(error) != "UNAVAILABLE" or _trailers(error):
        return False
    return str(error.details()).startswith(_NO_CONNECTION)


def _code(error: Any) -> str:
    code = getattr(error, "code", None)
    name: object = getattr(code(), "name", "") if isinstance(error, RpcError) and callable(code) else ""
    return str(name)


def _trailers(error: Any) -> dict[str, Any]:
    found: Any = getattr(error, "trailing_metadata", None)
    pairs: Any = found() if callable(found) else None
    return {str(key).lower(): value for key, value in pairs or ()}


def _pushback(error: Any) -> float | None:
    """Seconds that the server wants the client to wait; negative for never; None where it says nothing."""
    if not _code(error):
        return None
    value: object = _trailers(error).get(_PUSHBACK)
    if value is None:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return int(text) / 1000.0 if text.isascii() and text.isdigit() else -1.0


def _retry_info(status: Any) -> float | None:
    """The delay of a RetryInfo within a serialized google.rpc.Status, without what protobuf would take to read it."""
    if not isinstance(status, bytes):
        return None
    try:
        for number, detail in _fields(status):
            parts = dict(_fields(detail)) if number == 3 else {}
            if parts.get(1) == _RETRY_INFO:
                delay = dict(_fields(dict(_fields(parts.get(2, b""))).get(1, b"")))
                seconds = delay.get(1, 0) + delay.get(2, 0) / 1e9
                return float(seconds) if 0.0 <= seconds < 1e9 else None
    except (IndexError, TypeError, ValueError):
        return None
    return None


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: varints as integers, the rest as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a varint of more than 64 bits")

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: -1, 5: 4}[kind] if kind in (1, 2, 5) else len(data)
        size = varint() if size < 0 else size
        yield key >> 3, data[at : at + size]
        at += size
