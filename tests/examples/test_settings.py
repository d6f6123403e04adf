"""What the environment may say, and what is said back when it cannot be meant."""

from __future__ import annotations

import pytest

from examples.review_service.app import create_app
from examples.review_service.settings import Settings


def test_nothing_has_to_be_set() -> None:
    """Every setting has a default, and the addresses follow from the issuer."""
    settings = Settings.from_env({})
    assert settings.issuer == "http://127.0.0.1:9000/"
    assert settings.jwks_url == "http://127.0.0.1:9000/.well-known/jwks.json"
    assert settings.userinfo_url == "http://127.0.0.1:9000/userinfo"
    assert settings.trusted_proxies == 0
    assert create_app(settings).test_client().get("/healthz").status_code == 200


def test_everything_can_be_set() -> None:
    """Each variable ends up in the setting of its name."""
    settings = Settings.from_env(
        {
            "REVIEWS_ISSUER": "https://tenant.example",
            "REVIEWS_AUDIENCE": "https://api.example",
            "REVIEWS_JWKS_URL": "https://keys.example/jwks",
            "REVIEWS_USERINFO_URL": "",
            "REVIEWS_DATABASE_URL": "sqlite:///x.sqlite3",
            "REVIEWS_TRUSTED_PROXIES": "2",
        }
    )
    assert settings == Settings(
        issuer="https://tenant.example/",
        audience="https://api.example",
        jwks_url="https://keys.example/jwks",
        userinfo_url="https://tenant.example/userinfo",
        database_url="sqlite:///x.sqlite3",
        trusted_proxies=2,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REVIEWS_ISSUER", "tenant.example"),
        ("REVIEWS_ISSUER", "file:///etc/passwd"),
        ("REVIEWS_JWKS_URL", "nonsense"),
        ("REVIEWS_USERINFO_URL", "http://"),
        ("REVIEWS_TRUSTED_PROXIES", "-1"),
        ("REVIEWS_TRUSTED_PROXIES", "two"),
        ("REVIEWS_TRUSTED_PROXIES", "1.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, value: str) -> None:
    """The message names the setting and the value."""
    with pytest.raises(ValueError, match=r"must be|must not") as refusal:
        Settings.from_env({name: value})
    assert name.removeprefix("REVIEWS_").lower() in str(refusal.value).lower()
