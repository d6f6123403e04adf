"""FastAPI: a limit as a dependency, `@app.get("/", dependencies=[Depends(limit("10/minute"))])`.

It raises, and `asgi.ResilienceMiddleware` makes the answer: put that around the application, and it also says whose
request it is where proxies stand in front.

A limit may stand before a whole application, so it meets websockets too. Their handshake is counted, and a refusal
closes it: the middleware lets them pass, and nobody else would make an answer of the error.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.status import WS_1013_TRY_AGAIN_LATER

from resilience.errors import StoreUnavailable, Throttled
from resilience.integrations._arrival import ARRIVAL, Arrival
from resilience.integrations._server import Door, limit_of
from resilience.integrations.asgi import arrival_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.policies._tariff import Cost, Key
    from resilience.policies.throttle import Throttle
    from resilience.rates import Rate

__all__ = ["limit"]

_PLAIN = Door(None, None, 0, False)


def limit(
    *rates: str | Rate | Throttle,
    key: Callable[[Request], Key | None] | None = None,
    cost: Cost | Callable[[Request], Cost] | None = None,
    exempt_when: Callable[[Request], object] | None = None,
    **options: Any,
) -> Callable[[HTTPConnection], Coroutine[Any, Any, None]]:
    """A dependency that counts a request, and raises where that is one too many. Safe from any task.

    Of a websocket it counts the handshake, by the address at the other end unless a key says otherwise, and closes what
    is one too many with 1013. All routes that depend on one and the same object share its buckets.

    Args:
        rates: as for `Throttle`; or one `Throttle`.
        key: whose bucket; the client's address by default, and where it says None.
        cost: what a request costs: 1 by default.
        exempt_when: a true answer lets the request pass uncounted.
        options: what else `Throttle` takes.

    Raises:
        Throttled: from a request that is refused.
        TypeError, ValueError: a parameter breaks its rule.
    """
    counted = limit_of(rates, key, cost, exempt_when, options)

    async def count(request: HTTPConnection) -> None:
        arrival: Arrival | None = request.scope.get(ARRIVAL)
        if arrival is None:
            arrival = arrival_at(_PLAIN, request.scope)
        try:
            await counted.take_async(arrival, request)
        except (Throttled, StoreUnavailable) as refusal:
            if request.scope["type"] != "websocket":
                raise
            raise WebSocketException(WS_1013_TRY_AGAIN_LATER) from refusal

    return count
