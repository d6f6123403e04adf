"""The document says what the service does."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.examples.conftest import Service
from tests.examples.test_statuses import BAD, GOOD

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def _documented(service: Service) -> dict[tuple[str, str], dict[str, Any]]:
    paths = service.get("/openapi.json").json["paths"]
    return {(method.upper(), path): each for path, methods in paths.items() for method, each in methods.items()}


def test_every_route_is_documented_and_nothing_else(service: Service) -> None:
    """Routes and document cannot drift apart."""
    routes = {
        (method, re.sub(r"<\w+>", "{id}", rule.rule))
        for rule in service.app.url_map.iter_rules()
        for method in METHODS & (rule.methods or set())
    }
    assert routes == set(_documented(service))


def test_every_answer_in_the_table_is_documented(service: Service) -> None:
    """Each status that the table of statuses shows for a route is in its document."""
    documented = _documented(service)
    for method, path, *_, status in [*GOOD, *(row[:5] for row in BAD)]:
        route = (method, re.sub(r"^/review/[^/]+$", "/review/{id}", path))
        if route in documented:
            assert str(status) in documented[route]["responses"], (route, status)


def test_every_reference_leads_somewhere(service: Service) -> None:
    """No `$ref` is broken."""
    document = service.get("/openapi.json").json
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        found = document
        for step in reference.split("/"):
            found = found[step]
