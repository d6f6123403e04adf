"""A note on somebody else's error.

An error that leaves a policy is the caller's own: the same object, to be raised whatever we have to say about it. So a
note is a courtesy. It replaces an earlier one of the same kind, because an error object may come by more than once: an
outer policy sees it after an inner one, and some libraries raise one instance for ever. And where an error takes no
notes, as a frozen dataclass does not, there is none.
"""

from __future__ import annotations

from contextlib import suppress

__all__ = ["leave_note"]


def leave_note(error: BaseException, opening: str, rest: str) -> None:
    """Put the note `opening + rest` on an error, in place of those that begin with `opening`. Never raises."""
    with suppress(Exception):
        notes: list[object] = getattr(error, "__notes__", [])
        notes[:] = [note for note in notes if not str(note).startswith(opening)]
        error.add_note(opening + rest)
