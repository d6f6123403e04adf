"""The tree of errors: what is caught by what, what each says, and that each survives the way to another process."""

from __future__ import annotations

import builtins
import copy
import pickle
import threading
from typing import Any

import pytest

import resilience
from resilience import Priority, errors
from resilience.core.breaker import CircuitState
from resilience.errors import (
    BlockingWarning,
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    LimitExceeded,
    LoadShed,
    PipelineWarning,
    Rejected,
    ResilienceError,
    ResultNotAccepted,
    StoreUnavailable,
    Throttled,
    TimedOut,
)

EXAMPLES: list[tuple[ResilienceError, dict[str, Any], str]] = [
    (ResilienceError("plain"), {}, "plain"),
    (Rejected("p"), {"policy": "p", "retry_after": None}, "p: the call was not made"),
    (Rejected("p", 0.0), {"policy": "p", "retry_after": 0.0}, "p: the call was not made; try again in 0 s"),
    (
        CircuitOpen("c", 2.5, CircuitState.OPEN, ("OSError", "down")),
        {"policy": "c", "retry_after": 2.5, "state": CircuitState.OPEN, "last_error": ("OSError", "down")},
        "c: the circuit is open; last failure OSError: down; try again in 2.5 s",
    ),
    (
        CircuitOpen("c", None, CircuitState.ISOLATED),
        {"policy": "c", "retry_after": None, "state": CircuitState.ISOLATED, "last_error": None},
        "c: the circuit is isolated",
    ),
    (
        CircuitOpen("c", 1.0, CircuitState.HALF_OPEN),
        {"policy": "c", "retry_after": 1.0, "state": CircuitState.HALF_OPEN, "last_error": None},
        "c: the circuit is half-open; try again in 1 s",
    ),
    (
        CircuitOpen("c", 3.0, CircuitState.CLOSED),
        {"policy": "c", "retry_after": 3.0, "state": CircuitState.CLOSED, "last_error": None},
        "c: the circuit has closed lately and lets only a share of the calls through; try again in 3 s",
    ),
    (
        Throttled("t", 3600.25),
        {"policy": "t", "retry_after": 3600.25, "reason": "rate"},
        "t: the rate is used up; try again in 3600.25 s",
    ),
    (
        Throttled("t", reason="keys"),
        {"policy": "t", "retry_after": None, "reason": "keys"},
        "t: no room for another key",
    ),
    (
        Throttled("t", reason="backend"),
        {"policy": "t", "retry_after": None, "reason": "backend"},
        "t: the other side refuses too much at present",
    ),
    (
        BulkheadFull("b", limit=4),
        {"policy": "b", "retry_after": None, "limit": 4, "queue": 0, "waited": 0.0},
        "b: all 4 places are taken",
    ),
    (
        BulkheadFull("b", limit=1, queue=2),
        {"policy": "b", "retry_after": None, "limit": 1, "queue": 2, "waited": 0.0},
        "b: the one place is taken, and the queue of 2 is full",
    ),
    (
        BulkheadFull("b", limit=4, queue=2, waited=0.5),
        {"policy": "b", "retry_after": None, "limit": 4, "queue": 2, "waited": 0.5},
        "b: all 4 places are taken, and none became free in 0.5 s",
    ),
    (
        LimitExceeded("a", limit=12),
        {"policy": "a", "retry_after": None, "limit": 12},
        "a: 12 in flight is the limit that it has learnt",
    ),
    (
        LoadShed("s", priority=Priority.SHEDDABLE, delay=0.25),
        {"policy": "s", "retry_after": None, "priority": Priority.SHEDDABLE, "delay": 0.25},
        "s: a call of priority SHEDDABLE gives way, since calls wait 0.25 s",
    ),
    (
        LoadShed("s"),
        {"policy": "s", "retry_after": None, "priority": None, "delay": 0.0},
        "s: a call gives way, since calls wait 0 s",
    ),
    (TimedOut("slow", 0.05), {"policy": "slow", "seconds": 0.05}, "slow: no answer within 0.05 s"),
    (
        DeadlineExceeded("deadline", 7200.0),
        {"policy": "deadline", "seconds": 7200.0},
        "deadline: the deadline of 7200 s has passed",
    ),
    (
        ResultNotAccepted("r", {"status": 503}, 3, 0.25),
        {"policy": "r", "last_result": {"status": 503}, "attempts": 3, "elapsed": 0.25},
        "r: no result accepted after 3 attempts in 0.25 s; the last was {'status': 503}",
    ),
    (
        ResultNotAccepted("r", None, 1, 0.0),
        {"policy": "r", "last_result": None, "attempts": 1, "elapsed": 0.0},
        "r: no result accepted after 1 attempt in 0 s; the last was None",
    ),
    (
        StoreUnavailable("t", "ConnectionError: refused"),
        {"policy": "t", "cause": "ConnectionError: refused"},
        "t: the store cannot be had: ConnectionError: refused",
    ),
    (
        StoreUnavailable("t"),
        {"policy": "t", "cause": None},
        "t: the store cannot be had: it failed lately and is not asked at present",
    ),
]
each = pytest.mark.parametrize(("error", "attributes", "message"), EXAMPLES, ids=lambda value: type(value).__name__)


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (ResilienceError, {Exception}),
        (Rejected, {ResilienceError}),
        (CircuitOpen, {Rejected}),
        (Throttled, {Rejected}),
        (BulkheadFull, {Rejected}),
        (LimitExceeded, {Rejected}),
        (LoadShed, {Rejected}),
        (TimedOut, {ResilienceError, builtins.TimeoutError}),
        (DeadlineExceeded, {TimedOut}),
        (ResultNotAccepted, {ResilienceError}),
        (StoreUnavailable, {ResilienceError}),
        (PipelineWarning, {UserWarning}),
        (BlockingWarning, {UserWarning}),
    ],
)
def test_the_tree(kind: type, parents: set[type]) -> None:
    """Each error stands where the tree at the top of the module draws it."""
    assert set(kind.__bases__) == parents


def test_a_timeout_is_an_os_error() -> None:
    """Code that catches TimeoutError or OSError, as socket code does, catches our timeouts; a rejection is neither."""
    assert issubclass(TimedOut, OSError)
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert not issubclass(Rejected, OSError)
    assert not issubclass(TimedOut, Rejected)


def test_every_error_is_public_at_the_top() -> None:
    """Whatever a caller may have to catch is imported from the package itself."""
    for name in errors.__all__:
        assert getattr(resilience, name) is getattr(errors, name)


def test_every_kind_of_error_has_an_example_here() -> None:
    """No error is added without a test of its message and of its pickle."""
    kinds = {getattr(errors, name) for name in errors.__all__}
    assert {kind for kind in kinds if issubclass(kind, ResilienceError)} == {type(error) for error, *_ in EXAMPLES}


def known(error: ResilienceError) -> dict[str, Any]:
    """All that an error knows, whether it keeps it in a dict or in slots."""
    slots = [name for kind in type(error).__mro__ for name in vars(kind).get("__slots__", ())]
    return {**vars(error), **{name: getattr(error, name) for name in slots}}


@each
def test_what_an_error_says_and_knows(error: ResilienceError, attributes: dict[str, Any], message: str) -> None:
    """An error names the policy first, says what happened in one line, and has it all as attributes."""
    assert str(error) == message
    assert known(error) == attributes


@each
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_pickle(error: ResilienceError, attributes: dict[str, Any], message: str, protocol: int) -> None:
    """Each error crosses a process boundary with its type, attributes, arguments, message and notes."""
    error = copy.copy(error)
    error.add_note("seen by the worker")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert known(back) == {**attributes, "__notes__": ["seen by the worker"]}
    assert back.args == error.args
    assert str(back) == message


@each
def test_errors_copy(error: ResilienceError, attributes: dict[str, Any], message: str) -> None:
    """A copy, shallow or deep, is an error of its own that says the same."""
    for twin in (copy.copy(error), copy.deepcopy(error)):
        assert twin is not error
        assert type(twin) is type(error)
        assert known(twin) == attributes
        assert str(twin) == message


class Overloaded(Rejected):
    """A rejection from elsewhere, with a constructor of its own."""

    def __init__(self, policy: str, load: float) -> None:
        super().__init__(policy, 1.0)
        self.args = ("from elsewhere",)
        self.load = load


def test_errors_of_others_pickle_too() -> None:
    """A subclass with another constructor and extra attributes pickles without any work of its own."""
    back = pickle.loads(pickle.dumps(Overloaded("o", 0.9)))
    assert type(back) is Overloaded
    assert vars(back) == {"policy": "o", "retry_after": 1.0, "load": 0.9}
    assert back.args == ("from elsewhere",)


class NeedsTwo(Exception):
    """The kind of error that pickles, and then cannot be unpickled."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")


class Unprintable:
    """What neither pickles nor has a repr."""

    def __reduce__(self) -> Any:
        raise TypeError("no")

    def __repr__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize("result", [threading.Lock(), lambda: 0, NeedsTwo(503, "down"), (x for x in ())], ids=repr)
def test_a_result_that_does_not_pickle_goes_as_its_repr(result: Any) -> None:
    """What an attempt returned may be anything; where it does not survive pickling, its repr does."""
    error = ResultNotAccepted("r", result, 2, 1.5)
    back = pickle.loads(pickle.dumps(error))
    assert back.last_result == repr(result)
    assert (back.policy, back.attempts, back.elapsed) == ("r", 2, 1.5)
    assert error.last_result is result


def test_a_result_that_cannot_even_be_shown_goes_as_its_type() -> None:
    """Where the repr fails too, the name of the type is what is left, in the pickle and in the message."""
    error = ResultNotAccepted("r", Unprintable(), 2, 1.5)
    assert pickle.loads(pickle.dumps(error)).last_result == "<Unprintable that has no repr>"
    assert str(error).endswith("the last was <Unprintable that has no repr>")


def test_messages_are_built_when_read() -> None:
    """An error that nobody prints builds no message: what it says follows its attributes."""
    error = Throttled("before", 1.0)
    error.policy = "after"
    assert str(error).startswith("after:")
    assert error.args == ()
