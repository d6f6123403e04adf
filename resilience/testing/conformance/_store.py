"""The laws of a store: the same questions at the same times are answered as the pure cores answer them.

A store decides for many policies in many processes, so what is wrong with one shows in the sum: a limit that is kept in
each test and not in production. Here random questions about several names are put to it and to a `MemoryStore`, which
answers from the cores. Where the answers part, the law that is broken is found out by asking again, of names nobody has
used, without what should have left no trace: without the other names, without late results, without what was given
back.

Marks, permits and the tokens of isolations are the store's own words, which it gets back and which are never compared.
Rates, costs and times are sums of powers of two, so that nobody has to round.
"""

from __future__ import annotations

import os

from resilience.stores import MemoryStore
from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._search import Broken
from resilience.testing.conformance._store_side import NAMES, Side, circuit
from resilience.testing.conformance._subject import build

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.stores import Word
    from resilience.testing.conformance._search import Step
    from resilience.testing.conformance._subject import Make

    # A step as it was played: its kind and place, the number of the call that it belongs to, arguments, the reading.
    Played = tuple[str, int, int, tuple[Any, ...], float]

__all__ = ["StoreFacts", "draws", "play"]

T1 = "T1: in every window [t, t+w], granted <= burst + rate*w"
T3 = "T3: never refuses what is there"
T4 = "T4: the wait that is told is enough, and no longer than it has to be"
T6 = "T6: a refusal costs nothing"
PEEK = "peek: what is left, and when it is full, is told as it is"
REFUND = "refund: what is given back is there again, once and no more, and what was too little is charged"
RESET = "reset: a bucket that is reset is full"
BUDGET = "budget: a retry costs one token, deposits and time bring them back, and the capacity bounds them"
B1 = "B1: never more than `trials` live trials in half-open, and none while open"
B2 = "B2: a result of an older generation or of a lapsed trial changes nothing"
B3 = "B3: each transition is told once, in order"
B4 = "B4: an ignored call gives its place back and is neutral"
B5 = "B5: open ends with the cooldown, and half-open is always left or re-tried within the lease"
COUNTS = "counts: what ended in this generation is counted, and the trip alone opens it"
BY_HAND = "by hand: open, close, reset, isolate and release do what they say"
NAMED = "names: no name and no key touches another"
ANSWERS = "answers: every question has an answer of its form"

HAND = ("open", "close", "reset", "isolate", "release")
PASSES = (0.125, 0.5, 1.0, 2.0, 4.0, 8.0)
START = 4096.0


class StoreFacts:
    """What the check has to know of the store."""

    def __init__(self, make: Make, *, loop: asyncio.AbstractEventLoop | None) -> None:
        self.make = make
        self.loop = loop
        self._made: dict[int, Any] = {}

    def close(self) -> None:
        """Close the connections that belong to the loop, which nobody else can."""
        if self.loop is not None:
            for store in self._made.values():
                self.loop.run_until_complete(store.close_async())
        self._made.clear()

    def side(self, clock: VirtualClock) -> Side:
        """The store, asked about names that nobody has used before."""
        store = build(self.make, clock)
        if hasattr(store, "close_async"):
            self._made[id(store)] = store
        return Side(self._asked(store), f"conformance {os.urandom(8).hex()}")

    def _asked(self, store: Any) -> Callable[..., Sequence[Word]]:
        loop = self.loop
        if loop is None:
            ask: Callable[..., Sequence[Word]] = store.ask
            return ask

        def ask_async(*question: Any, now: float) -> Sequence[Word]:
            words: Sequence[Word] = loop.run_until_complete(store.ask_async(*question, now=now))
            return words

        return ask_async


def _bucket(rng: random.Random, places: int) -> Step:
    place = rng.randrange(places)
    match rng.randrange(8):
        case 0 | 1 | 2 | 3:
            cost, patience = rng.choice((1.0, 1.0, 2.0, 0.5)), rng.choice((0.0, 0.0, 2.0))
            return "take", place, cost, patience, rng.choice((1, 1, 8))
        case 4 | 5:
            return "settle", place, rng.randrange(4), rng.choice((0.0, 0.5, 1.0, 2.0))
        case 6:
            return "peek", place
        case _:
            return rng.choice(("peek", "refill")), place


def _budget(rng: random.Random, places: int) -> Step:
    return "withdraw", rng.randrange(min(2, places)), rng.choice((0, 0, 1, 4))


def _breaker(rng: random.Random, places: int) -> Step:
    place = rng.randrange(min(3, places))
    match rng.randrange(10):
        case 0 | 1 | 2 | 3:
            return "acquire", place
        case 4 | 5 | 6:
            return "end", place, rng.randrange(3), rng.choice((0, 1, 1, 1, 2))
        case 7:
            return "fail", place
        case 8:
            return rng.choice((("look", place), ("late", place, rng.choice((0, 1)))))
        case _:
            return rng.choice((("look", place), ("hand", place, rng.choice(HAND))))


DRAWS = (_bucket, _budget, _breaker)


def draws() -> list[Callable[[random.Random], Step]]:
    """What draws a step, for each search: of one kind of state under one name and under all, and of all kinds."""

    def of(kinds: Sequence[Callable[[random.Random, int], Step]], places: int) -> Callable[[random.Random], Step]:
        def draw(rng: random.Random) -> Step:
            return ("pass", rng.choice(PASSES)) if rng.randrange(4) == 0 else rng.choice(kinds)(rng, places)

        return draw

    return [*(of([kind], places) for places in (1, 6) for kind in DRAWS), of(DRAWS, 6)]


def play(facts: StoreFacts, script: Sequence[Step]) -> None:
    """Play one script.

    Raises:
        Broken: a law is.
    """
    watch = _Watch(facts)
    for step in script:
        watch.do(step)


class _Watch:
    """A store and the model of it."""

    def __init__(self, facts: StoreFacts) -> None:
        self.facts = facts
        self.clock = VirtualClock(START)
        self.mine = facts.side(self.clock)
        self.model = Side(MemoryStore().ask, "model")
        self.played: list[Played] = []
        self.log: list[str] = []
        self.open: dict[tuple[str, int], list[int]] = {}
        self.late: set[int] = set()
        self.refused: set[int] = set()
        self.count = 0

    def do(self, step: Step) -> None:
        match step:
            case ("pass", seconds):
                self.log.append(f"advance({seconds!r})")
                self.clock.advance(seconds)
            case ("fail", place):
                for _ in range(4):
                    self.do(("acquire", place))
                    self.do(("end", place, -1, 1))
            case ("late", place, verdict):
                # A call from before the circuit opened ends while another is on trial.
                for each in (("acquire", place), ("fail", place), ("pass", 8.0), ("acquire", place)):
                    self.do(each)
                self.do(("end", place, 0, verdict))
            case ("settle" | "end" as kind, place, int(which), *arguments):
                calls = self.open.get(("take" if kind == "settle" else "acquire", place), [])
                if calls:
                    self.ask(kind, place, calls.pop(which % len(calls)), tuple(arguments))
            case ("hand", place, verb):
                self.ask(verb if verb != "reset" else "start over", place, 0, ())
            case (kind, place, *arguments):
                self.count += 1
                self.ask(kind, place, self.count, tuple(arguments))
            case _:
                pass

    def ask(self, kind: str, place: int, call: int, arguments: tuple[Any, ...]) -> None:
        played = (kind, place, call, arguments, self.clock.now())
        self.played.append(played)
        self.log.append(f"{kind}{(NAMES[kind][place][0], *arguments)}    # at {self.clock.now()!r}")
        expected = self.model.ask(*played)
        try:
            answer = self.mine.ask(*played)
        except Exception as error:
            raise Broken(ANSWERS, f"{kind} raised {error!r}", self.log) from error
        if (seen := self.mine.differs(kind, expected, answer)) is not None:
            raise Broken(self.whose_fault(played, expected, answer), seen, self.log)
        if kind in ("take", "acquire") and expected[0] >= (1 if kind == "take" else 0):
            self.open.setdefault((kind, place), []).append(call)
        elif kind == "take":
            self.refused.add(call)
        elif kind == "end" and not expected[0]:
            self.late.add(call)

    # --- whose fault it is --------------------------------------------------------------------------------------------

    def whose_fault(self, last: Played, expected: Sequence[Any], answer: Sequence[Any]) -> str:
        kind, place, _, _, _ = last
        here = NAMES[kind][place]
        suspects: list[tuple[str, Callable[[Played], bool]]] = [
            (NAMED, lambda each: NAMES[each[0]][each[1]] is not here),
            (T6, lambda each: each[0] == "take" and each[2] in self.refused),
            (REFUND, lambda each: each[0] == "settle"),
            (B2, lambda each: each[0] == "end" and each[2] in self.late),
            (B4, lambda each: each[0] == "end" and each[3] == (2,)),
            (RESET, lambda each: each[0] == "refill"),
        ]
        for law, left_out in suspects:
            rest = [each for each in self.played[:-1] if not left_out(each)]
            if len(rest) < len(self.played) - 1 and not self.still_differs(rest, last):
                return law
        return _law(kind, last, expected, answer)

    def still_differs(self, before: Sequence[Played], last: Played) -> bool:
        mine, model = self.facts.side(self.clock), Side(MemoryStore().ask, "model")
        for played in before:
            model.ask(*played)
            mine.ask(*played)
        return mine.differs(last[0], model.ask(*last), mine.ask(*last)) is not None


def _law(kind: str, last: Played, expected: Sequence[Any], answer: Sequence[Any]) -> str:
    if kind == "take":
        return T1 if answer[0] > expected[0] else T3 if answer[0] < expected[0] else T4
    if kind not in ("acquire", "end", "look"):
        return {"peek": PEEK, "settle": REFUND, "refill": RESET, "withdraw": BUDGET}.get(kind, BY_HAND)
    if kind == "end" and not expected[0]:
        return B2
    told, right = circuit(kind, answer), circuit(kind, expected)
    if told.first != right.first and kind == "acquire":
        return B1 if told.first else B5
    if told.live != right.live:
        return B1 if told.live > right.live else B4
    if kind == "end" and (told.first, told.state) != (right.first, right.state):
        return B4 if last[3] == (2,) else COUNTS
    if (told.state, told.wait) != (right.state, right.wait):
        return B5
    return B3 if told.changes != right.changes else BY_HAND
