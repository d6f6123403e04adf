"""Ask again before the first answer is late.

For reads from a service that has several servers behind it, the slowest answers are slow by bad luck, and a second copy
of the question is lucky most of the time. When to send one, and why that stays cheap, is argued in
`resilience.core.hedge`; how copies run side by side, in `resilience.policies._race`.

A hedged call runs more than once. Use it for calls that may, and for nothing else: a hedged payment is two payments.
"""

from __future__ import annotations

from math import inf

from resilience._checks import is_number, positive_int, seconds, share
from resilience._shape import shape_of
from resilience.core.hedge import Hedging
from resilience.events import CallSucceeded, HedgeStarted, HedgeWon
from resilience.matching import Matcher
from resilience.policies._base import Policy
from resilience.policies._deposits import note_deposits
from resilience.policies._race import race
from resilience.policies._race_tasks import race_async
from resilience.policies.budget import RetryBudget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, Never, NoReturn  # noqa: F401 - Never is named in quotes

    from resilience.clock import Clock
    from resilience.matching import On

__all__ = ["Hedge"]


class Hedge(Policy["Never"]):
    """Send another copy of a call that takes long, and use the first acceptable answer. For idempotent calls only.

    In asyncio and trio the other copies are cancelled and have ended before the answer is returned; plain functions run
    on bounded daemon threads, in copies of the caller's context, and the copies that lose are left behind. One object
    is shared by all threads and event loops; no lock is held while a call runs.

    Args:
        max_extra_load: the share of calls that may be sent again, above 0 and at most 1. Holds whatever happens.
        after: seconds after which a copy is sent. Learnt by default: the (1 - max_extra_load) quantile of recent
            successes.
        copies: copies at most, beside the first call.
        on: errors after which the next copy is sent at once: a type, a tuple of types, or a predicate. Others are
            raised at once.
        ignore: errors that are raised at once, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means "not good enough, wait for another".
        budget: a `RetryBudget` that each copy is paid from, too. A refusal sends no copy and fails no call.
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        ResultNotAccepted: every copy returned, and no result was accepted.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_budget", "_copies", "_hedging", "_matcher", "_warned")

    kind = "hedge"
    _form = "max_extra_load=0.05"
    _state = ("_hedging",)

    def __init__(
        self,
        *,
        max_extra_load: float = 0.05,
        after: float | timedelta | None = None,
        copies: int = 1,
        on: On = Exception,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        budget: RetryBudget | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        if on is None:
            raise TypeError("on must be an exception type, a tuple of them or a predicate, got None")
        self._matcher = Matcher(on, ignore, on_result)
        fixed = None if after is None else seconds("after", after, zero=True)
        self._hedging = Hedging(share("max_extra_load", max_extra_load), fixed)
        self._copies = positive_int("copies", copies)
        self._budget = _checked_budget(budget)
        self._warned = False
        self._setup(name, clock, arguments)

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature."""
        bound = self._bound(fn, deposits=True)
        if self._budget is not None:
            note_deposits(bound, self._budget, self._bound(fn, deposits=False))
        return bound

    def _bound(self, fn: Callable[..., Any], *, deposits: bool) -> Callable[..., Any]:
        shape = shape_of(fn)
        if shape == "sync":

            def hedged(*args: Any, **kwargs: Any) -> Any:
                return self._race(deposits, fn, args, kwargs)

            return hedged
        if shape == "coroutine":

            async def hedged_async(*args: Any, **kwargs: Any) -> Any:
                return await self._race_async(deposits, fn, args, kwargs)

            return hedged_async
        raise TypeError("Hedge cannot wrap a generator: two of them cannot be yielded from at once")

    def _race(self, deposits: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return race(self, deposits, fn, args, kwargs)

    async def _race_async(
        self, deposits: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await race_async(self, deposits, fn, args, kwargs)

    def guard(self, *_: object, **__: object) -> NoReturn:
        """A block cannot run twice at once, so there is no guard.

        Raises:
            TypeError: always; it says what to write.
        """
        raise TypeError("Hedge cannot guard a block, which runs once: decorate a function or use call")

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values: the delay in seconds, or None while it is being learnt, and the copies
        saved up.
        """
        with self._lock:
            view = {"after": self._hedging.delay(), "credit": self._hedging.credit}
        return {**super().snapshot(), **view}

    def _at_rest(self) -> bool:
        return self._budget is None or self._budget._at_rest()

    # --- what a race asks ---------------------------------------------------------------------------------------------

    def _began(self) -> float:
        """A call begins; seconds after which its copy is due, infinity while that is not known."""
        with self._lock:
            self._hedging.began()
            delay = self._hedging.delay()
        return inf if delay is None else delay

    def _afford(self) -> bool:
        """Pay for a copy, by what calls have earned and from the budget."""
        if not self._spend():
            return False
        if self._budget is None or self._budget.withdraw():
            return True
        self._give_back()
        return False

    def _spend(self) -> bool:
        with self._lock:
            return self._hedging.spend()

    def _give_back(self) -> None:
        with self._lock:
            self._hedging.give_back()

    def _sent(self, copy: int, *, failed: bool) -> None:
        if self._channel.heard:
            self._send(HedgeStarted, copy=copy, reason="failed" if failed else "late")

    def _acts_on(self, error: Exception) -> bool:
        return self._matcher.error(error) is not None

    def _refuses(self, result: object) -> bool:
        return self._matcher.result(result) is not None

    def _won(self, runner: int, started: float, *, deposits: bool) -> None:
        elapsed = self._clock.now() - started
        with self._lock:
            self._hedging.succeeded(elapsed)
        if deposits and self._budget is not None:
            self._budget.deposit()
        if self._channel.heard:
            if runner:
                self._send(HedgeWon, copy=runner)
            self._send(CallSucceeded, attempts=1)


def _checked_budget(budget: object) -> RetryBudget | None:
    if budget is None or isinstance(budget, RetryBudget):
        return budget
    form = f"RetryBudget({budget!r})" if is_number(budget) else "RetryBudget()"
    raise TypeError(f"budget must be a RetryBudget or None: write budget={form}, got {budget!r}")
