"""aiohttp: a client middleware, `ClientSession(middlewares=(ResilientMiddleware(),))`. Needs aiohttp 3.12 or later.

The session's own timeouts stay as they are; what a deadline leaves cuts the request as it cuts any other task.
"""

from __future__ import annotations

from aiohttp import payload

from resilience.integrations._exchange import Courier, Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["ResilientMiddleware"]


class _AiohttpExchange(Exchange):
    __slots__ = ("proceed", "request")

    def __init__(self, request: Any, proceed: Any) -> None:
        super().__init__(request.method, request.headers)
        self.request = request
        self.proceed = proceed

    def origin(self) -> str:
        return str(self.request.url.origin())

    def rewind(self) -> bool:
        body = self.request.body
        # Files are closed and streams are spent when they have been written; bytes, text and JSON are not.
        return not body or isinstance(body, payload.BytesPayload)


class ResilientMiddleware:
    """Sends a session's requests under a policy. Serves any number of tasks and sessions at once.

    Args:
        policy: a policy, or a `Keyed` by origin; `resilience.http.client_policy()` by default.
        repeat: methods that may be sent twice although they are not idempotent, such as `{"POST"}`.

    Raises:
        TypeError: `policy` holds a `Hedge`.
    """

    def __init__(self, *, policy: Any = None, repeat: Collection[str] = ()) -> None:
        self._courier = Courier(policy, repeat, _send, _close, is_async=True)

    async def __call__(self, request: Any, handler: Any) -> Any:
        """Send a request under the policy and return the last response."""
        return await self._courier.deliver_async(_AiohttpExchange(request, handler))


def _send(exchange: _AiohttpExchange) -> Any:
    return exchange.proceed(exchange.request)


async def _close(response: Any) -> None:
    response.release()
