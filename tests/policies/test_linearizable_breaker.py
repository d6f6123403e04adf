"""A breaker is linearizable: what its callers see is what its pure core answers to one of them after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, FailureRate, SlowRate
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS
from tests.linearizability import Call
from tests.policies.linear import Held, Subject, frozen, many_histories, many_interleavings

VERDICTS = {"succeed": SUCCESS, "fail": FAILURE, "drop": IGNORED}


class Core:
    """The model of a breaker: its pure core."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.circuit = copy.deepcopy(breaker._circuit)
        self.numbers: dict[int, int] = {}

    def step(self, call: Call) -> Any:
        circuit, numbers = self.circuit, self.numbers
        circuit.changes.clear()
        if call.name == "enter":
            permit = numbers[call.argument] = circuit.acquire(call.reading)
            return circuit.state.value if permit < 0 else "in"
        if call.name in VERDICTS:
            circuit.settle(numbers.pop(call.argument), VERDICTS[call.name], call.reading)
        elif call.name == "isolate":
            numbers[call.argument] = circuit.isolate("", call.reading)
        elif call.name == "release":
            return circuit.release(numbers.pop(call.argument), call.reading)
        elif call.name == "state":
            return circuit.look(call.reading).value
        else:
            getattr(circuit, call.name)(call.reading)
        return None

    def key(self) -> Any:
        return frozen(self.circuit), frozen(self.numbers)


class Breaker(Subject):
    """Blocks under a breaker, decorated calls of it, and what may be done by hand."""

    operations = (
        *("enter", "enter", "succeed", "fail", "fail", "drop"),
        *("call_well", "call_badly", "call_badly"),
        *("open", "close", "isolate", "release", "state", "advance", "advance"),
    )

    def build(self) -> None:
        self.breaker = self.make()
        self.wrapped = self.breaker(self._body)

    def make(self) -> CircuitBreaker:
        return CircuitBreaker(2, on=OSError, cooldown=1, trials=2, clock=self.clock)

    def model(self) -> Any:
        return Core(self.make())

    # --- calls --------------------------------------------------------------------------------------------------------

    def enter(self, held: Held) -> None:
        call = self.history.begin("enter", number := held.number())
        guard = self.breaker.guard()
        try:
            guard.__enter__()
        except CircuitOpen as refusal:
            self.history.end(call, refusal.state.value)
        else:
            self.history.end(call, "in")
            held.things.append((number, guard))

    def _end(self, name: str, held: Held, error: BaseException | None) -> None:
        if held.things:
            number, thing = held.things.pop()
            call = self.history.begin("release" if hasattr(thing, "release") else name, number)
            if call.name == "release":
                self.history.end(call, thing.release())
            else:
                thing.__exit__(None if error is None else type(error), error, None)
                self.history.end(call)

    def succeed(self, held: Held) -> None:
        self._end("succeed", held, None)

    release = let_go = succeed

    def fail(self, held: Held) -> None:
        self._end("fail", held, OSError())

    def drop(self, held: Held) -> None:
        self._end("drop", held, KeyError())

    def call_well(self, held: Held) -> None:
        self._call(held, "succeed")

    def call_badly(self, held: Held) -> None:
        self._call(held, "fail")

    def _call(self, held: Held, outcome: str) -> None:
        """Admission and end are two steps, with the body of the function between them."""
        calls = [self.history.begin("enter", held.number())]
        try:
            self.wrapped(calls, outcome)
        except CircuitOpen as refusal:
            self.history.end(calls[0], refusal.state.value)
        except OSError:
            self.history.end(calls[1])
        else:
            self.history.end(calls[1])

    def _body(self, calls: list[Call], outcome: str) -> None:
        self.history.end(calls[0], "in")
        calls.append(self.history.begin(outcome, calls[0].argument))
        if outcome == "fail":
            raise OSError

    # --- by hand ------------------------------------------------------------------------------------------------------

    def open(self, _: Held) -> None:
        self.history.call("open", self.breaker.open)

    def close(self, _: Held) -> None:
        self.history.call("close", self.breaker.close)

    def isolate(self, held: Held) -> None:
        call = self.history.begin("isolate", number := held.number())
        isolation = self.breaker.isolate()
        self.history.end(call)
        held.things.append((number, isolation))

    def state(self, _: Held) -> None:
        self.history.call("state", lambda: self.breaker.state.value)


class CallsOfBreaker(Breaker):
    """Without anything done by hand, so that calls are what opens and closes it."""

    operations = ("enter", "enter", "succeed", "fail", "drop", "call_well", "call_badly", "state", "advance")


class CountingBreaker(CallsOfBreaker):
    def make(self) -> CircuitBreaker:
        return CircuitBreaker(FailureRate(0.5, calls=4, minimum_calls=2), on=OSError, cooldown=1, clock=self.clock)


class ClockedBreaker(CallsOfBreaker):
    def make(self) -> CircuitBreaker:
        return CircuitBreaker(FailureRate(0.5, window=90, minimum_calls=2), on=OSError, cooldown=1, clock=self.clock)


class TimedBreaker(CallsOfBreaker):
    """Without time passing, since how long a call took is read beside it."""

    operations = ("enter", "enter", "succeed", "fail", "drop", "call_well", "call_badly", "state")

    def make(self) -> CircuitBreaker:
        trips = (2, SlowRate(0.5, slower_than=5, calls=4, minimum_calls=2))
        return CircuitBreaker(trips, on=OSError, cooldown=1, clock=self.clock)


BREAKERS = [Breaker, CallsOfBreaker, CountingBreaker, ClockedBreaker, TimedBreaker]


@pytest.mark.parametrize("breaker", BREAKERS)
def test_threads_see_one_call_after_the_other(breaker: type[Breaker]) -> None:
    """What two to four threads at once see of a breaker is what some order of their calls explains."""
    many_histories(breaker, 60)


@pytest.mark.parametrize("breaker", BREAKERS)
def test_interleaved_instructions_show_one_call_after_the_other(breaker: type[Breaker]) -> None:
    """The same with a switch wherever the interpreter with a GIL may make one: successes are counted without a lock."""
    many_interleavings(breaker, scripts=3, runs=20, gil=True)


@pytest.mark.proof
@pytest.mark.parametrize("breaker", BREAKERS)
def test_many_histories(breaker: type[Breaker]) -> None:
    """A thousand histories of threads and a thousand of interleaved instructions are linearizable."""
    many_histories(breaker, 1_000, seed=1)
    many_interleavings(breaker, scripts=25, runs=40, seed=1, gil=True)
