"""Who the provider knows: a tenant as small as the examples need.

The secrets below guard nothing. They are written down so that a grant can be asked for, and refused, the way it would
be at the real provider.
"""

from __future__ import annotations

from dataclasses import dataclass

AUDIENCE = "https://reviews.example/api"
"""The API that tokens are for, unless told otherwise."""

CLIENT_ID = "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja"
CLIENT_SECRET = "not-a-secret"  # noqa: S105 - it guards nothing
PASSWORD = "correct horse battery staple"  # noqa: S105 - it guards nothing

API_SCOPES = ("read:reviews", "write:reviews")


@dataclass(frozen=True)
class User:
    """A user as `/userinfo` describes one."""

    sub: str
    name: str
    email: str

    def profile(self, scopes: frozenset[str]) -> dict[str, object]:
        """The claims that `scopes` give access to."""
        claims: dict[str, object] = {"sub": self.sub}
        if "profile" in scopes:
            nickname = self.email.partition("@")[0]
            claims |= {
                "name": self.name,
                "nickname": nickname,
                "picture": f"https://cdn.reviews.example/avatars/{nickname}.png",
                "updated_at": "2024-01-01T00:00:00.000Z",
            }
        if "email" in scopes:
            claims |= {"email": self.email, "email_verified": True}
        return claims


USERS = {
    user.sub: user
    for user in (
        User("auth0|alice", "Alice Archer", "alice@reviews.example"),
        User("auth0|bob", "Bob Baker", "bob@reviews.example"),
    )
}


def find_user(sub: str) -> User:
    """The user with this id. Whoever was given a token is a user here, listed above or not."""
    known = USERS.get(sub)
    if known is not None:
        return known
    nickname = sub.rpartition("|")[2]
    return User(sub, nickname.replace("-", " ").title(), f"{nickname}@reviews.example")


def log_in(username: str, password: str) -> User | None:
    """The user with this e-mail address or id, if the password is right."""
    if password != PASSWORD:
        return None
    return next((user for user in USERS.values() if username in {user.email, user.sub}), None)
