"""A group of refusals, from an async view that does several things at once, was 500 in Flask and 503 elsewhere."""

from __future__ import annotations

import pytest
from flask import Flask

from resilience import BulkheadFull
from resilience.integrations.flask import Resilience


def _app() -> Flask:
    app = Flask(__name__)
    Resilience(app)

    @app.get("/refused")
    async def refused() -> str:
        raise ExceptionGroup("two", [BulkheadFull("p"), ExceptionGroup("one", [BulkheadFull("p")])])

    @app.get("/broken")
    async def broken() -> str:
        raise ExceptionGroup("two", [BulkheadFull("p"), KeyError("x")])

    return app


def test_a_group_of_refusals_is_a_503() -> None:
    """All of its leaves are refusals, so it is one; a group with another error in it is a 500 as before."""
    app = _app()
    app.logger.disabled = True
    web = app.test_client()
    answer = web.get("/refused")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert web.get("/broken").status_code == 500
    app.testing = True
    with pytest.raises(ExceptionGroup):
        web.get("/broken")


def test_a_handler_of_the_application_gets_every_other_group() -> None:
    """One for every `Exception` is asked as if the extension were not there; one for groups goes first."""
    app = _app()
    app.register_error_handler(Exception, lambda error: (type(error).__name__, 418))
    web = app.test_client()
    assert web.get("/refused").status_code == 503
    assert (web.get("/broken").status_code, web.get("/broken").text) == (418, "ExceptionGroup")
    other = _app()
    other.register_error_handler(ExceptionGroup, lambda error: ("mine", 419))
    assert other.test_client().get("/refused").status_code == 419
