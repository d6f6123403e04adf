"""Which errors and which results a policy acts on: `on`, `ignore` and `on_result`, the same for every policy.

    on         an exception type, a tuple of them, or a predicate of the error
    ignore     the same forms; it wins
    on_result  a predicate of the result: True means that it is as bad as an error

A predicate answers True (yes), False or None (no), or a number: yes, and not sooner than that many seconds. A plain
number, 0.0 included, is therefore a yes; anything else is a mistake in the predicate and is raised as one, because a
policy that guesses at it would retry, or count, or replace the wrong calls in silence.

An exception group is several errors at once. It matches `on` only when nothing of it is left over, since acting on a
group acts on all of it; it matches `ignore` when any part does.

A `Rejected` says that no call was made, so it is no evidence. Unless a policy's `on` names it by its own type, the
policy never sees it, not even through `Exception` or a predicate; only `Fallback`, which does not judge but replace,
takes it like any other error.
"""

from __future__ import annotations

from math import inf

from resilience._checks import is_number, is_timedelta
from resilience._notes import leave_note
from resilience._retry_after import parse_retry_after
from resilience._shape import close_coroutine, is_awaitable
from resilience.errors import Rejected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, TypeGuard

    Predicate: TypeAlias = Callable[[Exception], "bool | float | None"]
    On: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...] | Predicate"
    ResultPredicate: TypeAlias = Callable[[object], "bool | float | None"]

__all__ = ["Matcher", "hint_of"]

# A group of what, is of no interest here, nor to the type checkers.
_Group: type[Exception] = ExceptionGroup
_BaseGroup: type[BaseException] = BaseExceptionGroup


class Matcher:
    """One policy's `on`, `ignore` and `on_result`, checked once. Immutable; safe from any thread.

    Args:
        on: what the policy acts on, or None for no error at all.
        ignore: what it never acts on.
        on_result: which results it acts on, or None for none.
        rejected: whether a `Rejected` is matched like any other error.

    Raises:
        TypeError: a parameter is of none of its forms.
    """

    __slots__ = (
        "_ignore",
        "_ignore_types",
        "_ignores",
        "_on",
        "_on_types",
        "_rejected",
        "_seen",
        "on_result",
        "sure",
    )

    def __init__(
        self,
        on: On | None,
        ignore: On = (),
        on_result: Callable[..., bool | float | None] | None = None,
        *,
        rejected: bool = False,
    ) -> None:
        self._on_types, self._on = _forms("on", on)
        self._ignore_types, self._ignore = _forms("ignore", ignore)
        self._ignores = bool(self._ignore_types) or self._ignore is not None
        if on is not None and self._on is None and not self._on_types:
            raise TypeError("on must name at least one exception type, got an empty tuple")
        if on_result is not None and not callable(on_result):
            raise TypeError(f"on_result must be a predicate of the result or None, got {on_result!r}")
        self.on_result = on_result
        self._rejected = rejected
        named = tuple(kind for kind in self._on_types if issubclass(kind, Rejected))
        self._seen = (Rejected,) if rejected else named
        # An error of exactly a named type needs no further look, unless that type has rules of its own.
        plain = [kind for kind in self._on_types if not issubclass(kind, (_BaseGroup, Rejected))]
        self.sure = frozenset(() if self._ignores else plain)

    def error(self, error: Exception) -> float | None:
        """Whether the policy acts on an error: None if not, else the predicate's hint in seconds (0.0 without one).

        Raises:
            TypeError: a predicate answered something that is neither a bool, a number nor None.
        """
        if type(error) in self.sure:
            return 0.0
        if self._ignores and self._ignored(error):
            return None
        return self._matched(error)

    def result(self, result: object) -> float | None:
        """Whether the policy acts on a result: None if not, else the predicate's hint in seconds (0.0 without one).

        Raises:
            TypeError: the predicate answered something that is neither a bool, a number nor None.
        """
        on_result = self.on_result
        if on_result is None:
            return None
        # `_ask`, with the answer that nearly every result gets looked at here.
        try:
            answer: object = on_result(result)
        except Exception as error:
            _blame("on_result", on_result, error)
            raise
        return None if answer is False or answer is None else _meaning("on_result", on_result, answer)

    def _matched(self, error: Exception) -> float | None:
        if isinstance(error, _Group):
            return self._group(error)
        if isinstance(error, Rejected) and not isinstance(error, self._seen):
            return None
        if self._on is None:
            return 0.0 if isinstance(error, self._on_types) else None
        return _ask("on", self._on, error)

    def _group(self, group: Any) -> float | None:
        if self._on is None and isinstance(group, self._on_types) and not self._hides(group):
            return 0.0
        largest = 0.0
        for part in _parts(group):
            hint = self._matched(part)
            if hint is None:
                return None
            largest = max(largest, hint)
        return largest

    def _hides(self, group: Any) -> bool:
        """Whether a group holds a rejection that is not for this policy to see."""

        def unseen(part: BaseException) -> bool:  # a group asks a plain function, and no method
            return isinstance(part, Rejected) and not isinstance(part, self._seen)

        return group.subgroup(unseen) is not None

    def _ignored(self, error: Exception) -> bool:
        if isinstance(error, self._ignore_types):
            return True
        if isinstance(error, _Group):
            return any(map(self._ignored, _parts(error)))
        if self._ignore is None or (isinstance(error, Rejected) and not self._rejected):
            return False
        return _ask("ignore", self._ignore, error) is not None


def hint_of(error: BaseException) -> float:
    """Seconds that an error asks to wait: its `retry_after`, or its response's Retry-After header; 0.0 if it asks none.

    Of a group, the largest. A negative number, a NaN and whatever is no number, duration or header value is no hint.
    """
    # Errors come from anywhere, and so do their properties: one that fails asks nothing.
    try:
        own = getattr(error, "retry_after", None)
    except Exception:
        own = None
    try:
        response = getattr(error, "response", None)
    except Exception:
        response = None
    if own is None and response is None and not isinstance(error, _BaseGroup):
        return 0.0
    hint = 0.0
    if own is not None:
        hint = _seconds(own)
    if response is not None:
        hint = max(hint, parse_retry_after(_header_of(response)) or 0.0)
    if isinstance(error, _BaseGroup):
        hint = max(hint, *map(hint_of, _parts(error)))
    return hint


def _parts(group: Any) -> tuple[Exception, ...]:
    parts: tuple[Exception, ...] = group.exceptions
    return parts


def _header_of(response: Any) -> object:
    """The Retry-After header of a response of any client, whatever the case and type of its names."""
    try:
        headers = response.headers
        value: object = headers.get("Retry-After")
        if value is not None:
            return value
        return next((value for name, value in headers.items() if name.lower() in {"retry-after", b"retry-after"}), None)
    except Exception:
        return None


def _forms(parameter: str, given: object) -> tuple[tuple[type[BaseException], ...], Predicate | None]:
    if given is None:
        return (), None
    if _is_tuple(given):
        return tuple(_error_type(parameter, kind) for kind in given), None
    if isinstance(given, type):
        return (_error_type(parameter, given),), None
    if callable(given):
        predicate: Any = given
        return (), predicate
    raise TypeError(f"{parameter} must be an exception type, a tuple of them or a predicate, got {given!r}")


def _is_tuple(given: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(given, tuple)


def _error_type(parameter: str, kind: object) -> type[BaseException]:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind
    raise TypeError(
        f"{parameter} must be an exception type, a tuple of them or a predicate; "
        f"got {kind!r}, which is no exception type"
    )


def _ask(parameter: str, predicate: Callable[..., object], about: object) -> float | None:
    try:
        answer = predicate(about)
    except Exception as error:
        _blame(parameter, predicate, error)
        raise
    return _meaning(parameter, predicate, answer)


def _blame(parameter: str, predicate: object, error: Exception) -> None:
    leave_note(error, "resilience: raised by the predicate ", f"{parameter}={_name(predicate)}")


def _meaning(parameter: str, predicate: object, answer: object) -> float | None:
    if answer is True:
        return 0.0
    if answer is False or answer is None:
        return None
    if is_number(answer):
        return _number(answer)
    if is_awaitable(answer):
        close_coroutine(answer)
    raise TypeError(
        f"the predicate {parameter}={_name(predicate)} must answer True, False, None or a number of seconds, "
        f"got {answer!r}"
    )


def _seconds(asked: object) -> float:
    if is_number(asked):
        return _number(asked)
    if is_timedelta(asked):
        return _number(asked.total_seconds())
    return parse_retry_after(asked) or 0.0


def _number(seconds: float) -> float:
    # A NaN is greater than nothing.
    try:
        return float(seconds) if seconds > 0 else 0.0
    except OverflowError:
        return inf


def _name(predicate: object) -> str:
    return getattr(predicate, "__qualname__", None) or repr(predicate)
