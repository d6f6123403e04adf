"""The live page and the metrics of the review service."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from urllib.parse import urljoin

from prometheus_client.parser import text_string_to_metric_families

from examples.review_service.app import create_app
from examples.review_service.settings import Settings
from resilience import _hub
from tests.examples.conftest import Provider, Service


def _events(service: Service) -> dict[tuple[str, str], float]:
    """How many events of each policy and kind the service has counted."""
    text = service.get("/metrics").get_data(as_text=True)
    families = list(text_string_to_metric_families(text))
    assert families
    return {
        (sample.labels["policy"], sample.labels["event"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "resilience_events_total"
    }


def _use_up(service: Service) -> None:
    """Take what an address may take, and be refused once."""
    service.app.extensions["policies"].by_address.acquire(key="127.0.0.1", cost=750)
    assert service.get("/readyz").status_code == 429


def test_the_live_page_names_every_policy(service: Service) -> None:
    """/status is a page, and its snapshot holds the policies of the service."""
    assert urljoin("http://localhost/status", service.get("/status").location) == "http://localhost/status/"
    page = service.get("/status/")
    assert page.status_code == 200
    assert page.mimetype == "text/html"
    shown = json.loads(service.get("/status/data.json").data)
    names = {policy["name"] for policy in shown["policies"]}
    assert {"address", "subject", "load", "looks", "reading.circuit_breaker"} <= names


def test_nothing_can_be_changed_from_the_page(service: Service) -> None:
    """Without a guard a circuit cannot be isolated by whoever finds the page."""
    answer = service.call("POST", "/status/isolate", json={"policy": "reading.circuit_breaker"})
    assert answer.status_code == 404
    assert service.get("/readyz").status_code == 200


def test_metrics_count_what_the_door_refuses(service: Service) -> None:
    """A refusal at the door is a number in /metrics."""
    _use_up(service)
    assert _events(service)["address", "CallRejected"] == 1.0


def test_whoever_watches_is_not_counted(service: Service) -> None:
    """With an address's burst used up, the page and the metrics are still served, and take nothing from it."""
    _use_up(service)
    assert service.get("/status/").status_code == 200
    assert service.get("/metrics").status_code == 200
    fresh = service.app.extensions["policies"].by_address
    before = fresh.peek(key="192.0.2.1").remaining
    for _ in range(20):
        service.get("/metrics", environ_base={"REMOTE_ADDR": "192.0.2.1"})
        service.get("/status/", environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert fresh.peek(key="192.0.2.1").remaining == before


def test_two_services_have_metrics_of_their_own(make: Callable[..., Service]) -> None:
    """A second service in one process is no duplicate, and stopping one leaves the other's metrics alone."""
    first, second = make(), make()
    first.app.extensions["stop_metrics"]()
    _use_up(second)
    assert _events(second)["address", "CallRejected"] == 1.0
    assert first.get("/metrics").data.strip() == b""


def test_an_application_that_is_gone_listens_no_more(provider: Provider) -> None:
    """A service that nobody holds takes its listener with it."""
    gc.collect()
    before = len(_hub.HUB.listeners)
    app = create_app(Settings(issuer=provider.issuer, database_url="sqlite://"))
    gone = weakref.ref(app)
    assert len(_hub.HUB.listeners) == before + 1
    del app
    gc.collect()
    assert gone() is None
    assert len(_hub.HUB.listeners) == before
