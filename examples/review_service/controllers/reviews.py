"""The routes of reviews."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import Blueprint, Response, jsonify, request

from examples.review_service.auth.verifier import Caller
from examples.review_service.controllers import forms
from examples.review_service.controllers.door import Door
from examples.review_service.models.entities import Review, User
from examples.review_service.policies import BROWSE, READ, WRITE
from examples.review_service.services.reviews import Page, Reviews


def routes(reviews: Reviews, door: Door) -> Blueprint:
    """The blueprint."""
    pages = Blueprint("reviews", __name__)

    @pages.get("/review/<text>")
    @door.requires("read:reviews", READ)
    def read(caller: Caller, text: str) -> Response:
        return jsonify(_page(reviews.read(caller, forms.review_id(text))))

    @pages.get("/reviews")
    @door.requires("read:reviews", BROWSE)
    def newest(caller: Caller) -> Response:
        found, following = reviews.newest(caller, before=forms.cursor(request), limit=forms.limit(request))
        after = None if following is None else forms.cursor_at(following)
        return jsonify(reviews=[_review(review) for review in found], next_cursor=after)

    @pages.post("/review")
    @door.requires("write:reviews", WRITE)
    def write(caller: Caller) -> Response:
        key = forms.idempotency_key(request)
        review = reviews.write(caller, forms.draft(request), key)
        answer = jsonify(_review(review))
        answer.status_code = 201
        answer.headers["Location"] = f"/review/{review.id}"
        return answer

    @pages.delete("/review/<text>")
    @door.requires("write:reviews", WRITE)
    def delete(caller: Caller, text: str) -> Response:
        reviews.delete(caller, forms.review_id(text))
        gone = Response(status=204)
        del gone.headers["Content-Type"]
        return gone

    return pages


def _page(page: Page) -> dict[str, Any]:
    profile = page.profile
    viewer = {"id": page.viewer.sub, "name": profile.name, "picture": profile.picture, "source": profile.source}
    return _review(page.review) | {"viewer": viewer}


def _review(review: Review) -> dict[str, Any]:
    written = dt.datetime.fromtimestamp(review.created_at, dt.UTC)
    return {
        "id": review.id,
        "author": _user(review.author),
        "title": review.title,
        "body": review.body,
        "rating": review.rating,
        "visibility": review.visibility,
        "created_at": written.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _user(user: User) -> dict[str, Any]:
    return {"id": user.sub, "name": user.name}
