"""The explorer of interleavings, let loose on our own policies: those that count what they let in."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress
from typing import Any

import pytest

from resilience import (
    AIMD,
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Hedge,
    LimitExceeded,
    LoadShedder,
    RetryBudget,
    Throttle,
)
from resilience.policies import _quick
from resilience.testing.interleave_threads import InterleavingError, interleave
from tests.testing.shells import Use, found


class UseOfBulkhead(Use):
    def build(self) -> Any:
        return Bulkhead(1)

    def call(self) -> None:
        with suppress(BulkheadFull):
            self.policy.call(self.body)

    def kept(self) -> bool:
        return self.most == 1 and self.policy.snapshot()["in_flight"] == 0


class UseOfBreaker(Use):
    def build(self) -> Any:
        breaker = CircuitBreaker(1, on=OSError, cooldown=1, clock=self.clock)
        breaker.open()
        self.clock.advance(1)
        return breaker

    def call(self) -> None:
        with suppress(OSError, CircuitOpen):
            self.policy.call(self.fail)

    def fail(self) -> None:
        self.granted.append(None)
        raise OSError


class UseOfThrottle(Use):
    room = 2

    def build(self) -> Any:
        return Throttle("2/s", clock=self.clock)

    def call(self) -> None:
        if self.policy.try_acquire():
            self.granted.append(None)


class UseOfBudget(Use):
    room = 2
    kind: type[RetryBudget] = RetryBudget

    def build(self) -> Any:
        return self.kind(0, per_second=0, capacity=2, clock=self.clock)

    def call(self) -> None:
        if self.policy.withdraw():
            self.granted.append(None)


class HastyBudget(RetryBudget):
    """Looks, and then takes; straight lines both, with a call between them."""

    def _take(self) -> bool:
        if self._bucket.level(self._clock.now()) < 1.0:
            return False
        self._bucket._spent += 1.0
        return True


class UseOfHastyBudget(UseOfBudget):
    kind = HastyBudget


class UseOfAdaptiveLimit(Use):
    def build(self) -> Any:
        return AdaptiveLimit(AIMD(), initial=1, maximum=1, clock=self.clock)

    def call(self) -> None:
        with suppress(LimitExceeded):
            self.policy.call(self.body)

    def kept(self) -> bool:
        return self.most == 1 and self.policy.snapshot()["in_flight"] == 0


class UseOfLoadShedder(Use):
    """It lets all of them in here; none may be lost count of, or it would shed for ever or never."""

    def build(self) -> Any:
        return LoadShedder(clock=self.clock)

    def call(self) -> None:
        self.policy.call(self.body)

    def kept(self) -> bool:
        return self.policy.snapshot()["in_flight"] == 0 and self.policy._core._served == 3


class UseOfAdaptiveThrottle(Use):
    """Every answer of the backend counts once."""

    def build(self) -> Any:
        return AdaptiveThrottle(minimum_calls=100, clock=self.clock)

    def call(self) -> None:
        self.policy.call(self.body)

    def kept(self) -> bool:
        view = self.policy.snapshot()
        return view["requests"] == view["accepts"] == 3


class LockedBudget(RetryBudget):
    """What a budget does where threads do not take turns."""

    def _take(self) -> bool:
        now = self._clock.now()
        with self._lock:
            return self._bucket.withdraw(now)


class UseOfHedge(Use):
    """Each call earns one copy, two of which the budget pays for; what it refused is still there to be spent."""

    room = 2

    def build(self) -> Any:
        self.budget = LockedBudget(0, per_second=0, capacity=2, clock=self.clock)
        return Hedge(max_extra_load=1.0, after=0, budget=self.budget, clock=self.clock)

    def call(self) -> None:
        self.policy._began()
        if self.policy._afford():
            self.granted.append(None)
        self.policy._won(0, 0.0, deposits=False)

    def kept(self) -> bool:
        hedging = self.policy._hedging
        learnt = len(hedging._sorted) == len(hedging._recent) == 3
        return super().kept() and learnt and hedging.credit == 1.0 and self.budget.snapshot()["level"] == 0.0


@pytest.fixture
def locked_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forms with a lock, of the policies that have one without where there is a GIL."""
    monkeypatch.setattr(Throttle, "_take_quickly", _quick.take_locked)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    spec = importlib.util.find_spec("resilience.policies.budget")
    assert spec is not None
    assert spec.loader is not None
    budget = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(budget)
    monkeypatch.setattr(UseOfBudget, "kind", budget.RetryBudget)


SHELLS = [
    UseOfBulkhead,
    UseOfBreaker,
    UseOfThrottle,
    UseOfBudget,
    UseOfAdaptiveLimit,
    UseOfLoadShedder,
    UseOfAdaptiveThrottle,
    UseOfHedge,
]


@pytest.mark.usefixtures("locked_forms")
@pytest.mark.parametrize("use", SHELLS)
def test_no_policy_lets_in_too_many(use: type[Use]) -> None:
    """In no order of three callers does a policy admit more, or fewer, than it has room for."""
    assert interleave(use.call, use.call, use.call, setup=use, check=use.kept, runs=200) > 50


@pytest.mark.usefixtures("locked_forms")
@pytest.mark.parametrize("use", SHELLS)
def test_a_policy_without_its_lock_is_found_out(use: type[Use]) -> None:
    """The same exploration finds the race when the lock is taken away, and its schedule brings it back."""

    def setup() -> Any:
        return use().unlock()

    failure = found(use.call, use.call, use.call, setup=setup, check=use.kept)
    for _ in range(3):
        with pytest.raises(InterleavingError):
            interleave(use.call, use.call, use.call, setup=setup, check=use.kept, schedule=failure.schedule)


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="these forms are for the GIL")
@pytest.mark.parametrize("use", [UseOfThrottle, UseOfBudget])
def test_the_forms_without_a_lock_are_whole_with_the_gil(use: type[Use]) -> None:
    """Switched where the GIL may switch, the forms without a lock admit exactly what there is room for."""
    assert interleave(use.call, use.call, use.call, setup=use, check=use.kept, runs=200, gil=True) > 20


def test_a_form_without_a_lock_that_looks_before_it_takes_is_found_out() -> None:
    """A planted check-then-act in the form without a lock is found where only the GIL may switch."""
    use = UseOfHastyBudget
    failure = found(use.call, use.call, use.call, setup=use, check=use.kept, gil=True)
    for _ in range(100):
        with pytest.raises(InterleavingError):
            interleave(use.call, use.call, use.call, setup=use, check=use.kept, gil=True, schedule=failure.schedule)
