"""The table of keys: several rates at once, giving back, and what may be forgotten."""

from __future__ import annotations

import random
from fractions import Fraction
from math import ulp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.bucket import FULL, Bucket
from resilience.core.ledger import Claim, Ledger

FREE = [(0.0,)]


def ledger_of(*rates: tuple[float, float], max_keys: int = 1000) -> Ledger:
    """A ledger with rates given as (a second, burst)."""
    return Ledger([Bucket(rate, 1.0, burst) for rate, burst in rates], [(0.0,) * len(rates)], max_keys)


def take(ledger: Ledger, now: float, *costs: float, key: object = None) -> Claim | None:
    """Claim tokens and take them, if there is room for the key and they are there."""
    claim = Claim(key, costs, 0)
    if not ledger.has_room(key, now):
        return None
    taken = ledger.taken_by(claim, now)
    if taken is None:
        return None
    ledger.grant(claim, taken)
    return claim


def level(ledger: Ledger, now: float, key: object = None, index: int = 0) -> float:
    """What one bucket of a key holds."""
    return ledger.buckets[index].level(ledger.load(key)[index], now)


# --- several rates


def test_a_refusal_by_one_rate_takes_nothing_from_the_other() -> None:
    """Several rates are one check: all or nothing."""
    ledger = ledger_of((1.0, 10.0), (1.0, 2.0))
    assert take(ledger, 100.0, 4.0, 2.0)
    before = ledger.load(None)
    assert take(ledger, 100.0, 4.0, 1.0) is None
    assert ledger.load(None) == before
    assert take(ledger, 100.0, 6.0, 0.0), "a rate that is not concerned is not asked"


def test_exact_over_several_rates() -> None:
    """With three rates and fractional costs no call too many and none too few, beyond one place of the clock."""
    rates = [(100.0, 1.0, 20.0), (1000.0, 60.0, 50.0), (0.7, 0.03, 33.3)]
    ledger = Ledger([Bucket(*rate) for rate in rates], [(0.0,) * 3], 10)
    exact_rates = [Fraction(amount) / Fraction(per) for amount, per, _ in rates]
    bursts = [Fraction(burst) for _, _, burst in rates]
    states: list[Fraction | None] = [None] * 3
    source, now, granted = random.Random(3), 1234.5, 0
    for _ in range(50_000):
        now += source.expovariate(40.0)
        costs = tuple(source.choice([0.0, 0.1, 1.0, 1.0, 2.7]) for _ in rates)
        if not any(costs):
            continue
        reaches = []
        for cost, rate, burst, state in zip(costs, exact_rates, bursts, states, strict=True):
            line = Fraction(now) * rate
            floor = line - burst
            reaches.append(((floor if state is None or state < floor else state) + Fraction(cost), line))
        wanted = all(reach <= line for (reach, line), cost in zip(reaches, costs, strict=True) if cost)
        got = take(ledger, now, *costs) is not None
        if got != wanted:
            gaps = [abs(reach - line) for (reach, line), cost in zip(reaches, costs, strict=True) if cost]
            assert min(gaps) <= Fraction(ulp(now * 24))
        if got:
            granted += 1
            states = [reach if cost else state for (reach, _), cost, state in zip(reaches, costs, states, strict=True)]
    assert 5_000 < granted < 45_000


# --- giving back


def test_giving_back_at_once_leaves_no_trace() -> None:
    """A claim that is undone before anything else happens was never there."""
    ledger = ledger_of((10.0, 5.0), (0.3, 7.0))
    take(ledger, 100.0, 0.1, 0.7)
    before = ledger.load(None)
    claim = take(ledger, 100.0, 0.3, 2.1)
    assert claim is not None
    ledger.settle(claim, [0.0, 0.0], 100.0)
    assert ledger.load(None) == before


def test_a_settled_claim_is_charged_or_refunded_the_difference() -> None:
    """Less comes back, more is a debt."""
    ledger = ledger_of((1.0, 10.0))
    first, second = take(ledger, 100.0, 4.0), take(ledger, 100.0, 4.0)
    assert first is not None and second is not None
    ledger.settle(first, [1.0], 100.0)
    assert level(ledger, 100.0) == 5.0
    ledger.settle(second, [14.0], 100.0)
    assert level(ledger, 100.0) == -5.0
    assert take(ledger, 105.5, 1.0) is None and take(ledger, 106.0, 1.0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.sampled_from([0.5, 1.0, 3.0, 8.0, 10.0])),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 4.0, 9.0, 30.0])),
        st.tuples(st.just("back"), st.integers(0, 20)),
    ),
    max_size=25,
)


@given(STEPS)
def test_giving_back_never_gives_more_than_was_kept_from_the_bucket(steps: list[tuple[str, float]]) -> None:
    """However often and in whatever order claims are undone, the bucket holds no more than without them."""
    ledger, now = ledger_of((1.0, 10.0)), 100.0
    claims: list[Claim] = []
    # Each entry is a time and what counts for it in the end: undone claims count nothing.
    history: list[list[float]] = []
    for step, value in steps:
        if step == "pass":
            now += value
        elif step == "take":
            claim = take(ledger, now, value)
            if claim is not None:
                claims.append(claim)
                history.append([now, value])
        elif claims:
            index = int(value) % len(claims)
            if history[index][1]:
                ledger.settle(claims[index], [0.0], now)
                history[index][1] = 0.0
        state = -1e9
        for when, cost in history:
            if cost:
                state = max(state, when - 10.0) + cost
                assert state <= when + 1e-9, "more was granted in all than the rate allows"
        assert level(ledger, now) <= min(10.0, now - state) + 1e-9


def test_tokens_given_back_twice_over_are_given_once() -> None:
    """A later claim's mark does not count tokens that an earlier one has given back."""
    ledger = ledger_of((1.0, 10.0))
    first, second = take(ledger, 100.0, 5.0), take(ledger, 100.0, 5.0)
    assert first is not None and second is not None
    ledger.settle(first, [0.0], 100.0)
    assert take(ledger, 105.0, 5.0), "the bucket was full again"
    ledger.settle(second, [0.0], 105.0)
    assert level(ledger, 105.0) == 5.0


def test_a_reset_leaves_nothing_to_give_back() -> None:
    """What was taken before the buckets were filled by hand does not come back a second time."""
    ledger = ledger_of((1.0, 10.0))
    claim = take(ledger, 100.0, 10.0)
    assert claim is not None
    ledger.forgive(None, 100.0)
    assert level(ledger, 100.0) == 10.0
    assert take(ledger, 100.0, 10.0)
    ledger.settle(claim, [0.0], 100.0)
    assert level(ledger, 100.0) == 0.0


def test_a_debt_of_a_forgotten_key_is_remembered_as_of_its_time() -> None:
    """A key whose bucket filled up and was forgotten pays what its call cost beyond that."""
    ledger = ledger_of((1.0, 10.0), max_keys=1)
    claim = take(ledger, 100.0, 4.0, key="a")
    assert claim is not None
    assert take(ledger, 105.0, 1.0, key="b"), "a is forgotten"
    ledger.settle(claim, [12.0], 105.0)
    assert level(ledger, 105.0, key="a") == 3.0


# --- forgetting


def test_a_flood_of_keys_never_resets_one_that_is_not_full() -> None:
    """Whatever comes, a key that has used up its tokens stays without them until they are back."""
    ledger = ledger_of((0.001, 1.0), max_keys=100)
    assert take(ledger, 0.0, 1.0, key=0)
    for number in range(1, 1000):
        take(ledger, number / 1000, 1.0, key=number)
    assert len(ledger.states) == 100
    assert take(ledger, 1.0, 1.0, key=0) is None
    assert take(ledger, 1000.0, 1.0, key=0)


def test_full_buckets_are_forgotten_as_the_table_doubles() -> None:
    """Keys that are idle do not pile up."""
    ledger = ledger_of((1.0, 1.0), max_keys=1_000_000)
    for number in range(10_000):
        assert take(ledger, float(number), 1.0, key=number)
    assert len(ledger.states) <= 128


@pytest.mark.parametrize("rates", [((1.0, 5.0),), ((1.0, 5.0), (0.1, 3.0))], ids=["one rate", "two rates"])
def test_a_full_table_finds_room_whenever_a_bucket_is_full(rates: tuple[tuple[float, float], ...]) -> None:
    """At the bound, an unknown key is let in exactly when some known key has filled up; that one is forgotten."""
    ledger, source, now = ledger_of(*rates, max_keys=30), random.Random(5), 100.0
    claims: list[Claim] = []
    for number in range(5000):
        now += source.choice([0.0, 0.01, 0.1, 2.0])
        key = source.choice([number, source.randrange(max(1, number))])
        full = [known for known in ledger.states if ledger._is_idle(known, now)]
        known, crowded = key in ledger.states, len(ledger.states) >= 30
        assert ledger.has_room(key, now) == (known or not crowded or bool(full))
        claim = take(ledger, now, *(source.choice([1.0, 0.5]) for _ in rates), key=key)
        if claim is not None:
            claims.append(claim)
        if claims and source.random() < 0.2:
            ledger.settle(claims.pop(source.randrange(len(claims))), (0.0,) * len(rates), now)
        assert len(ledger.states) <= 30


class Watched(Ledger):
    """A ledger that counts how often it looks at a key."""

    looked = 0

    def _is_idle(self, key: object, now: float) -> bool:
        self.looked += 1
        return super()._is_idle(key, now)


def test_turning_keys_away_does_not_look_at_all_of_them() -> None:
    """A flood at the bound costs the same per key, however large the table."""
    ledger = Watched([Bucket(1.0, 1.0, 10.0)], FREE, 2000)
    for number in range(2000):
        assert take(ledger, 100.0, 5.0, key=number)
    ledger.looked = 0
    assert not any(ledger.has_room(("new", number), 101.0) for number in range(5000))
    assert ledger.looked == 0


def test_episodes_of_turning_away_are_counted_once_each() -> None:
    """An episode begins with the first key turned away and ends when room is found."""
    ledger = ledger_of((1.0, 1.0), max_keys=1)
    assert take(ledger, 100.0, 1.0, key="a")
    assert [ledger.has_room("b", now) for now in (100.0, 100.5, 100.9)] == [False] * 3
    assert ledger.episode == 1
    assert take(ledger, 101.0, 1.0, key="b")
    assert not ledger.has_room("c", 101.5)
    assert ledger.episode == 2


def test_states_can_be_saved_and_restored() -> None:
    """What is put back is what was there."""
    ledger = ledger_of((1.0, 10.0))
    take(ledger, 100.0, 3.0)
    take(ledger, 100.0, 4.0, key="a")
    saved = ledger.save()
    take(ledger, 100.0, 7.0)
    take(ledger, 100.0, 5.0, key="b")
    ledger.restore(saved)
    assert (level(ledger, 100.0), level(ledger, 100.0, "a"), ledger.load("b")) == (7.0, 6.0, (FULL,))


def test_refunds_of_a_forgotten_key_are_remembered_while_they_matter() -> None:
    """A key that was forgotten and came back does not get tokens back that it would have had anyhow."""
    ledger = ledger_of((1.0, 10.0), max_keys=1)
    first, second = take(ledger, 100.0, 5.0, key="a"), take(ledger, 100.0, 5.0, key="a")
    assert first is not None and second is not None
    ledger.settle(first, [0.0], 100.0)
    assert take(ledger, 105.0, 0.5, key="b"), "a is full and forgotten"
    assert take(ledger, 105.5, 5.0, key="a"), "b is, and a is back"
    ledger.settle(second, [0.0], 105.5)
    assert level(ledger, 105.5, "a") == 5.0
    assert take(ledger, 110.5, 0.5, key="b") and list(ledger._refunds) == ["a"]
    assert take(ledger, 111.0, 0.5, key="c") and not ledger._refunds


def test_a_full_bucket_has_nothing_to_forgive() -> None:
    """Resetting what nobody has used writes nothing."""
    ledger = ledger_of((1.0, 10.0))
    ledger.forgive("a", 100.0)
    assert not ledger.states and not ledger._refunds


def test_what_cost_what_was_estimated_changes_nothing() -> None:
    """Settling to the estimate is neither a charge nor a refund."""
    ledger = ledger_of((1.0, 10.0))
    claim = take(ledger, 100.0, 4.0)
    assert claim is not None
    before = ledger.load(None)
    ledger.settle(claim, [4.0], 103.0)
    assert ledger.load(None) == before


def test_refunds_are_saved_with_the_states() -> None:
    """A mark from before a restore is still lowered by what was refunded before it, and by nothing since."""
    ledger = ledger_of((1.0, 10.0))
    first, second = take(ledger, 100.0, 5.0, key="a"), take(ledger, 100.0, 5.0, key="a")
    assert first is not None and second is not None
    ledger.settle(first, [0.0], 100.0)
    saved = ledger.save()
    ledger.settle(second, [0.0], 100.0)
    ledger.restore(saved)
    assert take(ledger, 105.0, 5.0, key="a")
    second.costs = (5.0,)
    ledger.settle(second, [0.0], 105.0)
    assert level(ledger, 105.0, "a") == 5.0


def test_a_full_table_with_many_refunds_stays_small() -> None:
    """What is remembered for finding full buckets is bounded by the keys, not by what happens to them."""
    ledger = ledger_of((1.0, 10.0), max_keys=10)
    for number in range(10):
        assert take(ledger, 100.0, 5.0, key=number)
    assert not ledger.has_room("new", 100.0)
    for number in range(1000):
        claim = take(ledger, 100.0, 1.0, key=number % 10)
        assert claim is not None
        ledger.settle(claim, [0.0], 100.0)
        assert len(ledger._by_fullness) <= 21
    assert not ledger.has_room("new", 104.9) and ledger.has_room("new", 105.1)
