"""Stores that each make one mistake: a `MemoryStore` behind a question or an answer that somebody got wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from math import floor, inf
from typing import Any

from resilience.stores import MemoryStore

Words = Sequence[Any]


class Wrong(MemoryStore):
    """A store that keeps the laws, and whose questions pass by `decide`."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str | int, ...], float] = {}

    def ask(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, *, now: float | None = None) -> Words:
        return self.decide(kind, whose, verb, terms, given, now)

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        return self.right(kind, whose, verb, terms, given, now)

    def right(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        """Decide as it should be."""
        return super().ask(kind, whose, verb, terms, given, now=now)


class OverAdmits(Wrong):
    """A bucket holds one token more than it should."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if kind == "bucket":
            words = list(terms)
            words[3::3] = [burst + 1.0 for burst in words[3::3]]
            terms = words
        return self.right(kind, whose, verb, terms, given, now)


class ForgetsCost(Wrong):
    """Every call costs one token, whatever it asks for."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if verb == "take":
            rates = int(terms[0])
            given = [*[min(1.0, cost) for cost in given[:rates]], *given[rates:]]
        return self.right(kind, whose, verb, terms, given, now)


class RefusalConsumes(Wrong):
    """Who is refused has paid nevertheless."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        answer = self.right(kind, whose, verb, terms, given, now)
        if verb == "take" and not answer[0]:
            self.right(kind, whose, verb, terms, [*given[:-1], inf], now)
        return answer


class LosesRefunds(Wrong):
    """What is given back is gone."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        rates = int(terms[0]) if kind == "bucket" else 0
        if kind == "bucket" and verb == "settle" and given[rates] < given[0]:
            return [1.0]
        return self.right(kind, whose, verb, terms, given, now)


class NeverCharges(Wrong):
    """Who took too little is not charged for the rest."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        rates = int(terms[0]) if kind == "bucket" else 0
        if kind == "bucket" and verb == "settle" and given[rates] > given[0]:
            return [1.0]
        return self.right(kind, whose, verb, terms, given, now)


class WholeSeconds(Wrong):
    """Time is read in whole seconds."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        return self.right(kind, whose, verb, terms, given, None if now is None else float(floor(now)))


class OneKeyOfTwo(Wrong):
    """The parts of a name are glued together, and a number looks like its digits."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        return self.right(kind, (":".join(map(str, whose)),), verb, terms, given, now)


class OneBreaker(Wrong):
    """All circuits are one, whatever their names."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if kind == "breaker" and terms[0] == 4.0:
            whose = (whose[0].rsplit(" ", 1)[0],)
        return self.right(kind, whose, verb, terms, given, now)


class LooksThenTakes(Wrong):
    """Between the look and the taking, others may look."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if verb == "take" and terms[0] == 1.0:
            left = self.right(kind, whose, "peek", terms, [*given[:1], 0.0], now)
            time.sleep(0)
            if float(left[2]) == 0.0:
                return self.right(kind, whose, verb, terms, [*given[:-1], inf], now)
        return self.right(kind, whose, verb, terms, given, now)


class LateResultCounted(Wrong):
    """A result that comes too late is taken for one of the latest call."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        answer = self.right(kind, whose, verb, terms, given, now)
        if kind == "breaker" and verb == "settle" and not answer[0] and whose in self._last:
            again = self.right(kind, whose, verb, terms, [self._last[whose], *given[1:]], now)
            return [*again[:12], f"{answer[12]} {again[12]}".strip(), *again[13:]]
        if verb == "acquire" and float(answer[0]) >= 0:
            self._last[whose] = float(answer[0])
        return answer


class StaleLease(Wrong):
    """A trial that is never heard of again keeps its place for ever."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if kind == "breaker":
            terms = [*terms[:3], 1e9, *terms[4:]]
        return self.right(kind, whose, verb, terms, given, now)


class TooManyTrials(Wrong):
    """Half-open lets one more in."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if kind == "breaker":
            terms = [*terms[:2], float(terms[2]) + 1, *terms[3:]]
        return self.right(kind, whose, verb, terms, given, now)


class IgnoredCounts(Wrong):
    """A call that says nothing is taken for a failure."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if kind == "breaker" and verb == "settle" and given[1] == 2:
            given = [given[0], 1, *given[2:]]
        return self.right(kind, whose, verb, terms, given, now)


class ToldTwice(Wrong):
    """Each transition is told twice."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        answer = list(self.right(kind, whose, verb, terms, given, now))
        if kind == "breaker" and answer[12]:
            answer[12] = f"{answer[12]} {answer[12]}"
        return answer


class ForgetsDeposits(Wrong):
    """What successes bring back to a budget is lost."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        return self.right(kind, whose, verb, terms, [0] if kind == "budget" else given, now)


class AwaitsInBetween(Wrong):
    """Asked by a coroutine, it looks first and takes after a turn of the loop."""

    async def ask_async(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, **now: Any) -> Words:
        answer = self.right(kind, whose, "level", terms, [0], **now) if kind == "budget" else []
        await asyncio.sleep(0)
        if answer and float(answer[1]) >= 1.0:
            self.right(kind, whose, verb, terms, given, **now)
            return [1.0, max(0.0, float(answer[1]) - 1.0)]
        return self.right(kind, whose, verb, terms, given, **now)


class Silent(Wrong):
    """It does not know one of its verbs."""

    def decide(self, kind: str, whose: Any, verb: str, terms: Words, given: Words, now: float | None) -> Words:
        if verb == "peek":
            raise NotImplementedError(verb)
        return self.right(kind, whose, verb, terms, given, now)
