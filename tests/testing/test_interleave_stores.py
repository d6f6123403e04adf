"""The explorer of interleavings, let loose on policies that share their state by a store in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, RetryBudget, Throttle
from resilience.stores.memory import MemoryStore
from resilience.testing.interleave_threads import InterleavingError, interleave
from tests.testing.shells import NoLock, Use, found


class UseOfStore(Use):
    """Two policy objects of one name, as two processes would have."""

    def __init__(self) -> None:
        super().__init__()
        self.other = self.build()
        self.prepare()

    def build(self) -> Any:
        if not hasattr(self, "store"):
            self.store = MemoryStore(clock=self.clock.now)
        return self.make()

    def make(self) -> Any:
        raise NotImplementedError

    def prepare(self) -> None:
        """Bring the shared state to where it gets interesting."""

    def unlock(self) -> Any:
        self.store._lock = NoLock()  # type: ignore[assignment]
        return self

    def call(self) -> None:
        self.ask(self.policy)

    def call_other(self) -> None:
        self.ask(self.other)

    def ask(self, policy: Any) -> None:
        raise NotImplementedError


class UseOfSharedBudget(UseOfStore):
    room = 2

    def make(self) -> Any:
        return RetryBudget(0, per_second=0, capacity=2, store=self.store, name="interleaved budget", clock=self.clock)

    def ask(self, policy: Any) -> None:
        if policy.withdraw():
            self.granted.append(None)


class UseOfSharedThrottle(UseOfStore):
    room = 2

    def make(self) -> Any:
        return Throttle("2/s", store=self.store, name="interleaved throttle", clock=self.clock)

    def ask(self, policy: Any) -> None:
        if policy.try_acquire():
            self.granted.append(None)


class UseOfSharedBreaker(UseOfStore):
    def make(self) -> Any:
        return CircuitBreaker(1, on=OSError, cooldown=1, store=self.store, name="interleaved breaker", clock=self.clock)

    def prepare(self) -> None:
        self.policy.open()
        self.clock.advance(1)

    def ask(self, policy: Any) -> None:
        with suppress(OSError, CircuitOpen):
            policy.call(self.fail)

    def fail(self) -> None:
        self.granted.append(None)
        raise OSError


SHELLS = [UseOfSharedBudget, UseOfSharedThrottle, UseOfSharedBreaker]


@pytest.mark.parametrize("use", SHELLS)
def test_nothing_is_given_out_twice(use: type[UseOfStore]) -> None:
    """In no order do callers of two objects get more, or fewer, than what there is in the store that they share."""
    interleave(use.call, use.call_other, use.call, setup=use, check=use.kept, runs=100)


@pytest.mark.parametrize("use", SHELLS)
def test_a_store_without_its_lock_is_found_out(use: type[UseOfStore]) -> None:
    """The same exploration finds the race when the store's lock is taken away, and its schedule brings it back."""

    def setup() -> Any:
        return use().unlock()

    failure = found(use.call, use.call_other, use.call, setup=setup, check=use.kept)
    with pytest.raises(InterleavingError):
        interleave(use.call, use.call_other, use.call, setup=setup, check=use.kept, schedule=failure.schedule)
