"""Each script against its core: the same questions at the same times, and the answers must be the same.

`MemoryStore` answers from the pure cores. Times stand still, jump and step back; costs, keeps and trips are drawn at
random from values that meet the edges.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from resilience import Consecutive, FailureRate, SlowRate
from resilience.policies._store_words import trip_words
from resilience.stores import MemoryStore, RedisStore
from tests.stores.servers import Server

Words = Sequence[str | float]
STEPS = (0.0, 0.0, 1e-6, 0.01, 0.1, 1.0, 5.0, -0.5)


class Twins:
    """Two stores that are asked the same."""

    def __init__(self, store: RedisStore) -> None:
        self.model, self.server = MemoryStore(), store
        self.steps = 0

    def ask(self, kind: str, case: int, verb: str, terms: Words, given: Words, now: float) -> tuple[Words, Words]:
        self.steps += 1
        whose = (f"case {case}",)
        expected = self.model.ask(kind, whose, verb, terms, given, now=now)
        return expected, self.server.ask(kind, whose, verb, terms, given, now=now)


def close_to(expected: Words, given: Words) -> bool:
    """Whether all numbers agree to one unit in the last place."""
    pairs = zip(map(float, expected), map(float, given), strict=True)
    return all(a == b or abs(a - b) <= math.ulp(max(abs(a), abs(b))) for a, b in pairs)


def buckets(twins: Twins, rng: random.Random, case: int, steps: int) -> None:
    rates = rng.choice([1, 1, 2, 3])
    terms: list[float] = [float(rates)]
    for _ in range(rates):
        amount = rng.choice([1.0, 3.0, 10.0, 100.0, 0.1, 7.3, 1e6])
        terms += [amount, rng.choice([1.0, 60.0, 3600.0, 0.7, 3.0]), rng.choice([1.0, 5.0, 20.0, 100.5, amount + 1])]
    bursts = terms[3::3]
    now, marks = rng.choice([1.76e9, 1e9, 5.0, 0.5]), []
    for _ in range(steps):
        now = max(0.001, now + rng.choice([*STEPS, rng.random()]))
        verb = rng.choice(["take"] * 12 + ["settle"] * 4 + ["peek", "peek", "reset"])
        costs: list[float] = []
        given: list[float] = []
        if verb == "take":
            costs = [min(burst, rng.choice([1.0, 0.1, 0.5, 2.0, burst])) for burst in bursts]
            costs = [cost if place == 0 or rng.random() < 0.8 else 0.0 for place, cost in enumerate(costs)]
            keeps = [
                min(rng.choice([0.0, 0.1 * burst]), burst - cost) for burst, cost in zip(bursts, costs, strict=True)
            ]
            owed = [rng.choice([0.0] * 9 + [1.5]) for _ in bursts]
            given = [*costs, *keeps, *owed, rng.choice([1, 1, 10, 100]), rng.choice([0.0, 0.0, 1.0, math.inf])]
        elif verb == "settle":
            if not marks:
                continue
            taken, mark = marks.pop(rng.randrange(len(marks)))
            given = [*taken, *(max(0.0, cost + rng.choice([-1.0, -0.5, 0.7, 0.0, -cost])) for cost in taken), *mark]
        elif verb == "peek":
            given = [*[1.0] * rates, *(rng.choice([0.0, 0.1 * burst]) for burst in bursts)]
        expected, answer = twins.ask("bucket", case, verb, terms, given, now)
        if verb == "take":
            calls = float(expected[0])
            if not calls:
                expected, answer = expected[:2], answer[:2]
            else:
                marks.append(([calls * cost for cost in costs], [float(word) for word in expected[2:]]))
        assert close_to(expected, answer), (verb, now, terms, given, expected, answer)


def budgets(twins: Twins, rng: random.Random, case: int, steps: int) -> None:
    terms = [rng.choice([0.1, 0.0, 0.5, 1.0]), rng.choice([0.0, 1.0, 0.3]), rng.choice([1.0, 5.0, 10.0])]
    now = 1.76e9
    for _ in range(steps):
        now += rng.choice([*STEPS, rng.random()])
        verb, deposits = rng.choice(["withdraw", "withdraw", "deposit", "level"]), rng.choice([0, 0, 1, 5, 50])
        expected, answer = twins.ask("budget", case, verb, terms, [deposits], now)
        assert float(expected[0]) == float(answer[0]), (verb, now, terms, deposits)
        # A level is a sum of three terms; that at 1.76e9 s is known to a quarter of a microsecond.
        assert float(expected[1]) == pytest.approx(float(answer[1]), abs=1e-6)


TRIPS = (
    (Consecutive(2),),
    (FailureRate(0.5, calls=6, minimum_calls=3),),
    (FailureRate(0.5, window=5, minimum_calls=3),),
    (SlowRate(0.5, slower_than=1.0, calls=4, minimum_calls=2), Consecutive(3)),
    (SlowRate(0.4, slower_than=1.0, window=3.0, minimum_calls=2), FailureRate(0.5, calls=5)),
)


def breakers(twins: Twins, rng: random.Random, case: int, steps: int) -> None:
    shape: list[str | float] = [5.0, rng.choice([0, 0, 1]), rng.choice([1, 2, 3]), rng.choice([-1, 2.0])]
    terms = [*shape, rng.choice([-1, -1, 4.0]), *trip_words(rng.choice(TRIPS))]
    now, opening = 1.76e9 + rng.random(), (0.0, 0.0)
    permits: list[float] = []
    tokens: list[float] = []
    for _ in range(steps):
        now += rng.choice([0, 0.1, 0.5, 1.0, 3.0, -0.3, rng.random()])
        by_hand = ["open", "close", "reset", "isolate", "release"] if rng.random() < 0.2 else []
        verb = rng.choice(["acquire"] * 8 + ["settle"] * 8 + ["look", "look", *by_hand])
        given: list[str | float] = []
        if opening[0] and rng.random() < 0.8:
            verb, given = "tell", [*opening, rng.choice([1.0, 2.5])]
        elif verb == "acquire":
            given = [rng.random()]
        elif verb == "settle" and permits:
            permit = permits.pop(rng.randrange(len(permits))) if rng.random() < 0.9 else permits[0]
            given = [permit, rng.choice([0, 0, 1, 1, 2]), rng.choice([0.0, 0.5, 1.5]), rng.choice([0.0, 0.0, 7.0])]
        elif verb == "isolate":
            given = [rng.choice(["deploy", ""])]
        elif verb == "release" and tokens:
            given = [rng.choice(tokens)]
        if verb in {"settle", "release"} and not given:
            continue
        expected, answer = twins.ask("breaker", case, verb, terms, given, now)
        assert [*map(float, answer[:12]), *answer[12:]] == list(expected), (verb, now, terms, given)
        if verb == "acquire" and float(expected[0]) >= 0:
            permits.append(float(expected[0]))
        elif verb == "isolate":
            tokens.append(float(expected[0]))
        opening = float(expected[4]), float(expected[5])


KINDS: dict[str, Callable[[Twins, random.Random, int, int], None]] = {
    "bucket": buckets,
    "budget": budgets,
    "breaker": breakers,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_decides_as_its_core_does(kind: str, store: RedisStore) -> None:
    """A script gives the same answers as its core, to one unit in the last place, over thousands of random steps."""
    twins, rng = Twins(store), random.Random(kind)
    for case in range(25):
        KINDS[kind](twins, rng, case, 120)
    assert twins.steps > 2000


@pytest.mark.proof
@pytest.mark.parametrize("kind", KINDS)
def test_a_script_decides_as_its_core_does_for_long(kind: str, store: RedisStore) -> None:
    """The same over 40,000 steps."""
    twins, rng = Twins(store), random.Random(f"long {kind}")
    case = 0
    while twins.steps < 40_000:
        case += 1
        KINDS[kind](twins, rng, case, 200)
    assert twins.steps >= 40_000


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_ends_by_itself(kind: str, store: RedisStore, server: Server) -> None:
    """No script leaves a key without a time to live."""
    twins, rng = Twins(store), random.Random(7)
    for case in range(10):
        KINDS[kind](twins, rng, case, 30)
    with server.client() as client:
        lives = [client.pttl(key) for key in client.keys("*")]
    assert lives
    assert min(lives) > 0


def test_names_and_keys_are_escaped(store: RedisStore) -> None:
    """What is in a name or a key cannot look like anything else of a key, and a number is not its digits."""
    assert store.key("bucket", ("a}b{c", "x:y")) == "resilience:bucket:{a%7Db%7Bc:x%3Ay}"
    assert store.key("bucket", ("a", 1)) != store.key("bucket", ("a", "1"))
    assert store.key("bucket", ("a", "b:c")) != store.key("bucket", ("a", "b", "c"))
