"""Queries: from rows to entities and back."""

from __future__ import annotations

import json
import time

from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError

from examples.review_service.models.database import Database
from examples.review_service.models.entities import Draft, Review, User, Visibility
from examples.review_service.models.errors import DatabaseUnavailable
from examples.review_service.models.tables import AnswerRow, ReviewRow, UserRow

LARGEST_ID = 2**63 - 1
ANSWERS_KEPT = 86_400
"""Seconds for which an idempotency key is remembered."""


class Repository:
    """Users and reviews. Each method is one transaction, and raises `DatabaseUnavailable` when that cannot be had."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def user(self, sub: str) -> User | None:
        """The user whom the provider calls `sub`."""
        with self._database.reading() as session:
            row = session.scalars(select(UserRow).where(UserRow.sub == sub)).one_or_none()
            return None if row is None else _user(row)

    def user_and_review(self, sub: str, review_id: int) -> tuple[User | None, Review | None]:
        """The user, and the review with this id: what one page needs, in one transaction."""
        with self._database.reading() as session:
            user = session.scalars(select(UserRow).where(UserRow.sub == sub)).one_or_none()
            found = session.get(ReviewRow, review_id) if user is not None and _possible(review_id) else None
            return None if user is None else _user(user), None if found is None else _review(found)

    def visible_to(self, user: User, *, before: int, limit: int) -> list[Review]:
        """Up to `limit` reviews that `user` may see, newest first, with ids below `before`."""
        seen = or_(ReviewRow.visibility == Visibility.PUBLIC, ReviewRow.author_id == user.id)
        query = select(ReviewRow).where(seen, ReviewRow.id < before).order_by(ReviewRow.id.desc()).limit(limit)
        with self._database.reading() as session:
            return [_review(row) for row in session.scalars(query)]

    def add(self, author: User, draft: Draft, key: str | None, fingerprint: str) -> tuple[Review, str]:
        """Store a review, unless `key` came before: then that review, and the fingerprint it came with.

        Of two requests with one key at the same time, one stores and the other gets what was stored.
        """
        try:
            return self._add(author, draft, key, fingerprint)
        except IntegrityError:
            answered = self._answered(author, key)
            if answered is None:
                raise DatabaseUnavailable("IntegrityError") from None
            return answered

    def remove(self, review: Review) -> None:
        """Delete a review."""
        with self._database.writing() as session:
            session.execute(delete(ReviewRow).where(ReviewRow.id == review.id))

    def _add(self, author: User, draft: Draft, key: str | None, fingerprint: str) -> tuple[Review, str]:
        now = int(time.time())
        row = ReviewRow(
            author_id=author.id,
            title=draft.title,
            body=draft.body,
            rating=draft.rating,
            visibility=draft.visibility,
            created_at=now,
        )
        with self._database.writing() as session:
            if key is not None:
                session.execute(delete(AnswerRow).where(AnswerRow.created_at < now - ANSWERS_KEPT))
                before = session.get(AnswerRow, (author.id, key))
                if before is not None:
                    return _replayed(before, author)
            session.add(row)
            session.flush()
            review = _stored(row, author)
            if key is not None:
                kept = json.dumps([review.id, now, draft.title, draft.body, draft.rating, draft.visibility])
                session.add(AnswerRow(user_id=author.id, key=key, fingerprint=fingerprint, review=kept, created_at=now))
            return review, fingerprint

    def _answered(self, author: User, key: str | None) -> tuple[Review, str] | None:
        with self._database.reading() as session:
            row = None if key is None else session.get(AnswerRow, (author.id, key))
            return None if row is None else _replayed(row, author)


def _possible(review_id: int) -> bool:
    return 0 < review_id <= LARGEST_ID


def _user(row: UserRow) -> User:
    return User(row.id, row.sub, row.name, row.picture)


def _review(row: ReviewRow) -> Review:
    return _stored(row, _user(row.author))


def _stored(row: ReviewRow, author: User) -> Review:
    return Review(row.id, author, row.title, row.body, row.rating, Visibility(row.visibility), row.created_at)


def _replayed(row: AnswerRow, author: User) -> tuple[Review, str]:
    review_id, created_at, title, body, rating, visibility = json.loads(row.review)
    return Review(review_id, author, title, body, rating, Visibility(visibility), created_at), row.fingerprint
