"""What httpx and its fork share: the same transport, over another module.

The two have the same classes under other names, so everything here takes the module as it finds it. The transport is
the seam: below redirects and authentication, above the pool, and one class serves both kinds of client because a client
only asks for the half that it needs.
"""

from __future__ import annotations

from resilience._hub import HUB
from resilience._scope import current
from resilience.context import _priority as priority
from resilience.integrations._exchange import Courier, Exchange, Refused, position, replayable
from resilience.integrations._httpx_first import FIRST, Gated, can_append, number_first, refusal, was_sent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["Either", "HttpxExchange", "TransportCore"]

_bound = current.get
_priority = priority.get
_WAITS = ("connect", "read", "write", "pool")


class HttpxExchange(Exchange):
    """A request of httpx. Its stream is looked into, since only that knows whether it can be sent again."""

    __slots__ = ("_starts", "_timeout", "request")

    def __init__(self, request: Any) -> None:
        super().__init__(request.method, request.headers)
        self.request = request
        self._timeout: dict[str, float | None] | None = None
        self._starts = None if hasattr(request, "_content") else position(_source(request.stream))

    def origin(self) -> str:
        """Scheme, host and port of where it goes."""
        url = self.request.url
        return f"{url.scheme}://{url.netloc.decode('ascii')}"

    def bound(self, left: float) -> None:
        """Let no wait of the client last longer than `left` seconds; the caller's own timeouts stay."""
        extensions = self.request.extensions
        own = self._timeout
        if own is None:
            own = self._timeout = extensions.get("timeout") or {}
        cut: dict[str, float] = {}
        for wait in _WAITS:
            seconds = own.get(wait)
            cut[wait] = left if seconds is None or seconds > left else seconds
        self.request.extensions = {**extensions, "timeout": cut}

    def rewind(self) -> bool:
        """Make the body ready to be sent again; False where it is spent for good."""
        request = self.request
        if hasattr(request, "_content"):
            return True
        stream = request.stream
        fields = getattr(stream, "fields", None)
        if fields is not None:  # multipart: each part is written from its start
            return all(replayable(getattr(field, "file", None), 0) for field in fields)
        if getattr(stream, "_is_stream_consumed", None) is False:
            return True
        source = _source(stream)
        return source is not None and replayable(source, self._starts)


def _source(stream: Any) -> Any:
    return getattr(stream, "_stream", None)


class TransportCore:
    """The two halves of the transport; see `ResilientTransport`."""

    def __init__(self, client: Any, wrapped: Any, policy: Any, repeat: Collection[str]) -> None:
        self._wrapped = self._below = wrapped
        self._sync = Courier(policy, repeat, self._send, _close, is_async=False)
        # One default for both halves: what one learns of an origin, the other knows.
        self._async = Courier(self._sync._policy, repeat, self._send_async, _aclose, is_async=True)
        brisk = self._sync.brisk() if self._async.brisk() and can_append(client) else None
        self._brisk = brisk is not None
        if brisk is not None:
            retry, *gates = brisk
            self._channel = retry._channel
            if gates or retry._budget is not None:
                self._below = Gated(wrapped, gates, retry._budget)

    def _send(self, exchange: HttpxExchange) -> Any:
        return self._wrapped.handle_request(exchange.request)

    def _send_async(self, exchange: HttpxExchange) -> Any:
        # Returns the coroutine to await: another one around it would take its time and do nothing.
        return self._wrapped.handle_async_request(exchange.request)

    # The two that follow are the same, and every line of them is paid for by every request: see `_httpx_first`.

    def handle_request(self, request: Any) -> Any:
        """Send a request under the policy, for a `Client`."""
        if (
            not self._brisk
            or (HUB.heard and self._channel.heard)
            or _bound() is not None
            or _priority(None) is not None
        ):
            return self._sync.deliver(HttpxExchange(request))
        try:
            _ = request._content  # of a body that can be sent again as it is
            if request.headers._list[-1] is not FIRST:
                number_first(request.headers)
        except (AttributeError, IndexError):
            return self._sync.deliver(HttpxExchange(request))
        try:
            response = self._below.handle_request(request)
        except Exception as error:
            exchange = self._failed(request, error)
        else:
            if response.status_code == 200 or (refused := self._refused(request, response)) is None:
                return response
            exchange = refused
        return self._sync.deliver(exchange)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request under the policy, for an `AsyncClient`."""
        if (
            not self._brisk
            or (HUB.heard and self._channel.heard)
            or _bound() is not None
            or _priority(None) is not None
        ):
            return await self._async.deliver_async(HttpxExchange(request))
        try:
            _ = request._content
            if request.headers._list[-1] is not FIRST:
                number_first(request.headers)
        except (AttributeError, IndexError):
            return await self._async.deliver_async(HttpxExchange(request))
        try:
            response = await self._below.handle_async_request(request)
        except Exception as error:
            exchange = self._failed(request, error)
        else:
            if response.status_code == 200 or (refused := self._refused(request, response)) is None:
                return response
            exchange = refused
        return await self._async.deliver_async(exchange)

    def _refused(self, request: Any, response: Any) -> HttpxExchange | None:
        error = refusal(response)
        return None if error is None else self._failed(request, error)

    def _failed(self, request: Any, error: Exception) -> HttpxExchange:
        exchange = HttpxExchange(request)
        exchange.attempt = 1 if self._below is self._wrapped or was_sent(error) else 0
        if isinstance(error, Refused):
            exchange.open = error.response
        trace = error.__traceback__
        exchange.failed = error.with_traceback(None if trace is None else trace.tb_next)
        return exchange

    def close(self) -> None:
        """Close the transport below."""
        self._wrapped.close()

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._wrapped.aclose()


def _close(response: Any) -> None:
    response.close()


async def _aclose(response: Any) -> None:
    await response.aclose()


class Either:
    """A plain transport of either kind, made when it is first asked for."""

    def __init__(self, client: Any, options: dict[str, Any]) -> None:
        self._client = client
        self._options = options
        self._plain: Any = None
        self._async: Any = None

    def handle_request(self, request: Any) -> Any:
        """Send a request, blocking."""
        if self._plain is None:
            self._plain = self._client.HTTPTransport(**self._options)
        return self._plain.handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request in the running event loop."""
        if self._async is None:
            self._async = self._client.AsyncHTTPTransport(**self._options)
        return await self._async.handle_async_request(request)

    def close(self) -> None:
        """Close the blocking one, if there is one."""
        if self._plain is not None:
            self._plain.close()

    async def aclose(self) -> None:
        """Close the async one, if there is one."""
        if self._async is not None:
            await self._async.aclose()
