"""ASGI, under asyncio and trio: a middleware, `app = ResilienceMiddleware(app, throttle=Throttle("100/s burst 1000"))`.

Unlike a thread, a task can be cut: a request whose deadline passes is cancelled where it waits, and answered with 504.
"""

from __future__ import annotations

from contextlib import ExitStack

from resilience import clock
from resilience._checks import wrong_type
from resilience._scope import Scope
from resilience.integrations._arrival import ARRIVAL, Arrival
from resilience.integrations._problem import problem_of
from resilience.integrations._server import Door

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from resilience.integrations._problem import Problem
    from resilience.policies.shed import LoadShedder
    from resilience.policies.throttle import Throttle

    # Frameworks say "a mutable mapping" in words of their own, so an application is not pinned down further.
    App = Callable[[Any, Any, Any], Awaitable[None]]
    Send = Callable[[Any], Awaitable[None]]

__all__ = ["ResilienceMiddleware"]


class ResilienceMiddleware:
    """Counts requests, gives them their deadline and priority, and answers for what the application refuses.

    `Rejected` becomes 429 or 503 and `TimedOut` 504, as problem documents with Retry-After and the RateLimit fields,
    as long as nothing of another answer was sent. Only HTTP: websockets and the lifespan pass. Safe from any task.

    Args:
        app: the application.
        throttle: how often a client may ask. Without a key of its own it counts each client's address; its key and
            cost, where they are callables, get the scope.
        shedder: what turns requests away when they wait too long; its user, where there is one, is a callable of the
            scope. A request is in flight until the application is done with it.
        trusted_proxies: how many proxies of one's own stand in front. Only then are X-Forwarded-For, X-Priority and
            X-Request-Start believed. A server that puts the forwarded address into the scope itself needs 0 here.
        trust_priority: whether X-Priority is believed without proxies too, where only one's own services can ask.

    Raises:
        TypeError, ValueError: a parameter breaks its rule.
    """

    def __init__(
        self,
        app: App,
        *,
        throttle: Throttle | None = None,
        shedder: LoadShedder | None = None,
        trusted_proxies: int = 0,
        trust_priority: bool = False,
    ) -> None:
        if not callable(app):
            raise wrong_type("app", "an ASGI application", app)
        self.app: App = app
        self._door = Door(throttle, shedder, trusted_proxies, trust_priority)

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        arrival = arrival_at(self._door, scope)
        answer = _Answer(arrival, send)
        try:
            with ExitStack() as stack:
                arrival.begin(stack)
                if arrival.seconds is None:
                    await self._serve(scope, receive, answer)
                else:
                    answer.bound = Scope("deadline", arrival.seconds, clock.default, cuts=True)
                    with answer.bound:
                        await self._serve(scope, receive, answer)
        except Exception as error:
            problem = None if answer.begun else problem_of(error)
            if problem is None:
                await answer.release()
                raise
        else:
            await answer.release()
            return
        await answer.replace(problem, head=scope["method"] == "HEAD")

    async def _serve(self, scope: Any, receive: Any, answer: _Answer) -> None:
        await self._door.admit_async(answer.arrival, scope)
        await self.app({**scope, ARRIVAL: answer.arrival}, receive, answer.send)


class _Answer:
    """What is sent for one request: it gets the RateLimit fields, and is known to have begun.

    A 500 is held back as long as it may be somebody's answer to an error that has a better one: Starlette's outermost
    layer, which every mounted application has as well, answers each error that it does not know and raises it again.
    """

    __slots__ = ("_held", "_send", "arrival", "begun", "bound")

    def __init__(self, arrival: Arrival, send: Send) -> None:
        self.arrival = arrival
        self.begun = False
        self.bound: Scope | None = None
        self._held: list[Any] = []
        self._send = send

    async def send(self, message: Any) -> None:
        starts = message["type"] == "http.response.start"
        if starts:
            headers = list(message.get("headers", ()))
            if not any(bytes(name).lower() == b"ratelimit" for name, _ in headers):
                message = {**message, "headers": [*headers, *_encoded(self.arrival.fields())]}
        whole = message["type"] == "http.response.body" and not message.get("more_body")
        if (whole and len(self._held) == 1) or (starts and message["status"] == 500):
            self._held.append(message)
            return
        await self.release()
        self.begun = self.begun or starts
        await self._send(message)
        if whole and self.bound is not None:
            # The caller has its answer. What the application does after it is not the caller's to cut.
            self.bound.lift()

    async def release(self) -> None:
        """Send what was held back: there is no better answer."""
        held, self._held = self._held, []
        for message in held:
            self.begun = True
            await self._send(message)

    async def replace(self, problem: Problem, *, head: bool) -> None:
        headers = _encoded([*problem.headers, *self.arrival.fields()])
        await self._send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"" if head else problem.body})


def arrival_at(door: Door, scope: Any) -> Arrival:
    """What a request says of itself, to one who stands at this door."""
    fields: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key.startswith("x-"):
            text = value.decode("latin-1")
            fields[key] = f"{fields[key]},{text}" if key in fields else text
    client = scope.get("client")
    return door.arrival(client[0] if client else None, lambda name: fields.get(name, ""))


def _encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
