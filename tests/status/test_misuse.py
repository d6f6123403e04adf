"""The page's applications, given what they cannot take and asked what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import status
from resilience.status._answers import Asked, act, answer, refusal
from resilience.status._board import shared


@pytest.mark.parametrize("make", [status.wsgi_app, status.asgi_app])
@pytest.mark.parametrize(
    ("streams", "error"), [(-1, ValueError), ("4", TypeError), (1.5, TypeError), (None, TypeError), (True, TypeError)]
)
def test_streams_are_a_number(make: Any, streams: object, error: type[Exception]) -> None:
    """What is no number of readers says so when the application is built."""
    with pytest.raises(error, match="streams must be an integer, 0 or more"):
        make(streams=streams)


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", "", "//", "http://host@evil"])
def test_an_origin_that_is_none_is_another_site(origin: str) -> None:
    """It is refused, and is no error of the server."""
    headers = {"x-resilience-status": "1", "content-type": "application/json", "host": "host", "origin": origin}
    found = refusal(Asked("POST", "/isolate", headers))
    assert found is not None
    assert found.status == 403
    assert refusal(Asked("POST", "/isolate", {**headers, "origin": "http://host"})) is None


def test_a_body_without_an_end_is_no_wish() -> None:
    """Lists in lists in lists are a 400."""
    assert act(Asked("POST", "/isolate", {}), b"[" * 4096, allowed=True).status == 400
    assert shared().isolate("nobody", "") == 0


@pytest.mark.parametrize(("mount", "where"), [("/ops/état", "%C3%A9tat/"), ("/a b", "a%20b/"), ("/", "./")])
def test_a_mount_of_any_name_is_sent_on(mount: str, where: str) -> None:
    """A redirect is ASCII, whatever the mount is called."""
    assert dict(answer(Asked("GET", "", {}, mount), guarded=False).headers)["Location"] == where
