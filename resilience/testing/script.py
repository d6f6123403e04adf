"""A story for a policy, and what it made of it.

    trace = run(retry, [ConnectionError(), ConnectionError(), "page"])
    assert trace[0].outcome == "page" and trace[0].waits == [1.0, 2.0]

A test of a policy has a dependency that fails in some order, calls with hours between them, and a look at what came of
each. Written out that is a stub with a counter, a clock, a listener and a `try`; here it is a list. Each call through
the policy takes as many entries as it makes attempts, so how many calls there are is the policy's doing, and one whole
run says it all.

The policy is used as it is, not a copy: it starts with the state that it has, and has that again afterwards.
"""

from __future__ import annotations

from resilience._hub import listen
from resilience._runtime import blocks_a_loop
from resilience.testing.script_entries import Advance, Overrun, Script, Step, advance
from resilience.testing.script_time import Stage
from resilience.testing.script_trace import Call, Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Protocol, Self

    from resilience.events import Event
    from resilience.testing.script_time import Moving

    class Bindable(Protocol):
        """Anything that wraps a function."""

        def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]: ...


__all__ = ["Call", "Trace", "advance", "run", "run_async"]


def run(policy: Bindable, script: Sequence[Any], /) -> Trace:
    """Call a function that does what the script says, again and again, through a policy, in virtual time.

    An entry of the script is a result, an exception or exception type to raise, a pair `(seconds, result or exception)`
    for an attempt that takes time, or `advance(seconds)` for time that passes between two calls. Each call takes as
    many entries as it makes attempts; a call that is refused before its first attempt takes one all the same.

    Used by one thread at a time, where no event loop runs. No time really passes.

    Raises:
        TypeError, ValueError: an entry is none of these, or the script ends in the middle of a call. What is wrong with
            an entry is said before anything runs.
        RuntimeError: an event loop runs here: use `run_async`.
    """
    if blocks_a_loop():
        raise RuntimeError("run is for plain code, and an event loop runs here: write await run_async(policy, script)")
    lines = Script(script)
    _check_policy(policy)
    with Stage(policy) as clock, _Play(lines, clock) as play:

        def scripted() -> Any:
            attempt = play.attempt()
            try:
                if attempt.step.seconds:
                    clock.sleep(attempt.step.seconds)
                return attempt.do()
            finally:
                attempt.ended = clock.now()

        bound = policy.bind(scripted)
        for call in play:
            if isinstance(call, Advance):
                clock.sleep(call.seconds)
                continue
            try:
                call.result = bound()
            except BaseException as error:
                play.failed(call, error)
            play.ended(call)
        return play.trace()


async def run_async(policy: Bindable, script: Sequence[Any], /) -> Trace:
    """Do what `run` does with a coroutine function, in the running loop of asyncio or trio.

    On trio, the run needs a mock clock: `trio.run(main, clock=trio.testing.MockClock())`.

    Raises:
        TypeError, ValueError: as `run`.
        RuntimeError: no event loop runs here, or not one that can be driven.
    """
    if not blocks_a_loop():
        raise RuntimeError("run_async is awaited in asyncio or trio; for plain code, use run")
    lines = Script(script)
    _check_policy(policy)
    async with Stage(policy) as clock:
        with _Play(lines, clock) as play:

            async def scripted() -> Any:
                attempt = play.attempt()
                try:
                    if attempt.step.seconds:
                        await clock.sleep_async(attempt.step.seconds)
                    return attempt.do()
                finally:
                    attempt.ended = clock.now()

            bound = policy.bind(scripted)
            for call in play:
                if isinstance(call, Advance):
                    await clock.sleep_async(call.seconds)
                    continue
                try:
                    call.result = await bound()
                except BaseException as error:
                    play.failed(call, error)
                play.ended(call)
            return play.trace()


def _check_policy(policy: Any) -> None:
    if isinstance(policy, type) or not callable(getattr(policy, "bind", None)):
        raise TypeError(f"a script is played through a policy, or an object with bind(fn) -> fn; got {policy!r}")


class _Attempt:
    """One attempt of a call."""

    __slots__ = ("_play", "began", "ended", "step")

    def __init__(self, play: _Play, step: Step, began: float) -> None:
        self._play = play
        self.step = step
        self.began = began
        self.ended: float | None = None

    def do(self) -> Any:
        """Do what the script says, and remember what was raised."""
        try:
            return self.step.do()
        except BaseException as error:
            self._play.raised.append(error)
            raise


class _Play:
    """A script while it plays: a block in which it listens, and an iterable of the calls to make and the times to let
    pass. Attempts may come from any thread.
    """

    __slots__ = ("_attempts", "_began", "_call", "_call_began", "_calls", "_clock", "_script", "_stop", "raised")

    def __init__(self, script: Script, clock: Moving) -> None:
        self._script = script
        self._clock = clock
        self._began = self._call_began = clock.now()
        self._calls: list[Call] = []
        self._attempts: list[_Attempt] = []
        self._call: Call | None = None
        self._stop: Callable[[], None] | None = None
        self.raised: list[BaseException] = []

    def __enter__(self) -> Self:
        self._stop = listen(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None:
            self._stop()
        self.raised.clear()

    def __iter__(self) -> Iterator[Call | Advance]:
        while (entry := self._script.look()) is not None:
            if isinstance(entry, Advance):
                self._script.take()
                yield entry
                continue
            self._attempts = []
            self._call_began = self._clock.now()
            self._call = call = Call(len(self._calls) + 1, _tidy(self._call_began - self._began))
            self._calls.append(call)
            yield call

    def attempt(self) -> _Attempt:
        """An attempt of the present call begins."""
        attempts = self._attempts
        step = self._script.attempt(len(self._calls), len(attempts) + 1)
        attempt = _Attempt(self, step, self._clock.now())
        attempts.append(attempt)
        return attempt

    def failed(self, call: Call, error: BaseException) -> None:
        """The call raised; what is neither an `Exception` nor of the script's is none of its outcomes."""
        if not (isinstance(error, Exception | Overrun) or any(error is each for each in self.raised)):
            raise error
        call.error = error

    def ended(self, call: Call) -> None:
        """Write down what the call was, once it has an outcome."""
        self._call = None
        if self._script.overrun is not None:
            call.error = None
            raise ValueError(self._script.overrun)
        began, now = self._call_began, self._clock.now()
        if not self._attempts:
            # It was refused: the entry that it would have used is spent, or the script would never end.
            self._script.take()
        call.attempts = len(self._attempts)
        call.seconds = _tidy(now - began)
        idle_since = began
        for attempt in self._attempts:
            call.waits.append(_tidy(attempt.began - idle_since))
            idle_since = max(idle_since, now if attempt.ended is None else attempt.ended)
        call.waits = [wait for wait in (*call.waits, _tidy(now - idle_since)) if wait > 0.0]

    def trace(self) -> Trace:
        """All calls so far."""
        return Trace(self._calls)

    def _hear(self, event: Event) -> None:
        if self._call is not None:
            self._call.events.append(event)


def _tidy(seconds: float) -> float:
    # Readings are large and differences small: what is below a nanosecond is rounding.
    return round(seconds, 9)
