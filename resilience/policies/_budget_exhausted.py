"""The event of a budget that has nothing left."""

from __future__ import annotations

from resilience.events import Event

__all__ = ["BudgetExhausted"]


class BudgetExhausted(Event):
    """A retry or a hedge was refused: its budget holds less than one token. Said for each that is refused."""

    __slots__ = ()
