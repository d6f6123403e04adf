"""WSGI: a middleware, `app = ResilienceMiddleware(app, throttle=Throttle("100/s burst 1000"))`.

Each request runs in a copy of the server thread's context, its body too, which a server may ask for long after the
application has returned: so a generator sees the deadline of its request, and the next request on that thread does not.
"""

from __future__ import annotations

import contextvars
import sys
from contextlib import ExitStack

from resilience import context
from resilience._checks import wrong_type
from resilience.integrations._arrival import ARRIVAL, Arrival
from resilience.integrations._problem import problem_of
from resilience.integrations._server import Door

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from resilience.integrations._problem import Problem
    from resilience.policies.shed import LoadShedder
    from resilience.policies.throttle import Throttle

__all__ = ["ResilienceMiddleware"]


class ResilienceMiddleware:
    """Counts requests, gives them their deadline and priority, and answers for what the application refuses.

    `Rejected` becomes 429 or 503 and `TimedOut` 504, as problem documents with Retry-After and the RateLimit fields,
    as long as nothing of another answer was sent. Safe from any thread.

    Args:
        app: the application.
        throttle: how often a client may ask. Without a key of its own it counts each client's address; its key and
            cost, where they are callables, get the environ.
        shedder: what turns requests away when they wait too long; its user, where there is one, is a callable of the
            environ. A request is in flight until its body was sent.
        trusted_proxies: how many proxies of one's own stand in front. Only then are X-Forwarded-For, X-Priority and
            X-Request-Start believed.
        trust_priority: whether X-Priority is believed without proxies too, where only one's own services can ask.

    Raises:
        TypeError, ValueError: a parameter breaks its rule.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        throttle: Throttle | None = None,
        shedder: LoadShedder | None = None,
        trusted_proxies: int = 0,
        trust_priority: bool = False,
    ) -> None:
        if not callable(app):
            raise wrong_type("app", "a WSGI application", app)
        self.app: WSGIApplication = app
        self._door = Door(throttle, shedder, trusted_proxies, trust_priority)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = _Request(self.app, self._door, environ, start_response)
        return request.context.run(request.begin)


def arrival_at(door: Door, environ: WSGIEnvironment) -> Arrival:
    """What a request says of itself, to one who stands at this door."""
    return door.arrival(
        environ.get("REMOTE_ADDR"), lambda name: str(environ.get(f"HTTP_{name.replace('-', '_').upper()}", ""))
    )


class _Request:
    """One request, and the body of its answer where that is more than a list. Used by one thread at a time."""

    def __init__(
        self, app: WSGIApplication, door: Door, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self.context = contextvars.copy_context()
        self._app = app
        self._door = door
        self._environ = environ
        self._start_response = start_response
        self._arrival = arrival_at(door, environ)
        self._stack = ExitStack()
        self._body: Iterable[bytes] = ()
        self._chunks: Iterator[bytes] | None = None
        self._started = False

    def begin(self) -> Iterable[bytes]:
        environ, arrival, stack = self._environ, self._arrival, self._stack
        environ[ARRIVAL] = arrival
        try:
            arrival.begin(stack)
            if arrival.seconds is not None:
                stack.enter_context(context.deadline(arrival.seconds))
            self._door.admit(arrival, environ)
            body = self._app(environ, self._start)
        except BaseException as error:
            stack.close()
            problem = problem_of(error)
            if problem is None:
                raise
            return self._answer(problem)
        whole = environ.get("wsgi.file_wrapper")
        if isinstance(body, list | tuple) or (isinstance(whole, type) and isinstance(body, whole)):
            # Nothing of the application runs any more, and servers treat these better than an iterator.
            stack.close()
            return body
        self._body = body
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self.context.run(self._next)

    def close(self) -> None:
        """What a server calls when the answer was sent, or nobody wants it any more."""
        self.context.run(self._close)

    def _next(self) -> bytes:
        try:
            if self._chunks is None:
                self._chunks = iter(self._body)
            return next(self._chunks)
        except StopIteration:
            self._stack.close()
            raise
        except BaseException as error:
            problem = problem_of(error)
            if problem is None:
                raise
            self._chunks = iter(self._answer(problem))
        return next(self._chunks, b"")

    def _close(self) -> None:
        with self._stack:
            body, self._body, self._chunks = self._body, (), None
            end: Callable[[], object] | None = getattr(body, "close", None)
            if end is not None:
                end()

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        if not any(name.lower() == "ratelimit" for name, _ in headers):
            headers = [*headers, *self._arrival.fields()]
        self._started = True
        return self._start_response(status, headers, *exc_info)

    def _answer(self, problem: Problem) -> list[bytes]:
        """The answer that stands for the error in hand, which is raised again where it is too late for another."""
        headers = [*problem.headers, *self._arrival.fields()]
        # Told of the error, a server that has sent another answer's head raises it again, and breaks off.
        error = (sys.exc_info(),) if self._started else ()
        self._start_response(f"{problem.status} {problem.reason}", headers, *error)
        return [] if self._environ.get("REQUEST_METHOD") == "HEAD" else [problem.body]
