"""The interface as an OpenAPI document."""

from __future__ import annotations

from typing import Any

from examples.review_service.controllers.forms import LARGEST_PAGE, LONGEST_BODY, LONGEST_KEY, LONGEST_TITLE, PAGE

_ERRORS = {
    "400": "Something in the request cannot be read.",
    "401": "No access token, or none that is valid; WWW-Authenticate says which.",
    "403": "The token is good and does not cover this, the user is not known, or the review is somebody else's.",
    "404": "Not there, or not yours to see.",
    "413": "The body is too large.",
    "415": "The body is not application/json.",
    "422": "The review cannot be stored, or the Idempotency-Key came before with another one.",
    "429": "Too much at once. Retry-After and RateLimit say when to come back.",
    "503": "Something behind the service is away. Retry-After says when to come back.",
    "504": "The time for the request is up.",
}
_ALWAYS = ("401", "403", "429", "503", "504")


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(status: str, description: str, schema: dict[str, Any] | None, *errors: str) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": description}
    if schema is not None:
        ok["content"] = {"application/json": {"schema": schema}}
    return {status: ok} | {each: {"$ref": f"#/components/responses/{each}"} for each in sorted(errors)}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _secured(scope: str) -> list[dict[str, list[str]]]:
    return [{"auth0": [scope]}]


_STRING = {"type": "string"}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
_CURSOR = {"name": "cursor", "in": "query", "schema": _STRING, "description": "next_cursor of the page before."}
_LIMIT = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "description": "A review that was sent twice with one key is stored once, and answered alike.",
}
_TEXTS = {
    "title": {"type": "string", "minLength": 1, "maxLength": LONGEST_TITLE},
    "body": {"type": "string", "minLength": 1, "maxLength": LONGEST_BODY},
    "rating": {"type": "integer", "minimum": 1, "maximum": 5},
    "visibility": {"type": "string", "enum": ["public", "private"], "default": "public"},
}
_STORED = {
    "id": {"type": "integer"},
    "author": _object(["id", "name"], id=_STRING, name=_STRING),
    **_TEXTS,
    "created_at": {"type": "string", "format": "date-time"},
}
_VIEWER = _object(
    ["id", "name", "picture", "source"],
    id=_STRING,
    name=_STRING,
    picture={"type": ["string", "null"]},
    source={"type": "string", "enum": ["provider", "database"]},
)
_PROBLEM = _object(
    ["type", "title", "status", "detail"], type=_STRING, title=_STRING, status={"type": "integer"}, detail=_STRING
)
_LIST = _object(
    ["reviews", "next_cursor"],
    reviews={"type": "array", "items": _ref("Review")},
    next_cursor={"type": ["string", "null"]},
)
_STATUS = _object(["status"], status=_STRING)

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Reviews", "version": "1.0.0"},
    "paths": {
        "/review/{id}": {
            "get": {
                "summary": "One review, and who is looking at it",
                "security": _secured("read:reviews"),
                "parameters": [_ID],
                "responses": _answers("200", "The review.", _ref("Page"), "404", *_ALWAYS),
            },
            "delete": {
                "summary": "Delete a review of one's own",
                "security": _secured("write:reviews"),
                "parameters": [_ID],
                "responses": _answers("204", "It is gone.", None, "404", *_ALWAYS),
            },
        },
        "/reviews": {
            "get": {
                "summary": "Reviews, newest first",
                "security": _secured("read:reviews"),
                "parameters": [_CURSOR, _LIMIT],
                "responses": _answers("200", "A page of the list.", _ref("Reviews"), "400", *_ALWAYS),
            }
        },
        "/review": {
            "post": {
                "summary": "Write a review",
                "security": _secured("write:reviews"),
                "parameters": [_KEY],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Draft")}}},
                "responses": _answers("201", "It is stored.", _ref("Review"), "400", "413", "415", "422", *_ALWAYS),
            }
        },
        "/healthz": {"get": {"summary": "The process is alive", "responses": _answers("200", "Alive.", _STATUS)}},
        "/readyz": {
            "get": {"summary": "Worth sending requests", "responses": _answers("200", "Ready.", _STATUS, "429", "503")}
        },
        "/openapi.json": {
            "get": {"summary": "This document", "responses": _answers("200", "OpenAPI.", {"type": "object"}, "429")}
        },
    },
    "components": {
        "schemas": {
            "Draft": _object(["title", "body", "rating"], **_TEXTS) | {"additionalProperties": False},
            "Review": _object(list(_STORED), **_STORED),
            "Page": {"allOf": [_ref("Review"), _object(["viewer"], viewer=_VIEWER)]},
            "Reviews": _LIST,
            "Problem": _PROBLEM,
        },
        "responses": {
            status: {"description": text, "content": {"application/problem+json": {"schema": _ref("Problem")}}}
            for status, text in _ERRORS.items()
        },
        "securitySchemes": {"auth0": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    },
}
