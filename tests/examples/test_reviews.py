"""What the routes do with good tokens: pages, lists, writing once, deleting one's own."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.examples.conftest import Provider, Service
from tests.examples.test_statuses import DRAFT, problem


@pytest.fixture
def alice(provider: Provider) -> str:
    return provider.token("auth0|alice")


@pytest.fixture
def bob(provider: Provider) -> str:
    return provider.token("auth0|bob")


# --- one page ---------------------------------------------------------------------------------------------------------


def test_a_page_has_the_review_and_who_is_looking(service: Service, bob: str) -> None:
    """The review from the database, its author, and the reader in the provider's words."""
    page = service.get("/review/1", token=bob).json
    assert page == {
        "id": 1,
        "author": {"id": "auth0|alice", "name": "Alice"},
        "title": "A kettle that whistles",
        "body": "It boils, it whistles, it stops. What more is there to say?",
        "rating": 5,
        "visibility": "public",
        "created_at": "2024-01-01T00:00:00Z",
        "viewer": {
            "id": "auth0|bob",
            "name": "Bob Baker",
            "picture": "https://cdn.reviews.example/avatars/bob.png",
            "source": "provider",
        },
    }


@pytest.mark.parametrize(
    "other",
    [
        "999",
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e0",
        "nonsense",
        "%20",
        "1%20",
        "%00",
        "١",
        "9" * 19,
        "9" * 5000,
        "a" * 5000,
    ],
)
def test_what_is_not_yours_is_not_there_byte_for_byte(
    other: str, service: Service, provider: Provider, alice: str
) -> None:
    """No byte of the answer tells another's private review from one that does not exist."""
    hidden, absent = service.get("/review/4", token=alice), service.get(f"/review/{other}", token=alice)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.data == absent.data
    assert list(hidden.headers) == list(absent.headers)


def test_deleting_what_is_not_yours_to_see_is_the_same_404(service: Service, alice: str) -> None:
    """DELETE tells no more than GET does."""
    hidden, absent = (service.call("DELETE", path, token=alice) for path in ("/review/4", "/review/999"))
    assert (hidden.status_code, hidden.data, list(hidden.headers)) == (404, absent.data, list(absent.headers))


def test_without_the_provider_the_page_has_what_the_database_knows(
    service: Service, provider: Provider, alice: str
) -> None:
    """The reader's profile is nice to have: the page is whole without it."""
    provider.faults(paths=["/userinfo"], down=True)
    answer = service.get("/review/2", token=alice)
    assert answer.status_code == 200
    assert answer.json["viewer"] == {"id": "auth0|alice", "name": "Alice", "picture": None, "source": "database"}


def test_a_token_that_may_not_ask_for_a_profile_does_not(service: Service, provider: Provider) -> None:
    """Without the scope openid the provider would only say no, so it is not asked."""
    page = service.get("/review/1", token=provider.token(scope="read:reviews")).json
    assert page["viewer"]["source"] == "database"
    assert provider.calls("/userinfo") == 0


def test_a_profile_is_kept_for_a_minute(service: Service, provider: Provider, alice: str) -> None:
    """A reader who reads on is not asked about again at once."""
    for _ in range(30):
        assert service.get("/review/1", token=alice).json["viewer"]["source"] == "provider"
    assert provider.calls("/userinfo") == 1
    service.clock.advance(61.0)
    service.get("/review/1", token=alice)
    assert provider.calls("/userinfo") == 2


def test_a_provider_that_is_down_is_left_alone(service: Service, provider: Provider, alice: str) -> None:
    """Five failures open the circuit; after that one call a second is all that a provider in trouble gets."""
    provider.faults(paths=["/userinfo"], errors=1000)
    for _ in range(50):
        assert service.get("/review/1", token=alice).status_code == 200
    assert provider.calls("/userinfo") == 5
    provider.reset()
    service.clock.advance(1.0)
    assert service.get("/review/1", token=alice).json["viewer"]["source"] == "provider"


def test_the_providers_limit_is_not_run_into(service: Service, provider: Provider, alice: str) -> None:
    """Ten calls for each user and five more a minute: no 429 is ever provoked, and no reader notices."""
    provider.faults(paths=["/userinfo"], latency=0.0)
    for _ in range(20):
        service.clock.advance(0.05)
        service.app.extensions["profiles"]._kept.clear()
        assert service.get("/review/1", token=alice).status_code == 200
    assert provider.calls("/userinfo") == 10


def test_a_429_of_the_provider_opens_no_circuit(service: Service, provider: Provider, alice: str, bob: str) -> None:
    """One user's 429 says nothing about the provider's health, and is nobody else's trouble."""
    provider.faults(paths=["/userinfo"], throttled=True)
    for _ in range(8):
        assert service.get("/review/1", token=alice).json["viewer"]["source"] == "database"
    provider.reset()
    assert service.get("/review/1", token=bob).json["viewer"]["source"] == "provider"


# --- lists ------------------------------------------------------------------------------------------------------------


def _pages(service: Service, token: str, limit: int) -> list[list[int]]:
    pages, query = [], f"?limit={limit}"
    while True:
        answer = service.get(f"/reviews{query}", token=token).json
        pages.append([review["id"] for review in answer["reviews"]])
        if answer["next_cursor"] is None:
            return pages
        query = f"?limit={limit}&cursor={answer['next_cursor']}"


def test_a_list_has_what_its_reader_may_see_newest_first(service: Service, alice: str, bob: str) -> None:
    """Public reviews and one's own, page by page, each once."""
    assert _pages(service, alice, 2) == [[6, 5], [3, 2], [1]]
    assert _pages(service, bob, 2) == [[6, 4], [3, 2], [1]]
    assert _pages(service, bob, 5) == [[6, 4, 3, 2, 1]]


def test_a_list_that_grows_repeats_nothing(service: Service, alice: str) -> None:
    """A review that is written while somebody leafs through the list moves nothing."""
    first = service.get("/reviews?limit=2", token=alice).json
    service.call("POST", "/review", token=alice, json=DRAFT)
    second = service.get(f"/reviews?limit=2&cursor={first['next_cursor']}", token=alice).json
    assert [review["id"] for review in second["reviews"]] == [3, 2]


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


NO_IDS = ["", "0", "-1", "01", " 1", "1 ", "1\n", "x", "١", "9" * 19, "9" * 5000]


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "0", "garbage", "%00", "é", "=", "====", "a" * 5000),
        *(_cursor(f"reviews:{text}") for text in NO_IDS),
        *map(_cursor, ("", "1", "users:1", "reviews:reviews:1", "' OR 1=1")),
        *(_cursor("reviews:12") + end for end in ("A", "!", "=", "\n")),
        _cursor("reviews:12").rstrip("="),
    ],
)
def test_a_garbage_cursor_is_a_400(cursor: str, service: Service, alice: str) -> None:
    """Only what the service handed out is taken back."""
    answer = service.get("/reviews", token=alice, query_string={"cursor": cursor})
    assert (answer.status_code, problem(answer)) == (400, "bad-cursor")


@pytest.mark.parametrize("limit", ["", "0", "-1", "101", "1.5", "x", "1e1", "٣", "9" * 5000])
def test_a_garbage_limit_is_a_400(limit: str, service: Service, alice: str) -> None:
    """A page has 1 to 100 reviews."""
    answer = service.get("/reviews", token=alice, query_string={"limit": limit})
    assert (answer.status_code, problem(answer)) == (400, "bad-limit")


# --- writing ----------------------------------------------------------------------------------------------------------


def _post(service: Service, token: str, draft: dict[str, Any], key: str | None = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return service.call("POST", "/review", token=token, json=draft, headers=headers)


def test_what_was_written_can_be_read(service: Service, alice: str, bob: str) -> None:
    """The answer says where the review is, and there it is."""
    answer = _post(
        service, alice, {**DRAFT, "title": "  Zwölf Stühle 🪑👩‍🔧  ", "body": "Ein\n\tStuhl\r\nund noch\u00a0einer"}
    )
    assert answer.status_code == 201
    page = service.get(answer.headers["Location"], token=bob).json
    assert page["title"] == "Zwölf Stühle 🪑👩‍🔧"
    assert {name: page[name] for name in answer.json} == answer.json


def test_a_private_review_is_its_authors_alone(service: Service, alice: str, bob: str) -> None:
    """Who did not write it does not find it."""
    where = _post(service, alice, {**DRAFT, "visibility": "private"}).headers["Location"]
    assert service.get(where, token=alice).status_code == 200
    assert service.get(where, token=bob).status_code == 404


def test_sent_twice_with_one_key_it_is_stored_once(service: Service, alice: str) -> None:
    """A repeated request gets the first answer again, however its JSON is written."""
    first = _post(service, alice, DRAFT, "key")
    again = service.call(
        "POST",
        "/review",
        token=alice,
        data=json.dumps(dict(reversed(DRAFT.items())), indent=4),
        content_type="application/json; charset=utf-8",
        headers={"Idempotency-Key": "key"},
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.data == again.data
    assert first.headers["Location"] == again.headers["Location"]
    assert len(service.get("/reviews", token=alice).json["reviews"]) == 6


def test_a_key_with_another_body_is_a_422(service: Service, alice: str) -> None:
    """A key stands for one review; it is refused for another one, and the first is as it was."""
    first = _post(service, alice, DRAFT, "key")
    for change in ({"title": "B"}, {"body": "B"}, {"rating": 1}, {"visibility": "private"}):
        answer = _post(service, alice, {**DRAFT, **change}, "key")
        assert (answer.status_code, problem(answer)) == (422, "key-reused")
    assert service.get(first.headers["Location"], token=alice).json["title"] == DRAFT["title"]


def test_keys_belong_to_users(service: Service, alice: str, bob: str) -> None:
    """Two users may choose the same key."""
    assert _post(service, alice, DRAFT, "key").json["id"] != _post(service, bob, DRAFT, "key").json["id"]


def test_without_a_key_each_request_is_a_review(service: Service, alice: str) -> None:
    """A key is an offer, no duty."""
    assert _post(service, alice, DRAFT).json["id"] != _post(service, alice, DRAFT).json["id"]


def test_a_review_deleted_since_is_not_written_again(service: Service, alice: str) -> None:
    """A late repetition of a request is answered as it was, and brings nothing back."""
    first = _post(service, alice, DRAFT, "key")
    assert service.call("DELETE", first.headers["Location"], token=alice).status_code == 204
    assert _post(service, alice, DRAFT, "key").data == first.data
    assert service.get(first.headers["Location"], token=alice).status_code == 404


@pytest.mark.parametrize("key", ["", " ", "a b", "ключ", "k" * 256, "a\tb"])
def test_a_key_that_is_none_is_a_400(key: str, service: Service, alice: str) -> None:
    """1 to 255 visible ASCII characters."""
    answer = _post(service, alice, DRAFT, key)
    assert (answer.status_code, problem(answer)) == (400, "bad-idempotency-key")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *((body, 400) for body in (b"", b"{", b"nonsense", b"[]", b'"text"', b"null", b"1", b"\xff\xfe\x00")),
        *((body, 400) for body in (b"[" * 60_000, b'{"a":' * 10_000, b"1" * 5_000)),
        *((body, 422) for body in (b"{}", b'{"title": NaN}')),
        *((body, 413) for body in (b" " * 65_537, b"x" * 1_000_000)),
    ],
)
def test_a_body_that_is_no_review_is_refused(body: bytes, status: int, service: Service, alice: str) -> None:
    """Whatever is sent, the answer says what is wrong with it, and nothing falls over."""
    answer = service.call("POST", "/review", token=alice, data=body, content_type="application/json")
    assert answer.status_code == status
    problem(answer)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_type_is_a_415(content_type: str, service: Service, alice: str) -> None:
    """A review comes as application/json."""
    data = json.dumps(DRAFT)
    answer = service.call("POST", "/review", token=alice, data=data, content_type=content_type)
    assert (answer.status_code, problem(answer)) == (415, "unsupported-media-type")


UNSTORABLE: dict[str, list[Any]] = {
    "title": ["", "   ", "t" * 201, 1, None, ["t"], "a\0b", "a\x1bb", "\ud800"],
    "body": ["", "b" * 5001, {}, True, "\udfff"],
    "rating": [0, 6, -1, 10**30, "5", 4.5, True, None],
    "visibility": ["", "secret", "PUBLIC", 1, False, ["public"]],
}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *(({field: value}, field) for field, values in UNSTORABLE.items() for value in values),
        ({"author": "auth0|bob"}, ""),
        ({"id": 1}, ""),
    ],
)
def test_a_review_that_cannot_be_stored_is_a_422(
    change: dict[str, Any], field: str, service: Service, alice: str
) -> None:
    """The answer names each field that is at fault, and repeats nothing of what it held."""
    answer = _post(service, alice, {**DRAFT, **change})
    assert (answer.status_code, problem(answer)) == (422, "invalid-review")
    assert [error["field"] for error in answer.json["errors"]] == [field]


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_ones_own_review_can_be_deleted_once(service: Service, alice: str, bob: str) -> None:
    """It is gone for everybody, and gone for a second attempt."""
    answer = service.call("DELETE", "/review/1", token=alice)
    assert (answer.status_code, answer.data) == (204, b"")
    assert service.get("/review/1", token=bob).status_code == 404
    assert service.call("DELETE", "/review/1", token=alice).status_code == 404


def test_anothers_review_stays(service: Service, alice: str, bob: str) -> None:
    """A 403 for what can be seen, and nothing happens to it."""
    assert service.call("DELETE", "/review/2", token=alice).status_code == 403
    assert service.get("/review/2", token=bob).status_code == 200
