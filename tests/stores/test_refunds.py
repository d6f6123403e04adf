"""What comes back to a shared bucket: never more than it would hold had the tokens not been taken."""

from __future__ import annotations

import math
import random

from resilience.stores import MemoryStore

Step = tuple[str, int, float, float]


def history(rng: random.Random, burst: float) -> tuple[list[Step], int]:
    """Takings and corrections in random order; one claim, named second, is given back whole."""
    now, steps, open_claims = 100.0, [], []
    for claim in range(rng.randint(2, 8)):
        now += rng.choice([0, 0.25, 0.5, 1, 3])
        if open_claims and rng.random() < 0.45:
            other = open_claims.pop(rng.randrange(len(open_claims)))
            steps.append(("settle", other, rng.choice([0.0, 0.0, 0.5]), now))
        else:
            steps.append(("take", claim, min(burst, rng.choice([0.5, 1.0, 2.0])), now))
            open_claims.append(claim)
    chosen = rng.choice([claim for verb, claim, _, _ in steps if verb == "take"])
    if any(verb == "settle" and claim == chosen for verb, claim, _, _ in steps):
        steps = [(v, c, 0.0 if (v, c) == ("settle", chosen) else amount, at) for v, c, amount, at in steps]
    else:
        steps.append(("settle", chosen, 0.0, now + rng.choice([0, 0.5, 2])))
    return steps, chosen


def level(steps: list[Step], burst: float, without: int | None) -> float:
    """What is in the bucket at the end, of a history without one claim."""
    store, marks, terms = MemoryStore(), {}, [1.0, 1.0, 1.0, burst]
    for verb, claim, amount, now in steps:
        if claim == without:
            continue
        if verb == "take":
            given = [amount, 0.0, 0.0, 1, math.inf]
            marks[claim] = amount, store.ask("bucket", ("api",), "take", terms, given, now=now)[2:]
        else:
            cost, mark = marks[claim]
            store.ask("bucket", ("api",), "settle", terms, [cost, cost * amount, *mark], now=now)
    # The wait for everything tells the level, also below 0.
    view = store.ask("bucket", ("api",), "peek", terms, [burst, 0.0], now=steps[-1][3])
    return burst - float(view[2])


def test_a_refund_never_mints() -> None:
    """After any history, giving a claim back leaves no more than the same history without the claim."""
    rng = random.Random("refunds")
    for _ in range(1500):
        burst = rng.choice([1.0, 2.0, 5.0])
        steps, claim = history(rng, burst)
        assert level(steps, burst, None) <= level(steps, burst, claim) + 1e-9, (steps, claim, burst)


def test_many_who_give_up_leave_no_trace() -> None:
    """Of twenty reservations that are cancelled at once, in any order, every token comes back."""
    rng = random.Random("storm")
    for _ in range(50):
        steps: list[Step] = [("take", claim, 1.0, 100.0) for claim in range(21)]
        order = list(range(1, 21))
        rng.shuffle(order)
        steps += [("settle", claim, 0.0, 100.0) for claim in order]
        assert level(steps, 1.0, None) == 0.0
