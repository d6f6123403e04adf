"""The table of keys at its edges: what is kept back and spoken for per rate, and when it is swept."""

from __future__ import annotations

import pytest

from resilience.core.bucket import FULL, Bucket
from resilience.core.ledger import Claim, Ledger


def ledger_of(*rates: tuple[float, float], keeps: tuple[tuple[float, ...], ...] = (), max_keys: int = 1000) -> Ledger:
    """A ledger with rates given as (a second, burst)."""
    return Ledger([Bucket(rate, 1.0, burst) for rate, burst in rates], keeps or [(0.0,) * len(rates)], max_keys)


def take(ledger: Ledger, now: float, *costs: float, key: object = None, rank: int = 0) -> Claim | None:
    """Claim tokens and take them, if there is room for the key and they are there."""
    claim = Claim(key, costs, rank)
    taken = ledger.taken_by(claim, now) if ledger.has_room(key, now) else None
    if taken is None:
        return None
    ledger.grant(claim, taken)
    return claim


def levels(ledger: Ledger, now: float, key: object = None) -> list[float]:
    """What the buckets of a key hold."""
    return [bucket.level(state, now) for bucket, state in zip(ledger.buckets, ledger.load(key), strict=True)]


def test_a_new_ledger_knows_nobody() -> None:
    """Nothing is taken, nothing may be written from outside, and nobody has been turned away."""
    for rates in ([(1.0, 5.0)], [(1.0, 5.0), (2.0, 8.0)]):
        ledger = ledger_of(*rates)
        assert ledger.at_hand is ledger.brisk is False
        assert ledger.load(None) == ledger.load("a") == (FULL,) * len(rates)
        assert levels(ledger, 100.0, "a") == [burst for _, burst in rates]
        assert ledger.has_refunds is False
        assert (ledger.states, ledger.episode) == ({}, 0)


def test_reading_the_state_of_all_takes_it_back_from_outside() -> None:
    """That of a key of its own does not."""
    ledger = ledger_of((1.0, 5.0))
    ledger.at_hand = ledger.brisk = True
    ledger.load("a")
    assert ledger.at_hand is ledger.brisk is True
    ledger.load(None)
    assert ledger.at_hand is ledger.brisk is False


def test_a_claim_that_takes_remembers_how_it_left_the_buckets() -> None:
    """Its marks are the states of its key right after it; of refunds from before it knows only where there are any."""
    ledger = ledger_of((1.0, 10.0), (1.0, 10.0))
    claim = take(ledger, 100.0, 1.0, 2.0, key="a")
    assert claim is not None
    assert tuple(claim.marks) == ledger.load("a") == (91.0, 92.0) and claim.returned == ()
    ledger.settle(claim, (0.0, 0.5), 100.0)
    assert ledger.has_refunds and ledger.load("a") == (90.0, 90.5)
    again, stranger = take(ledger, 100.0, 1.0, 0.0, key="a"), take(ledger, 100.0, 1.0, 0.0, key="b")
    assert again is not None and again.returned == (1.0, 1.5)
    assert stranger is not None and stranger.returned == ()


@pytest.mark.parametrize("rates", [((1.0, 10.0),), ((1.0, 10.0), (1.0, 20.0))], ids=["one rate", "two rates"])
def test_each_rank_leaves_what_is_kept_from_it(rates: tuple[tuple[float, float], ...]) -> None:
    """A claim may take down to what its rank keeps, and waits until there is as much above that."""
    ledger = ledger_of(*rates, keeps=((0.0,) * len(rates), (4.0,) * len(rates)))
    nothing = (0.0,) * (len(rates) - 1)
    assert take(ledger, 100.0, 3.0, *nothing, rank=1) and take(ledger, 100.0, 3.0, *nothing, rank=1)
    assert take(ledger, 100.0, 1.0, *nothing, rank=1) is None
    assert ledger.wait(Claim(None, (1.0, *nothing), 1), 100.0) == 1.0
    assert ledger.wait(Claim(None, (1.0, *nothing), 0), 100.0) == 0.0
    assert take(ledger, 100.0, 4.0, *nothing, rank=0)


def test_what_is_spoken_for_is_not_there() -> None:
    """Each rate has its own sum of it, and a claim that needs nothing of a rate is not held up by it."""
    one, two = ledger_of((1.0, 10.0)), ledger_of((1.0, 10.0), (2.0, 10.0))
    for ledger in (one, two):
        assert take(ledger, 100.0, *(5.0 for _ in ledger.buckets))
    assert one.taken_by(Claim(None, (2.0,), 0), 100.0, [3.0]) == (97.0,)
    assert one.taken_by(Claim(None, (2.0,), 0), 100.0, [3.5]) is None
    assert one.wait(Claim(None, (2.0,), 0), 100.0, [3.5]) == 0.5
    assert two.taken_by(Claim(None, (2.0, 1.0), 0), 100.0, [3.0, 4.0]) == [97.0, 196.0]
    assert two.taken_by(Claim(None, (2.0, 1.0), 0), 100.0, [3.0, 4.5]) is None
    assert two.taken_by(Claim(None, (2.0, 0.0), 0), 100.0, [3.0, 9.0]) == [97.0, 195.0]
    assert two.taken_by(Claim(None, (0.0, 1.0), 0), 100.0, [9.0, 4.0]) == [95.0, 196.0]
    assert two.wait(Claim(None, (2.0, 1.0), 0), 100.0, [3.5, 5.0]) == 0.5
    assert two.wait(Claim(None, (2.0, 1.0), 0), 100.0, [3.5, 7.0]) == 1.5
    assert two.wait(Claim(None, (0.0, 1.0), 0), 100.0, [9.0, 4.5]) == 0.25
    assert two.wait(Claim(None, (0.0, 0.0), 0), 100.0) == 0.0


def test_a_charge_takes_what_is_not_there() -> None:
    """It goes into debt at the rates that it needs, and touches no other."""
    ledger = ledger_of((1.0, 10.0), (1.0, 10.0))
    claim = Claim("a", (12.0, 0.0), 0)
    ledger.charge(claim, 100.0)
    assert levels(ledger, 100.0, "a") == [-2.0, 10.0] and ledger.load("a")[1] == FULL
    ledger.settle(claim, (2.0, 0.0), 100.0)
    assert levels(ledger, 100.0, "a") == [8.0, 10.0]


def test_each_rate_is_settled_by_itself() -> None:
    """More here is a debt, less there comes back, and the same is left alone."""
    ledger = ledger_of((1.0, 10.0), (1.0, 10.0), (1.0, 10.0))
    claim = take(ledger, 100.0, 4.0, 4.0, 4.0, key="a")
    assert claim is not None
    ledger.settle(claim, (6.5, 1.0, 4.0), 100.0)
    assert levels(ledger, 100.0, "a") == [3.5, 9.0, 6.0] and claim.costs == (6.5, 1.0, 4.0)
    ledger.settle(claim, (6.5, 1.0, 4.0), 100.0)
    assert levels(ledger, 100.0, "a") == [3.5, 9.0, 6.0]


def test_a_reset_fills_every_bucket_of_one_key() -> None:
    """Only of that, and what was taken from it before cannot come back besides."""
    ledger = ledger_of((1.0, 10.0), (1.0, 20.0))
    claim = take(ledger, 100.0, 4.0, 0.0, key="a")
    other = take(ledger, 100.0, 5.0, 1.0, key="a")
    assert claim is not None and other is not None and take(ledger, 100.0, 1.0, 1.0, key="b")
    ledger.forgive("a", 101.0)
    assert levels(ledger, 101.0, "a") == [10.0, 20.0] and levels(ledger, 101.0, "b") == [10.0, 20.0]
    assert levels(ledger, 100.0, "b") == [9.0, 19.0]
    assert take(ledger, 101.0, 10.0, 20.0, key="a")
    for each in (claim, other):
        ledger.settle(each, (0.0, 0.0), 101.0)
    assert levels(ledger, 101.0, "a") == [0.0, 0.0]


def test_a_small_table_is_not_swept_and_a_full_one_gives_way_to_one() -> None:
    """Below its bound it keeps what is idle; at the bound the first that is full again goes, and no other."""
    ledger = ledger_of((1.0, 10.0), max_keys=3)
    for key, cost in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        assert take(ledger, 100.0, cost, key=key)
    assert not ledger.has_room("d", 100.5) and ledger.has_room("a", 100.5) and ledger.has_room(None, 100.5)
    assert take(ledger, 101.0, 1.0, key="d") and set(ledger.states) == {"a", "c", "d"}
    assert take(ledger, 150.0, 1.0, key="e") and len(ledger.states) == 3


def test_a_table_is_swept_at_sixty_four_keys_and_when_it_has_doubled_since() -> None:
    """A sweep forgets all that are full, and none before that many are known."""
    ledger = ledger_of((1.0, 1000.0), max_keys=10_000)
    for number in range(64):
        assert take(ledger, 100.0, 900.0 if number < 40 else 1.0, key=number)
    assert len(ledger.states) == 64, "nobody looked, though most are idle by then"
    assert ledger.has_room("new", 200.0) and set(ledger.states) == set(range(40))
    for number in range(100, 139):
        assert take(ledger, 200.0, 1.0, key=number)
    assert len(ledger.states) == 79
    assert take(ledger, 300.0, 1.0, key=139) and len(ledger.states) == 80, "it was swept at 40, so not before 80"
    assert ledger.has_room("new", 300.5) and len(ledger.states) == 41


def test_a_known_key_is_always_let_in_and_sweeps_nothing() -> None:
    """Only a new one makes the table larger."""
    ledger = ledger_of((1.0, 10.0), max_keys=10_000)
    for number in range(64):
        assert take(ledger, 100.0, 1.0, key=number)
    assert ledger.has_room(5, 500.0) and ledger.has_room(None, 500.0)
    assert len(ledger.states) == 64


def test_what_was_restored_is_swept_when_it_has_doubled() -> None:
    """A table that comes back with many keys is not swept for the next one."""
    ledger = ledger_of((1.0, 10.0), max_keys=10_000)
    for number in range(60):
        assert take(ledger, 100.0, 1.0, key=number)
    ledger.restore(ledger.save())
    for number in range(60, 119):
        assert take(ledger, 200.0, 1.0, key=number)
    assert len(ledger.states) == 119
    assert take(ledger, 200.0, 1.0, key=119) and take(ledger, 200.5, 1.0, key=120)
    assert len(ledger.states) == 61


def test_a_restored_table_finds_who_is_full_anew() -> None:
    """Who became full before the copy was made, and who since, are those of the copy."""
    ledger = ledger_of((1.0, 10.0), max_keys=2)
    assert take(ledger, 100.0, 9.0, key="a") and take(ledger, 100.0, 5.0, key="b")
    saved = ledger.save()
    assert not ledger.has_room("c", 104.0)
    assert take(ledger, 105.0, 1.0, key="c") and set(ledger.states) == {"a", "c"}
    ledger.restore(saved)
    assert not ledger.has_room("c", 104.9)
    assert take(ledger, 105.0, 1.0, key="d") and set(ledger.states) == {"a", "d"}


def test_a_debt_that_no_time_pays_is_never_forgotten() -> None:
    """A key in debt keeps its place until the debt is paid and the bucket full."""
    ledger = ledger_of((1.0, 10.0), max_keys=1)
    ledger.charge(Claim("a", (40.0,), 0), 100.0)
    assert ledger.wait(Claim("a", (1.0,), 0), 100.0) == 31.0
    assert not ledger.has_room("b", 139.9) and ledger.episode == 1
    assert ledger.has_room("b", 140.0) and ledger.states == {}
    assert ledger.has_room("c", 141.0) and ledger.episode == 1


def test_keys_need_not_be_of_one_kind() -> None:
    """Keys that cannot be compared with each other are found, forgotten and let in again at one and the same time."""
    kinds = [1, "a", ("a", 1), 2.5, b"a"]
    ledger = ledger_of((1.0, 10.0), max_keys=len(kinds))
    for start in (100.0, 200.0):
        claims = [take(ledger, start, 2.0, key=key) for key in kinds]
        for claim in claims:
            assert claim is not None
            ledger.settle(claim, (1.0,), start)
        assert not ledger.has_room("new", start)
        others = [(number, "other") for number in range(len(kinds))]
        assert all(take(ledger, start + 50.0, 1.0, key=other) for other in others)
        assert set(ledger.states) == set(others)
        ledger.restore(ledger.save())


def test_refunds_of_forgotten_keys_that_were_restored_are_forgotten_when_room_is_sought() -> None:
    """Those of keys that are still known stay with them."""
    ledger = ledger_of((1.0, 10.0), max_keys=2)
    for key in ("a", "b"):
        claim = take(ledger, 100.0, 5.0 if key == "a" else 9.0, key=key)
        assert claim is not None
        ledger.settle(claim, (4.0 if key == "a" else 8.5,), 100.0)
    assert take(ledger, 104.5, 1.0, key="c") and set(ledger.states) == {"b", "c"}
    ledger.restore(ledger.save())
    assert not ledger.has_room("d", 104.5)
    after = take(ledger, 104.5, 1.0, key="b")
    assert after is not None and after.returned == (0.5,)
    assert set(ledger.save()[2]) == {"b"}


@pytest.mark.parametrize("key", [None, "a"])
def test_a_claim_that_cost_a_little_more_is_charged_for_that(key: object) -> None:
    """At its own key and at no other, be it by less than one token."""
    ledger = ledger_of((1.0, 10.0))
    claim = take(ledger, 100.0, 4.0, key=key)
    assert claim is not None
    ledger.settle(claim, (4.25,), 100.0)
    assert levels(ledger, 100.0, key) == [5.75] and levels(ledger, 100.0, "other") == [10.0]
    assert levels(ledger, 100.0, "a" if key is None else None) == [10.0]


def test_a_claim_that_cost_what_was_estimated_does_not_bring_a_forgotten_key_back() -> None:
    """There is nothing to write about it."""
    ledger = ledger_of((1.0, 10.0), max_keys=1)
    claim = take(ledger, 100.0, 4.0, key="a")
    assert claim is not None and take(ledger, 105.0, 1.0, key="b")
    ledger.settle(claim, (4.0,), 105.0)
    assert set(ledger.states) == {"b"}


def test_a_charge_for_another_number_of_rates_is_refused() -> None:
    """No rate is left out, and none too many is taken for nothing."""
    ledger = ledger_of((1.0, 10.0), (1.0, 10.0))
    for costs in ((1.0,), (1.0, 1.0, 1.0)):
        with pytest.raises(ValueError):
            ledger.charge(Claim("a", costs, 0), 100.0)
    assert ledger.states == {}


def test_a_charge_adds_to_what_its_key_has_taken() -> None:
    """That others have taken more or nothing is of no account."""
    ledger = ledger_of((1.0, 10.0), (1.0, 10.0))
    for key, cost in (("a", 6.0), ("b", 1.0)):
        assert take(ledger, 100.0, cost, cost, key=key)
    ledger.charge(Claim("a", (5.0, 1.0), 0), 100.0)
    assert levels(ledger, 100.0, "a") == [-1.0, 3.0] and levels(ledger, 100.0, "b") == [9.0, 9.0]


def test_a_key_that_took_again_goes_when_it_is_full_and_not_before() -> None:
    """Who was next to be forgotten and takes more is passed over for those who are full by then."""
    ledger = ledger_of((1.0, 10.0), max_keys=3)
    for key, cost in (("a", 1.0), ("b", 3.0), ("c", 5.0)):
        assert take(ledger, 100.0, cost, key=key)
    assert not ledger.has_room("new", 100.0)
    assert take(ledger, 100.5, 7.0, key="a")
    assert not ledger.has_room("new", 101.5)
    assert take(ledger, 103.0, 9.0, key="d") and set(ledger.states) == {"a", "c", "d"}
    assert take(ledger, 105.0, 9.0, key="e") and set(ledger.states) == {"a", "d", "e"}
    assert not ledger.has_room("new", 107.9)
    assert take(ledger, 108.0, 1.0, key="f") and set(ledger.states) == {"d", "e", "f"}


def test_a_sweep_forgets_the_refunds_that_no_mark_can_count_any_more() -> None:
    """Also in a table that is not full, and not those of keys that came back."""
    ledger = ledger_of((1.0, 10.0), max_keys=10_000)
    for number in range(64):
        claim = take(ledger, 100.0, 5.0, key=number)
        assert claim is not None
        if number < 2:
            ledger.settle(claim, (4.0,), 100.0)
    assert ledger.has_room("new", 200.0) and ledger.states == {} and set(ledger.save()[2]) == {0, 1}
    for number in range(1, 65):
        assert take(ledger, 300.0, 5.0, key=number)
    assert ledger.has_room("new", 301.0) and set(ledger.save()[2]) == {1}


def test_what_others_have_taken_is_of_no_account() -> None:
    """Each key has buckets of its own, at every rate; a claim that nobody has granted has left no marks."""
    ledger = ledger_of((1.0, 10.0), (1.0, 10.0))
    assert Claim("a", (1.0, 1.0), 0).marks == ()
    assert take(ledger, 100.0, 6.0, 6.0, key="a") and take(ledger, 100.0, 6.0, 6.0, key="b")
    assert take(ledger, 100.0, 6.0, 6.0, key="a") is None
    assert levels(ledger, 100.0, "a") == levels(ledger, 100.0, "b") == [4.0, 4.0]


def test_what_comes_back_to_a_key_adds_up() -> None:
    """Each refund counts besides those before it."""
    ledger = ledger_of((1.0, 10.0))
    claims = [take(ledger, 100.0, 2.0, key="a") for _ in range(3)]
    for claim in claims[:2]:
        assert claim is not None
        ledger.settle(claim, (0.5,), 100.0)
    after = take(ledger, 100.0, 1.0, key="a")
    assert after is not None and after.returned == (3.0,)
