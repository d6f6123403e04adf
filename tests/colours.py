"""One scenario, three colours: plain code, asyncio and trio.

A policy promises the same to a `def` and to an `async def` on either loop, so a test of it is written once, as a
coroutine that does everything by way of its colour:

    from tests.colours import Colour, every_colour

    @every_colour
    async def test_waits_between_attempts(colour: Colour) -> None:
        \"\"\"A retry waits its backoff between two attempts.\"\"\"
        retry = Retry(on=OSError, backoff=2, clock=colour.clock)
        fetch = colour.function([OSError(), OSError(), "page"])
        assert await colour.call(retry, fetch, "/") == "page"
        assert colour.clock.sleeps == [2.0, 2.0]
        assert fetch.calls == [("/",)] * 3

In the plain colour the coroutine never suspends: `call` is `policy.call`, `sleep` blocks, and the test is run through
to its end by hand. Several callers at once are threads there and tasks on a loop. Time is virtual in all three, from 0
on, for policies without a clock of their own and for the loop's timers too, so nothing here takes any; a scenario that
can never go on ends with an error that names who waits.

What a colour can do:

    clock                              the virtual clock; give it to policies as `clock=`
    function(script)                   a def or an async def that does what the script says, call by call
    await call(policy, fn, *args)      through the policy; `form=` one of FORMS: "call", "decorator", "guard"
    await invoke(fn, *args)            call a function of this colour, decorated ones included
    guard(policy, **kw)                `async with colour.guard(policy) as g:`
    await sleep(s)                     let s seconds pass
    await together(*callers)           run async functions at once; what each returned or raised, in order
    start(caller, *args) -> Job        run one in the background: `job.cancel()` (loops), `await job.outcome()`
    gate() -> Gate                     `await gate.wait()` here, `gate.open()` there
    await until(predicate)             let the others go on until it holds; on a loop, time stands still meanwhile
    run(scenario)                      the same by hand, for a test that Hypothesis calls: `Colour.named("trio").run(f)`
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from resilience.testing.virtual import Block, VirtualTime

__all__ = ["ALL", "FORMS", "LOOPS", "Colour", "Gate", "Job", "Script", "async_colours", "every_colour"]

ALL = ("sync", "asyncio", "trio")
LOOPS = ("asyncio", "trio")
FORMS = ("call", "decorator", "guard")
PATIENCE = 10.0  # seconds of real time after which a test that waits for another thread gives up

Scenario = Callable[..., Coroutine[Any, Any, Any]]


def every_colour(test: Scenario) -> Callable[..., None]:
    """Run an async test with a parameter `colour` once in each of the three colours."""
    return _in_colours(test, ALL)


def async_colours(test: Scenario) -> Callable[..., None]:
    """Run an async test with a parameter `colour` on asyncio and on trio."""
    return _in_colours(test, LOOPS)


def _in_colours(test: Scenario, names: Sequence[str]) -> Callable[..., None]:
    @pytest.mark.parametrize("colour", names)
    @functools.wraps(test)
    def run(*args: Any, colour: str, **kwargs: Any) -> None:
        painted = Colour.named(colour)
        painted.run(functools.partial(test, *args, colour=painted, **kwargs))

    # Without this, pytest would take the coroutine function for the test.
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


class Script:
    """A function that does one thing after the other.

    Each step of the script is one call: an exception or an exception class is raised, anything else is returned.
    `(seconds, step)` does `step` after that time; a last step of `...` repeats the one before for ever. A call too many
    fails the test, and no policy can keep it from failing.

    Attributes:
        calls: the positional arguments of each call so far.
        times: the reading of the colour's clock at each call.
    """

    def __init__(self, script: Sequence[Any], clock: VirtualTime) -> None:
        steps = list(script)
        self._endless = bool(steps) and steps[-1] is ...
        self._steps = steps[:-1] if self._endless else steps
        self._clock = clock
        self._lock = threading.Lock()
        self.calls: list[tuple[Any, ...]] = []
        self.times: list[float] = []

    def next(self, args: tuple[Any, ...]) -> tuple[float, Any]:
        """The seconds and the outcome of the next call."""
        with self._lock:
            index = len(self.calls)
            self.calls.append(args)
            self.times.append(self._clock.now())
        if index >= len(self._steps) and not self._endless:
            pytest.fail(f"call number {index + 1} of a script of {len(self._steps)}")
        step = self._steps[min(index, len(self._steps) - 1)]
        return step if isinstance(step, tuple) else (0.0, step)


class _Outcome:
    """What a caller came to: a result, or an error of any kind."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    async def record(self, caller: Scenario, args: tuple[Any, ...]) -> None:
        try:
            self.value = await caller(*args)
        except BaseException as error:
            self.error = error
            if isinstance(error, trio.Cancelled | asyncio.CancelledError):
                raise

    def either(self) -> Any:
        return self.value if self.error is None else self.error


class Gate:
    """Closed until somebody opens it; any number of callers may wait."""

    def __init__(self, event: Any) -> None:
        self._event = event

    async def wait(self) -> None:
        """Wait until the gate is open."""
        if isinstance(self._event, threading.Event):
            if not self._event.wait(PATIENCE):
                pytest.fail("nobody opened the gate")
        else:
            await self._event.wait()

    def open(self) -> None:
        """Let everybody pass, now and from now on; on a loop, from a task of that loop."""
        self._event.set()


class Job:
    """A caller that runs in the background."""

    def __init__(self, ended: Gate, outcome: _Outcome, cancel: Callable[[], object]) -> None:
        self._ended = ended
        self._outcome = outcome
        self._cancel = cancel

    def cancel(self) -> None:
        """Cancel the task; a thread cannot be cancelled."""
        self._cancel()

    async def outcome(self) -> Any:
        """Wait for the end: what was returned, or the exception that was raised, as a value."""
        await self._ended.wait()
        return self._outcome.either()


class Colour:
    """Plain code; the base of the two loops."""

    name = "sync"

    def __init__(self) -> None:
        self.clock = VirtualTime(0.0)
        self._threads: list[threading.Thread] = []

    @staticmethod
    def named(name: str) -> Colour:
        """A fresh colour with a clock of its own."""
        return {"sync": Colour, "asyncio": _Asyncio, "trio": _Trio}[name]()

    def __repr__(self) -> str:
        return self.name

    @property
    def is_async(self) -> bool:
        """Whether functions of this colour are coroutine functions."""
        return self.name != "sync"

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a scenario in this colour and return what it returns."""
        try:
            with Block(self.clock, keep=False):
                return _by_hand(scenario())
        finally:
            for thread in self._threads:
                thread.join(PATIENCE)

    def function(self, script: Sequence[Any]) -> Any:
        """A function of this colour that takes anything and follows a script; see `Script`."""
        steps = Script(script, self.clock)

        def plain(*args: Any, **kwargs: Any) -> Any:
            seconds, outcome = steps.next(args)
            if seconds:
                self.clock.sleep(seconds)
            return _do(outcome)

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            seconds, outcome = steps.next(args)
            if seconds:
                await self.clock.sleep_async(seconds)
            return _do(outcome)

        made: Any = coroutine if self.is_async else plain
        made.__name__ = made.__qualname__ = "scripted"
        made.calls, made.times = steps.calls, steps.times
        return made

    # --- calling -----------------------------------------------------------------------------------------------------

    async def call(self, policy: Any, fn: Callable[..., Any], /, *args: Any, form: str = "call", **kwargs: Any) -> Any:
        """Call a function of this colour through a policy, in one of the call forms."""
        if form == "decorator":
            return await self.invoke(policy(fn), *args, **kwargs)
        if form == "guard":
            async with self.guard(policy):
                return await self.invoke(fn, *args, **kwargs)
        return await self._call(policy, fn, *args, **kwargs)

    async def _call(self, policy: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return policy.call(fn, *args, **kwargs)

    async def invoke(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of this colour."""
        return fn(*args, **kwargs)

    @asynccontextmanager
    async def guard(self, policy: Any, **kwargs: Any) -> Any:
        """`with policy.guard()`, or `async with` on a loop."""
        with policy.guard(**kwargs) as guard:
            yield guard

    # --- time and company --------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass."""
        self.clock.sleep(seconds)

    async def until(self, predicate: Callable[[], object]) -> None:
        """Let everybody else go on until `predicate` holds; on a loop, no time passes."""
        deadline = time.monotonic() + PATIENCE
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"still not so after {PATIENCE} s: {predicate}")
            await self._yield()

    async def _yield(self) -> None:
        threading.Event().wait(0.0005)

    def gate(self) -> Gate:
        """A gate, closed."""
        return Gate(threading.Event())

    def start(self, caller: Scenario, /, *args: Any) -> Job:
        """Run an async function of the test's in the background: in a thread here, in a task on a loop."""
        outcome, ended = _Outcome(), self.gate()

        def thread() -> None:
            try:
                _by_hand(outcome.record(caller, args))
            finally:
                ended.open()

        worker = threading.Thread(target=thread, name=f"caller {len(self._threads) + 1}", daemon=True)
        self._threads.append(worker)
        worker.start()
        return Job(ended, outcome, _no_cancel)

    async def together(self, *callers: Scenario) -> list[Any]:
        """Run async functions at once; what each returned, or the exception that it raised, in their order."""
        ready = threading.Barrier(len(callers)) if self.name == "sync" else None

        async def prompt(caller: Scenario) -> Any:
            if ready is not None:
                ready.wait(PATIENCE)
            return await caller()

        jobs = [self.start(prompt, caller) for caller in callers]
        return [await job.outcome() for job in jobs]


class _Asyncio(Colour):
    name = "asyncio"

    def run(self, scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with Block(self.clock, keep=False):
                return await scenario()

        return asyncio.run(main())

    async def _call(self, policy: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await policy.call_async(fn, *args, **kwargs)

    async def invoke(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    @asynccontextmanager
    async def guard(self, policy: Any, **kwargs: Any) -> Any:
        async with policy.guard(**kwargs) as guard:
            yield guard

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep_async(seconds)

    async def _yield(self) -> None:
        await asyncio.sleep(0)

    def gate(self) -> Gate:
        return Gate(asyncio.Event())

    def start(self, caller: Scenario, /, *args: Any) -> Job:
        outcome, ended = _Outcome(), self.gate()
        task = asyncio.get_running_loop().create_task(outcome.record(caller, args))

        def end(task: asyncio.Task[None]) -> None:
            if task.cancelled() and outcome.error is None:
                outcome.error = asyncio.CancelledError("before its first step")
            ended.open()

        task.add_done_callback(end)
        return Job(ended, outcome, task.cancel)


class _Trio(_Asyncio):
    name = "trio"

    def run(self, scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return trio.run(self._main, scenario, clock=MockClock())

    async def _main(self, scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        # Outside the nursery, the error of the test is itself, not a group of one.
        outcome = _Outcome()
        async with Block(self.clock, keep=False), trio.open_nursery() as self._nursery:
            await outcome.record(scenario, ())
            self._nursery.cancel_scope.cancel()
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    async def _yield(self) -> None:
        await trio.lowlevel.checkpoint()

    def gate(self) -> Gate:
        return Gate(trio.Event())

    def start(self, caller: Scenario, /, *args: Any) -> Job:
        outcome, ended, scope = _Outcome(), self.gate(), trio.CancelScope()

        async def task() -> None:
            try:
                with scope:
                    await outcome.record(caller, args)
            finally:
                ended.open()

        self._nursery.start_soon(task)
        return Job(ended, outcome, scope.cancel)


def _by_hand(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("a scenario in plain colour awaited something of a loop's: go by way of the colour")


def _do(outcome: Any) -> Any:
    if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
        raise outcome
    return outcome


def _no_cancel() -> None:
    pytest.fail("a thread cannot be cancelled: use async_colours")
