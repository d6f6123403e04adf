"""A view that nothing can be written on was answered 500 by the extension, and marks on a blueprint did nothing."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask

from resilience import Priority, Throttle
from resilience.integrations.flask import Resilience


def test_a_view_without_attributes_is_served_and_counted() -> None:
    """A bound method of a string, and an object with slots, are views like others."""

    class Slotted:
        __slots__ = ()

        def __call__(self) -> str:
            return "served"

    app = Flask(__name__)
    Resilience(app, throttle=Throttle("2/day"))
    app.add_url_rule("/slotted", "slotted", Slotted())
    app.add_url_rule("/built-in", "built-in", "served".upper)
    web = app.test_client()
    answers = [web.get(path) for path in ("/slotted", "/built-in", "/slotted")]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].text == "SERVED"


def test_what_is_no_view_is_refused() -> None:
    """A blueprint is not exempted by a mark that nobody would read."""
    limits = Resilience()
    pages: Any = Blueprint("pages", __name__)
    for decorate in (
        limits.exempt,
        limits.priority(Priority.CRITICAL),
        limits.limit("1/day"),
        limits.shared_limit("1/s"),
    ):
        with pytest.raises(TypeError, match="view must be"):
            decorate(pages)


def test_it_is_said_when_it_is_too_late() -> None:
    """An application that has begun to serve, and what is none, are refused as documented."""
    app = Flask(__name__)
    app.test_client().get("/")
    with pytest.raises(RuntimeError, match="begun to serve"):
        Resilience(app)
    assert "resilience" not in app.extensions
    wrong: Any = "app"
    with pytest.raises(TypeError, match="app must be"):
        Resilience(wrong)
