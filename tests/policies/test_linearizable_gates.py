"""Gates that hand out places are linearizable: each answer is that of some order of the calls, one after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from resilience import AIMD, AdaptiveLimit, AdaptiveThrottle, Bulkhead, LoadShedder, Rejected
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from resilience.testing.interleave_threads import InterleavingError
from tests.linearizability import Call
from tests.policies.linear import Held, Subject, frozen, many_histories, many_interleavings
from tests.testing.shells import NoLock


class Room:
    """The model of a gate with so many places."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.inside = 0

    def step(self, call: Call) -> Any:
        if call.name == "look":
            return self.inside
        if call.name == "enter":
            if self.inside >= self.limit:
                return False
            self.inside += 1
            return True
        self.inside -= 1
        return None

    def key(self) -> int:
        return self.inside


class Gate(Subject):
    """A gate whose guards are opened and closed."""

    operations = ("enter", "enter", "leave", "fail", "look")
    limit: float = 2
    gate: Any

    def model(self) -> Any:
        return Room(self.limit)

    def enter(self, held: Held) -> None:
        call = self.history.begin("enter", number := held.number())
        guard = self.gate.guard()
        try:
            guard.__enter__()
        except Rejected:
            self.history.end(call, False)
        else:
            self.history.end(call, True)
            held.things.append((number, guard))

    def _end(self, name: str, held: Held, error: BaseException | None) -> None:
        if held.things:
            number, guard = held.things.pop()
            call = self.history.begin(name, number)
            guard.__exit__(None if error is None else type(error), error, None)
            self.history.end(call)

    def leave(self, held: Held) -> None:
        self._end("leave", held, None)

    let_go = leave

    def fail(self, held: Held) -> None:
        self._end("fail", held, OSError())

    def drop(self, held: Held) -> None:
        self._end("drop", held, KeyError())

    def look(self, _: Held) -> None:
        self.history.call("look", lambda: self.gate.snapshot()["in_flight"])


class OfBulkhead(Gate):
    def build(self) -> None:
        self.gate = Bulkhead(2, clock=self.clock)


class OfLockless(OfBulkhead):
    """With nobody to keep two of them apart."""

    def build(self) -> None:
        super().build()
        self.gate._lock = NoLock()


class Crowded(Room):
    """The model of a gate before which callers wait, where not too many do so."""

    def step(self, call: Call) -> Any:
        if call.name == "enter" and call.result is False and self.inside == self.limit:
            return False
        return super().step(call)


class OfQueue(Gate):
    """Calls that wait for their place."""

    operations = ("call", "call", "look")

    def build(self) -> None:
        self.gate = Bulkhead(1, queue=1)

    def model(self) -> Any:
        return Crowded(1)

    def call(self, held: Held) -> None:
        self.enter(held)
        self.leave(held)


class OfAdaptiveLimit(Gate):
    operations = ("enter", "enter", "leave", "fail", "drop", "look", "advance")

    def build(self) -> None:
        self.gate = AdaptiveLimit(AIMD(), initial=2, on=OSError, clock=self.clock)


class OfLoadShedder(Gate):
    operations = ("enter", "leave", "fail", "look", "advance")
    limit = float("inf")

    def build(self) -> None:
        self.gate = LoadShedder(clock=self.clock)


class Backend:
    """The model of an adaptive throttle: its own pure core."""

    def __init__(self, throttle: AdaptiveThrottle) -> None:
        self.core = copy.deepcopy(throttle._core)
        self.permits: dict[int, int] = {}

    def step(self, call: Call) -> Any:
        if call.name == "look":
            return self.core.rejection(0.0)
        if call.name == "enter":
            permit = self.core.acquire(0.0, 0.3)
            self.permits[call.argument] = permit
            return permit >= 0
        verdict = {"leave": SUCCESS, "fail": FAILURE, "drop": IGNORED}[call.name]
        self.core.settle(self.permits.pop(call.argument), verdict)
        return None

    def key(self) -> Any:
        return frozen(self.core), frozen(self.permits)


class OfAdaptiveThrottle(Gate):
    operations = ("enter", "enter", "leave", "fail", "fail", "drop", "look")

    def build(self) -> None:
        self.gate = AdaptiveThrottle(1.0, minimum_calls=1, on=OSError, rng=lambda: 0.3, clock=self.clock)
        self._begins = Backend(self.gate)

    def model(self) -> Any:
        return self._begins

    def look(self, _: Held) -> None:
        self.history.call("look", lambda: self.gate.rejection)


GATES = [OfBulkhead, OfQueue, OfAdaptiveLimit, OfLoadShedder, OfAdaptiveThrottle]


@pytest.mark.parametrize("gate", GATES)
def test_threads_see_one_call_after_the_other(gate: type[Gate]) -> None:
    """What two to four threads at once are answered by a gate is what some order of their calls is answered."""
    many_histories(gate, 100)


@pytest.mark.parametrize("gate", GATES)
def test_interleaved_instructions_show_one_call_after_the_other(gate: type[Gate]) -> None:
    """The same with a switch between any two instructions."""
    many_interleavings(gate, scripts=4, runs=20)


def test_a_gate_without_its_lock_is_found_out() -> None:
    """The same search finds a history that nothing explains when the lock is taken away."""
    with pytest.raises(InterleavingError, match="no order of these calls explains"):
        many_interleavings(OfLockless, scripts=4, runs=250)


@pytest.mark.proof
@pytest.mark.parametrize("gate", GATES)
def test_many_histories(gate: type[Gate]) -> None:
    """A thousand histories of threads and a thousand of interleaved instructions are linearizable."""
    many_histories(gate, 1_000, seed=1)
    many_interleavings(gate, scripts=25, runs=40, seed=1)
