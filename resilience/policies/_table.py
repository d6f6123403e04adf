"""What a `Keyed` remembers, and whom to ask first whether it can go.

Theory of operation
-------------------
Whether a policy can be forgotten only the policy knows, and asking takes its lock; so the table says whom to ask, and
somebody else asks without holding the table's. An entry is in one of two lines:

    candidates     not used for longest at the front. One that has been used again since it was put here is not asked
                   but goes to the back, once: a second chance.
    kept           was asked and had to stay, so it is not asked each time somebody needs room. Each newcomer looks at
                   a few of them, in turn, and those that need not stay any more are candidates again.

A use is two attributes of the entry, written without a lock, and moves nothing. So a known key costs a look-up and the
time, an unknown one a bounded number of questions, however large the table is and whoever invents the keys: an entry
is asked again only after it was used, or after a full turn.

An entry that goes says so first, and then looks whether it was used meanwhile. Whoever uses it does the same in the
other order: says so, and then looks whether it is gone. So at least one of the two notices the other.

What is forgotten here may still be held by somebody. As long as it is, its key gets the same object back.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from weakref import WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from resilience.policies._tariff import Key

    Frozen: TypeAlias = tuple[list[tuple["Entry", float]], dict[Key, Any]]

__all__ = ["Entry", "Table"]


class Entry:
    """The policy of one key.

    Attributes:
        key: whose it is.
        policy: what was made for it; never another.
        used: the reading of its last use.
        again: whether it was used since it was last put in line.
        gone: whether it is no longer in the table.
    """

    __slots__ = ("again", "gone", "key", "policy", "used")

    def __init__(self, key: Key, policy: Any, used: float) -> None:
        self.key = key
        self.policy = policy
        self.used = used
        self.again = False
        self.gone = False


class Table:
    """The entries of one `Keyed`. Not thread-safe by itself, except that `entries` may be read at any time.

    Args:
        most: entries it holds at most.

    Attributes:
        entries: by key.
    """

    __slots__ = ("_candidates", "_forgotten", "_kept", "_most", "entries")

    def __init__(self, most: int) -> None:
        self._most = most
        self.entries: dict[Key, Entry] = {}
        self._candidates: OrderedDict[Key, Entry] = OrderedDict()
        self._kept: OrderedDict[Key, Entry] = OrderedDict()
        self._forgotten: WeakValueDictionary[Key, Any] = WeakValueDictionary()

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self.entries) >= self._most

    def __contains__(self, entry: Entry) -> bool:
        return self.entries.get(entry.key) is entry

    def enter(self, key: Key, made: Any, now: float) -> Entry | None:
        """The entry of a key, made where there is room for it; None where there is not, or `made` is missing.

        A policy that was forgotten and is still held by somebody comes before the one just made.
        """
        entry = self.entries.get(key)
        if entry is None and not self.full:
            policy = self._forgotten.pop(key, made)
            if policy is not None:
                entry = Entry(key, policy, now)
                self._add(entry)
        return entry

    def _add(self, entry: Entry) -> None:
        self._candidates[entry.key] = entry
        self.entries[entry.key] = entry

    # --- whom to ask --------------------------------------------------------------------------------------------------

    def candidate(self) -> Entry | None:
        """The one to ask next; None where all are kept."""
        line = self._candidates
        for _ in range(len(line)):
            entry = line[next(iter(line))]
            if not entry.again:
                return entry
            entry.again = False
            line.move_to_end(entry.key)
        return next(iter(line.values()), None)

    def kept(self) -> Entry | None:
        """One of those that had to stay, each in turn."""
        line = self._kept
        if not line:
            return None
        entry = line[next(iter(line))]
        line.move_to_end(entry.key)
        return entry

    # --- what they said -----------------------------------------------------------------------------------------------

    def keep(self, entry: Entry) -> None:
        """It has to stay."""
        if self._candidates.pop(entry.key, None) is not None:
            self._kept[entry.key] = entry

    def release(self, entry: Entry) -> None:
        """It need not stay any more."""
        if self._kept.pop(entry.key, None) is not None:
            self._candidates[entry.key] = entry

    def forget(self, entry: Entry) -> bool:
        """It can go, and is gone by this unless it was used meanwhile."""
        entry.gone = True
        if entry.again:
            entry.gone = False
            return False
        for line in (self.entries, self._candidates, self._kept):
            line.pop(entry.key, None)
        # A class from elsewhere may have no weak references.
        with suppress(TypeError):
            self._forgotten[entry.key] = entry.policy
        return True

    # --- for virtual time ---------------------------------------------------------------------------------------------

    def save(self) -> Frozen:
        """What there is now, for `restore`."""
        return [(entry, entry.used) for entry in self.entries.values()], dict(self._forgotten)

    def restore(self, saved: Frozen) -> list[Entry]:
        """Put back what there was; returns the entries that came later, which are gone."""
        before = {entry for entry, _ in saved[0]}
        later = [entry for entry in self.entries.values() if entry not in before]
        for entry in later:
            entry.gone = True
        for line in (self._candidates, self._kept, self._forgotten):
            line.clear()
        self.entries = {}
        for entry, used in saved[0]:
            entry.used, entry.again, entry.gone = used, False, False
            self._add(entry)
        self._forgotten.update(saved[1])
        return later
