"""The tables."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The base of every table."""


class UserRow(Base):
    """A user."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    sub: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    picture: Mapped[str | None] = mapped_column(String(500))


class ReviewRow(Base):
    """A review."""

    __tablename__ = "reviews"
    __table_args__ = (CheckConstraint("rating BETWEEN 1 AND 5", name="rating_in_range"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    rating: Mapped[int]
    visibility: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[int] = mapped_column(Integer)

    author: Mapped[UserRow] = relationship(lazy="joined", innerjoin=True)


class AnswerRow(Base):
    """What was answered to a request that carried an idempotency key."""

    __tablename__ = "answers"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    review: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(Integer, index=True)
