"""What an event is: frozen, comparable, picklable, and complete."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest

from resilience import events
from resilience.core.breaker import CircuitState
from resilience.core.verdict import FAILURE
from resilience.events import AttemptFailed, CallSucceeded, Event, RetryScheduled

FIELDS: dict[str, dict[str, Any]] = {
    "AttemptFailed": {"attempt": 2, "depth": 0, "error": None, "result": "busy"},
    "RetryScheduled": {"attempt": 3, "depth": 1, "delay": 0.5},
    "RetryGaveUp": {"attempts": 3, "depth": 0, "waited": 1.5, "reason": "attempts", "error": None},
    "CallSucceeded": {"attempts": 1},
    "CallRejected": {"reason": "open", "retry_after": 2.0},
    "CircuitOpened": {
        "previous": CircuitState.CLOSED,
        "state": CircuitState.OPEN,
        "last_error": ("OSError", "down"),
    },
    "CircuitHalfOpened": {"previous": CircuitState.OPEN, "state": CircuitState.HALF_OPEN},
    "CircuitClosed": {"previous": CircuitState.HALF_OPEN, "state": CircuitState.CLOSED},
    "CircuitIsolated": {"previous": CircuitState.CLOSED, "state": CircuitState.ISOLATED, "reason": "deploy"},
    "LateResult": {"verdict": FAILURE},
    "LeaseTooShort": {"lease": 30.0},
    "DeadlineMissed": {"seconds": 2.0, "late": 0.5},
    "FallbackUsed": {"error": None},
    "BudgetExhausted": {},
    "HedgeStarted": {"copy": 1, "reason": "late"},
    "HedgeWon": {"copy": 1},
    "LimitChanged": {"previous": 20, "limit": 18},
    "StoreLost": {"error": "ConnectionError: refused"},
    "StoreRecovered": {"after": 3.5},
    "KeysFull": {"max_keys": 100_000},
}
KINDS = [getattr(events, name) for name in events.__all__ if isinstance(getattr(events, name), type)]


def build(kind: type[Event], **changes: Any) -> Event:
    """An event of a kind, with fields as in the table above."""
    return kind("auth0", "retry", 12.5, **{**FIELDS.get(kind.__name__, {}), **changes})


each = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.__name__ in FIELDS], ids=lambda kind: kind.__name__
)


@each
def test_an_event_has_its_fields(kind: type[Event]) -> None:
    """Every event has `policy`, `kind` and `at`, and the fields of its own type."""
    event = build(kind)
    assert (event.policy, event.kind, event.at) == ("auth0", "retry", 12.5)
    for field, value in FIELDS[kind.__name__].items():
        assert getattr(event, field) == value
    assert isinstance(event, Event)


@each
def test_an_event_is_frozen(kind: type[Event]) -> None:
    """No field of an event can be set, deleted or added."""
    event = build(kind)
    for field in ("policy", "kind", "at", *FIELDS[kind.__name__]):
        with pytest.raises(AttributeError):
            setattr(event, field, 1)
        with pytest.raises(AttributeError):
            delattr(event, field)
    with pytest.raises(AttributeError):
        event.other = 1  # type: ignore[attr-defined]


@each
def test_an_event_wants_all_of_its_fields_and_no_other(kind: type[Event]) -> None:
    """An event with a field too few or too many is a TypeError that lists them."""
    with pytest.raises(TypeError, match=f"{kind.__name__} takes "):
        build(kind, wrong=1)
    if FIELDS[kind.__name__]:
        with pytest.raises(TypeError, match=f"{kind.__name__} takes "):
            kind("auth0", "retry", 12.5)


@each
def test_events_compare_by_value(kind: type[Event]) -> None:
    """Equal events are those of one type with equal fields; they hash alike."""
    event = build(kind)
    assert event == build(kind)
    assert (event != build(kind)) is False
    assert hash(event) == hash(build(kind))
    for field, other in {
        "policy": "p",
        "kind": "k",
        "at": 0.0,
        **dict.fromkeys(FIELDS[kind.__name__], object()),
    }.items():
        fields = {"policy": "auth0", "kind": "retry", "at": 12.5, **FIELDS[kind.__name__], field: other}
        assert event != kind(**fields)


def test_events_of_different_types_differ() -> None:
    """The same values in another type, or in a plain tuple, are another thing."""
    closed, half_open = build(events.CircuitClosed), build(events.CircuitHalfOpened, **FIELDS["CircuitClosed"])
    assert closed != half_open
    assert tuple(closed) == tuple(half_open)
    assert closed != tuple(closed)
    assert hash(closed) != hash(half_open)


def test_an_event_with_an_unhashable_result_is_hashable() -> None:
    """What was raised or returned does not keep an event out of a set."""
    assert len({build(AttemptFailed, result=[]), build(AttemptFailed, result=[])}) == 1


@each
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_events_pickle(kind: type[Event], protocol: int) -> None:
    """Each event crosses a process boundary unchanged."""
    event = build(kind)
    back = pickle.loads(pickle.dumps(event, protocol))
    assert back == event
    assert type(back) is kind


@each
def test_events_copy(kind: type[Event]) -> None:
    """A copy, shallow or deep, is equal."""
    assert copy.copy(build(kind)) == copy.deepcopy(build(kind)) == build(kind)


class NeedsTwo(Exception):
    """The kind of error that pickles, and then cannot be unpickled."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")


@pytest.mark.parametrize("field", ["error", "result"])
@pytest.mark.parametrize("value", [threading.Lock(), NeedsTwo(503, "down")], ids=lambda value: type(value).__name__)
def test_what_does_not_pickle_goes_as_its_repr(field: str, value: Any) -> None:
    """An event pickles whatever the call raised or returned."""
    event = build(AttemptFailed, **{field: value})
    back = pickle.loads(pickle.dumps(event))
    assert back == build(AttemptFailed, **{field: repr(value)})
    assert getattr(event, field) is value


def test_an_error_that_pickles_goes_as_itself() -> None:
    """An ordinary error in an event is an error again on the other side."""
    back = pickle.loads(pickle.dumps(build(AttemptFailed, error=ConnectionError("down"))))
    assert isinstance(back.error, ConnectionError)
    assert str(back.error) == "down"


def test_an_event_shows_all_of_itself() -> None:
    """The repr names the type and every field."""
    assert repr(build(RetryScheduled)) == (
        "RetryScheduled(policy='auth0', kind='retry', at=12.5, attempt=3, depth=1, delay=0.5)"
    )


def test_events_can_be_told_apart_by_match() -> None:
    """`match` takes an event by type, by its policy in first place, and by fields."""
    match build(RetryScheduled):
        case CallSucceeded():
            raise AssertionError
        case RetryScheduled("auth0", delay=delay):
            assert delay == 0.5
        case _:
            raise AssertionError


def test_a_type_of_events_may_come_from_elsewhere() -> None:
    """An event type needs nothing but annotations, and may build on another one."""

    class BatchFailed(AttemptFailed):
        """With one more field."""

        __slots__ = ()
        size: int

    event = build(BatchFailed, **FIELDS["AttemptFailed"], size=7)
    assert (event.size, event.attempt, event.result) == (7, 2, "busy")  # type: ignore[attr-defined]
    assert repr(event).endswith("result='busy', size=7)")
    assert AttemptFailed._fields == ("policy", "kind", "at", *FIELDS["AttemptFailed"])


def test_every_kind_of_event_has_an_example_here() -> None:
    """No event is added to the module without being looked at here."""
    assert {kind.__name__ for kind in KINDS} - {"Event"} == set(FIELDS)
