"""botocore, and boto3 with it: `protect(client)` puts a client's requests under a policy. Needs botocore 1.34 or later.

The seam is where botocore begins to send: below the parameters, the paginators and the waiters, above the signature. So
each attempt is signed anew, a token that makes an operation idempotent stays the same, and whoever called gets
botocore's own answers and errors. botocore's retries, which sit below, are switched off for this client.
"""

from __future__ import annotations

from contextvars import ContextVar

import urllib3

from resilience.integrations._botocore_meaning import Answer, OperationExchange
from resilience.integrations._exchange import Courier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, TypeVar

    Client = TypeVar("Client")
    botocore: Any = None
else:
    import botocore.awsrequest
    import botocore.httpsession
    import botocore.retryhandler

__all__ = ["protect"]

_sending: ContextVar[OperationExchange | None] = ContextVar("resilience_botocore", default=None)


def protect(client: Client, policy: Any = None, *, repeat: Collection[str] = ()) -> Client:
    """Put every request of a client under a policy, and return the client. Safe from as many threads as the client is.

    botocore's own retries, of whatever mode, are off from then on; redirects to another region are followed as ever.

    Args:
        client: a client of botocore or boto3, not yet protected.
        policy: a policy, or a `Keyed` by origin; `resilience.http.client_policy()` by default.
        repeat: operations that may be carried out twice, by their names in the API, such as `{"GetItem", "Describe*"}`.

    Raises:
        RuntimeError: the client is protected already.
        TypeError: `policy` holds a `Hedge`, or `client` is no client.
    """
    if isinstance(repeat, str):
        raise TypeError(f"repeat must be a collection of operations such as {{'GetItem'}}, got {repeat!r}")
    live: Any = client
    endpoint: Any = getattr(live, "_endpoint", None)
    if endpoint is None or not hasattr(endpoint, "make_request"):
        raise TypeError(f"client must be a client of botocore, got {client!r}")
    if type(endpoint.make_request) is _Protected:
        raise RuntimeError("the client is protected already: two policies would multiply each other's attempts")
    endpoint.make_request = _Protected(endpoint.make_request, policy, frozenset(repeat))
    service = live.meta.service_model.service_id.hyphenize()
    _without_retries(live, service)
    live.meta.events.register_first(f"request-created.{service}", _count, unique_id="resilience-attempt")
    live.meta.events.register(f"before-send.{service}", _tell, unique_id="resilience-headers")
    _bound_waits(endpoint.http_session)
    return client


class _Protected:
    """What an endpoint sends by, in place of its own method."""

    def __init__(self, send: Any, policy: Any, names: frozenset[str]) -> None:
        self._send = send
        self._names = names
        self._courier = Courier(policy, (), self._send_once, _nothing, is_async=False)

    def __call__(self, operation_model: Any, request_dict: dict[str, Any]) -> Any:
        """Send a request under the policy; returns botocore's response and what it read in it."""
        result = self._courier.deliver(OperationExchange(operation_model, request_dict, self._names))
        if isinstance(result, Answer):
            return result.http, result.parsed
        # A fallback's value: what whoever called gets.
        return botocore.awsrequest.AWSResponse(request_dict["url"], 200, {}, None), result

    def _send_once(self, exchange: OperationExchange) -> Answer:
        token = _sending.set(exchange)
        try:
            http, parsed = self._send(exchange.model, exchange.request)
        except Exception as error:
            _name_cause(error)
            raise
        finally:
            _sending.reset(token)
        return Answer(http, parsed)


def _name_cause(error: Exception) -> None:
    """Make what botocore keeps as text a cause: only that knows whether a name, or a certificate, is wrong for good."""
    inner: Any = getattr(error, "kwargs", {}).get("error")
    if isinstance(inner, BaseException) and error.__cause__ is None:
        if inner.__cause__ is None and isinstance(inner.__context__, OSError):  # of urllib3 1.26
            inner.__cause__ = inner.__context__
        error.__cause__ = inner


def _without_retries(client: Any, service: str) -> None:
    events = client.meta.events
    events.unregister(f"needs-retry.{service}", unique_id=f"retry-config-{service}")
    if service == "dynamodb":  # checks what it has read, which botocore does as a part of its retries
        check = botocore.retryhandler.CRC32Checker(header="x-amz-crc32")

        def checked(attempts: int, response: Any, **_: Any) -> None:
            if response is not None:
                check(attempts, response, None)

        events.register(f"needs-retry.{service}", checked, unique_id="resilience-checksum")


def _count(request: Any, **_: Any) -> None:
    """Number the attempt for `amz-sdk-request`, where botocore would begin with 1 again."""
    exchange = _sending.get()
    retries = request.context.get("retries")
    if exchange is not None and retries and retries.get("attempt") == 1:
        retries["attempt"] = exchange.attempt


def _tell(request: Any, **_: Any) -> None:
    """Write what the next service should know: after the signature, so that a proxy may take it off."""
    exchange = _sending.get()
    if exchange is not None:
        for name, value in exchange.headers.items():
            request.headers[name] = value


class _Waits(urllib3.Timeout):
    """The client's own timeouts, cut to what the deadline of the request under way leaves."""

    def clone(self) -> urllib3.Timeout:
        own = urllib3.Timeout(connect=self._connect, read=self._read, total=self.total)
        exchange = _sending.get()
        if exchange is None or exchange.left is None:
            return own
        total = own.total if isinstance(own.total, int | float) else exchange.left
        return urllib3.Timeout(connect=self._connect, read=self._read, total=min(total, exchange.left))


def _bound_waits(session: Any) -> None:
    """Have every pool of a session ask `_Waits`: botocore can set one timeout for a client and none for a request."""
    if not isinstance(session, botocore.httpsession.URLLib3Session):
        return
    own: Any = session._timeout
    waits = (
        _Waits(connect=own._connect, read=own._read, total=own.total)
        if isinstance(own, urllib3.Timeout)
        else _Waits(connect=own, read=own)
    )
    session._timeout = waits
    for manager in (session._manager, *session._proxy_managers.values()):
        manager.connection_pool_kw["timeout"] = waits
        manager.clear()


def _nothing(_: Any) -> None:
    """Nothing is held: botocore reads an answer that is an error to its end."""
