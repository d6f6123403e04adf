"""httpx2: a transport that retries, breaks and throttles below any client, sync or async. Needs httpx2 2.0 or later."""

from __future__ import annotations

import httpx2

from resilience.integrations._httpx import Either, TransportCore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["ResilientTransport"]


class ResilientTransport(TransportCore, httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A transport for `httpx2.Client` and `httpx2.AsyncClient` alike. Safe from any thread and task that its client is.

    Args:
        wrapped: the transport below; by default a plain one, made with `options`.
        policy: a policy, or a `Keyed` by origin; `resilience.http.client_policy()` by default.
        repeat: methods that may be sent twice although they are not idempotent, such as `{"POST"}`.
        options: what `httpx2.HTTPTransport` takes, where `wrapped` is not given.

    Raises:
        TypeError: `policy` holds a `Hedge`, or options come with a `wrapped`.
    """

    def __init__(
        self, wrapped: Any = None, *, policy: Any = None, repeat: Collection[str] = (), **options: Any
    ) -> None:
        if wrapped is not None and options:
            raise TypeError(f"{min(options)} belongs to the transport that is wrapped: give it to that one")
        super().__init__(httpx2, Either(httpx2, options) if wrapped is None else wrapped, policy, repeat)
