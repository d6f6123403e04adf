"""Which errors and which results a policy acts on: `on`, `ignore` and `on_result`, the same for every policy.

    on         an exception type, a tuple of them, or a predicate of the error
    ignore     the same forms; it wins
    on_result  a predicate of the result: True means that it is as bad as an error

A predicate answers True (yes), False or None (no), or a number: yes, and not sooner than that many seconds. A plain number, 0.0
included, is therefore a yes; anything else is a mistake in the predicate and is raised as one, because a policy that guesses at it would
retry, or count, or replace the wrong calls in silence.

An exception group is several errors at once. It matches `on` only when nothing of it is left over, since acting on a group acts on all
of it; it matches `ignore` when any part does.

A `Rejected` says that no call was made, so it is no evidence. Unless a policy's `on` names it by its own type, the policy never sees it,
not even through `Exception` or a predicate; only `Fallback`, which does not judge but replace, takes it like any other error.
"""

from __future__ import annotations

import math

from resilience.errors import Rejected
from resilience.http import parse_retry_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Predicate: TypeAlias = Callable[[Exception], "bool | float | None"]
    On: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...] | Predicate"
    ResultPredicate: TypeAlias = Callable[[object], "bool | float | None"]

__all__ = ["Matcher", "hint_of"]


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

    __slots__ = ("_ignore", "_ignore_types", "_named", "_on", "_on_types", "on_result")

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
        if on is not None and self._on is None and not self._on_types:
            raise TypeError("on must name at least one exception type, got an empty tuple")
        self._named: tuple[type[BaseException], ...] | None = None
        if not rejected:
            self._named = tuple(kind for kind in self._on_types if issubclass(kind, Rejected))
        if on_result is not None and not callable(on_result):
            raise TypeError(f"on_result must be a predicate of the result or None, got {on_result!r}")
        self.on_result = on_result

    def error(self, error: Exception) -> float | None:
        """Whether the policy acts on an error: None if not, else the predicate's hint in seconds (0.0 without one).

        Raises:
            TypeError: a predicate answered something that is neither a bool, a number nor None.
        """
        if isinstance(error, ExceptionGroup):
            return self._group(error)
        if self._ignores(error):
            return None
        return self._matches(error)

    def result(self, result: object) -> float | None:
        """Whether the policy acts on a result: None if not, else the predicate's hint in seconds (0.0 without one)."""
        if self.on_result is None:
            return None
        return _ask("on_result", self.on_result, result)

    def _group(self, group: ExceptionGroup[Exception]) -> float | None:
        leaves = _leaves(group)
        if isinstance(group, self._ignore_types) or any(self._ignores(leaf) for leaf in leaves):
            return None
        if self._on is None and isinstance(group, self._on_types) and not any(isinstance(x, Rejected) for x in leaves):
            return 0.0
        hint = 0.0
        for leaf in leaves:
            answer = self._matches(leaf)
            if answer is None:
                return None
            hint = max(hint, answer)
        return hint

    def _ignores(self, error: Exception) -> bool:
        if isinstance(error, self._ignore_types):
            return True
        if self._ignore is None or (self._named is not None and isinstance(error, Rejected)):
            return False
        return _ask("ignore", self._ignore, error) is not None

    def _matches(self, error: Exception) -> float | None:
        if self._named is not None and isinstance(error, Rejected):
            return 0.0 if isinstance(error, self._named) else None
        if self._on is None:
            return 0.0 if isinstance(error, self._on_types) else None
        return _ask("on", self._on, error)


def hint_of(error: BaseException) -> float:
    """Seconds that an error asks to wait: its `retry_after`, or its response's Retry-After header; 0.0 where it asks nothing.

    Of a group, the largest. Anything that is not a finite number of at least zero is no hint.
    """
    if isinstance(error, BaseExceptionGroup):
        return max(hint_of(leaf) for leaf in error.exceptions)
    own = _number(getattr(error, "retry_after", None))
    try:
        header = error.response.headers.get("Retry-After")  # type: ignore[attr-defined]
    except Exception:
        return own
    return max(own, parse_retry_after(header) or 0.0)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[Exception]:
    found: list[Exception] = []
    for part in group.exceptions:
        if isinstance(part, BaseExceptionGroup):
            found.extend(_leaves(part))
        else:
            found.append(part)  # type: ignore[arg-type]
    return found


def _forms(parameter: str, given: On | None) -> tuple[tuple[type[BaseException], ...], Predicate | None]:
    if given is None:
        return (), None
    if isinstance(given, type):
        given = (given,)
    if isinstance(given, tuple):
        for kind in given:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(
                    f"{parameter} must be an exception type, a tuple of them or a predicate; {kind!r} is no exception type"
                )
        return given, None
    if callable(given):
        return (), given
    raise TypeError(f"{parameter} must be an exception type, a tuple of them or a predicate, got {given!r}")


def _ask(parameter: str, predicate: Callable[..., object], about: object) -> float | None:
    try:
        answer = predicate(about)
    except Exception as error:
        error.add_note(f"raised by the predicate {parameter}={_name(predicate)}")
        raise
    if answer is True:
        return 0.0
    if answer is False or answer is None:
        return None
    if isinstance(answer, int | float):
        return _number(answer)
    if hasattr(answer, "close"):
        answer.close()
    raise TypeError(
        f"the predicate {parameter}={_name(predicate)} must answer True, False, None or a number of seconds, got {answer!r}"
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if value > 0 and not math.isnan(value) else 0.0


def _name(predicate: object) -> str:
    return getattr(predicate, "__qualname__", None) or repr(predicate)
