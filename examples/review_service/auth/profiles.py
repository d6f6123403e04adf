"""Who the caller is to people: a name and a picture. Nice to have, and never worth failing for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from examples.review_service.auth.errors import ProviderUnavailable
from examples.review_service.auth.provider import Provider
from examples.review_service.auth.verifier import Caller
from examples.review_service.models.entities import User
from resilience import Clock

KEEP = 60.0
"""Seconds for which the provider's word on a user is not asked for again."""
MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Profile:
    """A user as shown to people, and where that was learnt."""

    name: str
    picture: str | None
    source: Literal["provider", "database"]


def known_here(error: Exception, caller: Caller, user: User) -> Profile:  # noqa: ARG001 - what a fallback is called with
    """What the database knows: the profile for when the provider cannot be asked."""
    return Profile(user.name, user.picture, "database")


def subject_of(caller: Caller, user: User) -> str:  # noqa: ARG001 - what a call for a profile is made with
    """Whose share of the provider's patience a call is taken from."""
    return caller.sub


AroundProfile = Callable[[Callable[[Caller, User], Profile]], Callable[[Caller, User], Profile]]
"""What is put around a call for a profile."""


class Profiles:
    """Profiles from `/userinfo`, kept for a while. Safe from any thread; calls are made outside the lock.

    Args:
        provider: the client.
        url: the address of `/userinfo`.
        protect: puts the policies around a call.
        clock: tells how old a kept profile is.
    """

    def __init__(
        self,
        provider: Provider,
        url: str,
        protect: AroundProfile,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._url = url
        self._ask = protect(self._ask_provider)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Profile]] = OrderedDict()

    def of(self, caller: Caller, user: User) -> Profile:
        """The caller's profile, from the provider if its token allows that.

        Raises:
            ProviderError: only without policies, which never let one through.
        """
        if not caller.may("openid"):
            return Profile(user.name, user.picture, "database")
        with self._lock:
            kept = self._kept.get(caller.sub)
        if kept is not None and self._clock.now() - kept[0] < KEEP:
            return kept[1]
        return self._ask(caller, user)

    def _ask_provider(self, caller: Caller, user: User) -> Profile:
        claims = self._provider.get(self._url, token=caller.token)
        if claims.get("sub") != caller.sub:
            raise ProviderUnavailable("an answer about somebody else")
        name, picture = claims.get("name"), claims.get("picture")
        profile = Profile(
            name=name if isinstance(name, str) else user.name,
            picture=picture if isinstance(picture, str) else None,
            source="provider",
        )
        with self._lock:
            self._kept[caller.sub] = (self._clock.now(), profile)
            self._kept.move_to_end(caller.sub)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return profile
