"""The tables, and what stands in them on the first day."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from examples.review_service.models.entities import Visibility
from examples.review_service.models.tables import Base, ReviewRow, UserRow

READERS = 500
"""Readers besides the two authors, so that a load can come from many people at once."""

_FIRST_DAY = 1_704_067_200  # 2024-01-01T00:00:00Z

_REVIEWS = (
    ("alice", "A kettle that whistles", "It boils, it whistles, it stops. What more is there to say?", 5, "public"),
    ("bob", "Boots after one winter", "Dry feet until February. The left sole has come off since.", 3, "public"),
    ("alice", "The lamp by the window", "Warm light, and a switch where the hand looks for it.", 4, "public"),
    (
        "bob",
        "Draft: the new bicycle",
        "Notes to myself. The brakes need a second look before I say a word.",
        2,
        "private",
    ),
    ("alice", "Draft: the noisy fan", "Ask the shop first whether it is meant to do that.", 1, "private"),
    ("bob", "A pan for every egg", "Nothing sticks, not even the label.", 5, "public"),
)


def reader(number: int) -> str:
    """The `sub` of a reader, counted from 0."""
    return f"auth0|reader-{number:03}"


def prepare(connection: Connection) -> None:
    """Create the tables that are missing, and fill them if nobody is there yet."""
    Base.metadata.create_all(connection)
    if connection.execute(select(UserRow.id).limit(1)).first() is not None:
        return
    users = [
        {"sub": "auth0|alice", "name": "Alice", "picture": None},
        {"sub": "auth0|bob", "name": "Bob", "picture": None},
        *({"sub": reader(n), "name": f"Reader {n:03}", "picture": None} for n in range(READERS)),
    ]
    connection.execute(insert(UserRow), [user | {"id": n} for n, user in enumerate(users, 1)])
    reviews = [
        {
            "author_id": 1 if author == "alice" else 2,
            "title": title,
            "body": body,
            "rating": rating,
            "visibility": Visibility(visibility),
            "created_at": _FIRST_DAY + n * 86_400,
        }
        for n, (author, title, body, rating, visibility) in enumerate(_REVIEWS)
    ]
    connection.execute(insert(ReviewRow), reviews)
