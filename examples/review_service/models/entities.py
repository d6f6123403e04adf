"""What the service talks about, free of any database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Visibility(StrEnum):
    """Who may see a review."""

    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class User:
    """A user of this service; `sub` is what the provider calls them."""

    id: int
    sub: str
    name: str
    picture: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A review that is not stored yet."""

    title: str
    body: str
    rating: int
    visibility: Visibility


@dataclass(frozen=True, slots=True)
class Review:
    """A stored review. `created_at` is in UNIX seconds."""

    id: int
    author: User
    title: str
    body: str
    rating: int
    visibility: Visibility
    created_at: int

    def visible_to(self, user: User) -> bool:
        """Whether `user` may see it."""
        return self.visibility is Visibility.PUBLIC or self.author.id == user.id
