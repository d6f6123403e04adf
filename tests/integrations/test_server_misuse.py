"""Middlewares and policies that are given what they cannot take."""

from __future__ import annotations

from typing import Any

import pytest

from resilience.http import client_policy
from resilience.integrations import asgi, wsgi


@pytest.mark.parametrize("middleware", [wsgi.ResilienceMiddleware, asgi.ResilienceMiddleware])
@pytest.mark.parametrize("app", [None, 5, "module:app"])
def test_an_application_can_be_called(middleware: Any, app: object) -> None:
    """What is no application says so when the middleware is built, and not at the first request."""
    with pytest.raises(TypeError, match=r"app must be an? W?A?SGI application"):
        middleware(app)


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (0, ValueError), ("10", TypeError), (True, TypeError)]
)
def test_a_timeout_is_called_by_its_name(timeout: Any, error: type[Exception]) -> None:
    """The error of a client's policy names the parameter that was given, and not the one behind it."""
    with pytest.raises(error, match=r"^timeout must be"):
        client_policy(timeout=timeout)
