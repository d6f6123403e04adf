"""The decisions of `bucket.lua`, by the core itself: the same questions, answered in this process.

This is what the memory store runs and what the script is held against, step by step. It is written for comparison, so
it follows the script and leaves every number to `resilience.core.bucket`.
"""

from __future__ import annotations

from math import floor, inf

from resilience.core.bucket import FULL, Bucket, gap, plus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience.core.bucket import State
    from resilience.stores import Word

__all__ = ["Buckets"]


class Buckets:
    """The buckets of one key. Not thread-safe by itself: a store holds its lock around each method."""

    __slots__ = ("_least", "_origin", "_rates", "_returned", "_states")

    def __init__(self) -> None:
        self._rates: list[Bucket] = []
        self._states: list[State] = []
        self._returned: list[float] = []
        self._least: list[float] = []
        self._origin: list[float] = []

    def ask(self, verb: str, terms: Sequence[Word], given: Sequence[Word], now: float) -> list[Word]:
        """One decision; the verbs and their words are listed at the top of the script."""
        words = [float(word) for word in terms[1:]]
        self._rates = [Bucket(*words[place : place + 3]) for place in range(0, len(words), 3)]
        rates = len(self._rates)
        if not self._states:
            full: list[State] = [FULL] * rates
            self._states, self._returned = full, [0.0] * rates
            self._least, self._origin = [0.0] * rates, [0.0] * rates
        if len(self._states) != rates:
            raise ValueError(f"there are {len(self._states)} rates under this name, not {rates}")
        values = [float(word) for word in given]
        if verb == "take":
            costs, keeps, owed = (values[place * rates : (place + 1) * rates] for place in range(3))
            return self._take(costs, keeps, owed, int(values[-2]), values[-1], now)
        if verb == "settle":
            return self._settle(values[:rates], values[rates : 2 * rates], values[2 * rates :], now)
        if verb == "peek":
            return self._peek(values[:rates], values[rates:], now)
        if verb != "reset":
            raise ValueError(f"unknown verb {verb!r}")
        self._states = []
        return [1.0]

    def _take(
        self, costs: list[float], keeps: list[float], owed: list[float], most: int, patience: float, now: float
    ) -> list[Word]:
        for place, amount in enumerate(owed):
            if amount:
                self._charge(place, amount, now)
        self._fill(now)
        count = most
        for bucket, state, cost, keep in zip(self._rates, self._states, costs, keeps, strict=True):
            if most > 1 and cost:
                count = min(count, floor((bucket.level(state, now) - keep) / cost) + 1)
        count = max(1, count)
        while count and not self._passes(count, costs, keeps, now):
            count -= 1
        delay = 0.0
        if not count:
            waits = zip(self._rates, self._states, costs, keeps, strict=True)
            delay = max(bucket.wait(state, cost, now, keep) for bucket, state, cost, keep in waits if cost)
            count = int(delay <= patience)
        if count:
            for place, cost in enumerate(costs):
                if cost:
                    self._charge(place, count * cost, now)
            self._fill(now)
        return [float(count), delay, *self._marks()]

    def _passes(self, count: int, costs: list[float], keeps: list[float], now: float) -> bool:
        asked = zip(self._rates, self._states, costs, keeps, strict=True)
        return all(
            not cost or bucket.take(state, count * cost, now, keep) is not None for bucket, state, cost, keep in asked
        )

    def _fill(self, now: float) -> None:
        """Write down what full buckets hold, as soon as one of them is not full."""
        if any(state != FULL for state in self._states):
            for place, state in enumerate(self._states):
                if state == FULL:
                    self._charge(place, 0.0, now)

    def _charge(self, place: int, cost: float, now: float) -> None:
        bucket, state = self._rates[place], self._states[place]
        full = bucket.is_full(state, now)
        self._states[place] = after = bucket.charge(state, cost, now)
        if full:
            self._least[place], self._origin[place] = _high(after), self._returned[place]

    def _marks(self) -> list[Word]:
        marks: list[Word] = []
        columns = zip(self._states, self._returned, self._least, self._origin, strict=True)
        for state, returned, least, origin in columns:
            high, low = state if isinstance(state, tuple) else (state, 0.0)
            marks += [high, low, returned, least, origin]
        return marks

    def _settle(self, costs: list[float], actual: list[float], marks: list[float], now: float) -> list[Word]:
        back: list[Word] = [0.0] * len(self._rates)
        for place, bucket in enumerate(self._rates):
            change = actual[place] - costs[place]
            high, low, before = marks[5 * place : 5 * place + 3]
            state = self._states[place]
            if change > 0.0:
                self._states[place] = after = plus((high, low) if state == FULL else state, change)
                if state == FULL:
                    self._least[place], self._origin[place] = _high(after), 0.0
            elif change < 0.0 and state != FULL:
                mark = plus((high, low), min(0.0, before - self._returned[place]))
                least = self._least[place]
                if before >= self._origin[place] and high >= least and _high(mark) < least:
                    mark = least
                refund = min(-change, bucket.owing(mark, now))
                if refund:
                    self._states[place] = after = plus(state, -refund)
                    self._least[place] = min(least, _high(after))
                    self._returned[place] += refund
                    back[place] = refund
        self._fill(now)
        return [1.0, *back, *self._returned]

    def _peek(self, costs: list[float], keeps: list[float], now: float) -> list[Word]:
        view: list[Word] = []
        for bucket, state, cost, keep in zip(self._rates, self._states, costs, keeps, strict=True):
            level = min(bucket.burst, -gap(state, bucket.at(now)))
            wait = bucket.wait(state, cost, now, keep) if cost else 0.0
            view += [max(0.0, level - keep), max(0.0, bucket.burst - level) / bucket.rate]
            view.append(inf if cost + keep > bucket.burst else wait)
        return view


def _high(state: State) -> float:
    return state[0] if isinstance(state, tuple) else state
