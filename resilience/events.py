"""What policies tell those who listen.

An event says what happened, to which policy, and when; it never asks for anything back. Each is built only when
somebody listens, after the decision is made and outside every lock, so a listener can be slow, can raise, or can call
the policy again without harm.

Every event has `.policy` (the policy's name), `.kind` (the policy's kind, such as "retry") and `.at` (the policy's
clock, in seconds). Events are frozen, compare by value, and pickle; what a call raised or returned pickles as its
`repr` where it does not pickle itself.

They are built inside the very calls that they tell of, so an event is a tuple with names: that is the cheapest frozen
thing that Python can make.
"""

from __future__ import annotations

from operator import itemgetter

from resilience.errors import portable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, TypeVar

    E = TypeVar("E", bound="Event")

    from resilience.core.breaker import CircuitState
    from resilience.core.verdict import Verdict

__all__ = [
    "AttemptFailed",
    "BudgetExhausted",
    "CallRejected",
    "CallSucceeded",
    "CircuitClosed",
    "CircuitHalfOpened",
    "CircuitIsolated",
    "CircuitOpened",
    "DeadlineMissed",
    "Event",
    "FallbackUsed",
    "HedgeStarted",
    "HedgeWon",
    "KeysFull",
    "LateResult",
    "LeaseTooShort",
    "LimitChanged",
    "RetryGaveUp",
    "RetryScheduled",
    "StoreLost",
    "StoreRecovered",
]


class Event(tuple[object, ...]):
    """The base of all events. A subclass lists its fields as annotations, and has empty `__slots__`."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ("policy",)

    _fields: ClassVar[tuple[str, ...]] = ("policy", "kind", "at")

    if TYPE_CHECKING:
        policy: str
        kind: str
        at: float
    else:
        policy, kind, at = (property(itemgetter(place)) for place in range(3))

    def __new__(cls, policy: str, kind: str, at: float, **fields: object) -> Self:
        """Build an event by name, and see that nothing is missing."""
        own = cls._fields[3:]
        if fields.keys() != set(own):
            raise TypeError(f"{cls.__name__} takes {own}, got {tuple(fields)}")
        return build(cls, (policy, kind, at, *[fields[field] for field in own]))

    def __init_subclass__(cls) -> None:
        for field in cls.__annotations__:
            setattr(cls, field, property(itemgetter(len(cls._fields))))
            cls._fields += (field,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        # What was raised or returned need not be hashable.
        return hash((type(self), self.policy, self.kind, self.at))

    def __repr__(self) -> str:
        told = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({told})"

    def __reduce__(self) -> tuple[Callable[..., Event], tuple[object, ...]]:
        return build, (type(self), tuple(portable(value) for value in self))


if TYPE_CHECKING:

    def build(event: type[E], values: tuple[Any, ...], /) -> E:
        """Build an event from all of its values, in order, without a look at them."""
        ...
else:
    build = tuple.__new__


class AttemptFailed(Event):
    """An attempt ended in a matching error, or in a result that was not accepted.

    `attempt` counts from 1. `depth` is 0 for the outermost retry and 1 for a retry inside another one's attempt, and so
    on. `error` is None where a result was refused; `result` is None where an error was raised.
    """

    __slots__ = ()
    attempt: int
    depth: int
    error: Exception | None
    result: object


class RetryScheduled(Event):
    """Another attempt will be made, after `delay` seconds. `attempt` is the number of the coming attempt."""

    __slots__ = ()
    attempt: int
    depth: int
    delay: float


class RetryGaveUp(Event):
    """No further attempt will be made.

    `attempts` calls were made, `waited` seconds were slept; `reason` names the bound that ended it: "attempts",
    "within", "deadline", "max_retry_after" or "budget", or is "unmatched" where a later attempt failed in a way that is
    not retried. `error` is the last one, or None where a result was refused.
    """

    __slots__ = ()
    attempts: int
    depth: int
    waited: float
    reason: str
    error: Exception | None


class CallSucceeded(Event):
    """A call came through with a good result, after `attempts` attempts (1 for policies that do not repeat)."""

    __slots__ = ()
    attempts: int


class CallRejected(Event):
    """A policy refused a call: `reason` is a state or a limit in a word, `retry_after` seconds or None."""

    __slots__ = ()
    reason: str
    retry_after: float | None


class _Transition(Event):
    __slots__ = ()
    previous: CircuitState
    state: CircuitState


class CircuitOpened(_Transition):
    """The circuit opened: too many failures, a failed trial, or by hand. `last_error` is (type name, message)."""

    __slots__ = ()
    last_error: tuple[str, str] | None


class CircuitHalfOpened(_Transition):
    """The cooldown is over and trials are admitted."""

    __slots__ = ()


class CircuitClosed(_Transition):
    """The circuit closed: the trials succeeded, or by hand."""

    __slots__ = ()


class CircuitIsolated(_Transition):
    """The circuit was isolated by hand, for `reason`."""

    __slots__ = ()
    reason: str


class LateResult(Event):
    """A call ended after the circuit had moved on: its `verdict` changed nothing."""

    __slots__ = ()
    verdict: Verdict


class LeaseTooShort(Event):
    """Two trials in a row ran past their lease of `lease` seconds: `trial_lease` is shorter than the call takes."""

    __slots__ = ()
    lease: float


class DeadlineMissed(Event):
    """A sync call that cannot be cut ended `late` seconds after its bound of `seconds`; its outcome was kept."""

    __slots__ = ()
    seconds: float
    late: float


class FallbackUsed(Event):
    """An outcome was replaced: `error` is what was raised, or None where a result was refused."""

    __slots__ = ()
    error: Exception | None


class HedgeStarted(Event):
    """Another copy of a call was sent: number `copy`, from 1. `reason` is "late", or "failed" after a failed one."""

    __slots__ = ()
    copy: int
    reason: str


class HedgeWon(Event):
    """Copy number `copy` of a call was answered before the call itself."""

    __slots__ = ()
    copy: int


class LimitChanged(Event):
    """An adaptive limit has moved, from `previous` calls in flight to `limit`."""

    __slots__ = ()
    previous: int
    limit: int


class BudgetExhausted(Event):
    """A retry or a hedge was refused: its budget holds less than one token. Said for each that is refused."""

    __slots__ = ()


class KeysFull(Event):
    """A table of keys is full and none can be forgotten: unknown keys are refused, or share one policy.

    Said once until room is found.
    """

    __slots__ = ()
    max_keys: int


class StoreLost(Event):
    """The store that this policy shares its state by does not answer; `error` says how. Said once for each outage."""

    __slots__ = ()
    error: str


class StoreRecovered(Event):
    """The store answers again, `after` seconds."""

    __slots__ = ()
    after: float
