"""Faults on purpose, the same ones each time.

A function that fails at random makes a test that fails at random. Here chance is a seed: call number 17 of a `Chaos`
with seed 3 has the same fault today and tomorrow, in a thread and in a task, whatever the calls before it did. That
holds because each call draws the same number of random numbers, under one lock, whether it needs them or not.

    flaky = Chaos(errors=0.2, hangs=0.01, latency=(0.01, 0.1), seed=3)
    fetch = flaky(fetch)                                    # def or async def
    Pipeline(Retry(on=ConnectionError), flaky)              # innermost, in place of the network

    Chaos(script=[None, ConnectionError("reset"), 2.5, Chaos.returns("")])      # what each call meets, in order
"""

from __future__ import annotations

import random
import threading
from functools import update_wrapper

from resilience import clock as _clock
from resilience._checks import is_number, is_timedelta, seconds, share, wrong_type, wrong_value
from resilience._shape import shape_of
from resilience.policies._base import _checked_clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import Any, ParamSpec, TypeAlias, TypeGuard, TypeVar

    from resilience.clock import Clock

    P = ParamSpec("P")
    R = TypeVar("R")

    Error: TypeAlias = BaseException | type[BaseException]
    Step: TypeAlias = "Fault | Error | float | timedelta | tuple[float | timedelta, Fault | Error] | None"

__all__ = ["Chaos", "Fault"]

_NOTHING: Any = object()


class Fault:
    """What one call meets: so many seconds of waiting, and then an error, a result, or the function itself.

    Immutable; equal to a fault that does the same. Errors are the same when they print the same.
    """

    __slots__ = ("after", "error", "hangs", "result")

    def __init__(
        self, after: float = 0.0, *, error: Error | None = None, hangs: bool = False, result: object = _NOTHING
    ) -> None:
        self.after = after
        self.error = error
        self.hangs = hangs
        self.result = result

    @property
    def passes(self) -> bool:
        """Whether the function is called."""
        return self.error is None and self.result is _NOTHING

    def __repr__(self) -> str:
        wait = f"{self.after:g} s" if self.after else ""
        if self.hangs:
            return f"hangs {wait}"
        if self.error is not None:
            what = f"raises {self.error.__name__ if isinstance(self.error, type) else repr(self.error)}"
        else:
            what = "" if self.passes else f"returns {self.result!r}"
        return ", ".join(filter(None, (wait, what))) or "nothing"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fault) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Chaos:
    """Make calls slow, fail, hang or answer nonsense: by a script, and when that is over, by rate.

    Safe from any number of threads and event loops, which share the numbering of the calls; no lock is held while a
    call runs or waits.

    Args:
        errors: the share of calls that fail, 0 to 1. It is one call in so many on average, each drawn by itself.
        error: what they fail with: an error, a type of error, or a sequence of these of which each call draws one.
        hangs: the share of calls that hang, and fail with a `TimeoutError` when nothing has cut them.
        hang: how long they do, in seconds.
        results: the share of calls that return `result` in place of calling the function.
        result: that result.
        latency: seconds that calls take longer; a pair is drawn from evenly. What fails does so after it.
        slow: the share of calls that do, all by default.
        script: what the first calls meet: None for nothing, a number of seconds, an error or a type of error,
            `Chaos.returns(x)`, `Chaos.hang(seconds)`, or `(seconds, any but a number)`.
        seed: an integer; the same one gives the same faults.
        clock: the time source of every wait; the machine's monotonic clock by default.

    Attributes:
        calls: how many there were.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    def __init__(
        self,
        *,
        errors: float = 0.0,
        error: Error | Sequence[Error] = ConnectionError,
        hangs: float = 0.0,
        hang: float | timedelta = 3600.0,
        results: float = 0.0,
        result: object = None,
        latency: float | timedelta | tuple[float | timedelta, float | timedelta] = 0.0,
        slow: float = 1.0,
        script: Sequence[Step] = (),
        seed: int = 0,
        clock: Clock | None = None,
    ) -> None:
        given = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self._errors = share("errors", errors, zero=True)
        self._hangs = self._errors + share("hangs", hangs, zero=True)
        self._results = self._hangs + share("results", results, zero=True)
        if self._results > 1.0 + 1e-9:
            raise wrong_value("errors + hangs + results", "at most 1", self._results)
        self._choices = _errors(error)
        self._hang = seconds("hang", hang)
        self._result = result
        self._latency = _range(latency)
        self._slow = share("slow", slow, zero=True)
        self._script = _script(script)
        self._seed = _integer("seed", seed)
        self._clock: Clock = _clock.default if clock is None else _checked_clock(clock)
        self._lock = threading.Lock()
        self._rng = random.Random(self._seed)
        self._given = given
        self.reset()

    # --- what a script is made of -------------------------------------------------------------------------------------

    @staticmethod
    def returns(result: object) -> Fault:
        """A step of a script: return this, and call nothing."""
        return Fault(result=result)

    @staticmethod
    def hang(seconds_: float | timedelta = 3600.0, /) -> Fault:
        """A step of a script: hang for so long, and then fail with a `TimeoutError`."""
        return _hang(seconds("hang", seconds_))

    # --- ways to use it -----------------------------------------------------------------------------------------------

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a def or an async def. It keeps its signature, name and type, and gets an attribute `.chaos`.

        Raises:
            TypeError: `fn` is no function, or a generator, which is not one call.
        """
        wrapper: Any = update_wrapper(self.bind(fn), fn)
        wrapper.chaos = self
        decorated: Callable[P, R] = wrapper
        return decorated

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more, as a pipeline asks of its parts.

        Raises:
            TypeError: `fn` is no function, or a generator, which is not one call.
        """
        given: object = fn
        if not callable(given):
            raise TypeError(f"Chaos wraps a function, got {given!r}")
        shape = shape_of(fn)
        if shape == "sync":

            def harassed(*args: Any, **kwargs: Any) -> Any:
                fault = self._next()
                if fault.after:
                    self._clock.sleep(fault.after)
                return fn(*args, **kwargs) if fault.passes else _strike(fault)

            return harassed
        if shape == "coroutine":

            async def harassed_async(*args: Any, **kwargs: Any) -> Any:
                fault = self._next()
                if fault.after:
                    await self._clock.sleep_async(fault.after)
                return await fn(*args, **kwargs) if fault.passes else _strike(fault)

            return harassed_async
        raise TypeError(f"Chaos wraps a def or an async def, and {fn!r} is a generator, which is not one call")

    # --- what it does -------------------------------------------------------------------------------------------------

    def preview(self, n: int) -> list[Fault]:
        """What the first `n` calls meet, from the first one on; changes nothing.

        Raises:
            TypeError, ValueError: `n` is not an integer, 0 or more.
        """
        if _integer("n", n) < 0:
            raise wrong_value("n", "an integer, 0 or more", n)
        rng = random.Random(self._seed)
        return [self._draw(number, rng) for number in range(n)]

    def reset(self) -> None:
        """Begin again with the first call."""
        with self._lock:
            self.calls = 0
            self._rng = random.Random(self._seed)

    def _next(self) -> Fault:
        with self._lock:
            number = self.calls
            self.calls += 1
            return self._draw(number, self._rng)

    def _draw(self, number: int, rng: random.Random) -> Fault:
        """The fault of a call. Draws four numbers, whatever comes of it."""
        kind, slow, wait, which = rng.random(), rng.random(), rng.random(), rng.random()
        if number < len(self._script):
            return self._script[number]
        low, high = self._latency
        after = low + wait * (high - low) if slow < self._slow else 0.0
        if kind < self._errors:
            return Fault(after, error=self._choices[int(which * len(self._choices))])
        if kind < self._hangs:
            return _hang(self._hang)
        if kind < self._results:
            return Fault(after, result=self._result)
        return Fault(after)

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in self._given.items() if value != _DEFAULTS.get(name))
        return f"Chaos({', '.join([*(each for each in given if not each.startswith('seed=')), f'seed={self._seed}'])})"


_DEFAULTS: dict[str, object] = Chaos.__init__.__kwdefaults__ or {}


def _hang(for_seconds: float) -> Fault:
    return Fault(for_seconds, error=TimeoutError(f"hung for {for_seconds:g} s"), hangs=True)


def _strike(fault: Fault) -> object:
    if fault.error is None:
        return fault.result
    # One object that many calls raise would collect the tracebacks of all of them.
    raise fault.error if isinstance(fault.error, type) else fault.error.with_traceback(None)


# --- what is given ----------------------------------------------------------------------------------------------------


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def _check_error(name: str, error: Error) -> None:
    """Find out now, not in the middle of a test, that a type of error wants arguments."""
    if isinstance(error, type):
        try:
            error()
        except Exception:
            raise wrong_type(name, "an error, or a type of error that needs no arguments", error) from None


def _errors(error: Any) -> tuple[Error, ...]:
    rule = "an error, a type of error, or a sequence of these that is not empty"
    choices: tuple[Any, ...] = tuple(error) if _is_list(error) else (error,)
    if not choices or not all(map(_is_error, choices)):
        raise wrong_type("error", rule, error)
    for each in choices:
        _check_error("error", each)
    return choices


def _range(latency: Any) -> tuple[float, float]:
    if not _is_list(latency):
        fixed = seconds("latency", latency, zero=True)
        return fixed, fixed
    if len(latency) != 2:
        raise wrong_value("latency", "a number of seconds, or a pair of them", latency)
    low, high = (seconds("latency", each, zero=True) for each in latency)
    if low > high:
        raise wrong_value("latency", "a pair of which the second is not the smaller one", latency)
    return low, high


def _script(script: Any) -> list[Fault]:
    if not _is_list(script):
        raise wrong_type("script", "a list of steps", script)
    return [_step(f"script[{index}]", step) for index, step in enumerate(script)]


def _step(name: str, step: Any) -> Fault:
    if step is None:
        return Fault()
    if isinstance(step, Fault):
        return step
    if _is_error(step):
        _check_error(name, step)
        return Fault(error=step)
    if is_number(step) or is_timedelta(step):
        return Fault(seconds(name, step, zero=True))
    if _is_list(step) and len(step) == 2 and not is_number(step[1]):
        fault = _step(name, step[1])
        if not fault.hangs:
            return Fault(seconds(name, step[0], zero=True), error=fault.error, result=fault.result)
    rule = "None, seconds, an error, Chaos.returns(x), Chaos.hang(s), or (seconds, an error or Chaos.returns(x))"
    raise wrong_type(name, rule, step)


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    return value
