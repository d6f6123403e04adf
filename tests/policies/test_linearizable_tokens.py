"""What hands out tokens, and what finds policies by key, is linearizable."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from resilience import Bulkhead, Keyed, RetryBudget, Throttle, Throttled
from resilience.core.ledger import Claim
from resilience.core.promises import Waiter
from tests.linearizability import Call
from tests.policies.linear import Held, Subject, frozen, many_histories, many_interleavings

COST = (1.0,)


class Desk:
    """The model of a throttle: its pure core."""

    def __init__(self, throttle: Throttle) -> None:
        self.desk = copy.deepcopy(throttle._desk)
        self.promised: dict[int, Waiter] = {}

    def step(self, call: Call) -> Any:
        desk, now = self.desk, call.reading
        if call.name == "take":
            return desk.take(Claim(None, COST, 0), now)
        if call.name == "cancel":
            desk.settle(self.promised.pop(call.argument), (0.0,), now)
            return True
        if call.name == "reset":
            desk.reset(None, now)
            return None
        claim = Waiter(None, COST, 0)
        delay = 0.0 if desk.take(claim, now) else desk.reserve(claim, now, 2.0)
        if delay is not None:
            self.promised[call.argument] = claim
        return delay

    def key(self) -> Any:
        ledger = self.desk.ledger
        promises = frozen([line.promises for line in self.desk.lines.values()])
        return frozen(ledger.sole), frozen(ledger._refunds), promises, frozen(self.promised)


class OfThrottle(Subject):
    operations = ("take", "take", "reserve", "reserve", "cancel", "advance")

    def build(self) -> None:
        self.throttle = self.make()

    def make(self) -> Throttle:
        return Throttle("1/s burst 2", clock=self.clock)

    def model(self) -> Any:
        return Desk(self.make())

    def take(self, _: Held) -> None:
        self.history.call("take", self.throttle.try_acquire)

    def reserve(self, held: Held) -> None:
        call = self.history.begin("reserve", number := held.number())
        try:
            reservation = self.throttle.reserve(max_wait=2.0)
        except Throttled:
            self.history.end(call)
        else:
            self.history.end(call, reservation.delay)
            held.things.append((number, reservation))

    def cancel(self, held: Held) -> None:
        if held.things:
            number, reservation = held.things.pop()
            call = self.history.begin("cancel", number)
            self.history.end(call, reservation.cancel())

    let_go = cancel


class OfTakes(OfThrottle):
    """Only what goes the short way, which has no lock where there is a GIL, and what brings it to the desk."""

    operations = ("take", "take", "take", "reset", "advance")

    def reset(self, _: Held) -> None:
        self.history.call("reset", self.throttle.reset)


class Purse:
    """The model of a retry budget, in the simplest arithmetic: half a token for a success, one for a second."""

    def __init__(self) -> None:
        self.level = 2.0
        self.latest = 0.0

    def step(self, call: Call) -> Any:
        if call.name == "deposit":
            self._add(0.5)
            return None
        if call.reading > self.latest:
            self._add(call.reading - self.latest)
            self.latest = call.reading
        if call.name == "look":
            return self.level
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True

    def _add(self, tokens: float) -> None:
        self.level = min(2.0, self.level + tokens)

    def key(self) -> Any:
        return self.level, self.latest


class OfBudget(Subject):
    operations = ("withdraw", "withdraw", "withdraw", "deposit", "look", "advance")

    def build(self) -> None:
        self.budget = RetryBudget(0.5, per_second=1.0, capacity=2, clock=self.clock)

    def model(self) -> Any:
        return Purse()

    def withdraw(self, _: Held) -> None:
        self.history.call("withdraw", self.budget.withdraw)

    def deposit(self, _: Held) -> None:
        self.history.call("deposit", self.budget.deposit)

    def look(self, _: Held) -> None:
        self.history.call("look", lambda: self.budget.snapshot()["level"])


class Directory:
    """The model of policies by key: each key has one, and keeps it as long as somebody has it."""

    def __init__(self) -> None:
        self.known: dict[str, object] = {}

    def step(self, call: Call) -> Any:
        if call.argument not in self.known and not any(call.result is each for each in self.known.values()):
            self.known[call.argument] = call.result
        return self.known.get(call.argument)

    def key(self) -> Any:
        return frozenset((key, id(policy)) for key, policy in self.known.items())

    def __deepcopy__(self, _: object) -> Directory:
        other = Directory()
        other.known = dict(self.known)
        return other


class OfKeyed(Subject):
    """There is room for two of three keys, so that one is always being forgotten."""

    operations = ("a", "b", "c")

    def build(self) -> None:
        self.keyed: Any = Keyed(lambda _: Bulkhead(1), max_keys=2, clock=self.clock)

    def model(self) -> Any:
        return Directory()

    def a(self, _: Held) -> None:
        self.history.call("get", self.keyed.__getitem__, "a")

    def b(self, _: Held) -> None:
        self.history.call("get", self.keyed.__getitem__, "b")

    def c(self, _: Held) -> None:
        self.history.call("get", self.keyed.__getitem__, "c")


SUBJECTS = [OfThrottle, OfTakes, OfBudget, OfKeyed]
BY_THE_GIL = {OfTakes, OfThrottle, OfBudget}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_threads_see_one_call_after_the_other(subject: type[Subject]) -> None:
    """What two to four threads at once are answered is what some order of their calls is answered."""
    many_histories(subject, 100)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_interleaved_instructions_show_one_call_after_the_other(subject: type[Subject]) -> None:
    """The same with a switch between any two instructions, or wherever a GIL allows one that is counted on."""
    many_interleavings(subject, scripts=3, runs=20, gil=subject in BY_THE_GIL)


@pytest.mark.proof
@pytest.mark.parametrize("subject", SUBJECTS)
def test_many_histories(subject: type[Subject]) -> None:
    """A thousand histories of threads and a thousand of interleaved instructions are linearizable."""
    many_histories(subject, 1_000, seed=1)
    many_interleavings(subject, scripts=25, runs=40, seed=1, gil=subject in BY_THE_GIL)
