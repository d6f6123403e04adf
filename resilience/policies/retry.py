"""Try again, after a while, if it makes sense.

A retry spends somebody else's capacity to hide a fault from the caller. It is right for faults that pass, for calls
that may be repeated, and for as long as the caller still wants the answer; everything else about it is damage control.
So nothing is retried that is not named (`on` is required), waits grow and are spread out by default, the whole can be
bounded in time, and what a server asks for is obeyed.

The success of a first attempt costs a `try`, which is free. While nobody listens, no deadline stands around the call,
and the error is one that was named, another attempt needs no more than a look at the backoff. Everything else happens
in `RetryCall`, one per call.
"""

from __future__ import annotations

import sys
import warnings
from math import inf

from resilience._checks import callable_or_none, is_number, positive_int, seconds, seconds_or_none, wrong_value
from resilience._compile import Layer
from resilience._hub import HUB
from resilience._loop_driver import bind_loop
from resilience._runtime import blocks_a_loop
from resilience._scope import current
from resilience._shape import shape_of
from resilience.backoff import coerce, exponential
from resilience.core.retry import RetryPlan
from resilience.errors import BlockingWarning
from resilience.matching import Matcher, hint_of
from resilience.policies._asking import asking
from resilience.policies._attempts import Attempts
from resilience.policies._base import Policy
from resilience.policies._deposits import without_deposits
from resilience.policies._retry_call import RetryCall, begun
from resilience.policies.budget import RetryBudget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from types import FrameType
    from typing import Any, Literal, Never, NoReturn  # noqa: F401 - Never is named in quotes

    from resilience._hub import _Listener as Listener
    from resilience._mark import Mark
    from resilience.clock import Clock
    from resilience.core.backoff import Backoff
    from resilience.events import Event
    from resilience.matching import On

__all__ = ["Retry"]

_DEFAULT_BACKOFF = exponential()


class Retry(Policy["Never"]):
    """Call again when a call fails in a way that is worth it.

    Holds no state between calls: any number of threads and tasks may use one object at once.

    Args:
        on: the errors to retry: a type, a tuple of types, or a predicate. Required, unless `on_result` is given.
        ignore: errors never to retry, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means "not good enough, try again".
        attempts: calls in all, the first included; `math.inf`, spelled out, for no bound.
        within: seconds for all attempts and waits together. Opens a deadline that timeouts inside keep to; async
            attempts are cut at it.
        backoff: what to wait before each retry: one of `resilience.backoff`, a number of seconds, or a sequence of
            them.
        budget: a `RetryBudget` that each retry is paid from, and that others may share; while it is empty there are no
            retries, and the error of the first attempt is raised.
        on_exhausted: "raise" raises `ResultNotAccepted` when no result was accepted, "return" returns the last one.
        max_retry_after: a server that asks for more than this many seconds is not waited for at all.
        rng: where jitter comes from: a function that returns numbers in [0, 1).
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = (
        "_budget",
        "_lean",
        "_matcher",
        "_pay",
        "_plan",
        "_reads_clock",
        "_returns_last",
        "_rng",
        "_tell",
        "_warned",
    )

    kind = "retry"
    _form = "on=ConnectionError"

    def __init__(
        self,
        *,
        on: On | None = None,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        attempts: float = 3,
        within: float | timedelta | None = None,
        backoff: Backoff | float | timedelta | Sequence[float] = _DEFAULT_BACKOFF,
        budget: RetryBudget | None = None,
        on_exhausted: Literal["raise", "return"] = "raise",
        max_retry_after: float | timedelta = 60.0,
        rng: Callable[[], float] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        if on is None and on_result is None:
            raise TypeError("Retry must be told what to retry: pass on=SomeError, or on_result=a_predicate, or both")
        self._matcher = Matcher(on, ignore, on_result)
        self._plan = RetryPlan(
            positive_int("attempts", attempts, infinite=True),
            seconds_or_none("within", within),
            coerce(backoff, "backoff"),
            seconds("max_retry_after", max_retry_after, zero=True),
        )
        if on_exhausted not in ("raise", "return"):
            raise wrong_value("on_exhausted", '"raise" or "return"', on_exhausted)
        self._returns_last = on_exhausted == "return"
        self._budget = _checked_budget(budget)
        self._pay = None if budget is None else budget.withdraw
        self._rng = callable_or_none("rng", rng) or _default_rng()
        self._warned = False
        self._reads_clock = self._plan.within is not None or on_result is not None
        self._lean = not self._reads_clock
        self._setup(name, clock, arguments)
        with HUB.lock:
            self._choose_listeners()

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        budget = self._budget
        if budget is not None:
            fn = without_deposits(fn, budget)
            if budget._elsewhere and shape_of(fn) == "coroutine":
                return asking(self, fn, budget)
        return bind_loop(
            self, self._channel, fn, "Retry cannot wrap a generator: what it has yielded cannot be taken back"
        )

    def _inline(self) -> Layer | None:
        budget = self._budget
        if budget is not None and budget._elsewhere:
            return None
        if budget is None:
            return Layer("retry" if self._lean else "bounded_retry", "retry", {})
        if self._lean:
            return Layer("paid_retry", "retry", {"_budget": budget}, lambda fn: without_deposits(fn, budget))
        return Layer("bounded_retry", "retry", {}, lambda fn: without_deposits(fn, budget))

    def guard(self, *_: object, **__: object) -> NoReturn:
        """A block cannot be run again from outside, so there is no guard.

        Raises:
            TypeError: always; it says what to write.
        """
        raise TypeError(
            "Retry cannot guard a block, which runs once: "
            "write `for attempt in retry.attempts():` and in it `with attempt:`"
        )

    def attempts(self) -> Attempts:
        """Retry a block: `for attempt in retry.attempts(): with attempt: ...`, or `async for` with the same `with`.

        The loop ends after the first attempt that succeeds. The last error leaves the block unchanged.
        """
        return Attempts(self)

    if TYPE_CHECKING:

        def _begin(self, *, cuts: bool) -> RetryCall: ...
    else:
        # The function itself, as a method: a call in between would cost more than it does.
        _begin = begun

    def _plainly(self, error: Exception, mark: Mark | None) -> float:
        """Seconds to wait before the next attempt, in the plainest of cases; below 0 where there is more to it."""
        plan = self._plan
        attempt, previous = (1, 0.0) if mark is None else (mark.attempt, mark.delay)
        if attempt >= plan.attempts or type(error) not in self._matcher.sure:
            return -1.0
        if current.get() is not mark:
            return -1.0
        # What `hint_of` looks at first: most errors have neither, and a call of ours costs as much as both.
        try:
            asks = getattr(error, "retry_after", None) is not None or getattr(error, "response", None) is not None
        except Exception:
            asks = True
        if asks and hint_of(error):
            return -1.0
        if attempt < len(plan.known):
            delay = self._rng() * plan.known[attempt] if plan.jittered else plan.known[attempt]
        else:
            delay = plan.backoff(attempt, previous, self._rng())
        try:
            sane = 0.0 <= delay < inf
        except TypeError:
            return -1.0
        # An empty budget is asked once more by the long way, which says that it was.
        return delay if sane and (self._budget is None or self._budget._take()) else -1.0

    def _begin_late(self, error: Exception, mark: Mark | None) -> RetryCall | None:
        """Begin after an attempt has failed without us; None where that was the last."""
        call = begun(self, cuts=False)
        if mark is not None:
            call.attempt, call.previous, call.waited = mark.attempt, mark.delay, mark.waited
        return call if call.failed(error) else None

    def _pause(self, seconds: float) -> None:
        if not self._warned and blocks_a_loop():
            self._warned = True
            warnings.warn(
                f"{self.name} sleeps on a thread that runs an event loop: decorate an async def instead",
                BlockingWarning,
                stacklevel=_frames_of_ours() + 1,
            )
        self._clock.sleep(seconds)

    async def _pause_async(self, seconds: float) -> None:
        await self._clock.sleep_async(seconds)

    def _at_rest(self) -> bool:
        return self._budget is None or self._budget._at_rest()

    def _choose_listeners(self) -> None:
        self._tell = _teller((*self._channel.listeners, *HUB.listeners))


def _checked_budget(budget: object) -> RetryBudget | None:
    if budget is None or isinstance(budget, RetryBudget):
        return budget
    form = f"RetryBudget({budget!r})" if is_number(budget) else "RetryBudget()"
    raise TypeError(f"budget must be a RetryBudget or None: write budget={form}, got {budget!r}")


def _teller(listeners: tuple[Listener, ...]) -> Callable[[Event], object] | None:
    """What tells an event to all who listen, or None where nobody does."""
    if not listeners:
        return None
    if len(listeners) == 1:
        # Whoever wants everything is called at once; whoever tells looks after what is raised.
        return listeners[0].hear if listeners[0].types else listeners[0].callback

    def tell(event: Event) -> None:
        for listener in listeners:
            listener.hear(event)

    return tell


def _frames_of_ours() -> int:
    """How many frames of this package are on top of whoever used it, the caller's included."""
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("resilience."):
        frame = frame.f_back
        count += 1
    return count


def _default_rng() -> Callable[[], float]:
    # The module's own generator is seeded anew in a forked child.
    from random import random

    return random
