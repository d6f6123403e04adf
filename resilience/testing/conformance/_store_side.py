"""One store that is asked by steps of a script, and the words that it gave out meanwhile.

A step says "settle the third call"; the question says it in the store's own words: the mark that the third `take` was
answered with. So two stores can be asked the same without having one word in common.
"""

from __future__ import annotations

from typing import NamedTuple

from resilience.core.trip import Consecutive, FailureRate
from resilience.policies._store_words import trip_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.stores import Word

    Whose = tuple[str | int, ...]

__all__ = ["NAMES", "Side", "circuit"]

NEAR = 1e-6
"""Seconds or tokens by which two answers may differ that were reached in different ways."""

_ONE = [1.0, 1.0, 1.0, 4.0]
_TWO = [2.0, 8.0, 1.0, 8.0, 2.0, 1.0, 16.0]
_SLOW = [1.0, 1.0, 4.0, 2.0]
_BUCKETS: list[tuple[Whose, list[float]]] = [
    (("api",), _ONE),
    (("two",), _TWO),
    (("keyed", "1"), _SLOW),
    (("keyed", 1), _SLOW),
    (("keyed", "a:b"), _SLOW),
    (("keyed", "a", "b"), _SLOW),
]
_BUDGETS: list[tuple[Whose, list[float]]] = [(("api",), [0.5, 0.25, 4.0]), (("other",), [0.0, 1.0, 2.0])]
_BREAKERS: list[tuple[Whose, list[Word]]] = [
    (("api",), [4.0, 0, 2, 2.0, -1, *trip_words((Consecutive(2),))]),
    (("other",), [4.0, 0, 2, 2.0, -1, *trip_words((Consecutive(2),))]),
    (("rate",), [8.0, 0, 1, -1, -1, *trip_words((FailureRate(0.5, calls=4, minimum_calls=2),))]),
]
_KINDS: dict[str, tuple[str, Sequence[tuple[Whose, Sequence[Word]]], tuple[str, ...]]] = {
    "bucket": ("bucket", _BUCKETS, ("take", "settle", "peek", "refill")),
    "budget": ("budget", _BUDGETS, ("withdraw",)),
    "breaker": (
        "breaker",
        _BREAKERS,
        ("acquire", "end", "look", "open", "close", "start over", "isolate", "release"),
    ),
}
_CELL = {step: kind for kind, _, steps in _KINDS.values() for step in steps}
_VERB = {"refill": "reset", "end": "settle", "start over": "reset"}

NAMES: dict[str, Sequence[tuple[Whose, Sequence[Word]]]] = {step: _KINDS[kind][1] for step, kind in _CELL.items()}
"""For each kind of step: whose state it may be about, and on which terms."""


class Side:
    """A store, and what it gave out.

    Args:
        ask: asks it.
        prefix: before each name.
    """

    __slots__ = ("_ask", "_given", "_prefix", "_tokens")

    def __init__(self, ask: Callable[..., Sequence[Word]], prefix: str) -> None:
        self._ask = ask
        self._prefix = prefix
        self._given: dict[int, tuple[list[float], list[float]]] = {}
        self._tokens: dict[int, float] = {}

    def ask(self, step: str, place: int, call: int, arguments: tuple[Any, ...], now: float) -> list[Any]:
        """Put the question of a step, and return the answer, its numbers as numbers."""
        whose, terms = NAMES[step][place]
        given = self._words(step, place, call, arguments, len(terms) // 3)
        if given is None:
            return []
        name = (f"{self._prefix} {whose[0]}", *whose[1:])
        verb = _VERB.get(step, step)
        words = self._ask(_CELL[step], name, verb, terms, given, now=now)
        if step == "take":
            granted, delay, *mark = map(float, words)
            costs = [granted * arguments[0]] * (len(terms) // 3)
            self._given[call] = costs, mark
            return [granted, delay]
        answer: list[Any] = [*map(float, words[:12]), *map(str, words[12:])]
        if step == "acquire":
            self._given[call] = answer[:1], []
        elif step == "isolate":
            self._tokens[place] = answer[0]
        return answer

    def _words(self, step: str, place: int, call: int, arguments: tuple[Any, ...], rates: int) -> Sequence[Word] | None:
        """What is said after the terms; None where there is nothing to say it of."""
        match step, arguments:
            case "take", (cost, patience, most):
                return [*[cost] * rates, *[0.0] * (2 * rates), 1 if patience else most, patience]
            case "settle", (actual,):
                costs, mark = self._given.pop(call, ([], []))
                return [*costs, *(cost * actual for cost in costs), *mark] if costs else None
            case "peek", _:
                return [*[1.0] * rates, *[0.0] * rates]
            case "withdraw", (deposits,):
                return [deposits]
            case "acquire", _:
                return [0.5]
            case "end", (verdict,):
                permit, _ = self._given.pop(call, ([], []))
                return [*permit, verdict, 0.0, 0.0] if permit else None
            case "isolate", _:
                return ["by hand"]
            case "release", _:
                token = self._tokens.pop(place, None)
                return None if token is None else [token]
            case _:
                return []

    def differs(self, step: str, expected: Sequence[Any], answer: Sequence[Any]) -> str | None:
        """What is to be said of an answer that is not the one expected; None of one that is."""
        if len(answer) < len(expected) and step != "settle":
            return f"{step} was answered by {len(answer)} words, and {len(expected)} were expected"
        told, right = list(answer), list(expected)
        if _CELL[step] == "breaker" and expected:
            told, right = list(circuit(step, answer)), list(circuit(step, expected))
        elif step == "settle":
            told, right = told[:1], right[:1]
        for one, other in zip(told, right, strict=False):
            same = one == other or (isinstance(one, float) and isinstance(other, float) and abs(one - other) <= NEAR)
            if not same:
                return f"{step} was answered by {told}, and {right} was expected"
        return None


_STATES = ("closed", "open", "half_open", "isolated")


class Circuit(NamedTuple):
    """What is compared of a circuit.

    Attributes:
        first: whether the call was let in, or counted.
        state: the state, as a word.
        wait: seconds until it is worth to ask again.
        live: trials under way.
        changes: the transitions since, in numbers.
        reason: why it is isolated.
    """

    first: object
    state: str
    wait: float
    live: float
    changes: str
    reason: str


def circuit(step: str, answer: Sequence[Any]) -> Circuit:
    """What is compared of the answer to a step."""
    first = answer[0] >= 0 if step in ("acquire", "isolate") else answer[0]
    return Circuit(first, _STATES[int(answer[1])], answer[3], answer[8], answer[12], answer[13])
