"""`token`: an access token, from the stand-in that the service believes."""

from __future__ import annotations

import sys

import urllib3

from examples.review_service.settings import Settings


def token(sub: str, scope: str, ttl: int) -> int:
    """Print a token. Returns the exit status."""
    try:
        settings = Settings.from_env()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        wanted = {"sub": sub, "scope": scope, "ttl": ttl, "audience": settings.audience}
        answer = urllib3.request(
            "POST", f"{settings.issuer}control/token", json=wanted, timeout=5.0, retries=False, redirect=False
        )
        minted = answer.json().get("access_token") if answer.status == 200 else None
    except urllib3.exceptions.HTTPError:
        print(
            f"error: no provider answers at {settings.issuer}: start one with "
            "`python -m examples.review_service serve`, or name another in REVIEWS_ISSUER",
            file=sys.stderr,
        )
        return 1
    except ValueError:
        minted = None
    if not isinstance(minted, str):
        print(f"error: {settings.issuer} mints no tokens by hand: it is no stand-in", file=sys.stderr)
        return 1
    print(minted)
    return 0
