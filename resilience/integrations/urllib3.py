"""urllib3: a pool manager whose requests go through a policy. Needs urllib3 2.0.2 or later."""

from __future__ import annotations

from contextvars import ContextVar
from urllib.parse import urlsplit

import urllib3

from resilience.integrations._exchange import Courier, Exchange, position, replayable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["ResilientPoolManager"]

# A redirect is followed by the manager calling itself: that is part of an attempt, and no request of its own.
_inside: ContextVar[bool] = ContextVar("resilience_urllib3", default=False)

# Redirects as ever; what is to be tried again, the policy says.
_ONCE = urllib3.Retry(3, connect=0, read=0, status=0, other=0, respect_retry_after_header=False)


class _Urllib3Exchange(Exchange):
    __slots__ = ("_start", "_timeout", "options", "url")

    def __init__(self, method: str, url: str, options: dict[str, Any], timeout: Any) -> None:
        super().__init__(method, options["headers"])
        self.url = url
        self.options = options
        self._start = position(options.get("body"))
        self._timeout = timeout

    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def bound(self, left: float) -> None:
        own: Any = self._timeout
        if not isinstance(own, urllib3.Timeout):
            own = urllib3.Timeout(connect=own, read=own)
        total = own.total if isinstance(own.total, int | float) else left
        # Connecting and reading keep the bounds that they have; the total is what the deadline can shorten.
        self.options["timeout"] = urllib3.Timeout(total=min(total, left), connect=own._connect, read=own._read)

    def rewind(self) -> bool:
        return replayable(self.options.get("body"), self._start)


class ResilientPoolManager(urllib3.PoolManager):
    """A pool manager that sends under a policy. Safe from any thread.

    urllib3's own retries are off unless a request brings `retries=` with it; redirects are followed as ever.

    Args:
        args: what `PoolManager` takes.
        policy: a policy, or a `Keyed` by origin; `resilience.http.client_policy()` by default.
        repeat: methods that may be sent twice although they are not idempotent, such as `{"POST"}`.
        options: what `PoolManager` takes by keyword.

    Raises:
        TypeError: `policy` holds a `Hedge`.
    """

    def __init__(self, *args: Any, policy: Any = None, repeat: Collection[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self._courier = Courier(policy, repeat, self._send_once, _close, is_async=False)

    def urlopen(self, method: str, url: str, *args: Any, **options: Any) -> Any:
        """Send a request under the policy and return the last response."""
        if _inside.get():
            return super().urlopen(method, url, *args, **options)
        options.setdefault("retries", _ONCE)
        options["headers"] = urllib3.HTTPHeaderDict(options.get("headers") or self.headers)
        if args:
            options["redirect"] = args[0]
        timeout = options.get("timeout", self.connection_pool_kw.get("timeout"))
        return self._courier.deliver(_Urllib3Exchange(method, url, options, timeout))

    def _send_once(self, exchange: _Urllib3Exchange) -> Any:
        token = _inside.set(True)
        try:
            return super().urlopen(exchange.method, exchange.url, **exchange.options)
        finally:
            _inside.reset(token)


def _close(response: Any) -> None:
    # What has been read to its end has given its connection back. The rest of a body may never come: it is not waited
    # for, and a pool that blocks gets its place back, with nothing in it.
    response.close()
    response.release_conn()
