"""What gives way when the service has more to do than it can: lists and writing first, the page asked for last."""

from __future__ import annotations

import pytest

from tests.examples.conftest import Provider, Service
from tests.examples.test_door import problem

REVIEW = {"title": "Solid", "body": "Does what it says.", "rating": 4}


def wait(service: Service, seconds: float) -> None:
    """Requests have waited so long of late, as a server in front would know."""
    for _ in range(3):
        service.app.extensions["policies"].load.report(seconds)
        service.clock.advance(0.5)


@pytest.mark.parametrize(
    ("seconds", "answers"),
    [(0.0, (200, 200, 201)), (0.4, (200, 503, 201)), (0.7, (200, 503, 503)), (5.0, (200, 503, 503))],
)
def test_what_matters_least_gives_way_first(
    service: Service, provider: Provider, seconds: float, answers: tuple[int, int, int]
) -> None:
    """Lists are turned away at 0.3 of the tolerable wait and writing at 0.6, but never a page that was asked for."""
    token = provider.token()
    assert service.call("GET", "/review/1", token=token).status_code == 200
    wait(service, seconds)
    assert (
        service.call("GET", "/review/1", token=token).status_code,
        service.call("GET", "/reviews", token=token).status_code,
        service.call("POST", "/review", token=token, json=REVIEW).status_code,
    ) == answers


def test_who_is_turned_away_is_told_when_to_come_again(service: Service, provider: Provider) -> None:
    """A request that is shed is a 503 with Retry-After and a problem that says so."""
    wait(service, 5.0)
    answer = service.call("GET", "/reviews", token=provider.token())
    assert (answer.status_code, problem(answer)) == (503, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


def test_the_door_comes_before_the_question_of_room(service: Service, provider: Provider) -> None:
    """However great the load, a bad token is a 401 and a missing scope a 403."""
    wait(service, 5.0)
    assert service.call("GET", "/reviews", token="forged").status_code == 401
    assert service.call("GET", "/reviews", token=provider.token(scope="openid")).status_code == 403
