"""What policies tell those who listen.

An event says what happened, to which policy, and when; it never asks for anything back. Each is built only when somebody listens, after
the decision is made and outside every lock, so a listener can be slow, can raise, or can call the policy again without harm.

Every event has `.policy` (the policy's name), `.kind` (the policy's kind, such as "retry") and `.at` (the policy's clock, in seconds).
Events are frozen and compare by value.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, NoReturn

    from resilience.core.breaker import CircuitState
    from resilience.core.verdict import Verdict

__all__ = [
    "AttemptFailed",
    "CallRejected",
    "CallSucceeded",
    "CircuitClosed",
    "CircuitHalfOpened",
    "CircuitIsolated",
    "CircuitOpened",
    "DeadlineMissed",
    "Event",
    "FallbackUsed",
    "KeysFull",
    "LateResult",
    "LeaseTooShort",
    "RetryGaveUp",
    "RetryScheduled",
]


class Event:
    """The base of all events."""

    __slots__ = ("at", "kind", "policy")
    __match_args__: ClassVar[tuple[str, ...]] = ("policy",)

    _fields: ClassVar[tuple[str, ...]] = ()

    policy: str
    kind: str
    at: float

    def __init__(self, policy: str, kind: str, at: float, **fields: object) -> None:
        put = object.__setattr__
        put(self, "policy", policy)
        put(self, "kind", kind)
        put(self, "at", at)
        if fields.keys() != set(self._fields):
            raise TypeError(f"{type(self).__name__} takes {self._fields}, got {tuple(fields)}")
        for field, value in fields.items():
            put(self, field, value)

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *cls.__slots__)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an event is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an event is frozen: {name} cannot be deleted")

    def _values(self) -> tuple[object, ...]:
        return (self.policy, self.kind, self.at, *(getattr(self, field) for field in self._fields))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self.policy, self.kind, self.at))

    def __repr__(self) -> str:
        own = "".join(f", {field}={getattr(self, field)!r}" for field in self._fields)
        return f"{type(self).__name__}(policy={self.policy!r}, kind={self.kind!r}, at={self.at!r}{own})"

    def __reduce__(self) -> tuple[object, ...]:
        own = {field: getattr(self, field) for field in self._fields}
        return _rebuild, (type(self), self.policy, self.kind, self.at, own)


def _rebuild(event: type[Event], policy: str, kind: str, at: float, own: dict[str, object]) -> Event:
    return event(policy, kind, at, **own)


class AttemptFailed(Event):
    """An attempt ended in a matching error, or in a result that was not accepted.

    `attempt` counts from 1. `depth` is 0 for the outermost retry and 1 for a retry inside another one's attempt, and so on. `error` is
    None where a result was refused; `result` is None where an error was raised.
    """

    __slots__ = ("attempt", "depth", "error", "result")
    attempt: int
    depth: int
    error: Exception | None
    result: object


class RetryScheduled(Event):
    """Another attempt will be made, after `delay` seconds. `attempt` is the number of the coming attempt."""

    __slots__ = ("attempt", "delay", "depth")
    attempt: int
    depth: int
    delay: float


class RetryGaveUp(Event):
    """No further attempt will be made.

    `attempts` calls were made, `waited` seconds were slept; `reason` names the bound that ended it: "attempts", "within", "deadline" or
    "max_retry_after".
    """

    __slots__ = ("attempts", "depth", "error", "reason", "waited")
    attempts: int
    depth: int
    waited: float
    reason: str
    error: Exception | None


class CallSucceeded(Event):
    """A call came through a policy with a good result, after `attempts` attempts (1 for policies that do not repeat)."""

    __slots__ = ("attempts",)
    attempts: int


class CallRejected(Event):
    """A policy refused a call: `reason` is a state or a limit in a word, `retry_after` seconds or None."""

    __slots__ = ("reason", "retry_after")
    reason: str
    retry_after: float | None


class _Transition(Event):
    __slots__ = ("previous", "state")
    previous: CircuitState
    state: CircuitState


class CircuitOpened(_Transition):
    """The circuit opened: too many failures, a failed trial, or by hand. `last_error` is (type name, message) or None."""

    __slots__ = ("last_error",)
    last_error: tuple[str, str] | None


class CircuitHalfOpened(_Transition):
    """The cooldown is over and trials are admitted."""

    __slots__ = ()


class CircuitClosed(_Transition):
    """The circuit closed: the trials succeeded, or by hand."""

    __slots__ = ()


class CircuitIsolated(_Transition):
    """The circuit was isolated by hand, for `reason`."""

    __slots__ = ("reason",)
    reason: str


class LateResult(Event):
    """A call ended after the circuit had moved on: its `verdict` changed nothing."""

    __slots__ = ("verdict",)
    verdict: Verdict


class LeaseTooShort(Event):
    """Two trials in a row ran past their lease of `lease` seconds: `trial_lease` is shorter than the call takes."""

    __slots__ = ("lease",)
    lease: float


class DeadlineMissed(Event):
    """A sync call that cannot be cut ended `late` seconds after its bound of `seconds`; its outcome was kept."""

    __slots__ = ("late", "seconds")
    seconds: float
    late: float


class FallbackUsed(Event):
    """An outcome was replaced: `error` is what was raised, or None where a result was refused."""

    __slots__ = ("error",)
    error: Exception | None


class KeysFull(Event):
    """A table of keys is full and none can be forgotten: unknown keys are refused. Said once until room is found."""

    __slots__ = ("max_keys",)
    max_keys: int
