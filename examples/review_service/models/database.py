"""Sessions, and what a database can do to them.

SQLite is opened anew for each session. That costs a fraction of a millisecond, and in return the file that answers is
the file that is there: a connection kept open goes on reading, and writing, a file that was deleted or replaced under
it. For the same reason a file is created once, at the start; one that goes missing later is an outage, not an empty
shop. A write takes its lock at once (`BEGIN IMMEDIATE`), so that "somebody else is writing" is said before any work
is done and trying again is safe. How long SQLite waits for a lock is bounded by `context.remaining()`.

Every fault leaves here as `DatabaseBusy` or `DatabaseUnavailable`, named and nothing more: the messages of drivers hold
statements, values and data sources, and none of these may reach a log or a caller.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, StaticPool

from examples.review_service.models.errors import DatabaseBusy, DatabaseUnavailable
from resilience import context

PATIENCE = 5.0
"""Seconds to wait for SQLite's lock where the caller has no deadline: the driver's own default."""

_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6
_POSTGRES_BUSY = frozenset({"40001", "40P01", "55P03", "57014"})
"""Serialization failure, deadlock, lock not available, statement timed out."""


class Database:
    """Where sessions come from. Building one touches no file; the first session prepares what is missing.

    Args:
        url: a SQLAlchemy URL.
        prepare: creates and seeds what is not there yet; called once, inside a transaction.

    Raises:
        ValueError: the URL is none, or names a driver that is not installed.
    """

    def __init__(self, url: str, prepare: Callable[[Connection], None]) -> None:
        try:
            self._engine = self._open(make_url(url))
        except (SQLAlchemyError, ImportError) as error:
            raise ValueError(f"the database URL cannot be used ({type(error).__name__})") from None
        weakref.finalize(self, self._engine.dispose)
        self._prepare = prepare
        self._prepared = False
        self._preparing = threading.Lock()

    @contextlib.contextmanager
    def reading(self) -> Generator[Session, None, None]:
        """A session that changes nothing.

        Raises:
            DatabaseUnavailable: the database is not there for us.
        """
        with _translated(), self._one_at_a_time, self._session() as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Generator[Session, None, None]:
        """A session that is committed at the end, or leaves nothing behind.

        Raises:
            DatabaseUnavailable: the database is not there for us; nothing was changed.
            IntegrityError: a constraint was broken; nothing was changed.
        """
        with _translated(), self._one_at_a_time, self._session() as session:
            session.connection(execution_options={"writes": True})
            yield session
            session.commit()

    def ping(self) -> None:
        """Return if the database answers.

        Raises:
            DatabaseUnavailable: it does not.
        """
        with self.reading() as session:
            session.execute(text("SELECT 1 FROM reviews LIMIT 1"))

    def _session(self) -> Session:
        if not self._prepared:
            self._prepare_once()
        return Session(self._engine, expire_on_commit=False)

    def _prepare_once(self) -> None:
        if not self._preparing.acquire(timeout=_patience()):
            raise DatabaseBusy("being prepared")
        try:
            if not self._prepared:
                with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                    self._prepare(connection)
                self._prepared = True
        finally:
            self._preparing.release()

    def _open(self, url: URL) -> Engine:
        self._one_at_a_time: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if url.get_backend_name() != "sqlite":
            return create_engine(url, hide_parameters=True, pool_pre_ping=True, pool_timeout=1.0)
        if url.database in {None, "", ":memory:"}:
            # One connection is the whole database, so sessions take turns.
            self._one_at_a_time = threading.RLock()
            engine = create_engine(
                "sqlite://", hide_parameters=True, poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        else:
            engine = create_engine(
                "sqlite://", hide_parameters=True, poolclass=NullPool, creator=self._file_opener(str(url.database))
            )
        event.listen(engine, "connect", _take_over_transactions)
        event.listen(engine, "begin", _begin)
        return engine

    def _file_opener(self, path: str) -> Callable[[], sqlite3.Connection]:
        address = f"file:{quote(str(Path(path).absolute()))}"

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(
                f"{address}?mode={'rw' if self._prepared else 'rwc'}",
                uri=True,
                check_same_thread=False,
                timeout=_patience(),
            )

        return connect


def _patience() -> float:
    """Seconds that whoever asks can wait."""
    remaining = context.remaining()
    return PATIENCE if remaining is None else min(remaining, PATIENCE)


def _take_over_transactions(connection: sqlite3.Connection, _: object) -> None:
    """Keep the driver from beginning transactions by itself, too late and in the wrong mode."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _translated() -> Generator[None, None, None]:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        kind = DatabaseBusy if _is_busy(cause) else DatabaseUnavailable
        raise kind(type(cause or error).__name__) from None


def _is_busy(cause: object) -> bool:
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF in {_SQLITE_BUSY, _SQLITE_LOCKED}
    return getattr(cause, "sqlstate", None) in _POSTGRES_BUSY
