"""The policy under test, as seen from outside.

A law is about what callers see, so it is checked with what callers have: a function wrapped by the policy. That needs
little of a policy written elsewhere: `bind(fn)`, being a decorator, or `call(fn)`. A call that raised before the
function was entered was refused. What else is asked for (`state`, `listen`, `try_acquire`) belongs to single laws.

For calls that overlap in every possible way, a call has to stop in the middle and go on when told. Around a coroutine
function it is a task on a loop that runs for one call at a time; around a plain function it runs in a thread of its own
while everybody else waits, so that nothing depends on how threads are scheduled.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import contextmanager
from importlib.util import find_spec

from resilience.errors import BulkheadFull
from resilience.policies._base import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any, TypeAlias, TypeGuard

    Make: TypeAlias = Callable[..., Any]

__all__ = [
    "CANCELLED",
    "COLOURS",
    "PATIENCE",
    "RUNTIMES",
    "Flight",
    "bound",
    "build",
    "colours_of",
    "each_of",
    "fact",
    "half",
    "in_seconds",
    "inner_rejection",
    "is_ours",
    "matching",
    "own_loop",
    "runtimes_of",
    "unmatched",
]

PATIENCE = 5.0
"""Seconds of real time after which a call that neither begins nor ends is given up."""

MOST_TURNS = 1000
"""The same for tasks, in turns of the loop."""

COLOURS = ("sync", "async")
RUNTIMES = ("sync", "async", "trio")
CANCELLED = object()
"""The outcome of a call whose caller goes away."""

_MISSING = object()


def build(make: Make, clock: object, **rest: object) -> Any:
    """What `make` makes, given the clock first and, of the rest, what it names among its parameters."""
    names = list(inspect.signature(make).parameters)
    return make(clock, **{name: rest[name] for name in names[1:] if name in rest})


def is_ours(policy: object) -> bool:
    """Whether it is a policy of this library, or built on its base."""
    return isinstance(policy, Policy)


def each_of(value: object) -> tuple[Any, ...]:
    """A tuple as it is, and anything else as one of its own."""
    return tuple(value) if _is_tuple(value) else (value,)


def _is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def half() -> float:
    """A generator of numbers in [0, 1) that has no surprises."""
    return 0.5


def in_seconds(span: Any) -> float:
    """A length that is a number or a `timedelta`."""
    return float(span.total_seconds() if hasattr(span, "total_seconds") else span)


def fact(policy: Any, name: str, given: Any, default: Any = _MISSING) -> Any:
    """A parameter of the policy: what was said, else what the policy says of itself, else the default.

    Raises:
        TypeError: nobody says it.
    """
    if given is not None:
        return given
    if is_ours(policy) and name in policy._arguments:
        return policy._arguments[name]
    value = getattr(policy, name, default)
    if value is _MISSING:
        raise TypeError(f"{type(policy).__name__} does not say its {name}: pass {name}=... to the check")
    return value


def colours_of(policy: Any, given: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds of function to check with.

    Raises:
        ValueError: a name is neither "sync" nor "async".
    """
    if given is not None:
        return _known(given, COLOURS)
    if is_ours(policy):
        return COLOURS
    # Something that decorates may take either kind of function, or claim to; the plain kind is the safe guess.
    plain = hasattr(policy, "call") or hasattr(policy, "bind") or callable(policy)
    return ("sync",) * plain + ("async",) * hasattr(policy, "call_async")


def runtimes_of(policy: Any, given: Sequence[str] | None, guess: Sequence[str]) -> tuple[str, ...]:
    """Where to have callers wait: "sync" for threads, "async" for asyncio, "trio".

    Of a policy of somebody else's it is not known whether its threads wait by the clock that it was given, nor whether
    its coroutines are at home on trio, so where nobody says, it is `guess`.

    Raises:
        ValueError: a name is none of these.
    """
    if given is not None:
        return _known(given, RUNTIMES)
    if not is_ours(policy):
        return tuple(guess)
    return RUNTIMES if find_spec("trio") else COLOURS


def _known(given: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    if not given or set(given) - set(names):
        raise ValueError(f"colours must be some of {names}, got {given!r}")
    return tuple(given)


def bound(policy: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` under the policy, by whichever way the policy has.

    Raises:
        TypeError: it has none.
    """
    bind: Any = getattr(policy, "bind", None)
    if bind is not None:
        wrapped: Callable[..., Any] = bind(fn)
        return wrapped
    verb = "call_async" if inspect.iscoroutinefunction(fn) else "call"
    if callable(call := getattr(policy, verb, None)):
        return lambda: call(fn)
    decorate: object = policy
    if callable(decorate):
        decorated: Callable[..., Any] = policy(fn)
        return decorated
    raise TypeError(f"a policy has bind(fn), {verb}(fn) or decorates a function; {policy!r} does none of it")


def matching(on: Any, given: Exception | None) -> Exception:
    """An error that the policy is to count."""
    if given is not None:
        return given
    kinds = each_of(on)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Exception):
            if issubclass(ConnectionError, kind):
                break
            return kind("down")
    return ConnectionError("down")


def unmatched(on: Any) -> Exception | None:
    """An error that the policy is not to count; None where that cannot be known."""
    kinds = each_of(on)
    if not all(isinstance(kind, type) for kind in kinds):
        return None
    candidates = (LookupError("not this"), ArithmeticError("not this"), OSError("not this"))
    return next((error for error in candidates if not isinstance(error, kinds)), None)


def inner_rejection() -> Exception:
    """What a policy further in raises instead of making the call."""
    return BulkheadFull("inner", None, 1, 0, 0.0)


class Flight:
    """One call through the policy, stopped where the function would do its work.

    Attributes:
        admitted: whether the function was entered.
        over: whether the call has ended.
        error: what it raised.
        result: what it returned.
    """

    __slots__ = ("_gate", "_go", "_loop", "_outcome", "_task", "_told", "admitted", "error", "over", "result")

    def __init__(self, policy: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.admitted = False
        self.over = False
        self.error: BaseException | None = None
        self.result: object = None
        self._outcome: object = None
        self._loop = loop
        if loop is not None:
            self._gate: asyncio.Future[None] = loop.create_future()
            self._task: asyncio.Task[Any] = loop.create_task(_awaited(bound(policy, self._stop_async)))
            self._turn(lambda: self.admitted)
        else:
            self._go = threading.Semaphore(0)
            self._told = threading.Semaphore(0)
            call = bound(policy, self._stop)
            threading.Thread(target=self._run, args=(call,), daemon=True).start()
            self._wait()

    def end(self, outcome: object) -> None:
        """Let the function return `outcome`, raise it, or be cancelled."""
        self._outcome = outcome
        if self._loop is None:
            self._go.release()
            self._wait()
        else:
            if outcome is CANCELLED:
                self._task.cancel()
            else:
                self._gate.set_result(None)
            self._turn(lambda: False)

    # --- a task, whose loop runs when told ----------------------------------------------------------------------------

    async def _stop_async(self, *_: object) -> object:
        self.admitted = True
        await self._gate
        return self._finish()

    def _turn(self, there: Callable[[], bool]) -> None:
        task, loop = self._task, self._loop

        async def until_there() -> None:
            for _ in range(MOST_TURNS):
                if there() or task.done():
                    return
                await asyncio.sleep(0)
            raise RuntimeError(f"a call has neither begun nor ended within {MOST_TURNS} turns of the loop")

        if loop is not None:
            loop.run_until_complete(until_there())
        if task.done():
            self.over = True
            try:
                self.result = task.result()
            except BaseException as error:
                self.error = error.with_traceback(None)

    # --- a thread, with everybody else waiting ------------------------------------------------------------------------

    def _stop(self, *_: object) -> object:
        self.admitted = True
        self._told.release()
        self._go.acquire()
        if self._outcome is CANCELLED:
            # What ends a generator is the nearest thing to a cancellation that plain code has.
            raise GeneratorExit
        return self._finish()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self.result = call()
        except BaseException as error:
            self.error = error.with_traceback(None)
        self.over = True
        self._told.release()

    def _wait(self) -> None:
        if not self._told.acquire(timeout=PATIENCE):
            raise RuntimeError(f"a call has neither begun nor ended within {PATIENCE} s of real time")

    def _finish(self) -> object:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


async def _awaited(call: Callable[..., Any]) -> Any:
    return await call()


@contextmanager
def own_loop(colour: str) -> Generator[asyncio.AbstractEventLoop | None, None, None]:
    """A loop that runs when told, for calls of async functions; None for plain ones.

    Raises:
        RuntimeError: an event loop runs here.
    """
    if colour == "sync":
        yield None
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
    else:
        raise RuntimeError("conformance is for plain code, and an event loop runs here: call it outside")
    try:
        yield loop
    finally:
        loop.close()
