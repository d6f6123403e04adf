"""What is answered to which request, for WSGI and ASGI alike.

Reading is for whoever the application lets in. Changing is refused unless the application named somebody: without a
guard the two paths do not exist. With one, a request must first prove that it comes from the page and not from another
site: a header that no form can send, JSON, and an origin that is this host. Then the guard is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.resources import files
from urllib.parse import quote, urlsplit

from resilience.status._board import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Guard: TypeAlias = Callable[[Any], Any]
    """From a request, an environ or a scope, to whether it may change a circuit."""

__all__ = ["LARGEST", "STREAM", "Answer", "Asked", "act", "answer", "encoded", "is_change", "refusal"]

LARGEST = 4096
"""Bytes of a request's body that are read."""

STREAM = "text/event-stream"
_FILES = {"/": ("page.html", "text/html"), "/status.css": ("status.css", "text/css")}
_FILES["/status.js"] = ("status.js", "text/javascript")
_ACTIONS = ("/isolate", "/release")
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_SAFE = [
    ("Content-Security-Policy", "; ".join(f"{what} {whom}" for what, whom in _POLICY.items())),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as much of it as matters here. Names of headers are in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    mount: str = ""
    may_stream: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. One whose type is `text/event-stream` has no body yet: the caller writes it as it comes."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    more: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header of it."""
        charset = "" if self.kind == STREAM else "; charset=utf-8"
        known = {name for name, _ in self.more}
        cached = [] if "Cache-Control" in known else [("Cache-Control", "no-store")]
        length = [] if self.kind == STREAM else [("Content-Length", str(len(self.body)))]
        about = [] if self.status == 304 else [("Content-Type", self.kind + charset), *length]
        return [*about, *cached, *self.more, *_SAFE]


def answer(asked: Asked, *, guarded: bool) -> Answer:
    """The answer to anything but a change."""
    if asked.path == "":
        # Links of the page are relative to a folder. So is this one: what stands in front of us may have cut the path.
        here = quote(asked.mount.rstrip("/").rpartition("/")[2], safe="")
        return Answer(308, more=[("Location", f"{here}/" if here else "./")])
    if asked.path in _ACTIONS and guarded:
        return _said(405, "this is changed by POST", [("Allow", "POST")])
    if asked.path not in {*_FILES, "/data.json", "/events"}:
        return _said(404, "there is no such page")
    if asked.method not in {"GET", "HEAD"}:
        return _said(405, "this is only read", [("Allow", "GET, HEAD")])
    if asked.path == "/data.json":
        return Answer(200, encoded({**shared().view(), "guarded": guarded}))
    if asked.path == "/events":
        if not asked.may_stream:
            return _said(503, "no stream is to be had here: ask for data.json")
        return Answer(200, kind=STREAM, more=[("X-Accel-Buffering", "no")])
    return _file(*_FILES[asked.path], asked.headers.get("if-none-match", ""))


def refusal(asked: Asked) -> Answer | None:
    """Why a change is refused before the guard is asked: not from the page itself. None where it is."""
    headers = asked.headers
    if headers.get("x-resilience-status") != "1" or headers.get("content-type", "").split(";")[0] != "application/json":
        return _said(403, "changes are made from the page itself")
    origin, host = headers.get("origin"), headers.get("host", "")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _said(403, "changes are not taken from another site")
    if origin is not None and _host_of(origin) != host:
        return _said(403, "changes are not taken from another site")
    return None


def act(asked: Asked, body: bytes, *, allowed: bool) -> Answer:
    """Do what a request from the page asks for, if the guard has allowed it."""
    if not allowed:
        return _said(403, "you may not change this")
    try:
        wish = json.loads(body)
        board, name, reason = wish["id"], wish["name"], wish.get("reason", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _said(400, "the body must be JSON with id and name")
    if not (isinstance(name, str) and isinstance(reason, str)):
        return _said(400, "name and reason must be text")
    here = shared()
    if board != here.id:
        return _said(409, "another process has answered: look again")
    found = here.isolate(name, reason[:200]) if asked.path == "/isolate" else here.release(name)
    return _said(200, "done") if found else _said(404, "there is no such circuit")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def is_change(asked: Asked) -> bool:
    """Whether a request is for the guard."""
    return asked.method == "POST" and asked.path in _ACTIONS


def encoded(value: object) -> bytes:
    """JSON that is also safe inside HTML and in a line of an event stream."""
    return json.dumps(value, separators=(",", ":"), default=str).encode()


def _said(status: int, text: str, more: list[tuple[str, str]] | None = None) -> Answer:
    return Answer(status, encoded({"says": text}), more=more or [])


@cache
def _stored(name: str) -> tuple[bytes, str]:
    body = files("resilience.status").joinpath(name).read_bytes()
    return body, f'"{sha256(body).hexdigest()[:32]}"'


def _file(name: str, kind: str, known: str) -> Answer:
    body, tag = _stored(name)
    more = [("ETag", tag), ("Cache-Control", "no-cache")]
    if tag in known:
        return Answer(304, more=more)
    return Answer(200, body, kind, more)
