"""requests: an adapter to mount, `session.mount("https://", ResilientAdapter())`. Needs requests 2.31 or later."""

from __future__ import annotations

from urllib.parse import urlsplit

import requests.adapters

from resilience.integrations._exchange import Courier, Exchange, position, replayable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["ResilientAdapter"]


class _RequestsExchange(Exchange):
    __slots__ = ("_start", "_timeout", "options", "request")

    def __init__(self, request: Any, options: dict[str, Any]) -> None:
        super().__init__(request.method, request.headers)
        self.request = request
        self.options = options
        self._start = position(request.body)
        self._timeout = options.get("timeout")

    def origin(self) -> str:
        url = urlsplit(str(self.request.url))
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"

    def bound(self, left: float) -> None:
        own: Any = self._timeout
        pair: Any = own
        if not isinstance(own, tuple):
            pair = (own, own)
        if all(wait is None or isinstance(wait, int | float) for wait in pair):
            self.options["timeout"] = tuple(left if wait is None else min(wait, left) for wait in pair)

    def rewind(self) -> bool:
        return replayable(self.request.body, self._start)


class ResilientAdapter(requests.adapters.HTTPAdapter):
    """Sends a session's requests under a policy. Safe from as many threads as its session is.

    Args:
        policy: a policy, or a `Keyed` by origin; `resilience.http.client_policy()` by default.
        repeat: methods that may be sent twice although they are not idempotent, such as `{"POST"}`.
        options: what `HTTPAdapter` takes.

    Raises:
        TypeError: `policy` holds a `Hedge`.
    """

    def __init__(self, *, policy: Any = None, repeat: Collection[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self._courier = Courier(policy, repeat, self._send_once, _close, is_async=False)

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """Send a prepared request under the policy and return the last response."""
        named = dict(zip(("stream", "timeout", "verify", "cert", "proxies"), args, strict=False))
        return self._courier.deliver(_RequestsExchange(request, {**named, **options}))

    def _send_once(self, exchange: _RequestsExchange) -> Any:
        return super().send(exchange.request, **exchange.options)


def _close(response: Any) -> None:
    response.close()
