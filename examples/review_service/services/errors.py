"""Why a use case can refuse."""

from __future__ import annotations


class UnknownUser(Exception):
    """The token is good, and its user is none of ours."""


class NotFound(Exception):
    """No such review, or none that this user may see: the two are never told apart."""


class NotYours(Exception):
    """The review can be seen, and belongs to somebody else."""


class KeyReused(Exception):
    """An idempotency key came a second time, with something else to do."""
