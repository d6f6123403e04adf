"""HTTP meaning without I/O.

What a status line, a header or a lost connection says is the same for every client, so it is decided here, on plain
values, and imports no client. An exception is known by the names of its types and the package they come from, all along
its bases and the errors that it wraps. A client that is not installed costs nothing, and one installed later needs no
registration.

Two questions are asked of an error. `transient`: may the same request succeed if it is sent again? And, of a request
that must not be carried out twice, `not_sent`: is it sure that no byte of it has left?
"""

from __future__ import annotations

import time

from resilience._checks import seconds_or_none
from resilience._retry_after import parse_retry_after, sane_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from resilience.policies.budget import RetryBudget
    from resilience.policies.keyed import Keyed
    from resilience.policies.throttle import Throttle
    from resilience.rates import Quota

__all__ = [
    "client_policy",
    "is_idempotent",
    "not_sent",
    "parse_rate_limit",
    "parse_retry_after",
    "transient",
    "transient_response",
]

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_STATUSES = frozenset({429, 502, 503, 504})

_FORK = {"NetworkError", "ReadTimeout", "WriteTimeout", "ConnectTimeout", "RemoteProtocolError"}
_LOST = {
    "httpx": _FORK,
    "httpx2": _FORK,
    "httpcore": _FORK,
    "httpcore2": _FORK,
    "requests": {"ConnectionError", "Timeout", "ChunkedEncodingError"},
    "urllib3": {"ProtocolError", "TimeoutError"},
    "aiohttp": {"ClientConnectionError", "ClientPayloadError"},
    "botocore": {"EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError"},
    "http": {"IncompleteRead", "BadStatusLine"},
    "builtins": {"ConnectionError", "TimeoutError"},
}
_UNSENT = {
    "httpx": {"ConnectError", "ConnectTimeout", "PoolTimeout"},
    "httpx2": {"ConnectError", "ConnectTimeout", "PoolTimeout"},
    "requests": {"ConnectTimeout"},
    "urllib3": {"NewConnectionError", "ConnectTimeoutError", "NameResolutionError"},
    "aiohttp": {"ClientConnectorError", "ConnectionTimeoutError"},
    "botocore": {"EndpointConnectionError", "ConnectTimeoutError"},
    "builtins": {"ConnectionRefusedError"},
    "socket": {"gaierror"},
}
# A wrong certificate, a peer that does not speak TLS, or a name that does not exist, is as wrong the next time.
# (EAI_AGAIN, a name server that does not answer, is not; nor is a handshake that breaks off.)
_LASTING = {
    "ssl": {"SSLError"},
    "requests": {"SSLError"},
    "aiohttp": {"ClientConnectorCertificateError", "ClientSSLError"},
}
_BROKEN_OFF = {"ssl": {"SSLEOFError", "SSLZeroReturnError", "SSLSyscallError"}}
_EAI_AGAIN = -3


def transient(exc: BaseException) -> bool | float:
    """Whether the same request may succeed if it is sent again; a number says yes, after that many seconds.

    Yes for a lost connection, a connect or read timeout, and an error of 429, 502, 503 or 504; a number where the
    response asks for one by Retry-After or its rate limit. Made for `on=`: it says nothing of whether the request *may*
    be sent again, which is what `is_idempotent` and the integrations look at.
    """
    response = _response_of(exc)
    if response is not None:
        return transient_response(response)
    lost = lasting = False
    for error in _wrapped(exc):
        if _named(error, {"socket": {"gaierror"}}):
            return bool(error.args) and error.args[0] == _EAI_AGAIN
        if _named(error, _BROKEN_OFF):
            return True
        # How it was wrapped may call it lost or lasting; what is further in knows better.
        lasting = lasting or _named(error, _LASTING)
        lost = lost or _named(error, _LOST)
    return lost and not lasting


def transient_response(response: Any) -> bool | float:
    """Whether a response says "not now": 429, 502, 503 or 504; a number says yes, after that many seconds.

    The larger of Retry-After and, where nothing remains, the rate limit's reset. Takes the response of any client:
    whatever has `status_code` or `status`, and `headers`.
    """
    status = getattr(response, "status_code", None)
    if (status if type(status) is int else _status(response)) not in _STATUSES:
        return False
    headers = _lower(getattr(response, "headers", None))
    now = _date(headers)
    asked = parse_retry_after(headers.get("retry-after"), now)
    quota = parse_rate_limit(headers)
    if quota is not None and quota.retry_after > 0.0:
        asked = max(asked or 0.0, quota.retry_after)
    return True if asked is None else asked


def not_sent(exc: BaseException) -> bool:
    """Whether an error says that no byte of the request has left: the connection was never made."""
    return any(_named(error, _UNSENT) for error in _wrapped(exc))


def is_idempotent(method: str | bytes, headers: Any = None) -> bool:
    """Whether sending a request twice does what sending it once does.

    The methods of RFC 9110, section 9.2.2, and any request with an Idempotency-Key that is not empty.
    """
    name = method.decode("latin-1") if isinstance(method, bytes) else method
    return name.upper() in _IDEMPOTENT or bool(_lower(headers).get("idempotency-key", "").strip())


def parse_rate_limit(headers: Any) -> Quota | None:
    """What is left of the server's rate limit, or None where the headers do not say.

    Understands the fields of the IETF draft, `RateLimit` with parameters `r` and `t` (limits in `RateLimit-Policy`) and
    its older forms `limit=, remaining=, reset=` and `RateLimit-Remaining`, and `X-RateLimit-*` or `X-Rate-Limit-*`. A
    reset above 10**9 is a UNIX time, above 10**11 one in milliseconds; both are read by the server's own clock where it
    sends a Date. Of several limits the one that refuses longest, else the one with the least left.
    """
    fields = _lower(headers)
    quotas = _structured(fields) or _separate(fields)
    return max(quotas, key=lambda quota: (quota.retry_after, -quota.remaining), default=None)


def client_policy(
    *,
    attempts: float = 3,
    timeout: float | None = 10.0,
    trip: Any = 5,
    budget: RetryBudget | bool | None = True,
    throttle: Throttle | str | None = None,
) -> Keyed[Any, Any]:
    """What a client of strangers needs: for each origin a retry with a budget, a breaker and perhaps a throttle.

    Args:
        attempts: calls in all, the first included.
        timeout: seconds for all attempts and waits together, as `Retry(within=...)`; None for no bound.
        trip: what opens an origin's circuit, as for `CircuitBreaker`.
        budget: a `RetryBudget` that all origins share, None for none; by default one for each origin.
        throttle: rates that each origin gets for itself, as text, or a `Throttle` that all share.

    Raises:
        TypeError, ValueError: as the policies do.
    """
    from resilience.pipeline import Pipeline
    from resilience.policies.breaker import CircuitBreaker
    from resilience.policies.budget import RetryBudget
    from resilience.policies.keyed import Keyed
    from resilience.policies.retry import Retry
    from resilience.policies.throttle import Throttle

    timeout = seconds_or_none("timeout", timeout)

    def one(origin: str) -> Pipeline[Any]:
        own = RetryBudget() if budget is True else budget or None
        parts: list[Any] = [
            Retry(on=transient, attempts=attempts, within=timeout, budget=own),
            CircuitBreaker(trip, on=transient),
        ]
        if throttle is not None:
            parts.append(Throttle(throttle) if isinstance(throttle, str) else throttle)
        return Pipeline(*parts, name=origin)

    one("checked")  # a parameter that breaks its rule says so here, and not at the first request
    return Keyed(one)


# --- exceptions -------------------------------------------------------------------------------------------------------


def _wrapped(exc: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps: its cause, its `reason`, its first argument. Not its context, which may be the
    error of something else that was being cleaned up.
    """
    seen: set[int] = set()
    todo: list[object] = [exc]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            todo += [error.__cause__, getattr(error, "reason", None), *error.args]


def _named(error: BaseException, names: Mapping[str, set[str]]) -> bool:
    return any(kind.__name__ in names.get(kind.__module__.partition(".")[0], ()) for kind in type(error).__mro__)


def _response_of(exc: BaseException) -> Any:
    response = getattr(exc, "response", None)
    if response is not None and _status(response):
        return response
    return exc if _status(exc) else None


def _status(response: Any) -> int:
    parsed = response
    if isinstance(response, dict):
        code: object = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return code if isinstance(code, int) else 0
    for name in ("status_code", "status", "code"):
        status = getattr(response, name, None)
        if isinstance(status, int):
            return status
    return 0


# --- headers ----------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _lower(headers: Any) -> dict[str, str]:
    """Headers by their names in lower case, as text."""
    try:
        return {_text(name).lower(): _text(value) for name, value in headers.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _date(headers: Mapping[str, str]) -> float | None:
    """The server's own reading of the time, so that a difference between two hosts' clocks cancels out."""
    ahead = parse_retry_after(headers.get("date"), 0.0)
    return ahead or None


def _number(text: str | None) -> float | None:
    text = "" if text is None else text.strip().strip('"')
    return sane_seconds(text)


def _quota(
    limit: float | None, remaining: float | None, reset: float | None, headers: Mapping[str, str]
) -> list[Quota]:
    from resilience.rates import Quota

    if remaining is None:
        return []
    after = reset or 0.0
    if after > 1e9:
        now = _date(headers)
        after = max(0.0, (after / 1000.0 if after > 1e11 else after) - (time.time() if now is None else now))
    return [Quota(max(limit or 0.0, remaining), remaining, after, 0.0 if remaining >= 1.0 else after)]


def _structured(headers: Mapping[str, str]) -> list[Quota]:
    value = headers.get("ratelimit", "")
    if ";" not in value:
        old = _parameters(value, ",")
        return _quota(old.get("limit"), old.get("remaining"), old.get("reset"), headers)
    limits = dict(_members(headers.get("ratelimit-policy", "")))
    quotas: list[Quota] = []
    for name, found in _members(value):
        quotas += _quota(limits.get(name, {}).get("q"), found.get("r"), found.get("t"), headers)
    return quotas


def _members(value: str) -> list[tuple[str, dict[str, float]]]:
    parts = [member.partition(";") for member in value.split(",")]
    return [(name.strip(), _parameters(rest, ";")) for name, _, rest in parts]


def _parameters(value: str, separator: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in value.split(separator)]
    read = [(name.strip().lower(), _number(text)) for name, _, text in pairs]
    return {name: number for name, number in read if number is not None}


def _separate(headers: Mapping[str, str]) -> list[Quota]:
    for prefix in ("ratelimit-", "x-ratelimit-", "x-rate-limit-"):
        found = [_number(headers.get(prefix + part, "").split(",")[0]) for part in ("limit", "remaining", "reset")]
        quotas = _quota(found[0], found[1], found[2], headers)
        if quotas:
            return quotas
    return []
