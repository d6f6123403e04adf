"""Ways out of the program, at any moment: an interrupt from the keyboard may arrive between any two calls of ours.

`sys.settrace` plays the keyboard: it raises `KeyboardInterrupt` at the n-th place at which the interpreter looks for
signals inside our own files (the start of a function, after a call, at the end of a loop's turn), for every n in turn.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import resilience
from resilience import CircuitBreaker, CircuitOpen, FailureRate, Retry, _hub
from resilience.events import Event
from resilience.policies import _base
from resilience.testing import VirtualClock
from tests.colours import Colour, every_colour
from tests.policies.test_breaker import Boom, fails, half_open, in_every_form, through, works

PACKAGE = str(Path(resilience.__file__).parent)
OURS = ("_drivers.py", "breaker.py", "_guard.py", "_gate.py", "_hub.py", "trip.py", "_isolation.py")
LOOKS_AFTER = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"}


@functools.cache
def is_ours(code: CodeType) -> bool:
    """Whether this is code of the breaker and what it stands on."""
    # A generator expression that is cut short is closed by the interpreter, which then reports the interrupt itself.
    return code.co_filename.startswith(PACKAGE) and code.co_filename.endswith(OURS) and code.co_name != "<genexpr>"


@functools.cache
def names(code: CodeType) -> dict[int, str]:
    """The name of the instruction at each offset."""
    return {it.offset: it.opname for it in dis.get_instructions(code)}


class Keyboard:
    """Interrupts at the n-th place, counted from the moment it is armed."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.fired = False
        self.frames: dict[FrameType, str] = {}

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not is_ours(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            self.frames[frame] = "CALL"  # the interpreter looks as a function starts
            self._press()
        elif event == "opcode":
            before, self.frames[frame] = self.frames.get(frame, ""), names(frame.f_code).get(frame.f_lasti, "")
            if before in LOOKS_AFTER:
                self._press()
        elif event == "exception":
            self.frames[frame] = ""  # it does not look after a call that failed
        elif event == "return":
            self.frames.pop(frame, None)
        return self.trace

    def _press(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.fired = True
            sys.settrace(None)
            raise KeyboardInterrupt


@contextlib.contextmanager
def interrupted(keyboard: Keyboard) -> Iterator[None]:
    """Run a block under a keyboard; its interrupt ends here."""
    before = sys.gettrace()
    sys.settrace(keyboard.trace)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
        keyboard.frames.clear()


def call(breaker: CircuitBreaker, fn: Callable[[], object]) -> None:
    """One call, whatever comes of it."""
    with contextlib.suppress(Boom, CircuitOpen):
        breaker.call(fn)


def block(breaker: CircuitBreaker, fn: Callable[[], object]) -> None:
    """One guarded block, whatever comes of it."""
    with contextlib.suppress(Boom, CircuitOpen), breaker.guard():
        fn()


def generate(breaker: CircuitBreaker, fn: Callable[[], object]) -> None:
    """One generator, closed after its first step."""

    def steps() -> Iterator[object]:
        yield fn()

    gated = breaker(steps)()
    next(gated)
    gated.close()


def boom() -> None:
    """Raise."""
    raise Boom


ACTS: dict[str, Callable[[CircuitBreaker, VirtualClock], object]] = {
    "a failure that opens": lambda breaker, _: call(breaker, boom),
    "a trial that succeeds": lambda breaker, clock: (breaker.open(), clock.advance(10), call(breaker, int)),
    "a trial that fails": lambda breaker, clock: (breaker.open(), clock.advance(10), block(breaker, boom)),
    "a trial in a block": lambda breaker, clock: (breaker.open(), clock.advance(10), block(breaker, int)),
    "a generator left": lambda breaker, clock: (breaker.open(), clock.advance(10), generate(breaker, int)),
    "a refusal": lambda breaker, _: (breaker.open(), call(breaker, int)),
    "an isolation": lambda breaker, _: breaker.isolate("deploy").release(),
    "a reset": lambda breaker, _: breaker.reset(),
    "a look": lambda breaker, _: breaker.snapshot(),
    "a listener": lambda breaker, _: breaker.listen(print)(),
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No policy exists but those that the test makes: whoever listens asks all there are."""
    live = type(_hub.live)()
    monkeypatch.setattr(_hub, "live", live)
    monkeypatch.setattr(_base, "live", live)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
@pytest.mark.parametrize("act", ACTS)
def test_an_interrupt_anywhere_locks_nothing_and_wedges_nothing(act: str, heard: bool) -> None:
    """Point 7: wherever it strikes, no lock stays held, and within a lease half-open is left or tried again."""
    for at in itertools.count(1):
        clock = VirtualClock()
        breaker = CircuitBreaker((1, FailureRate(window=10)), on=Boom, cooldown=10, trial_lease=5, clock=clock)
        if heard:
            events: list[Event] = []
            breaker.listen(events.append)
        keyboard = Keyboard(at)
        with interrupted(keyboard):
            ACTS[act](breaker, clock)
        assert sys.exception() is None
        assert not breaker._lock.locked() and not breaker._channel._deliverer.locked(), at
        breaker.reset()
        if heard:
            events.clear()
        assert breaker.call(lambda: "fine") == "fine", at
        with pytest.raises(Boom):
            breaker.call(boom)
        assert breaker.state == "open", at
        clock.advance(10)
        assert breaker.call(lambda: "fine") == "fine" and breaker.state == "closed", at
        if heard:
            names = ["CallSucceeded", "CircuitOpened", "CircuitHalfOpened", "CircuitClosed", "CallSucceeded"]
            assert [type(event).__name__ for event in events] == names, at
        if not keyboard.fired:
            break
    assert at > 3


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("act", ACTS)
def test_after_an_interrupt_the_circuit_goes_on_by_itself(act: str) -> None:
    """Without a hand on the switch: after a cooldown and a lease, successes get through and close it."""
    for at in itertools.count(1):
        clock = VirtualClock()
        breaker = CircuitBreaker(1, on=Boom, cooldown=10, trial_lease=5, clock=clock)
        keyboard = Keyboard(at)
        with interrupted(keyboard):
            ACTS[act](breaker, clock)
        if breaker.state == "isolated":
            continue  # its token went down with the interrupt; `reset` is for that
        for _ in range(2):
            clock.advance(15)
            assert breaker.call(lambda: "fine") == "fine", at
        assert (breaker.state, breaker.snapshot()["trials"]) == ("closed", 0), at
        call(breaker, boom), call(breaker, boom)
        assert breaker.state == "open", at
        if not keyboard.fired:
            break


@pytest.mark.parametrize("exit_", [KeyboardInterrupt, SystemExit, GeneratorExit])
@in_every_form
@every_colour
async def test_a_way_out_passes_through_and_counts_nothing(
    colour: Colour, form: str, exit_: type[BaseException]
) -> None:
    """Point 7: raised by the call itself, it reaches the caller as the same object, uncounted, closed or half-open."""
    leaving = exit_("leaving")

    async def leaves() -> None:
        raise leaving

    breaker = CircuitBreaker(2, on_cancel="failure", clock=colour.clock)
    for _ in range(3):
        with pytest.raises(exit_) as passed:
            await through(colour, breaker, form, leaves)
        assert passed.value is leaving
        assert breaker.snapshot()["calls"] == 0
    trial = half_open(colour.clock)
    with pytest.raises(exit_):
        await through(colour, trial, form, leaves)
    assert (trial.state, trial.snapshot()["trials"]) == ("half_open", 0)
    assert await through(colour, trial, form, works) == "fine"


@every_colour
async def test_a_way_out_is_not_retried_around_a_breaker(colour: Colour) -> None:
    """A retry outside, told to retry everything, calls once."""
    retry = Retry(on=BaseException, attempts=5, backoff=0, clock=colour.clock)
    breaker = CircuitBreaker(1, on=BaseException, clock=colour.clock)
    fn = colour.function([KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        await colour.call(retry, breaker(fn))
    assert len(fn.calls) == 1 and breaker.state == "closed"


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """A block that may leave nothing for the collector."""
    gc.disable()
    gc.freeze()
    try:
        yield
        assert gc.collect() == 0
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("path", ["fails", "refused", "late", "trial", "neutral", "predicate", "cancelled"])
@in_every_form
@every_colour
async def test_no_path_leaves_a_reference_cycle(colour: Colour, form: str, path: str) -> None:
    """After a hundred calls on any path, in any form, the collector finds nothing."""

    async def neutral() -> None:
        raise KeyError

    async def cancelled() -> None:
        import asyncio

        raise asyncio.CancelledError

    def junk(error: Exception) -> Any:
        raise LookupError

    breaker = CircuitBreaker(10**6, on=junk if path == "predicate" else Boom, clock=colour.clock)
    breaker.listen(lambda _: None)
    body = {"neutral": neutral, "refused": works, "late": fails, "cancelled": cancelled}.get(path, fails)

    async def moves_on() -> None:
        breaker.reset()
        await body()

    async def once() -> None:
        if path == "trial":
            breaker.open()
            colour.clock.advance(30)
        with contextlib.suppress(Exception):
            try:
                await through(colour, breaker, form, moves_on if path == "late" else body)
            except BaseException as error:
                if type(error).__name__ != "CancelledError":
                    raise

    if path == "refused":
        breaker.open()
    for _ in range(3):
        await once()
    with no_garbage():
        for _ in range(100):
            await once()


def test_a_thousand_failed_and_refused_calls_leave_no_garbage() -> None:
    """The collector finds 0 after 1,000 calls that fail and 1,000 that are refused."""
    failing, refusing = CircuitBreaker(10**6), CircuitBreaker()
    refusing.open()
    call(failing, boom), call(refusing, boom)
    with no_garbage():
        for _ in range(1000):
            call(failing, boom)
            call(refusing, boom)
    assert failing.snapshot()["failures"] == 1001
