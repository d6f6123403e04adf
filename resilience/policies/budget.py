"""Bound the retries of all calls together.

Each `Retry` by itself is reasonable; an outage makes all of them retry at once, and what was slow goes down for good. A
budget is what they share: successes earn retries, retries spend them, so retries stay a small share of the traffic
whatever happens. The arithmetic and its reasons are in `resilience.core.budget`; here it gets a lock, a clock and
listeners.

A budget wraps no call. It is handed to whoever makes extra ones, as `budget=`, and any number of them may hold the same
one. They need two things of it: `deposit` when a call has succeeded, which is next to nothing while the bucket is full,
and `withdraw` before an extra call, which may say no. A no is never an error of its own: the retry ends with the real
error, the hedge waits for the call it has.
"""

from __future__ import annotations

import sys

from resilience._checks import is_number, number, text_or_none, wrong_type, wrong_value
from resilience.core.budget import Budget
from resilience.events import BudgetExhausted
from resilience.policies._base import Policy
from resilience.policies._store_words import way_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from resilience.clock import Clock
    from resilience.policies._store_words import OnStoreError
    from resilience.stores import Store

__all__ = ["RetryBudget"]

_ONE_AT_A_TIME = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether threads take turns, so that a straight line of bytecode is never interrupted."""


class RetryBudget(Policy):
    """Tokens for retries and hedges, earned by calls that succeed: `Retry(on=..., budget=budget)`.

    One object is shared by all threads, event loops and policies that draw on it; no lock is held while a call runs.

    Args:
        ratio: tokens that a successful call deposits, attempts not counted; 0 or more.
        per_second: tokens that trickle in each second, for clients that call rarely; 0 or more.
        capacity: the most tokens it holds, and what it begins with; 1 or more.
        store: where the tokens are, for many processes to share (`resilience.stores`); this process by default. Then
            `name` is required: it is the key, and two budgets of one name share their tokens.
        on_store_error: what to do while the store cannot be had: "local" pays from tokens of this process, "allow" lets
            every extra call be made, "deny" none.
        name: for events and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_bucket",)

    kind = "retry_budget"
    _takes_callable = True
    _state = ("_bucket",)
    _elsewhere = False
    """Whether a withdrawal is a question to somebody else, which a coroutine has to await."""

    if not TYPE_CHECKING:

        def __new__(cls, *args, store=None, **kwargs):
            """Build what keeps its state in the store, where one is given."""
            if store is not None and cls is RetryBudget:
                from resilience.policies._store_budget import SharedBudget

                return super().__new__(SharedBudget, *args, **kwargs)
            return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        ratio: float = 0.1,
        *,
        per_second: float = 1.0,
        capacity: float = 100,
        store: Store | None = None,
        on_store_error: OnStoreError = "local",
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self._bucket = Budget(
            number("ratio", ratio, zero=True), number("per_second", per_second, zero=True), _whole_token(capacity)
        )
        on_error = way_out(on_store_error)
        if store is not None:
            self._join_store(store, text_or_none("name", name), on_error)
        self._setup(name, clock, arguments)

    def _join_store(self, store: Store, name: str | None, on_error: OnStoreError) -> None:
        raise TypeError(
            f"{type(self).__name__} is a class of its own and keeps to this process: write RetryBudget(store=)"
        )

    # --- what it is for -----------------------------------------------------------------------------------------------

    def deposit(self) -> None:
        """Say that a call has succeeded: once for the call, however many attempts it took. Never waits or fails."""
        if self._bucket.short:
            with self._lock:
                self._bucket.deposit()

    def withdraw(self) -> bool:
        """Take the token for one extra call; False where there is none, so make no extra call. Never waits."""
        return self._take() or self._refused()

    def _take(self) -> bool:
        """As `withdraw`, without a word."""
        now = self._clock.now()
        with self._lock:
            return self._bucket.withdraw(now)

    if _ONE_AT_A_TIME:

        def deposit(self) -> None:
            """Say that a call has succeeded: once for the call, however many attempts it took. Never waits or fails."""
            self._bucket.deposit()

        def _take(self) -> bool:
            """As `withdraw`, without a word."""
            return self._bucket.withdraw(self._clock.now())

    def _refused(self) -> bool:
        if self._channel.heard:
            self._send(BudgetExhausted)
        return False

    async def deposit_async(self) -> None:
        """As `deposit`, for code that is written against budgets of every kind."""
        self.deposit()

    async def withdraw_async(self) -> bool:
        """As `withdraw`, for code that is written against budgets of every kind."""
        return self.withdraw()

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON. Reads memory only; safe from any thread."""
        now = self._clock.now()
        with self._lock:
            level = self._bucket.level(now)
        return {**super().snapshot(), "level": level, "capacity": self._bucket.capacity}

    def _at_rest(self) -> bool:
        now = self._clock.now()
        with self._lock:
            return self._bucket.level(now) >= self._bucket.capacity

    # --- what it is not -----------------------------------------------------------------------------------------------

    def bind(self, _: Callable[..., Any], /) -> NoReturn:
        """A budget wraps no call.

        Raises:
            TypeError: always; it says what to write.
        """
        raise TypeError(_NO_WRAPPER)

    def guard(self, *_: object, **__: object) -> NoReturn:
        """A budget guards no block.

        Raises:
            TypeError: always; it says what to write.
        """
        raise TypeError(_NO_WRAPPER)

    __enter__ = __aenter__ = guard


def _whole_token(capacity: object) -> float:
    rule = "a number, 1 or more"
    if not is_number(capacity):
        raise wrong_type("capacity", rule, capacity)
    if not 1 <= capacity <= sys.float_info.max:
        raise wrong_value("capacity", rule, capacity)
    return float(capacity)


_NO_WRAPPER = (
    "RetryBudget wraps no call, it is what retries are paid from: write Retry(on=ConnectionError, budget=budget)"
)
