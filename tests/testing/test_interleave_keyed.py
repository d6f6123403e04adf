"""The explorer of interleavings, let loose on `Keyed`: one policy a key, as many as allowed, none forgotten at work.

The factory may run twice for a key, since it runs without a lock; what it made the second time must never be seen.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from resilience import Bulkhead, Keyed
from resilience.events import KeysFull
from resilience.testing import VirtualClock
from resilience.testing.interleave_threads import interleave
from tests.testing.shells import NoLock, found


class UseOfKeyed:
    """Lookups at the same time, all of which are remembered."""

    room = 2

    def __init__(self) -> None:
        self.keyed: Any = Keyed(lambda _: Bulkhead(1), max_keys=self.room, clock=VirtualClock())
        self.got: dict[str, list[Any]] = defaultdict(list)

    def unlock(self) -> Any:
        self.keyed._lock = NoLock()
        return self

    def get(self, key: str) -> None:
        self.got[key].append(self.keyed[key])

    def a(self) -> None:
        self.get("a")

    def ab(self) -> None:
        self.get("a")
        self.get("b")

    def cb(self) -> None:
        self.get("c")
        self.get("b")

    def whole(self) -> bool:
        """One policy for each key, none for two, and no more entries than there is room for."""
        policies = [{id(policy) for policy in got} for got in self.got.values()]
        table = self.keyed._table
        lines = {*table._candidates, *table._kept}
        return (
            all(len(each) == 1 for each in policies)
            and len(set().union(*policies)) == len(policies)
            and len(table.entries) <= self.room
            and lines == set(table.entries)
        )


class UseOfBusyKeyed(UseOfKeyed):
    """There is room for one, and what works there stays."""

    room = 1

    def work(self) -> None:
        policy = self.keyed["a"]
        with policy.guard():
            assert self.keyed["a"] is policy
            assert self.keyed["a"] is policy

    def b(self) -> None:
        self.get("b")

    def c(self) -> None:
        self.get("c")


class UseOfFullKeyed(UseOfKeyed):
    """There is no room at all: whoever comes shares one policy, and it is said once."""

    room = 1

    def __init__(self) -> None:
        super().__init__()
        self.place = self.keyed["busy"].guard()
        self.place.__enter__()
        self.said: list[object] = []
        self.keyed.listen(self.said.append, KeysFull)

    def shared(self) -> bool:
        policies = {id(policy) for got in self.got.values() for policy in got}
        return len(policies) == 1 and len(self.said) == 1 and list(self.keyed._table.entries) == ["busy"]


def test_a_key_has_one_policy() -> None:
    """Whoever asks for a new key at the same time gets the same policy."""
    use = UseOfKeyed
    assert interleave(use.a, use.a, use.a, setup=use, check=use.whole, runs=150) > 50


def test_a_key_that_comes_and_goes_has_one_policy() -> None:
    """With more keys than room, each still has one policy as long as somebody holds it, and the bound holds."""
    use = UseOfKeyed
    assert interleave(use.ab, use.cb, use.ab, setup=use, check=use.whole, runs=100) > 50


def test_a_policy_at_work_is_not_forgotten() -> None:
    """While a call is in flight its key keeps its policy, however many others want the room."""
    use = UseOfBusyKeyed
    assert interleave(use.work, use.b, use.c, setup=use, runs=100) > 50


def test_those_without_room_share_one_policy() -> None:
    """Where all must stay, newcomers get one policy between them, and `KeysFull` is said once."""
    use = UseOfFullKeyed
    assert interleave(use.a, use.ab, use.cb, setup=use, check=use.shared, runs=60) > 30


def test_a_table_without_its_lock_is_found_out() -> None:
    """The same exploration finds two policies of one key when the lock is taken away."""
    use = UseOfKeyed
    found(use.a, use.a, use.a, setup=lambda: use().unlock(), check=use.whole)


def test_an_overflow_without_its_lock_is_found_out() -> None:
    """Without the lock, two of those who find no room have policies of their own, or both say so."""
    use = UseOfFullKeyed
    found(use.a, use.ab, use.cb, setup=lambda: use().unlock(), check=use.shared)
