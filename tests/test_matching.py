"""What a policy acts on: `on`, `ignore`, `on_result`, predicates, groups, and what an error asks to wait."""

from __future__ import annotations

import datetime as dt
import functools
import math
from email.message import Message
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import CircuitBreaker, CircuitOpen, Fallback, Rejected, ResilienceError, Retry, Throttled, http
from resilience.http import parse_retry_after
from resilience.matching import Matcher, hint_of


def matches(error: Exception, on: Any, ignore: Any = (), *, rejected: bool = False) -> float | None:
    """What a matcher answers about one error."""
    return Matcher(on, ignore, rejected=rejected).error(error)


def group(*parts: Exception) -> ExceptionGroup[Exception]:
    """A group of errors."""
    return ExceptionGroup("several", parts)


class Special(ExceptionGroup[Exception]):
    """A group type of somebody's own."""

    def derive(self, parts: Any) -> Special:
        return Special(self.message, parts)


# --- types ------------------------------------------------------------------------------------------------------------


def test_a_type_matches_its_instances_and_those_of_its_subclasses() -> None:
    """`on` as a type matches like `except` does."""
    assert matches(ConnectionResetError(), ConnectionError) == 0.0
    assert matches(ConnectionError(), ConnectionError) == 0.0
    assert matches(OSError(), ConnectionError) is None


def test_a_tuple_matches_each_of_its_types() -> None:
    """`on` as a tuple matches when any of its types does."""
    assert matches(KeyError(), (ValueError, LookupError)) == 0.0
    assert matches(ValueError(), (ValueError, LookupError)) == 0.0
    assert matches(TypeError(), (ValueError, LookupError)) is None


def test_without_on_no_error_matches() -> None:
    """A policy that was told of results alone acts on no error, groups and rejections included."""
    for error in (Exception(), group(Exception()), Throttled("t")):
        assert matches(error, None) is None


def test_ignore_wins() -> None:
    """What `ignore` names is not acted on, whatever `on` says, and the predicate of `on` is not even asked."""
    assert matches(ConnectionResetError(), OSError, ConnectionError) is None
    assert matches(PermissionError(), OSError, ConnectionError) == 0.0
    asked = Mock(return_value=True, spec=["__call__"])
    assert matches(KeyError(), asked, (KeyError, TypeError)) is None
    asked.assert_not_called()


def test_ignore_as_a_predicate() -> None:
    """`ignore` takes the same forms: True, and a number, mean that the error is left alone."""
    for answer, expected in [(True, None), (1.5, None), (0.0, None), (0, None), (False, 0.0), (None, 0.0)]:
        assert matches(ValueError(), ValueError, lambda error, answer=answer: answer) == expected


# --- predicates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (True, 0.0),
        (False, None),
        (None, None),
        (0, 0.0),
        (0.0, 0.0),
        (-0.0, 0.0),
        (3, 3.0),
        (2.5, 2.5),
        (-1, 0.0),
        (-math.inf, 0.0),
        (math.nan, 0.0),
        (math.inf, math.inf),
        (10**400, math.inf),
    ],
)
def test_what_a_predicate_may_answer(answer: Any, hint: float | None) -> None:
    """True is yes; False and None are no; a number is yes and a hint, but a negative one or a NaN hints at nothing."""
    assert matches(ValueError(), lambda error: answer) == hint
    assert Matcher(None, on_result=lambda result: answer).result("page") == hint


@pytest.mark.parametrize("answer", ["yes", "", b"", [], [1], {}, object(), 1j, dt.timedelta(1), ValueError])
def test_a_predicate_that_answers_junk_is_a_mistake(answer: Any) -> None:
    """Anything else is a TypeError that names the parameter and the predicate, and shows the answer."""

    def judge(about: object) -> Any:
        return answer

    for parameter, ask in {
        "on": lambda: matches(ValueError(), judge),
        "ignore": lambda: matches(ValueError(), ValueError, judge),
        "on_result": lambda: Matcher(None, on_result=judge).result(1),
    }.items():
        with pytest.raises(
            TypeError, match=rf"predicate {parameter}=.*judge must answer True, False, None or"
        ) as caught:
            ask()
        assert str(caught.value).endswith(repr(answer))


def test_an_async_predicate_is_a_mistake_and_leaves_no_coroutine_behind() -> None:
    """A predicate that has to be awaited is a TypeError that names it; its coroutine is closed, so nothing warns."""

    async def judge(error: Exception) -> bool:
        return True

    with pytest.raises(TypeError, match=r"predicate on=.*judge must answer .* got <coroutine object .*judge"):
        matches(ValueError(), judge)
    with pytest.raises(TypeError, match=r"predicate on_result=<AsyncMock .* must answer"):
        Matcher(None, on_result=AsyncMock(return_value=True)).result(1)


def test_a_result_that_comes_back_as_the_answer_is_left_as_it_is() -> None:
    """A predicate that returns what it was asked about is a mistake, but none that closes a caller's connection."""
    connection = Mock()
    with pytest.raises(TypeError, match="must answer"):
        Matcher(None, on_result=lambda result: result).result(connection)
    connection.close.assert_not_called()


def test_a_predicate_that_raises_is_an_error_that_names_it() -> None:
    """The predicate's own error is raised, the same object, with a note that says which predicate it was."""
    boom = RuntimeError("boom")

    def judge(error: Exception) -> bool:
        raise boom

    for _ in range(3):
        with pytest.raises(RuntimeError) as caught:
            matches(ValueError(), judge)
        assert caught.value is boom
    assert len(boom.__notes__) == 1
    assert boom.__notes__[0].startswith("resilience: raised by the predicate on=")
    assert boom.__notes__[0].endswith("judge")


def test_an_interrupt_in_a_predicate_passes_through() -> None:
    """KeyboardInterrupt that arrives in a predicate is nobody's mistake."""
    with pytest.raises(KeyboardInterrupt) as caught:
        matches(ValueError(), Mock(side_effect=KeyboardInterrupt, spec=["__call__"]))
    assert not hasattr(caught.value, "__notes__")


def test_a_predicate_without_a_name_is_named_by_its_repr() -> None:
    """A partial or a callable object has no name, so the error shows what it is."""
    with pytest.raises(TypeError, match=r"predicate on=functools\.partial\(.*max"):
        matches(ValueError(), functools.partial(max, default="junk", key=str), rejected=True)


# --- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(OSError()), 0.0),
        (group(OSError(), ConnectionError()), 0.0),
        (group(OSError(), ValueError()), None),
        (group(ValueError()), None),
        (group(group(OSError()), ConnectionError()), 0.0),
        (group(OSError(), group(OSError(), group(KeyError()))), None),
    ],
)
def test_a_group_matches_when_nothing_of_it_is_left_over(error: Exception, expected: float | None) -> None:
    """A group matches when each of its leaves does, however deep it lies."""
    assert matches(error, OSError) == expected
    assert matches(error, lambda leaf: isinstance(leaf, OSError)) == expected


def test_a_group_may_be_named_by_its_own_type() -> None:
    """`on` may name a type of groups, which then matches whole, as `except*` would take it, nested ones too."""
    assert matches(group(KeyError()), ExceptionGroup) == 0.0
    assert matches(Special("mine", [KeyError()]), Special) == 0.0
    assert matches(group(KeyError()), Special) is None
    assert matches(group(Special("mine", [KeyError()]), OSError()), (Special, OSError)) == 0.0
    assert matches(group(Special("mine", [KeyError()]), ValueError()), (Special, OSError)) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(OSError(), KeyError()), None),
        (group(OSError(), group(OSError(), KeyError())), None),
        (group(OSError(), group(OSError())), 0.0),
    ],
)
def test_a_group_is_ignored_when_any_leaf_is(error: Exception, expected: float | None) -> None:
    """One leaf that `ignore` names, however deep it lies, is enough to leave the whole group alone."""
    assert matches(error, Exception, KeyError) == expected
    assert matches(error, Exception, lambda leaf: isinstance(leaf, KeyError)) == expected


def test_a_group_may_be_ignored_by_its_own_type() -> None:
    """`ignore` may name a type of groups, nested ones too."""
    assert matches(Special("mine", [OSError()]), Exception, Special) is None
    assert matches(group(Special("mine", [OSError()]), OSError()), Exception, Special) is None
    assert matches(group(OSError()), Exception, Special) == 0.0


def test_predicates_see_leaves_only() -> None:
    """A predicate is asked about each leaf of a group and never about a group."""
    seen: list[Exception] = []
    leaves = OSError(), KeyError(), ValueError()
    error = group(leaves[0], group(leaves[1], Special("mine", [leaves[2]])))
    assert matches(error, lambda leaf: seen.append(leaf) is None) == 0.0
    assert seen == list(leaves)


def test_each_leaf_is_shown_once_to_each_predicate() -> None:
    """Neither `ignore` nor `on` is asked twice about the same leaf."""
    ignore, on = Mock(return_value=False, spec=["__call__"]), Mock(return_value=True, spec=["__call__"])
    leaves = OSError(), KeyError(), ValueError()
    assert matches(group(leaves[0], group(*leaves[1:])), on, ignore) == 0.0
    assert [call.args[0] for call in ignore.call_args_list] == list(leaves)
    assert [call.args[0] for call in on.call_args_list] == list(leaves)


def test_the_largest_hint_of_a_group_wins() -> None:
    """Of the numbers that a predicate answers about the leaves, the largest counts."""
    hints = {"a": 1.0, "b": 7.5, "c": 0.0}
    error = group(KeyError("a"), group(KeyError("b")), KeyError("c"))
    assert matches(error, lambda leaf: hints[leaf.args[0]]) == 7.5


@given(st.recursive(st.sampled_from([OSError, KeyError]), lambda parts: st.lists(parts, min_size=1, max_size=4)))
def test_groups_agree_with_the_language(shape: Any) -> None:
    """A group matches a type exactly when the language's own `split` leaves nothing over."""

    def build(part: Any) -> Exception:
        return group(*map(build, part)) if isinstance(part, list) else part()

    error = build([shape])
    assert isinstance(error, ExceptionGroup)
    assert (matches(error, OSError) == 0.0) == (error.split(OSError)[1] is None)
    assert (matches(error, Exception, OSError) is None) == (error.subgroup(OSError) is not None)


# --- rejections -------------------------------------------------------------------------------------------------------

THROTTLED, OPEN = Throttled("t", 2.0), CircuitOpen("c", 3.0, None)  # type: ignore[arg-type]


class Busy(Rejected):
    """A rejection by a policy from elsewhere."""


@pytest.mark.parametrize("on", [Exception, BaseException, ResilienceError, (OSError, Exception), lambda error: True])
def test_a_rejection_is_not_seen_through_a_wider_type_or_a_predicate(on: Any) -> None:
    """`Exception`, `ResilienceError` and predicates never see a `Rejected`."""
    for error in (THROTTLED, OPEN, Busy("b"), Rejected("r"), group(THROTTLED), group(OSError(), group(THROTTLED))):
        assert matches(error, on) is None


def test_a_predicate_is_never_asked_about_a_rejection() -> None:
    """Neither `on` nor `ignore` shows a `Rejected` to a predicate, not even one that `on` names by type."""
    asked = Mock(return_value=True, spec=["__call__"])
    assert matches(THROTTLED, asked) is None
    assert matches(group(THROTTLED), asked) is None
    assert matches(THROTTLED, Throttled, asked) == 0.0
    asked.assert_not_called()


def test_a_rejection_is_named_by_its_type_alone_or_in_a_tuple() -> None:
    """`Rejected` names all of them, a subclass itself, and neither is hidden by a wider type beside it."""
    assert matches(THROTTLED, Rejected) == matches(OPEN, Rejected) == matches(Busy("b"), Rejected) == 0.0
    assert matches(THROTTLED, Throttled) == matches(THROTTLED, (Exception, Throttled)) == 0.0
    assert matches(OPEN, Throttled) is matches(OPEN, (Exception, Throttled)) is None
    assert matches(THROTTLED, Rejected, Throttled) is None


def test_a_group_with_rejections_matches_when_each_is_named() -> None:
    """A `Rejected` leaf has to be named as well, also where the group is named by its own type."""
    mixed = group(OSError(), group(THROTTLED))
    assert matches(mixed, OSError) is None
    assert matches(mixed, (OSError, Throttled)) == 0.0
    assert matches(mixed, (OSError, CircuitOpen)) is None
    assert matches(mixed, ExceptionGroup) is None
    assert matches(mixed, (ExceptionGroup, Throttled)) == 0.0
    assert matches(mixed, (ExceptionGroup, CircuitOpen)) is None


def test_where_rejections_are_like_any_error_they_match_by_instance() -> None:
    """A fallback sees a `Rejected` through wider types, groups and predicates."""
    for on in (Exception, ResilienceError, lambda error: True):
        assert matches(THROTTLED, on, rejected=True) == matches(group(THROTTLED), on, rejected=True) == 0.0
    assert matches(group(THROTTLED), ExceptionGroup, rejected=True) == 0.0
    assert matches(THROTTLED, Exception, lambda error: True, rejected=True) is None


# --- bad parameters ---------------------------------------------------------------------------------------------------

NO_FORMS = [5, "ConnectionError", [ValueError], {ValueError}, ValueError("instance"), True]
NO_TYPES = [int, (ValueError, int), (ValueError, "KeyError"), (ValueError, (KeyError,)), (ValueError, print), object]


@pytest.mark.parametrize("parameter", ["on", "ignore"])
@pytest.mark.parametrize("given", [*NO_FORMS, *NO_TYPES])
@pytest.mark.parametrize(
    "build",
    [
        lambda **kwargs: Retry(**{"on": OSError, **kwargs}),
        lambda **kwargs: CircuitBreaker(**kwargs),
        lambda **kwargs: Fallback(**{"on": OSError, "value": 1, **kwargs}),
    ],
    ids=["retry", "breaker", "fallback"],
)
def test_what_is_no_form_of_on_or_ignore_is_refused(parameter: str, given: Any, build: Any) -> None:
    """Every policy refuses what is neither an exception type, nor a tuple of them, nor a predicate, and shows it."""
    with pytest.raises(
        TypeError, match=f"{parameter} must be an exception type, a tuple of them or a predicate"
    ) as caught:
        build(**{parameter: given})
    wrong = given[1] if isinstance(given, tuple) else given
    assert f"got {wrong!r}" in str(caught.value)


def test_on_may_not_be_empty_and_ignore_may() -> None:
    """An empty tuple would make a policy that acts on nothing; nothing to ignore is the default."""
    with pytest.raises(TypeError, match="on must name at least one exception type, got an empty tuple"):
        Matcher(())
    assert matches(ValueError(), ValueError, ()) == matches(ValueError(), ValueError, None) == 0.0


@pytest.mark.parametrize("given", [5, "len", True, object()])
def test_on_result_must_be_callable(given: Any) -> None:
    """`on_result` is a predicate or None."""
    with pytest.raises(TypeError, match="on_result must be a predicate of the result or None, got"):
        Matcher(OSError, on_result=given)


def test_without_on_result_no_result_matches() -> None:
    """A policy that was told of errors alone acts on no result."""
    assert Matcher(OSError).result(None) is None


# --- hints ------------------------------------------------------------------------------------------------------------


class Asks(Exception):
    """An error with attributes as given."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("retry_after", "hint"),
    [
        (3, 3.0),
        (2.5, 2.5),
        (0, 0.0),
        (math.inf, math.inf),
        (dt.timedelta(minutes=2), 120.0),
        ("7", 7.0),
        (b"7", 7.0),
        (None, 0.0),
        (-1, 0.0),
        (math.nan, 0.0),
        (-math.inf, 0.0),
        (True, 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ([3], 0.0),
        (dt.timedelta(seconds=-5), 0.0),
        (object(), 0.0),
        (3j, 0.0),
    ],
)
def test_an_error_asks_by_its_retry_after(retry_after: Any, hint: float) -> None:
    """A number of seconds, a duration or a header's text is a hint; negative numbers, NaN and junk are none."""
    assert hint_of(Asks(retry_after=retry_after)) == hint


def test_an_error_without_such_attributes_asks_nothing() -> None:
    """Most errors carry no hint."""
    assert hint_of(ValueError()) == hint_of(Asks(response=None)) == hint_of(KeyboardInterrupt()) == 0.0


def test_a_rejection_asks_by_its_own_retry_after() -> None:
    """A `Rejected` says itself when it is worth trying again, or that it cannot know."""
    assert hint_of(Throttled("t", 2.5)) == 2.5
    assert hint_of(Throttled("t", None)) == 0.0


def http_message(value: str) -> Message:
    """Headers as the standard library's client has them."""
    message = Message()
    message["retry-AFTER"] = value
    return message


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "12"},
        {"retry-after": "12"},
        {"RETRY-AFTER": b"12"},
        {b"retry-after": b"12"},
        {b"Retry-After": "12"},
        {"Retry-After": 12},
        httpx.Headers({"retry-after": "12"}),
        http_message("12"),
    ],
    ids=repr,
)
def test_an_error_asks_by_its_responses_header(headers: Any) -> None:
    """Retry-After is found in any client's headers, whatever the case and type of names and values."""
    assert hint_of(Asks(response=SimpleNamespace(headers=headers))) == 12.0


def test_what_httpx_raises_is_understood() -> None:
    """The error for a status carries its response, that for a lost connection none."""
    request = httpx.Request("GET", "http://localhost/")
    response = httpx.Response(429, headers={"Retry-After": "5"}, request=request)
    assert hint_of(httpx.HTTPStatusError("429", request=request, response=response)) == 5.0
    assert hint_of(httpx.ConnectError("down")) == 0.0


def test_what_requests_raises_is_understood() -> None:
    """The error for a status carries its response, that for a lost connection none."""
    requests = pytest.importorskip("requests")
    response = requests.Response()
    response.headers["retry-after"] = "6"
    assert hint_of(requests.HTTPError("429", response=response)) == 6.0
    assert hint_of(requests.ConnectionError()) == 0.0


def test_headers_need_nothing_but_get() -> None:
    """An object that can only be asked by name is asked by the header's own name."""

    class Headers:
        def get(self, name: str) -> str | None:
            return "12" if name == "Retry-After" else None

    assert hint_of(Asks(response=SimpleNamespace(headers=Headers()))) == 12.0


class Hostile:
    """An object every attribute of which fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileError(Exception):
    """An error whose properties fail."""

    @property
    def retry_after(self) -> float:
        raise RuntimeError("no response yet")

    @property
    def response(self) -> Any:
        raise RuntimeError("no response yet")


@pytest.mark.parametrize(
    "response",
    [
        Hostile(),
        SimpleNamespace(),
        SimpleNamespace(headers=None),
        SimpleNamespace(headers=Hostile()),
        SimpleNamespace(headers=[("Retry-After", "5")]),
        SimpleNamespace(headers={}),
        SimpleNamespace(headers={1: "5"}),
        SimpleNamespace(headers={"Retry-After": "later"}),
        SimpleNamespace(headers={"Retry-After": "-5"}),
        SimpleNamespace(headers={"X-Retry-After": "5"}),
        {"ResponseMetadata": {"HTTPHeaders": {"retry-after": "5"}}},
        "a page",
        MagicMock(),
    ],
    ids=lambda response: type(response).__name__,
)
def test_a_response_that_is_none_or_fails_asks_nothing(response: Any) -> None:
    """Errors come from anywhere: what cannot be read is no hint, and never an error in place of the real one."""
    assert hint_of(Asks(response=response)) == 0.0


def test_a_property_that_fails_asks_nothing() -> None:
    """A property of an error that raises does not replace the error."""
    assert hint_of(HostileError()) == 0.0


def test_the_larger_of_attribute_and_header_counts() -> None:
    """An error that asks twice is obeyed in the larger."""
    header = SimpleNamespace(headers={"Retry-After": "5"})
    assert hint_of(Asks(retry_after=3, response=header)) == 5.0
    assert hint_of(Asks(retry_after=8, response=header)) == 8.0
    assert hint_of(Asks(retry_after="junk", response=header)) == 5.0


def test_a_group_asks_for_the_largest_hint_of_its_leaves() -> None:
    """A group waits for the leaf that asks for most, and for its own attribute if it has one."""
    error = group(Asks(retry_after=3), group(Asks(retry_after=9), ValueError()))
    assert hint_of(error) == 9.0
    error.retry_after = 11  # type: ignore[attr-defined]
    assert hint_of(error) == 11.0
    assert hint_of(BaseExceptionGroup("", [KeyboardInterrupt(), Asks(retry_after=2)])) == 2.0


# --- the header itself ------------------------------------------------------------------------------------------------

NOON = dt.datetime(2030, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 01 Mar 2030 12:01:00 GMT",
        "Friday, 01-Mar-30 12:01:00 GMT",
        "Fri Mar  1 12:01:00 2030",
        "  Fri, 01 Mar 2030 12:01:00 GMT ",
        "Fri, 01 Mar 2030 14:01:00 +0200",
    ],
)
def test_a_date_is_seconds_from_now(date: str) -> None:
    """All three formats of HTTP dates are read, against the given present."""
    assert parse_retry_after(date, NOON.timestamp()) == 60.0
    assert parse_retry_after(date.encode(), NOON.timestamp()) == 60.0


def test_a_date_that_has_passed_is_now() -> None:
    """A past date asks for no wait, which is not the same as being junk."""
    assert parse_retry_after("Fri, 01 Mar 2030 11:59:59 GMT", NOON.timestamp()) == 0.0


def test_a_date_is_measured_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a given present, the machine's wall clock says how far away a date is."""
    monkeypatch.setattr(http.time, "time", lambda: NOON.timestamp())
    header = format_datetime(NOON + dt.timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(header) == 90.0
    assert hint_of(Asks(response=SimpleNamespace(headers={"Retry-After": header}))) == 90.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120\t", 120.0),
        ("1.5", 1.5),
        ("5.", 5.0),
        (b"120", 120.0),
        (bytearray(b"9"), 9.0),
        (3, 3.0),
        (0.5, 0.5),
        (0, 0.0),
    ],
)
def test_seconds_are_read(value: Any, seconds: float) -> None:
    """Whole seconds, fractions, text, bytes and numbers are all seconds."""
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *[
            "",
            " ",
            "-5",
            "+5",
            "1e3",
            "1_000",
            "1.5.2",
            "120, 240",
            "5 s",
            "inf",
            "nan",
            "NaN",
            "soon",
            "١٢",
            "½",
            "0x10",
        ],
        *["9" * 400, "Fri, 99 Mar 2030 12:01:00 GMT", "Fri, 01 Foo 2030 12:01:00 GMT", "\x00", "Fri", b"\xff\xfe"],
        *[-1, -0.5, math.nan, math.inf, -math.inf, 10**400, True, False, None, [], object(), 3j],
    ],
    ids=repr,
)
def test_junk_is_no_header(value: Any) -> None:
    """What is neither seconds nor a date is None, and never an error."""
    assert parse_retry_after(value, NOON.timestamp()) is None


@given(st.text() | st.binary() | st.from_regex(r"[A-Za-z]{0,9},? ?[0-9]{0,5}[- ]?[A-Za-z]{0,4}[- ]?[0-9:+ -]{0,20}"))
def test_no_text_makes_the_parser_fail(text: str | bytes) -> None:
    """Whatever a server sends is a number of seconds from 0 on, or None."""
    seconds = parse_retry_after(text, NOON.timestamp())
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0.0)
