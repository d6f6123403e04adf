"""What can be done with reviews, and by whom.

The order inside each use case is the same: first whether the user is known, then whether the review is theirs to see,
and only then anything else. What a page needs comes before what makes it nicer: the provider is asked for a profile
when the review is already in hand.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from examples.review_service.auth.profiles import Profile, Profiles
from examples.review_service.auth.verifier import Caller
from examples.review_service.models.entities import Draft, Review, User
from examples.review_service.models.repository import LARGEST_ID, Repository
from examples.review_service.policies import Policies
from examples.review_service.services.errors import KeyReused, NotFound, NotYours, UnknownUser


@dataclass(frozen=True, slots=True)
class Page:
    """One review, and who is looking at it."""

    review: Review
    viewer: User
    profile: Profile


class Reviews:
    """The use cases. Each raises `UnknownUser` for a caller we do not know, and lets faults of the database through."""

    def __init__(self, repository: Repository, profiles: Profiles, policies: Policies) -> None:
        self._profiles = profiles
        self._find_user = policies.reading(repository.user)
        self._find_user_and_review = policies.reading(repository.user_and_review)
        self._find_visible = policies.reading(repository.visible_to)
        self._store = policies.writing(repository.add)
        self._remove = policies.writing(repository.remove)

    def read(self, caller: Caller, review_id: int) -> Page:
        """One review.

        Raises:
            NotFound: it is not there, or not the caller's to see.
        """
        user, review = self._look_up(caller, review_id)
        return Page(review, user, self._profiles.of(caller, user))

    def newest(self, caller: Caller, *, before: int | None, limit: int) -> tuple[list[Review], int | None]:
        """Up to `limit` reviews, newest first, and where the next ones begin, if there are any."""
        user = self._known(self._find_user(caller.sub))
        found = self._find_visible(user, before=LARGEST_ID if before is None else before, limit=limit + 1)
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    def write(self, caller: Caller, draft: Draft, key: str | None) -> Review:
        """Store a review; once only for one idempotency key.

        Raises:
            KeyReused: the key came before, with another draft.
        """
        user = self._known(self._find_user(caller.sub))
        fingerprint = hashlib.sha256(json.dumps(asdict(draft)).encode()).hexdigest()
        review, first_came_with = self._store(user, draft, key, fingerprint)
        if first_came_with != fingerprint:
            raise KeyReused
        return review

    def delete(self, caller: Caller, review_id: int) -> None:
        """Delete one of the caller's own reviews.

        Raises:
            NotFound: it is not there, or not the caller's to see.
            NotYours: it is somebody else's.
        """
        user, review = self._look_up(caller, review_id)
        if review.author.id != user.id:
            raise NotYours
        self._remove(review)

    def _look_up(self, caller: Caller, review_id: int) -> tuple[User, Review]:
        found, review = self._find_user_and_review(caller.sub, review_id)
        user = self._known(found)
        if review is None or not review.visible_to(user):
            raise NotFound
        return user, review

    @staticmethod
    def _known(user: User | None) -> User:
        if user is None:
            raise UnknownUser
        return user
