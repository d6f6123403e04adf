"""What a deployment may decide. All of it comes from the environment, and all of it has a default that works alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from examples.review_service.ports import PROVIDER_PORT

AUDIENCE = "https://reviews.example/api"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one service. Its `repr` shows no data source: that may hold a password.

    Args:
        issuer: the provider's address as it stands in `iss`, with a slash at the end; one is added if it is missing.
        audience: the name of this API, as it stands in `aud`. jwks_url: where the provider publishes its keys; empty
        means the usual place below the issuer. userinfo_url: where the provider describes a user; empty means the
        usual place below the issuer. database_url: a SQLAlchemy URL. A SQLite file is created and seeded if it does
        not exist. redis_url: a Redis or Valkey in which all processes of the service share one limit for each address
        and user, and one circuit round the provider; empty means that each process keeps its own. It may hold a
        password as well. trusted_proxies: how many proxies of ours stand in front; the client's address is what the
        outermost of them saw. protected: whether the policies are in place. Only the demonstration ever turns this
        off.

    Raises:
        ValueError: a URL is no URL, or the number of proxies is negative.
    """

    issuer: str = f"http://127.0.0.1:{PROVIDER_PORT}/"
    audience: str = AUDIENCE
    jwks_url: str = ""
    userinfo_url: str = ""
    database_url: str = field(default="sqlite:///reviews.sqlite3", repr=False)
    redis_url: str = field(default="", repr=False)
    trusted_proxies: int = 0
    protected: bool = True

    def __post_init__(self) -> None:
        """Fill in what follows from the issuer, and check the rest."""
        issuer = self.issuer if self.issuer.endswith("/") else f"{self.issuer}/"
        object.__setattr__(self, "issuer", issuer)
        object.__setattr__(self, "jwks_url", self.jwks_url or f"{issuer}.well-known/jwks.json")
        object.__setattr__(self, "userinfo_url", self.userinfo_url or f"{issuer}userinfo")
        for name in ("issuer", "jwks_url", "userinfo_url"):
            url = urlsplit(str(getattr(self, name)))
            if url.scheme not in {"http", "https"} or not url.hostname:
                raise ValueError(f"{name} must be an http or https URL, got {getattr(self, name)!r}")
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            # Without the value: it may hold a password.
            raise ValueError("redis_url must begin with redis://, rediss:// or unix://")
        if not self.audience:
            raise ValueError("audience must not be empty")
        if self.trusted_proxies < 0:
            raise ValueError(f"trusted_proxies must not be negative, got {self.trusted_proxies}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings that the variables `REVIEWS_*` describe; a variable that is empty counts as not set.

        Raises:
            ValueError: a variable holds something that it cannot mean.
        """
        given = {name: environ.get(f"REVIEWS_{name.upper()}", "") for name in _FROM_ENV}
        wanted: dict[str, object] = {name: text for name, text in given.items() if text}
        proxies = environ.get("REVIEWS_TRUSTED_PROXIES", "")
        if proxies:
            if not proxies.isdecimal():
                raise ValueError(f"REVIEWS_TRUSTED_PROXIES must be a whole number, got {proxies!r}")
            wanted["trusted_proxies"] = int(proxies)
        return cls(**wanted)  # type: ignore[arg-type]


_FROM_ENV = ("issuer", "audience", "jwks_url", "userinfo_url", "database_url", "redis_url")
