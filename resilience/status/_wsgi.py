"""The page as a WSGI application."""

from __future__ import annotations

import threading
from http import HTTPStatus

from resilience._checks import callable_or_none, wrong_type
from resilience._shape import close_coroutine, is_awaitable, shape_of
from resilience.clock import SystemClock
from resilience.status._answers import LARGEST, STREAM, Answer, Asked, act, answer, is_change, refusal
from resilience.status._stream import EVERY, TICKS, Stream, check_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from resilience.clock import Clock

__all__ = ["wsgi_app"]


def wsgi_app(*, guard: Callable[[Any], Any] | None = None, streams: int = 4) -> WSGIApplication:
    """The live page as a WSGI application: mount it under any path, behind whatever lets people in.

    A stream occupies a thread of the server while it lasts, so there are few, and none where the server has one thread;
    other readers poll. Safe from any thread.

    Args:
        guard: called with the environ of a request that would isolate or release a circuit; a true answer allows it.
            Without a guard nothing can be changed.
        streams: readers that are served by a stream at the same time; 0 for none.

    Raises:
        TypeError, ValueError: `guard` is no plain function, or `streams` no integer from 0 on.
    """
    if callable_or_none("guard", guard) is not None and shape_of(guard) != "sync":
        raise wrong_type("guard", "a callable that is a plain function, or None", guard)
    check_streams(streams)
    places = threading.BoundedSemaphore(streams) if streams else None

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = _asked(environ)
        if guard is not None and is_change(asked):
            found = refusal(asked) or act(asked, _body(environ), allowed=_allowed(guard, environ))
            return _write(found, asked, start_response)
        streaming = asked.path == "/events" and asked.method == "GET"
        taken = streaming and asked.may_stream and places is not None and places.acquire(blocking=False)
        if streaming and not taken:
            asked = Asked(asked.method, asked.path, asked.headers, may_stream=False)
        found = answer(asked, guarded=guard is not None)
        if found.kind == STREAM and taken and places is not None:
            _write(found, asked, start_response)
            return _Streaming(Stream(guarded=guard is not None), places)
        return _write(found, asked, start_response)

    return app


class _Streaming:
    """The body of a stream. Its place is given back when the server closes it, whether it was begun or not."""

    def __init__(self, stream: Stream, places: threading.BoundedSemaphore) -> None:
        self._stream = stream
        self._places: threading.BoundedSemaphore | None = places
        self._clock: Clock = SystemClock()

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(TICKS):
            yield self._stream.next()
            self._clock.sleep(EVERY)

    def close(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.release()


def _allowed(guard: Callable[[Any], Any], environ: WSGIEnvironment) -> bool:
    may = guard(environ)
    if is_awaitable(may):
        # It is true, and has asked nobody.
        close_coroutine(may)
        raise TypeError("guard returned a coroutine, which allows nothing: it must be a plain function")
    return bool(may)


def _asked(environ: WSGIEnvironment) -> Asked:
    headers = {key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key[:5] == "HTTP_"}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    mount = environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "replace")
    path = environ.get("PATH_INFO", "") or ("" if mount else "/")
    threads = bool(environ.get("wsgi.multithread"))
    return Asked(environ.get("REQUEST_METHOD", "GET"), path, headers, mount, threads)


def _body(environ: WSGIEnvironment) -> bytes:
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal() or int(length) > LARGEST:
        return b""
    body: bytes = environ["wsgi.input"].read(int(length))
    return body


def _write(found: Answer, asked: Asked, start_response: StartResponse) -> list[bytes]:
    start_response(f"{found.status} {HTTPStatus(found.status).phrase}", found.headers)
    return [] if asked.method == "HEAD" else [found.body]
