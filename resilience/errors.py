"""What a caller may have to catch.

    ResilienceError
      Rejected              the call was not made
        CircuitOpen
        Throttled
        BulkheadFull
        LimitExceeded       an adaptive limit is reached
        LoadShed
      TimedOut              also a TimeoutError, hence an OSError
        DeadlineExceeded
      ResultNotAccepted     retries ran out and no result was good enough
      StoreUnavailable      the state that processes share cannot be had

One question decides the tree: was the call made? A `Rejected` says that it was not, so it is always safe to try again
and never says anything about the health of what would have been called; that is why every policy treats it as neutral.
Everything else that reaches a caller is the error of the call itself, unchanged.

Messages are built when somebody reads them: under overload, rejections are the most frequent thing a service does.
Every error pickles, so that it can cross a process boundary.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from resilience.context import Priority
    from resilience.core.breaker import CircuitState

__all__ = [
    "BlockingWarning",
    "BulkheadFull",
    "CircuitOpen",
    "DeadlineExceeded",
    "LimitExceeded",
    "LoadShed",
    "PipelineWarning",
    "Rejected",
    "ResilienceError",
    "ResultNotAccepted",
    "StoreUnavailable",
    "Throttled",
    "TimedOut",
]


class ResilienceError(Exception):
    """The base of everything that this package raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., ResilienceError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[ResilienceError], args: tuple[Any, ...], state: dict[str, Any]) -> ResilienceError:
    error = kind.__new__(kind, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error


class Rejected(ResilienceError):
    """The call was not made.

    Attributes:
        policy: the name of the policy that refused.
        retry_after: seconds after which it is worth trying again, or None where nobody can know.
    """

    def __init__(self, policy: str, retry_after: float | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.retry_after = retry_after

    def _reason(self) -> str:
        return "the call was not made"

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f"; try again in {self.retry_after:.6g} s"
        return f"{self.policy}: {self._reason()}{wait}"


class CircuitOpen(Rejected):
    """A circuit breaker refused: what would have been called has been failing.

    Attributes:
        state: the state that refused: open, half-open with every trial taken, or isolated; closed, while a ramp lets
            only a share of the calls through.
        retry_after: seconds to half-open; in half-open, to the earliest end of a lease; in a ramp, to some moment of
            the rest of it; None when isolated.
        last_error: (type name, message) of the failure that was counted last, or None. No traceback is kept.
    """

    # While something is down this is raised for every call, and slots are filled in half the time of a dict.
    __slots__ = ("last_error", "policy", "retry_after", "state")

    def __init__(
        self, policy: str, retry_after: float | None, state: CircuitState, last_error: tuple[str, str] | None = None
    ) -> None:
        super().__init__(policy, retry_after)
        self.state = state
        self.last_error = last_error

    def __reduce__(self) -> tuple[Callable[..., ResilienceError], tuple[Any, ...]]:
        slots = {name: getattr(self, name) for name in CircuitOpen.__slots__}
        return _rebuild, (type(self), self.args, {**self.__dict__, **slots})

    def _reason(self) -> str:
        cause = "" if self.last_error is None else f"; last failure {': '.join(filter(None, self.last_error))}"
        if self.state.value == "closed":
            return f"the circuit has closed lately and lets only a share of the calls through{cause}"
        return f"the circuit is {self.state.value.replace('_', '-')}{cause}"


class Throttled(Rejected):
    """A rate would have been exceeded.

    Attributes:
        reason: "rate" when the tokens are not there, "keys" when a new key found no room in the table of keys,
            "backend" when an adaptive throttle held back what the other side would have refused.
        retry_after: seconds that are enough, if nobody else comes meanwhile.
    """

    def __init__(
        self, policy: str, retry_after: float | None = None, reason: Literal["rate", "keys", "backend"] = "rate"
    ) -> None:
        super().__init__(policy, retry_after)
        self.reason = reason

    def _reason(self) -> str:
        return _THROTTLED[self.reason]


_THROTTLED = {
    "rate": "the rate is used up",
    "keys": "no room for another key",
    "backend": "the other side refuses too much at present",
}


class BulkheadFull(Rejected):
    """Every place was taken, and the queue was full or the wait too long.

    Attributes:
        limit: how many may be in flight.
        queue: how many may wait.
        waited: seconds waited in vain; 0.0 where it was refused at once.
        retry_after: None: nobody knows when a call that is in flight will end.
    """

    def __init__(
        self, policy: str, retry_after: float | None = None, limit: int = 0, queue: int = 0, waited: float = 0.0
    ) -> None:
        super().__init__(policy, retry_after)
        self.limit = limit
        self.queue = queue
        self.waited = waited

    def _reason(self) -> str:
        taken = "the one place is taken" if self.limit == 1 else f"all {self.limit} places are taken"
        if self.waited:
            return f"{taken}, and none became free in {self.waited:.3g} s"
        return f"{taken}, and the queue of {self.queue} is full" if self.queue else taken


class LimitExceeded(Rejected):
    """As many calls are in flight as an adaptive limit allows.

    Attributes:
        limit: what that is at present.
        retry_after: None: nobody knows when a call that is in flight will end.
    """

    def __init__(self, policy: str, retry_after: float | None = None, limit: int = 0) -> None:
        super().__init__(policy, retry_after)
        self.limit = limit

    def _reason(self) -> str:
        return f"{self.limit} in flight is the limit that it has learnt"


class LoadShed(Rejected):
    """There is more to do than can be done, and this mattered less.

    Attributes:
        priority: the priority of the call.
        delay: how long calls wait at present, in seconds.
        retry_after: None: nobody knows how long an overload lasts.
    """

    def __init__(
        self, policy: str, retry_after: float | None = None, priority: Priority | None = None, delay: float = 0.0
    ) -> None:
        super().__init__(policy, retry_after)
        self.priority = priority
        self.delay = delay

    def _reason(self) -> str:
        whose = "" if self.priority is None else f" of priority {self.priority.name}"
        return f"a call{whose} gives way, since calls wait {self.delay:.3g} s"


class TimedOut(ResilienceError, TimeoutError):
    """A `Timeout` cut the call, or there was no time left to start it.

    Attributes:
        policy: the name of the policy, or "deadline".
        seconds: the bound that passed, in seconds.
    """

    def __init__(self, policy: str, seconds: float) -> None:
        super().__init__()
        self.policy = policy
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.policy}: no answer within {self.seconds:.6g} s"


class DeadlineExceeded(TimedOut):
    """The deadline of the whole piece of work passed: `context.deadline` or a retry's `within`."""

    def __str__(self) -> str:
        return f"{self.policy}: the deadline of {self.seconds:.6g} s has passed"


class ResultNotAccepted(ResilienceError):
    """Every attempt returned, and `on_result` accepted none of the results.

    Attributes:
        policy: the name of the policy.
        last_result: what the last attempt returned; its `repr` after unpickling, where it does not pickle itself.
        attempts: calls made.
        elapsed: seconds from the first attempt to giving up.
    """

    def __init__(self, policy: str, last_result: object, attempts: int, elapsed: float) -> None:
        super().__init__()
        self.policy = policy
        self.last_result = last_result
        self.attempts = attempts
        self.elapsed = elapsed

    def __str__(self) -> str:
        calls = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        took = f"{calls} in {self.elapsed:.3g} s"
        return f"{self.policy}: no result accepted after {took}; the last was {_shown(self.last_result)}"

    def __reduce__(self) -> tuple[Callable[..., ResilienceError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, {**self.__dict__, "last_result": portable(self.last_result)})


class StoreUnavailable(ResilienceError):
    """The state that processes share cannot be had, and the policy was told to refuse then.

    Attributes:
        policy: the name of the policy.
        cause: what the store's client said, as text; None where the store is not asked at present.
    """

    def __init__(self, policy: str, cause: str | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.cause = cause

    def __str__(self) -> str:
        said = "it failed lately and is not asked at present" if self.cause is None else self.cause
        return f"{self.policy}: the store cannot be had: {said}"


def portable(value: object) -> object:
    """A value itself if it survives pickling, else its `repr`: what came from a caller may be anything."""
    import pickle

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - reads back what it wrote itself
    except Exception:
        return _shown(value)
    return value


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} that has no repr>"


class PipelineWarning(UserWarning):
    """Policies are composed in an order that cannot work as meant."""


class BlockingWarning(UserWarning):
    """A blocking wait was made on a thread that runs an event loop: everything else on that loop waits too."""
