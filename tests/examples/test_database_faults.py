"""Whatever happens to the database is a 503 that says when to come back; the service is well when the database is."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from examples.review_service.models import database as module
from examples.review_service.models.database import Database
from examples.review_service.models.entities import Draft, Visibility
from examples.review_service.models.errors import DatabaseBusy, DatabaseUnavailable
from examples.review_service.models.repository import Repository
from examples.review_service.models.seed import prepare
from tests.examples.conftest import Provider, Service
from tests.examples.test_statuses import DRAFT, problem


@pytest.fixture
def service(make: Callable[..., Service], database: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service on a file, that does not wait for locks for as long as it does in real life."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    return make(database_url=f"sqlite:///{database}")


@pytest.fixture
def warm(service: Service, provider: Provider) -> Service:
    assert service.get("/review/1", token=provider.token()).status_code == 200
    return service


@contextlib.contextmanager
def _locked(database: Path, mode: str = "EXCLUSIVE") -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"BEGIN {mode}")
        yield


@contextlib.contextmanager
def _gone(database: Path) -> Iterator[None]:
    away = database.rename(database.with_suffix(".away"))
    yield
    away.rename(database)


@contextlib.contextmanager
def _filled_with(database: Path, content: bytes) -> Iterator[None]:
    before = database.read_bytes()
    database.write_bytes(content)
    yield
    database.write_bytes(before)


@contextlib.contextmanager
def _a_folder(database: Path) -> Iterator[None]:
    with _gone(database):
        database.mkdir()
        yield
        database.rmdir()


FAULTS: dict[str, Callable[[Path], contextlib.AbstractContextManager[None]]] = {
    "locked": _locked,
    "gone": _gone,
    "no database": lambda path: _filled_with(path, b"This was a database once. " * 500),
    "cut": lambda path: _filled_with(path, path.read_bytes()[:5000]),
    "scrambled": lambda path: _filled_with(path, path.read_bytes()[:100] + b"\xa5" * (path.stat().st_size - 100)),
    "empty": lambda path: _filled_with(path, b""),
    "a folder": _a_folder,
}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/review/1", {}),
    ("GET", "/reviews", {}),
    ("POST", "/review", {"json": DRAFT, "headers": {"Idempotency-Key": "key"}}),
    ("DELETE", "/review/1", {}),
    ("GET", "/readyz", {}),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_database_is_a_503(fault: str, warm: Service, provider: Provider, database: Path) -> None:
    """For every route and every fault; and when it is over, all is well within a second."""
    token = provider.token()
    with FAULTS[fault](database):
        for _ in range(3):
            for method, path, more in REQUESTS:
                answer = warm.call(method, path, token=token, **more)
                assert answer.status_code == 503, answer.data
                assert problem(answer) in {"database-unavailable", "circuit-open"}
                assert int(answer.headers["Retry-After"]) >= 1
        assert warm.get("/healthz").status_code == 200
    warm.clock.advance(1.0)
    for method, path, more in REQUESTS:
        assert warm.call(method, path, token=token, **more).status_code in {200, 201, 204}


def test_a_lock_on_writing_leaves_readers_alone(warm: Service, provider: Provider, database: Path) -> None:
    """Writers are refused, readers are not, however many writers try."""
    token = provider.token()
    with _locked(database, "IMMEDIATE"):
        for _ in range(8):
            assert warm.call("POST", "/review", token=token, json=DRAFT).status_code == 503
            assert warm.get("/review/1", token=token).status_code == 200
    warm.clock.advance(1.0)
    assert warm.call("POST", "/review", token=token, json=DRAFT).status_code == 201


def test_a_short_lock_is_waited_for(
    warm: Service, provider: Provider, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is let go of in the meantime costs a moment, not the request."""
    locked, free = threading.Event(), threading.Event()

    def hold() -> None:
        with _locked(database):
            locked.set()
            free.wait(10.0)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait(10.0)
    monkeypatch.setattr(warm.clock, "sleep", lambda _: (free.set(), holder.join()))
    assert warm.get("/review/1", token=provider.token()).status_code == 200


def test_the_service_starts_while_its_database_cannot_be_had(
    make: Callable[..., Service], provider: Provider, tmp_path: Path
) -> None:
    """The folder comes later; until then the answer is 503, and after that a seeded database."""
    late = make(database_url=f"sqlite:///{tmp_path}/later/reviews.sqlite3")
    assert late.get("/readyz").status_code == 503
    (tmp_path / "later").mkdir()
    late.clock.advance(1.0)
    assert late.get("/readyz").status_code == 200
    assert late.get("/review/1", token=provider.token()).status_code == 200


def test_a_file_that_is_gone_is_not_replaced_by_an_empty_one(warm: Service, provider: Provider, database: Path) -> None:
    """A database that went missing is an outage; making a new one would be a loss of data with a friendly face."""
    with _gone(database):
        assert warm.get("/reviews", token=provider.token()).status_code == 503
        assert not database.exists()


def test_a_restart_finds_what_was_written(
    make: Callable[..., Service], service: Service, provider: Provider, database: Path
) -> None:
    """The seed is sown once."""
    token = provider.token()
    where = service.call("POST", "/review", token=token, json=DRAFT).headers["Location"]
    assert service.call("DELETE", "/review/1", token=token).status_code == 204
    again = make(database_url=f"sqlite:///{database}")
    assert again.get(where, token=token).status_code == 200
    assert again.get("/review/1", token=token).status_code == 404


def test_many_writers_with_one_key_write_once(database: Path) -> None:
    """However they interleave, one review is stored and each writer is told of it."""
    repository = Repository(Database(f"sqlite:///{database}", prepare))
    author = repository.user("auth0|alice")
    assert author is not None
    draft = Draft("A", "B", 3, Visibility.PUBLIC)
    ids: list[int] = []
    threads = [
        threading.Thread(target=lambda: ids.append(repository.add(author, draft, "key", "print")[0].id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_lost_race_for_a_key_is_answered_by_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a database notices the second of two writers only at the end, that writer gets the first one's review."""
    repository = Repository(Database("sqlite://", prepare))
    author = repository.user("auth0|alice")
    assert author is not None
    draft = Draft("A", "B", 3, Visibility.PUBLIC)
    first = repository.add(author, draft, "key", "print")

    def lose(*_: object) -> object:
        raise IntegrityError("statement", {}, Exception("UNIQUE"))

    monkeypatch.setattr(repository, "_add", lose)
    assert repository.add(author, draft, "key", "other") == first
    with pytest.raises(DatabaseUnavailable):
        repository.add(author, draft, None, "other")


def test_threads_share_one_database_in_memory() -> None:
    """Sessions of a database in memory take turns, so threads never see each other's half-done work."""
    repository = Repository(Database("sqlite://", prepare))
    author = repository.user("auth0|alice")
    assert author is not None
    draft = Draft("A", "B", 3, Visibility.PUBLIC)

    def write() -> None:
        for _ in range(20):
            repository.add(author, draft, None, "")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(repository.visible_to(author, before=10**6, limit=1000)) == 85


def test_busy_is_told_from_broken(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a lock is worth trying again."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    repository = Repository(Database(f"sqlite:///{database}", prepare))
    repository.user("auth0|alice")
    with _locked(database), pytest.raises(DatabaseBusy):
        repository.user("auth0|alice")
    with _gone(database), pytest.raises(DatabaseUnavailable) as broken:
        repository.user("auth0|alice")
    assert type(broken.value) is DatabaseUnavailable


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite", "nosuch://host/db", "postgresql+nosuch://alice:hunter2@host/db"]
)
def test_a_database_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """The message says what is wrong and not what was given: that may hold a password."""
    with pytest.raises(ValueError, match="database URL") as refusal:
        Database(url, prepare)
    assert "hunter2" not in str(refusal.value)
